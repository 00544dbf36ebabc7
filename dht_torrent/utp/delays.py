"""One-way delays as the other end measures them, and what of each is a queue.

The clocks of both ends differ by an unknown amount, so a delay means something only against the
least one seen of late. It is a number modulo 2**32, and clocks drift.
"""

from __future__ import annotations

from typing import Final

PARTS: Final = 4
"""A minimum is kept for each of so many parts of its age, so that it is forgotten in steps."""
MAX_DRIFT: Final = 10_000
"""Microseconds by which a clock may seem to drift at once (libutp); more is something else."""
RECENT: Final = 3
"""Samples of which the least counts (libutp): one late packet is not a queue."""


class Minimum:
    """The least value of the last `age` seconds, or a little less: it forgets in steps."""

    __slots__ = ("_until", "_values", "step", "value")

    def __init__(self, age: float, value: float, now: float) -> None:
        self.step = age / PARTS
        self.value = value
        self._values = [value]
        self._until = now + self.step

    def add(self, value: float, now: float) -> None:
        if now >= self._until:
            # After a pause longer than its age nothing old is left.
            passed = int((now - self._until) / self.step)
            kept = self._values[passed + 1 - PARTS :] if passed < PARTS - 1 else []
            self._values = [*kept, value]
            self._until = now + self.step
            self.value = min(self._values)
        elif value < self._values[-1]:
            self._values[-1] = value
            if value < self.value:
                self.value = value

    def shift(self, by: float) -> None:
        """All values it knows were wrong by this much."""
        self._values = [value + by for value in self._values]
        self.value += by


class OneWayDelays:
    """Samples of one direction, in microseconds modulo 2**32."""

    __slots__ = ("_age", "_first", "_least", "_recent")

    def __init__(self, age: float) -> None:
        self._age = age
        self._first = 0
        self._least: Minimum | None = None
        self._recent: list[int] = []

    def _relative(self, sample: int) -> int:
        """To the first, and signed: within half an hour of it."""
        return ((sample - self._first + 0x80000000) & 0xFFFFFFFF) - 0x80000000

    def add(self, sample: int, now: float) -> float:
        """Seconds of queueing: what the least of the last samples is above the base."""
        if self._least is None:
            self._first = sample
            self._least = Minimum(self._age, 0, now)
        relative = self._relative(sample)
        self._least.add(relative, now)
        self._recent = [*self._recent[1 - RECENT :], relative]
        return max(0.0, (min(self._recent) - self._least.value) / 1e6)

    def other_way(self, shrank: float) -> None:
        """The base of the other direction shrank by so many microseconds. A base cannot shrink
        again and again unless the other clock is faster than ours, and then ours grows as much."""
        if self._least is not None and 0 < shrank <= MAX_DRIFT:
            self._least.shift(shrank)

    @property
    def base(self) -> float | None:
        """Microseconds, relative to the first sample."""
        return self._least.value if self._least is not None else None
