"""No peer is blamed for data another sent: guilt is a hash tied to a sender.

A piece that fails its hash and came from one peer convicts it. If several took part, the SHA-1 of
every block is kept with its sender; when the piece passes later, a peer that sent a different block
lied, and the others are cleared ("smart ban", as libtorrent calls it). There is no third way to be
convicted.

The evidence stays until the piece passes. When there is no room for more, the *new* evidence is not
taken: what is known already cannot be pushed out by failing more. It can hardly be filled up
either: after its first failure a piece is asked of one peer alone, whose failure needs no record,
and who took part in a failure takes part in no other before it is cleared.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address, PeerKey
from dht_torrent.torrent.pieces import NOBODY, OpenPiece

MAX_BLOCKS = 1 << 16
"""Block hashes remembered, of all failed attempts together: about 3 MiB. One attempt is always
kept, however large its piece."""
MAX_GONE = 1024
"""Peers that left and are remembered. A piece waits for the disk only for moments."""

_DIGEST = 20


class _Attempt(NamedTuple):
    digests: bytes
    senders: list[PeerKey]
    addresses: dict[PeerKey, Address]


class Passed(NamedTuple):
    """What a piece that passed tells of earlier attempts at it."""

    liars: dict[PeerKey, Address]
    """Proved to have sent bad blocks, and where they were seen."""
    cleared: list[PeerKey]
    """Took part, and sent what was right."""


class SmartBan:
    """Which peer sent what in pieces that failed, and which ones that convicts."""

    def __init__(self) -> None:
        self._here: dict[PeerKey, Address] = {}
        self._gone: dict[PeerKey, Address] = {}  # the last ones that left; the oldest first
        self._attempts: dict[int, list[_Attempt]] = {}
        self._blocks = 0

    def joined(self, peer: PeerKey, address: Address) -> None:
        """`address` is where its connection was seen to come from, or to lead to."""
        self._here[peer] = address

    def left(self, peer: PeerKey) -> None:
        """It can be convicted for what it sent all the same: what it sent may still be at the disk,
        and an attempt that failed keeps the addresses of its senders."""
        if peer in self._here:
            self._gone[peer] = self._here.pop(peer)
            if len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]

    def address(self, peer: PeerKey) -> Address | None:
        """Where that peer is or was; None if it is forgotten."""
        return self._here.get(peer) or self._gone.get(peer)

    def suspects(self, index: int) -> frozenset[PeerKey]:
        """Who took part in failed attempts at this piece."""
        attempts = self._attempts.get(index, ())
        return frozenset(sender for attempt in attempts for sender in attempt.senders)

    def doubts(self, index: int) -> bool:
        """Did an attempt at this piece fail, of which it is not known yet who is to blame? Then
        `passed` will ask for the digests of its blocks."""
        return index in self._attempts

    def failed(self, piece: OpenPiece, digests: bytes) -> list[PeerKey]:
        """The piece, whose blocks' digests are `digests_of`, did not match its hash. Returns the
        guilty: the only sender. If there were several, that will be told when the piece passes."""
        senders = senders_of(piece)
        if len(senders) > 1:
            self._remember(piece, senders, digests)
            return []
        return senders

    def passed(self, piece: OpenPiece, digests: bytes | None = None) -> Passed | None:
        """The piece matched its hash. None: it never failed. `digests` are those of its blocks, and
        must be there if it is in doubt."""
        attempts = self._attempts.pop(piece.index, None)
        if attempts is None:
            return None
        assert digests is not None
        good = digests
        liars: dict[PeerKey, Address] = {}
        involved: set[PeerKey] = set()
        for bad, senders, addresses in attempts:
            self._blocks -= len(senders)
            involved.update(addresses)
            for number, sender in enumerate(senders):
                if _digest(good, number) != _digest(bad, number) and sender in addresses:
                    liars[sender] = addresses[sender]
        return Passed(liars, sorted(involved.difference(liars)))

    def _remember(self, piece: OpenPiece, senders: list[PeerKey], digests: bytes) -> None:
        count = len(piece.senders)
        if self._blocks and self._blocks + count > MAX_BLOCKS:
            return
        known = {sender: address for sender in senders if (address := self.address(sender))}
        self._attempts.setdefault(piece.index, []).append(
            _Attempt(digests, list(piece.senders), known)
        )
        self._blocks += count


def senders_of(piece: OpenPiece) -> list[PeerKey]:
    """Who sent the blocks that are in it, each once."""
    return sorted(set(piece.senders) - {NOBODY})


def digests_of(data: bytes | bytearray | memoryview) -> bytes:
    """The SHA-1 of each block of a piece; of a part of one, if it begins where a block does."""
    view = memoryview(data)
    return b"".join(
        hashlib.sha1(view[begin : begin + BLOCK]).digest() for begin in range(0, len(view), BLOCK)
    )


def _digest(digests: bytes, number: int) -> bytes:
    return digests[number * _DIGEST : (number + 1) * _DIGEST]
