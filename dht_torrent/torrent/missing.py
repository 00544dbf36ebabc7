"""Which piece to open next for a peer, of those that are wanted and missing.

A broken one, if the peer has proved itself; else one of the highest priority that the peer has: at
random until `random_first_pieces` are here, then the rarest (random among equals), or simply the
first, if the torrent is sequential; else a broken one it is not suspected of.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain, compress, islice
from operator import and_

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.availability import Order, Rarity
from dht_torrent.torrent.peer_pieces import PeerPieces
from dht_torrent.torrent.pieces import Bitfield

RANKS = 3
"""Priorities of files: high, normal and low."""
_IS = tuple(bytes(number == rank for number in range(256)) for rank in range(RANKS))


class Missing:
    """The wanted pieces that are missing."""

    def __init__(
        self, rarity: Rarity, have: Bitfield, config: TorrentConfig, rng: random.Random
    ) -> None:
        """`rarity` is kept up to date as the order of what is here; its counts are the caller's."""
        self.broken: dict[int, frozenset[PeerKey]] = {}
        """Pieces whose last attempt failed its hash -> who is suspected. They are in no order."""
        self.sequential = False
        """The first piece, instead of the rarest."""
        self._rarity = rarity
        self._have = have
        self._config = config
        self._rng = rng
        self._ranks: bytes | None = None
        self._ordered = [bytearray(have.size)]  # of each rank, 1 for each that is not broken
        self._cursor = [0]  # none of those is below

    def reset(self, missing: bytes) -> None:
        """What is missing and wanted now, a byte of 0 or 1 for each piece. O(pieces)."""
        self.broken = {index: who for index, who in self.broken.items() if missing[index]}
        ordered = bytearray(missing)
        for index in self.broken:
            ordered[index] = 0
        self._ordered = [ordered]
        if self._ranks is not None:
            self._ordered = [
                bytearray(map(and_, ordered, self._ranks.translate(_IS[rank])))
                for rank in range(max(self._ranks, default=0) + 1)
            ]
        self._cursor = [0] * len(self._ordered)
        self._rarity.stale = True

    def rank(self, ranks: bytes | None) -> None:
        """The priority of each piece: 0 is the highest, 2 the lowest. None: all have one. `reset`
        follows."""
        self._ranks = ranks
        self._rarity.rank(ranks)

    def add(self, index: int) -> None:
        rank = self._rank(index)
        self._ordered[rank][index] = 1
        self._cursor[rank] = min(self._cursor[rank], index)
        self._rarity.insert(index)

    def _rank(self, index: int) -> int:
        return 0 if self._ranks is None else self._ranks[index]

    def holds(self, index: int) -> bool:
        """Is it here, and was never broken?"""
        return self._ordered[self._rank(index)][index] != 0

    def add_broken(self, index: int, suspects: frozenset[PeerKey]) -> None:
        self.broken[index] = suspects

    def remove(self, index: int) -> frozenset[PeerKey] | None:
        """Returns the peers suspected of having broken it; None if it never failed."""
        if index in self.broken:
            return self.broken.pop(index)
        self._ordered[self._rank(index)][index] = 0
        self._rarity.remove(index)
        return None

    def choose(self, source: PeerPieces, now: float) -> int | None:
        """The piece for this peer; it stays here until it is removed."""
        if self.broken and source.proved:
            for index in self.broken:
                if source.can(index, now):
                    return index
        if not source.exhausted:
            found = self._first(source, now) if self.sequential else self._rarest(source, now)
            if found is not None:
                return found
            source.exhausted = not source.paused
        for index, suspects in self.broken.items():
            if source.key not in suspects and source.can(index, now):
                return index
        return None

    def out_of_reach(self) -> bool:
        """Has no connected peer any of these pieces?"""
        if any(self._rarity.copies(index) for index in self.broken):
            return False
        rarity = self._sorted()
        return all(len(one.order) == (0 if rarity.seeds else one.ends[0]) for one in rarity.orders)

    def _first(self, source: PeerPieces, now: float) -> int | None:
        for rank, ordered in enumerate(self._ordered):
            at = ordered.find(1, self._cursor[rank])
            self._cursor[rank] = at if at >= 0 else len(ordered)
            while at >= 0:
                if source.can(at, now):
                    return at
                at = ordered.find(1, at + 1)
        return None

    def _rarest(self, source: PeerPieces, now: float) -> int | None:
        for one in self._sorted().orders:
            found = self._rarest_of(one, source, now)
            if found is not None:
                return found
        return None

    def _rarest_of(self, rarity: Order, source: PeerPieces, now: float) -> int | None:
        order, ends = rarity.order, rarity.ends
        # What a peer that is not a seed has is in bucket 1 or above.
        low = 0 if source.all else ends[0]
        if self._have.count < self._config.random_first_pieces:
            buckets: Iterable[int] = (len(order),)
        else:
            buckets = ends if source.all else islice(ends, 1, None)
        # Most of a bucket may be what it lacks, so the usual question is asked without a call.
        fits: Callable[[int], int] = source.bits.flags.__getitem__
        if source.all or source.paused:
            fits = partial(source.can, now=now)
        for high in buckets:
            if low == high:
                continue
            # Starting anywhere in the bucket and going round is random among equals.
            start = low + int(self._rng.random() * (high - low))
            if source.all and not source.paused:
                return order[start]
            around = map(order.__getitem__, chain(range(start, high), range(low, start)))
            found = next(filter(fits, around), None)
            if found is not None:
                return found
            low = high
        return None

    def _sorted(self) -> Rarity:
        if self._rarity.stale:
            pieces = (compress(range(len(one)), one) for one in self._ordered)
            self._rarity.sort(chain.from_iterable(pieces))
        return self._rarity
