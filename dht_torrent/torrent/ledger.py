"""Nobody is blamed for data another peer sent: guilt is a hash tied to a sender.

A piece that fails its hash and came from one peer convicts it. If several took part, the SHA-1 of
every block is kept with its sender; when the piece passes later, whoever sent a different block
lied, and the others are cleared ("smart ban", as libtorrent calls it). Trust points are for the
liar who is never found out that way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import NamedTuple

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address
from dht_torrent.torrent.pieces import NOBODY, OpenPiece

PENALTY = 2
"""Trust lost by everybody who took part in a failed piece; given back to who is cleared."""
REWARD = 1
"""Trust gained by everybody who took part in a good one."""
MAX_TRUST = 8
"""More good pieces buy no more patience (libtorrent)."""
MAX_BLOCKS = 1 << 16
"""Block hashes remembered, of all failed attempts together: about 3 MiB. The oldest go first."""
MAX_PEERS = 4096
"""Peers remembered, those who left included. The oldest go first."""


class _Attempt(NamedTuple):
    digests: list[bytes]
    senders: list[int]


class Ledger:
    """Who sent what in pieces that failed, and whom to ban for it."""

    def __init__(self, config: TorrentConfig) -> None:
        self._floor = config.trust_floor
        self._addresses: dict[int, Address] = {}
        self._trust: dict[Hashable, int] = {}
        self._attempts: dict[int, list[_Attempt]] = {}  # piece -> failed attempts; oldest first
        self._blocks = 0

    def joined(self, peer: int, address: Address) -> None:
        """Remembers where a peer is, so that it can be banned after it left."""
        self._addresses[peer] = address
        _keep_newest(self._addresses, MAX_PEERS)

    def address(self, peer: int) -> Address | None:
        """Where that peer is or was; None if it was forgotten."""
        return self._addresses.get(peer)

    def trust(self, peer: int) -> int:
        """Trust points, from about `trust_floor` to MAX_TRUST; it survives a reconnection."""
        return self._trust.get(self._identity(peer), 0)

    def suspects(self, index: int) -> frozenset[int]:
        """Who took part in failed attempts at this piece: best not asked for it next."""
        attempts = self._attempts.get(index, ())
        return frozenset(sender for attempt in attempts for sender in attempt.senders)

    def failed(self, piece: OpenPiece) -> list[int]:
        """The piece did not match its hash. Call before its buffer is reused. Returns whom to ban:
        the only sender, or one whom trust has left more than all the others."""
        senders = sorted(set(piece.senders) - {NOBODY})
        if not senders:
            return []
        self._remember(piece)
        if len(senders) == 1:
            return senders
        for sender in senders:
            self._credit(sender, -PENALTY)
        # Honest peers lose trust in a liar's company, but not more than the liar: on a tie nobody
        # is banned, and the hashes will tell.
        by_trust = sorted(senders, key=self.trust)
        least = by_trust[0]
        if self.trust(least) <= self._floor and self.trust(least) < self.trust(by_trust[1]):
            return [least]
        return []

    def passed(self, piece: OpenPiece) -> list[int]:
        """The piece matched its hash. Call before its buffer is reused. Returns the liars of failed
        attempts before, now proven."""
        for sender in sorted(set(piece.senders) - {NOBODY}):
            self._credit(sender, REWARD)
        attempts = self._attempts.pop(piece.index, None)
        if attempts is None:
            return []
        good = _digests(piece)
        liars: set[int] = set()
        for digests, senders in attempts:
            self._blocks -= len(digests)
            liars.update(
                sender
                for ours, theirs, sender in zip(good, digests, senders, strict=True)
                if ours != theirs
            )
        for _, senders in attempts:
            took_part = set(senders)
            if len(took_part) > 1:
                for sender in sorted(took_part - liars):
                    self._credit(sender, PENALTY)
        return sorted(liars)

    def _remember(self, piece: OpenPiece) -> None:
        self._attempts.setdefault(piece.index, []).append(
            _Attempt(_digests(piece), list(piece.senders))
        )
        self._blocks += len(piece.senders)
        while self._blocks > MAX_BLOCKS:
            oldest = next(iter(self._attempts))
            self._blocks -= len(self._attempts[oldest].pop(0).digests)
            if not self._attempts[oldest]:
                del self._attempts[oldest]

    def _identity(self, peer: int) -> Hashable:
        address = self._addresses.get(peer)
        if address is None:
            return peer
        # A new port is no new reputation, save between programs on one machine or network.
        return address if address.is_local else address.host

    def _credit(self, peer: int, points: int) -> None:
        who = self._identity(peer)
        self._trust[who] = min(self._trust.pop(who, 0) + points, MAX_TRUST)
        _keep_newest(self._trust, MAX_PEERS)


def _digests(piece: OpenPiece) -> list[bytes]:
    buffer = piece.buffer
    return [
        hashlib.sha1(buffer[begin : begin + BLOCK]).digest()
        for begin in range(0, len(buffer), BLOCK)
    ]


def _keep_newest(items: dict[int, Address] | dict[Hashable, int], limit: int) -> None:
    while len(items) > limit:
        del items[next(iter(items))]  # type: ignore[arg-type] # a key of whichever dict it is
