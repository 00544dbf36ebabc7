"""Interest is the pieces a peer has, we want and we lack; availability is how many peers have a
piece. Both are kept true with every message, never looked for.

What the peers of one torrent have, and what we want of it.

Costs: a `have` O(1); a partial bitfield coming or going O(pieces), a seed O(1), for seeds are
counted apart.
"""

from __future__ import annotations

from collections.abc import Iterable

from dht_torrent.errors import PeerProtocolError
from dht_torrent.geometry import Geometry
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.availability import Rarity
from dht_torrent.torrent.peer_pieces import PeerPieces
from dht_torrent.torrent.pieces import Bitfield

FEW = 64
"""News of a later bitfield that are taken as so many haves: sorting all pieces afresh costs more,
and a peer may send such a bitfield for each piece it gets."""


class Holdings:
    """Of one torrent's peers, which join before anything else is said of them."""

    def __init__(self, geometry: Geometry, have: Bitfield) -> None:
        """`have` are our own pieces: the picker changes it, and says `gained` or `lost`. Every
        piece is wanted until `want` says otherwise."""
        self.peers: dict[PeerKey, PeerPieces] = {}
        self.rarity = Rarity(geometry.piece_count)
        self.wanted = Bitfield.full(geometry.piece_count)
        """The selected pieces; not to be changed but by `want`."""
        self.wanted_left = 0
        """Wanted pieces we do not have."""
        self.bytes_left = 0
        """The same in bytes."""
        self._geometry = geometry
        self._pieces = geometry.piece_count
        self._have = have
        self._recount()

    # -- peers come and go ----------------------------------------------------------------------

    def joined(self, peer: PeerKey) -> None:
        """A connection that has no piece yet. Its key must be new."""
        assert peer not in self.peers
        self.peers[peer] = PeerPieces(peer, Bitfield(self._pieces))

    def left(self, peer: PeerKey) -> None:
        """Its pieces are no longer counted."""
        self._forget_pieces(self.peers.pop(peer))

    def knows(self, peer: PeerKey) -> bool:
        """Has it joined and not left?"""
        return peer in self.peers

    # -- what a peer says -----------------------------------------------------------------------

    def peer_bitfield(self, peer: PeerKey, bits: Bitfield) -> int:
        """The peer has these as well: pieces never vanish. Returns how many are news. `bits` is
        kept: hand over a fresh one. O(pieces)."""
        if bits.size != self._pieces:
            raise PeerProtocolError("a bitfield for another number of pieces")
        source = self.peers[peer]
        if source.all:
            return 0
        fresh = bits - source.bits if source.bits.count else bits
        if not fresh.count:
            return 0
        if fresh.count + source.bits.count == bits.size:
            return self.peer_has_all(peer)
        if fresh.count < FEW and fresh is not bits:
            self.peer_has(peer, *fresh)
            return fresh.count
        source.bits = bits | source.bits if source.bits.count else bits
        source.exhausted = False
        source.interest += self._interest_in(fresh)
        self.rarity.peer_came(fresh.flags)
        return fresh.count

    def peer_has_all(self, peer: PeerKey) -> int:
        """BEP 6 have-all, or a bitfield with every bit set. Returns how many pieces are news."""
        source = self.peers[peer]
        if source.all:
            return 0
        fresh = self._pieces - source.bits.count
        self._forget_pieces(source)
        source.all = True
        source.exhausted = False
        self.rarity.seeds += 1
        return fresh

    def peer_has(self, peer: PeerKey, *indices: int) -> bool:
        """A `have` of each of these pieces. Returns True if they made the peer interesting. A
        repeated one changes nothing.

        Raises PeerProtocolError if there is no such piece; those before it count.
        """
        source = self.peers[peer]
        uninteresting = not source.interest
        for index in indices:
            if not 0 <= index < self._pieces:
                raise PeerProtocolError(f"have for piece {index} of {self._pieces}")
            if source.all or not source.bits.add(index):
                continue
            self.rarity.one_more(index)
            if self._lacks(index):
                source.exhausted = False
                source.interest += 1
        return uninteresting and source.interest > 0

    def peer_lost(self, peer: PeerKey, index: int) -> bool:
        """It has this piece no longer. False if it was not known to have it. O(pieces) if it had
        them all."""
        source = self.peers[peer]
        if source.all:
            self._forget_pieces(source)
            source.bits = Bitfield.full(self._pieces)
            source.bits.discard(index)
            source.interest = self._interest_in(source.bits)
            self.rarity.peer_came(source.bits.flags)
            return True
        if not source.bits.discard(index):
            return False
        self.rarity.one_less(index)
        if self._lacks(index):
            source.interest -= 1
        return True

    # -- what is known of them ------------------------------------------------------------------

    def peer_count(self, peer: PeerKey) -> int:
        """How many pieces the peer has."""
        source = self.peers[peer]
        return self._pieces if source.all else source.bits.count

    def peer_has_piece(self, peer: PeerKey, index: int) -> bool:
        """Does the peer have this piece?"""
        source = self.peers[peer]
        return source.all or source.bits.flags[index] == 1

    def interesting(self, peer: PeerKey) -> bool:
        """Has the peer a wanted piece we do not have? May change with `verified` and `select`."""
        source = self.peers[peer]
        return (self.wanted_left if source.all else source.interest) > 0

    def any_asked(self) -> bool:
        """Is any request unanswered? O(peers), but mostly the first has one."""
        return any(source.outstanding for source in self.peers.values())

    def availability(self, index: int) -> int:
        """Connected peers that have the piece."""
        return self.rarity.copies(index)

    def distributed_copies(self) -> float:
        """Whole copies among connected peers, plus the share of pieces with one more. O(pieces)."""
        return self.rarity.distributed_copies()

    # -- what we want ---------------------------------------------------------------------------

    def want(self, wanted: Iterable[int]) -> None:
        """These pieces and no others. O(pieces)."""
        self.wanted = Bitfield(self._pieces, wanted)
        self._recount()

    def gained(self, index: int) -> None:
        """We have this piece now."""
        self._count(index, -1)

    def lost(self, index: int) -> None:
        """We have this piece no longer."""
        self._count(index, 1)

    def _lacks(self, index: int) -> bool:
        return bool(self.wanted.flags[index]) and not self._have.flags[index]

    def _forget_pieces(self, source: PeerPieces) -> None:
        """Takes what the peer has out of the counts, and makes it a peer that has nothing."""
        if source.all:
            self.rarity.seeds -= 1
            source.all = False
        elif source.bits.count:
            self.rarity.peer_went(source.bits.flags)
        source.bits = Bitfield(self._pieces)
        source.interest = 0

    def _interest_in(self, bits: Bitfield) -> int:
        return ((bits & self.wanted) - self._have).count

    def _count(self, index: int, change: int) -> None:
        """One piece more or less that we lack."""
        if not self.wanted.flags[index]:
            return
        self.wanted_left += change
        self.bytes_left += change * self._geometry.piece_size(index)
        for source in self.peers.values():
            if not source.all and source.bits.flags[index]:
                source.interest += change

    def _recount(self) -> None:
        """After the selection changed. O(pieces)."""
        left = self.wanted - self._have
        self.wanted_left = left.count
        self.bytes_left = self._geometry.size_of(list(left))
        for source in self.peers.values():
            if not source.all:
                source.interest = self._interest_in(source.bits)
