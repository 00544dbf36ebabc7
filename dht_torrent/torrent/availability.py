"""Pieces in order of how few peers have them, in the manner of libtorrent's piece_picker.

The order is one array, cut into buckets of equal availability: bucket a is
`order[ends[a - 1] : ends[a]]`, and pieces within a bucket stand as chance put them. One more peer
having a piece is one swap. What changes too much at once makes the order *stale*: it is sorted
afresh when it is next needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from operator import add, sub


class Rarity:
    """How many peers have each piece, and the order of those that are listed.

    `order` and `ends` mean something only while it is not stale.
    """

    __slots__ = ("_place", "available", "ends", "order", "seeds", "stale")

    def __init__(self, count: int) -> None:
        self.seeds = 0
        """Peers that have all pieces: counted apart, so that one comes and goes in O(1)."""
        self.available = [0] * count
        """Other peers that have each piece."""
        self.order: list[int] = []
        self.ends = [0]
        self.stale = True
        self._place = [-1] * count  # where in the order; -1 is nowhere

    def copies(self, index: int) -> int:
        return self.available[index] + self.seeds

    def distributed_copies(self) -> float:
        """Whole copies, plus the share of pieces with one more. O(pieces)."""
        available = self.available
        if not available:
            return float(self.seeds)
        least = min(available)
        more = len(available) - available.count(least)
        return self.seeds + least + more / len(available)

    def peer_came(self, has: bytes | bytearray) -> None:
        """With these pieces, a byte of 0 or 1 for each. O(pieces)."""
        self.available = list(map(add, self.available, has))
        self.stale = True

    def peer_went(self, had: bytes | bytearray) -> None:
        """With these pieces. O(pieces)."""
        self.available = list(map(sub, self.available, had))
        self.stale = True

    def sort(self, listed: Iterable[int]) -> None:
        """Builds the order afresh, of these pieces: O(n log n), mostly in C."""
        available = self.available
        order = sorted(listed, key=available.__getitem__)
        self.order = order
        self._place = [-1] * len(available)
        for at, index in enumerate(order):
            self._place[index] = at
        counts = Counter(map(available.__getitem__, order))
        self.ends = list(accumulate(counts[level] for level in range(max(counts, default=0) + 1)))
        self.stale = False

    def one_more(self, index: int) -> None:
        """One more peer has the piece: it goes to the end of its bucket, and the bucket shrinks."""
        level = self.available[index]
        self.available[index] = level + 1
        if self.stale or self._place[index] < 0:
            return
        last = self.ends[level] - 1
        other = self.order[last]
        self._put(other, self._place[index])
        self._put(index, last)
        self.ends[level] = last
        if level + 1 == len(self.ends):
            self.ends.append(last + 1)

    def one_less(self, index: int) -> None:
        """One peer has it no longer."""
        listed = not self.stale and self._place[index] >= 0
        if listed:
            self.remove(index)
        self.available[index] -= 1
        if listed:
            self.insert(index)

    def remove(self, index: int) -> None:
        """Take a piece out of the order: the hole moves up, one swap a bucket."""
        if self.stale:
            return
        hole = self._place[index]
        self._place[index] = -1
        order, ends = self.order, self.ends
        for level in range(self.available[index], len(ends)):
            last = ends[level] - 1
            if last != hole:
                self._put(order[last], hole)
                hole = last
            ends[level] = last
        order.pop()

    def insert(self, index: int) -> None:
        """Put a piece into the order: a hole at the end moves down, one swap a bucket."""
        if self.stale:
            return
        order, ends = self.order, self.ends
        level = self.available[index]
        while level >= len(ends):
            ends.append(len(order))
        hole = len(order)
        order.append(index)
        for higher in range(len(ends) - 1, level, -1):
            first = ends[higher - 1]
            if first != hole:
                self._put(order[first], hole)
                hole = first
            ends[higher] += 1
        ends[level] += 1
        self._put(index, hole)

    def _put(self, index: int, at: int) -> None:
        self.order[at] = index
        self._place[index] = at
