"""Pieces in order of how few peers have them, in the manner of libtorrent's piece_picker.

An order is one array, cut into buckets of equal availability: bucket a is
`order[ends[a - 1] : ends[a]]`, and pieces within a bucket stand as chance put them. One more peer
having a piece is one swap. What changes too much at once makes the orders *stale*: they are sorted
afresh when they are next needed.

There is one order, or one for each priority that the user gave to files: see `rank`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import add, sub


class Order:
    """Some pieces, those that the fewest peers have first."""

    __slots__ = ("_place", "ends", "order")

    def __init__(self, listed: Iterable[int], available: Sequence[int]) -> None:
        """`available` says how many peers have each. O(n log n), mostly in C."""
        order = sorted(listed, key=available.__getitem__)
        self.order = order
        self._place = [-1] * len(available)  # where in the order; -1 is nowhere
        for at, index in enumerate(order):
            self._place[index] = at
        counts = Counter(map(available.__getitem__, order))
        self.ends = list(accumulate(counts[level] for level in range(max(counts, default=0) + 1)))

    def one_more(self, index: int, level: int) -> None:
        """One more peer than `level` has the piece: it goes to the end of its bucket, and the
        bucket shrinks."""
        if self._place[index] < 0:
            return
        last = self.ends[level] - 1
        other = self.order[last]
        self._put(other, self._place[index])
        self._put(index, last)
        self.ends[level] = last
        if level + 1 == len(self.ends):
            self.ends.append(last + 1)

    def remove(self, index: int, level: int) -> bool:
        """Take it out: the hole moves up, one swap a bucket. False: it was not there."""
        hole = self._place[index]
        if hole < 0:
            return False
        self._place[index] = -1
        order, ends = self.order, self.ends
        for higher in range(level, len(ends)):
            last = ends[higher] - 1
            if last != hole:
                self._put(order[last], hole)
                hole = last
            ends[higher] = last
        order.pop()
        return True

    def insert(self, index: int, level: int) -> None:
        """Put it in: a hole at the end moves down, one swap a bucket."""
        order, ends = self.order, self.ends
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


class Rarity:
    """How many peers have each piece, and the orders of those that are listed.

    `orders` mean something only while they are not stale; the first is of the highest priority.
    """

    __slots__ = ("_ranks", "available", "orders", "seeds", "stale")

    def __init__(self, count: int) -> None:
        self.seeds = 0
        """Peers that have all pieces: counted apart, so that one comes and goes in O(1)."""
        self.available = [0] * count
        """Other peers that have each piece."""
        self.orders: list[Order] = []
        self.stale = True
        self._ranks: bytes | None = None

    def rank(self, ranks: bytes | None) -> None:
        """In which order each piece belongs, 0 for the first; None: there is one order."""
        self._ranks = ranks
        self.stale = True

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
        """Builds the orders afresh, of these pieces."""
        ranks, available = self._ranks, self.available
        if ranks is None:
            self.orders = [Order(listed, available)]
        else:
            pieces = list(listed)
            self.orders = [
                Order((index for index in pieces if ranks[index] == rank), available)
                for rank in range(max(ranks, default=0) + 1)
            ]
        self.stale = False

    def one_more(self, index: int) -> None:
        """One more peer has the piece."""
        level = self.available[index]
        self.available[index] = level + 1
        if not self.stale:
            self._order_of(index).one_more(index, level)

    def one_less(self, index: int) -> None:
        """One peer has it no longer."""
        level = self.available[index]
        self.available[index] = level - 1
        if not self.stale:
            order = self._order_of(index)
            if order.remove(index, level):
                order.insert(index, level - 1)

    def remove(self, index: int) -> None:
        """Take a listed piece out."""
        if not self.stale:
            self._order_of(index).remove(index, self.available[index])

    def insert(self, index: int) -> None:
        """List a piece."""
        if not self.stale:
            self._order_of(index).insert(index, self.available[index])

    def _order_of(self, index: int) -> Order:
        return self.orders[0 if self._ranks is None else self._ranks[index]]
