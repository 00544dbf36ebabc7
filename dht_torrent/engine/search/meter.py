"""What the index costs the DHT: how much it may, and how much it did. The rule: whoever is about to
look something up or to put something waits for its turn here, and is counted.

Publishing can wait, and does; searches have a rate of their own, because somebody is waiting.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from dht_torrent.config import SearchConfig

HOUR: Final = 3600.0
GRAIN: Final = 60.0
"""Seconds that are counted together: an hour is sixty numbers."""


class HourCount:
    """How often something happened within the last hour, to a minute."""

    def __init__(self) -> None:
        self._counts: deque[list[int]] = deque()  # minute and number; at most 61 of them
        self._total = 0

    def add(self, now: float, number: int = 1) -> None:
        self.within(now)
        minute = int(now // GRAIN)
        if not self._counts or self._counts[-1][0] != minute:
            self._counts.append([minute, 0])
        self._counts[-1][1] += number
        self._total += number

    def within(self, now: float) -> int:
        """In the hour before `now`."""
        while self._counts and self._over(self._counts[0][0]) <= now:
            self._total -= self._counts.popleft()[1]
        return self._total

    def below_at(self, most: int, now: float) -> float:
        """When there will be fewer than `most`, if none is added: `now`, or later."""
        left = self.within(now)
        for minute, count in self._counts:
            if left < most:
                break
            left -= count
            now = self._over(minute)
        return now

    @staticmethod
    def _over(minute: int) -> float:
        """When what happened in this minute is an hour ago, all of it."""
        return (minute + 1) * GRAIN + HOUR


class PacedTurns:
    """PacedTurns at one rate, first come, first served; as many at once as were saved up."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._next = float("-inf")

    def is_due(self, now: float) -> bool:
        """Whether a turn could be had at once."""
        return max(self._next, now - self._burst / self._rate) + 1 / self._rate <= now

    async def wait(self) -> None:
        """Until it is our turn. Cancelled, the turn is lost."""
        now = trio.current_time()
        self._next = max(self._next, now - self._burst / self._rate) + 1 / self._rate
        await until(self._next, now)


class Meter:
    """The traffic of one node's index."""

    def __init__(self, config: SearchConfig) -> None:
        self.gets = HourCount()
        self.puts = HourCount()
        self._config = config
        self._publishing = PacedTurns(config.publish_rate, config.publish_burst)
        self._searching = PacedTurns(config.search_rate, config.search_burst)
        self._putting = trio.Lock()

    async def get(self, *, searching: bool) -> None:
        """Wait before a lookup."""
        await (self._searching if searching else self._publishing).wait()
        self.gets.add(trio.current_time())

    async def put(self) -> None:
        """Wait before a round of puts. Only publishing puts."""
        now = trio.current_time()
        if self._is_free(now):
            await self._publishing.wait()
            self.puts.add(now)
            return
        async with self._putting:  # one at a time, or all who wait would go on at the same moment
            await self._publishing.wait()
            now = trio.current_time()
            await until(self.puts.below_at(self._config.max_puts_per_hour, now), now)
            self.puts.add(trio.current_time())

    def _is_free(self, now: float) -> bool:
        """Whether nobody has to wait for a put now."""
        return (
            not self._putting.locked()
            and self._publishing.is_due(now)
            and self.puts.within(now) < self._config.max_puts_per_hour
        )


async def until(moment: float, now: float) -> None:
    """Sleep until then; if it is past, go on at once: the caller waits for the network next."""
    if moment > now:
        await trio.sleep_until(moment)
    else:
        await trio.lowlevel.checkpoint_if_cancelled()
