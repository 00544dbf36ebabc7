"""Turns at something that all torrents share and that costs others something.

The rule: never more than so many a minute in all; first come those who had fewest, and of
them who has waited longest.
"""

from __future__ import annotations

import heapq
from itertools import count

NEVER = float("-inf")


class Turns:
    """Hands out `per_minute` turns a minute, evenly, with a few saved up while none waits."""

    def __init__(self, per_minute: float, *, saved: int = 5) -> None:
        self._gap = 60.0 / per_minute
        self._saved = saved
        self._next = NEVER
        self._numbers = count()
        self._line: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._line)

    def join(self, had: int) -> tuple[int, int]:
        """Stand in line, after `had` turns. Returns the ticket."""
        ticket = (had, next(self._numbers))
        heapq.heappush(self._line, ticket)
        return ticket

    def leave(self, ticket: tuple[int, int]) -> None:
        """Without a turn. O(those in line)."""
        if ticket in self._line:
            self._line.remove(ticket)
            heapq.heapify(self._line)

    def first(self) -> tuple[int, int] | None:
        """Whose turn it is next."""
        return self._line[0] if self._line else None

    def due(self) -> float:
        """When that is: a time, perhaps in the past."""
        return self._next

    def take(self, now: float) -> None:
        """The first in line takes its turn. Call when it is `due`."""
        heapq.heappop(self._line)
        self._next = max(self._next, now - self._saved * self._gap) + self._gap
