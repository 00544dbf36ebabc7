"""Lookups as they walk towards their targets, for those who look on. The rule: a lookup is
remembered after its end only as long as somebody does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from dht_torrent.dht.lookup import Lookup
from dht_torrent.dht.paths import Paths
from dht_torrent.engine.dht.views import LookupStep, LookupView

MAX_ENDED: Final = 12
"""Lookups that are remembered after their end ..."""
MAX_SHOWN: Final = 24
"""... and all that are shown, the latest."""
LOOKED_ON: Final = 15.0
"""Seconds after which somebody who has not looked again does so no more."""


class Walking(Protocol):
    """A lookup under way."""

    target: bytes
    began: float
    now: float
    lookup: Lookup | Paths

    @property
    def purpose(self) -> str:
        """What it asks for: the method of its queries."""


class Walks:
    """The lookups of one DHT node."""

    def __init__(self) -> None:
        self._count = 0
        self._running: dict[int, Walking] = {}
        self._ended: deque[tuple[int, Walking]] = deque(maxlen=MAX_ENDED)
        self._looked_at = float("-inf")

    @contextmanager
    def under_way(self, walking: Walking) -> Iterator[None]:
        """For as long as it is."""
        self._count += 1
        number = self._count
        self._running[number] = walking
        try:
            yield
        finally:
            del self._running[number]
            if trio.current_time() - self._looked_at < LOOKED_ON:
                self._ended.append((number, walking))
            else:
                self._ended.clear()

    def views(self) -> list[LookupView]:
        """Those under way and, if this was asked lately, those that have ended since; the latest
        first."""
        now = trio.current_time()
        if now - self._looked_at >= LOOKED_ON:
            self._ended.clear()
        self._looked_at = now
        shown = sorted([*self._ended, *self._running.items()], key=lambda one: -one[0])
        return [
            _view(number, walking, now, is_running=number in self._running)
            for number, walking in shown[:MAX_SHOWN]
        ]


def _view(number: int, walking: Walking, now: float, *, is_running: bool) -> LookupView:
    lookup = walking.lookup
    return LookupView(
        number=number,
        purpose=walking.purpose,
        target=walking.target.hex(),
        running=is_running,
        seconds=(now if is_running else walking.now) - walking.began,
        ago=now - walking.began,
        asked=lookup.asked,
        replies=lookup.replies,
        hops=lookup.hops,
        steps=tuple(
            LookupStep(
                id=step.info.id.hex(),
                address=str(step.info.address),
                hops=step.hops,
                at=step.asked_at - walking.began,
                outcome="answered" if step.answered else "failed" if step.failed else "waiting",
                referrer=step.referrer.id.hex() if step.referrer is not None else None,
            )
            for step in lookup.steps()
        ),
    )
