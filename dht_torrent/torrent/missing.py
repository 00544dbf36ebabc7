"""Which piece to open next for a peer, of those that are wanted and missing.

A broken one, if the peer has proved itself; else at random until `random_first_pieces` are here,
then the rarest (random among equals), or simply the first, if the torrent is sequential; else a
broken one it is not suspected of.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import chain, compress, islice

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.availability import Rarity
from dht_torrent.torrent.peer_pieces import PeerPieces
from dht_torrent.torrent.pieces import Bitfield


class Missing:
    """The wanted pieces that are missing."""

    def __init__(
        self, rarity: Rarity, have: Bitfield, config: TorrentConfig, rng: random.Random
    ) -> None:
        """`rarity` is kept up to date as the order of what is here; its counts are the caller's."""
        self.broken: dict[int, frozenset[PeerKey]] = {}
        """Pieces whose last attempt failed its hash -> who is suspected. They are in no order."""
        self._rarity = rarity
        self._have = have
        self._config = config
        self._rng = rng
        self._ordered = bytearray(have.size)  # 1 for each that is not broken
        self._cursor = 0  # none of those is below

    def reset(self, missing: bytes) -> None:
        """What is missing and wanted now, a byte of 0 or 1 for each piece. O(pieces)."""
        self._ordered = bytearray(missing)
        self.broken = {index: who for index, who in self.broken.items() if missing[index]}
        for index in self.broken:
            self._ordered[index] = 0
        self._rarity.stale = True
        self._cursor = 0

    def add(self, index: int) -> None:
        self._ordered[index] = 1
        self._cursor = min(self._cursor, index)
        self._rarity.insert(index)

    def add_broken(self, index: int, suspects: frozenset[PeerKey]) -> None:
        self.broken[index] = suspects

    def remove(self, index: int) -> frozenset[PeerKey] | None:
        """Returns the peers suspected of having broken it; None if it never failed."""
        if index in self.broken:
            return self.broken.pop(index)
        self._ordered[index] = 0
        self._rarity.remove(index)
        return None

    def choose(self, source: PeerPieces, now: float, *, sequential: bool) -> int | None:
        """The piece for this peer; it stays here until it is removed."""
        if self.broken and source.proved:
            for index in self.broken:
                if source.can(index, now):
                    return index
        if not source.exhausted:
            found = self._first(source, now) if sequential else self._rarest(source, now)
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
        return len(rarity.order) == (0 if rarity.seeds else rarity.ends[0])

    def _first(self, source: PeerPieces, now: float) -> int | None:
        at = self._ordered.find(1, self._cursor)
        self._cursor = at if at >= 0 else len(self._ordered)
        while at >= 0:
            if source.can(at, now):
                return at
            at = self._ordered.find(1, at + 1)
        return None

    def _rarest(self, source: PeerPieces, now: float) -> int | None:
        rarity = self._sorted()
        order, ends = rarity.order, rarity.ends
        # What a peer that is not a seed has is in bucket 1 or above.
        low = 0 if source.all else ends[0]
        if self._have.count < self._config.random_first_pieces:
            buckets: Iterable[int] = (len(order),)
        else:
            buckets = ends if source.all else islice(ends, 1, None)
        for high in buckets:
            if low == high:
                continue
            # Starting anywhere in the bucket and going round is random among equals.
            start = low + int(self._rng.random() * (high - low))
            if source.all and not source.paused:
                return order[start]
            for at in chain(range(start, high), range(low, start)):
                if source.can(order[at], now):
                    return order[at]
            low = high
        return None

    def _sorted(self) -> Rarity:
        if self._rarity.stale:
            self._rarity.sort(compress(range(len(self._ordered)), self._ordered))
        return self._rarity
