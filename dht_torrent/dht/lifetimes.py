"""How soon an item must be put again. The rule: before a third of those who hold it are gone, as
fast as they go; within the bounds of `DhtConfig`.

BEP 44's hour suits Mainline, where half of all nodes stay three hours. Where half leave within a
quarter of an hour, all eight holders are gone by then more often than not.

Who confirms a put and does not keep the item counts as gone: to such liars, too, the answer is to
put more often, and `item_republish_least` bounds what they can make us send.
"""

from __future__ import annotations

import math
from typing import Final

from dht_torrent.config import DhtConfig

TOLERATED: Final = 1 / 3
"""Share of the holders that may be gone when an item is put again. Then all eight are gone at that
moment once in 6,500 times."""
FIRST: Final = 900.0
"""Seconds until the first item is put again: nothing is known of this network yet."""
_PRIOR: Final = 2.0
"""Departures that what is assumed at first weighs as much as."""
_MEMORY: Final = 64
"""Holders that what was seen earlier weighs as much as at most: networks change."""


class Lifetimes:
    """The rate at which holders go, seen when items are put again; of all our items together."""

    def __init__(self, config: DhtConfig) -> None:
        self._config = config
        self._gone = 0.0
        self._seconds = 0.0  # that holders were there, summed up

    def note(self, kept: int, gone: int, elapsed: float) -> None:
        """Of the holders of `elapsed` seconds ago, so many still have it and so many do not."""
        fade = max(0.0, 1 - (kept + gone) / _MEMORY)
        # On average, who is gone went in the middle.
        self._seconds = fade * self._seconds + elapsed * (kept + gone / 2)
        self._gone = fade * self._gone + gone

    def interval(self) -> float:
        """Seconds between two puts of one item."""
        patience = -math.log(1 - TOLERATED)
        rate = (_PRIOR + self._gone) / (_PRIOR * FIRST / patience + self._seconds)
        config = self._config
        return min(config.item_republish, max(config.item_republish_least, patience / rate))
