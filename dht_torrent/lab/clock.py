"""The clock of a simulation. The rule: time stands still while any task can go on, and then it is
at once the moment at which something happens next.

Trio's own MockClock does the same for deadlines. This one can also be asked to call a function at
some moment, which costs a tenth of a task that waits with a deadline: datagrams arrive that way.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Final

import trio

_NOTHING_TO_COME: Final = 86_400.0
"""Seconds, of real time, to wait for the outside world when no moment is left to jump to."""


class VirtualClock(trio.abc.Clock):
    """Begins at 0. Threads and real sockets do not hold it up, and while it runs
    `trio.testing.wait_all_tasks_blocked` does not return: it is for `lab.run` alone."""

    def __init__(self) -> None:
        self._now = 0.0
        self._moments: list[float] = []  # a heap; each is in it once
        self._calls: dict[float, list[Callable[[float], None]]] = {}  # by moment

    def call_at(self, when: float, call: Callable[[float], None]) -> None:
        """Call `call(when)` then: in order of asking for one moment, and before the tasks whose
        deadline it is. It must neither block nor raise. Nothing takes it back."""
        calls = self._calls.get(when)
        if calls is None:
            self._calls[when] = [call]
            heapq.heappush(self._moments, when)
        else:
            calls.append(call)

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump. Trio asks this exactly when no task can go on before `deadline`."""
        moments = self._moments
        moment = min(deadline, moments[0]) if moments else deadline
        if moment == math.inf:
            return _NOTHING_TO_COME
        if moment > self._now:
            self._now = moment
        now = self._now
        due: list[Callable[[float], None]] = []
        while moments and moments[0] <= now:
            due += self._calls.pop(heapq.heappop(moments))
        for call in due:  # what these ask for now waits until the tasks they woke have gone on
            call(now)
        return 0.0
