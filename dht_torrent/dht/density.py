"""How many nodes the network has, and where there are more than there should be. The rule: each
target has one vote on the size, so the nodes that an attacker put around one key moves it little.

The k closest nodes to a random target lie at distances as if strewn evenly. Eight that lie much
closer together than everywhere else were put there (eclipse): the real ones are behind them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from dht_torrent.config import DhtConfig
from dht_torrent.ids import distance

SPACE = 2**160
REMEMBERED = 64
"""Targets whose surroundings are remembered; the oldest is forgotten."""
NEEDED = 10
"""Targets seen before we dare to judge."""
SMALL = 4
"""Times k: in a network of fewer nodes density means nothing."""
TOO_DENSE = 3.2
"""Too dense: so few nodes at most are expected within the distance at which the ninth closest is
(for k = 8). By chance that is so for one key in 175 (the Gamma distribution of shape 9), or one in
130, the size being a guess. Behind eight whose ids were drawn until they were nearer than the
nearest honest node, the ninth *is* that node, and they are seen 96 times of 100. Nothing else about
the distances tells more: the odds of the two explanations depend on that of the ninth alone."""
FAR_TOO_DENSE = 2.0
"""The same for the eighth, whichever comes next: one key in 900. An attacker that eclipses a key
and hides the honest nodes behind it, with a ninth of his own where it raises no doubt, is seen 88
times."""


class Density:
    """Learns from finished lookups."""

    def __init__(self, config: DhtConfig) -> None:
        self._k = config.k
        self._sizes: OrderedDict[bytes, float] = OrderedDict()

    @property
    def size(self) -> float | None:
        """About how many nodes there are; None while too little is known."""
        return _median(self._sizes.values()) if self._sizes else None

    @property
    def is_small(self) -> bool:
        """Whether there are so few nodes, for all we know, that each is near everything."""
        size = self.size
        return size is None or size < SMALL * self._k

    def note(self, target: bytes, ids: Sequence[bytes]) -> None:
        """A lookup of `target` found these, nearest first."""
        if len(ids) < self._k:
            return  # fewer than k nodes in all, or too many of them silent
        farthest = max(1, distance(ids[self._k - 1], target))
        # A third less than k, and half of all estimates are too high, half too low.
        self._sizes[target] = (self._k - 1 / 3) * SPACE / farthest
        self._sizes.move_to_end(target)
        if len(self._sizes) > REMEMBERED:
            self._sizes.popitem(last=False)

    def is_dense(self, target: bytes, ids: Sequence[bytes]) -> bool:
        """Whether those who answered, nearest first, are too close together to be there by chance.

        Where only k are known, the last of them stands for the one behind it, and one key in 60 is
        suspected: ask around, and judge again."""
        others = [size for other, size in self._sizes.items() if other != target]
        if len(ids) < self._k or len(others) < NEEDED:
            return False
        size = _median(others)
        if size < SMALL * self._k:
            return False
        last, behind = (
            size * distance(one, target) / SPACE
            for one in (ids[self._k - 1], ids[: self._k + 1][-1])
        )
        return behind < TOO_DENSE * self._k / 8 or last < FAR_TOO_DENSE * self._k / 8

    def radius(self, count: int) -> int:
        """The distance within which about `count` nodes are expected around any target."""
        size = self.size
        if size is None:
            return 0
        return math.floor(min(1.0, count / size) * (SPACE - 1))


def _median(values: Iterable[float]) -> float:
    # The library's brings a megabyte of decimals and fractions along.
    ordered = sorted(values)
    half = len(ordered) // 2
    return (ordered[half] + ordered[~half]) / 2
