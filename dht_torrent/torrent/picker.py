"""Which blocks to ask of which peer, and what becomes of them.

What a peer with room is asked for, after its share of what is `urgent`, in this order:

1. the rest of the piece it works on;
2. released: open pieces whose worker left, choked us or went silent;
3. a new piece of its own, which `missing` chooses;
4. only if it may open none: free blocks of pieces other peers work on, oldest first;
5. a broken piece it *is* suspected of;
6. the endgame, when no block that a connected peer has is left unrequested: blocks outstanding
   elsewhere, longest ago first, a few at a time and in at most `endgame_copies` places.

A whole piece each (3 before 4) gives blame one address, and duplicate writes no chance; sharing (4)
keeps big pieces from waiting for slow peers, and memory from filling with half pieces. Pieces that
one peer alone is asked for are those of `solo`.

What is open and who was asked for what is written down in `assembly`, where the five states of a
piece are explained too. Costs: a request or a block O(1); opening a piece O(distinct
availabilities), with a peer that has little O(pieces) at worst but once.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import BLOCK, Geometry
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.assembly import Assembly
from dht_torrent.torrent.endgame import ENDGAME_DEPTH, all_requested, ask_again
from dht_torrent.torrent.holdings import Holdings
from dht_torrent.torrent.memory import PieceMemory, TorrentMemory
from dht_torrent.torrent.missing import Missing
from dht_torrent.torrent.peer_pieces import REFUSAL_PAUSE, PeerPieces
from dht_torrent.torrent.piece_states import HAVE, HELD, MISSING, Received, State
from dht_torrent.torrent.pieces import RECEIVED, Bitfield, Block, Chunk, OpenPiece, Place, Requests
from dht_torrent.torrent.runs import DueRun, expected, places
from dht_torrent.torrent.solo import Solo


class Picker:
    """For one torrent. Peers join before use."""

    def __init__(
        self,
        geometry: Geometry,
        have: Bitfield,
        config: TorrentConfig,
        rng: random.Random,
        *,
        memory: PieceMemory | None = None,
    ) -> None:
        """`have` is kept and updated. Every piece is wanted until `select` says otherwise.
        `memory` is shared with other torrents; without it only the config bounds it."""
        self.have = have
        self.urgent: Sequence[int] = ()
        """Pieces that come before all others, in this order, if they are missing and wanted."""
        self.hurried: Collection[int] = ()  # of these; they are asked of more peers than one
        self.helpers = 1  # peers that may be asked for urgent pieces, each for its share
        self.holdings = Holdings(geometry, have)
        """What the peers have, and what we want of it."""
        self._peers = self.holdings.peers
        self._assembly = Assembly(
            geometry,
            have,
            self.holdings,
            Missing(self.holdings.rarity, have, config, rng),
            TorrentMemory(memory or PieceMemory(1 << 62, config.max_open_bytes), config),
        )
        self._solo = Solo(self._assembly)
        self._held = 0  # pieces in that state
        self._copies = config.endgame_copies

    @property
    def sequential(self) -> bool:
        """Open pieces in order of index (for watching while it loads) instead of the rarest."""
        return self._assembly.missing.sequential

    @sequential.setter
    def sequential(self, on: bool) -> None:
        self._assembly.missing.sequential = on

    def release(self) -> None:
        """The exchange is over, and no disk thread reads a piece any more: all buffers go back to
        the pool. Call nothing afterwards but what asks."""
        for piece in (*self._assembly.open.values(), *self._assembly.pending.values()):
            self._assembly.memory.close(piece)
        self._assembly.memory.release()
        for kept in (
            self._assembly.open,
            self._assembly.pending,
            self._assembly.partial,
            self._assembly.released,
            self._peers,
        ):
            kept.clear()

    # -- peers come, go, and lose a piece -------------------------------------------------------

    def peer_joined(self, peer: PeerKey) -> None:
        """A connection that has no piece yet. Its key must be new."""
        self.holdings.joined(peer)

    def peer_left(self, peer: PeerKey) -> None:
        """Its outstanding blocks are free again, its pieces no longer counted."""
        self.choked(peer)
        for piece in [piece for piece in self._assembly.solo.values() if piece.solo == peer]:
            self._assembly.close(piece)
        self.holdings.left(peer)

    def peer_lost(self, peer: PeerKey, index: int) -> bool:
        """The peer has this piece no longer (BEP 54): what it was asked of it is free for others,
        and welcome if it comes after all. False if it was not known to have it. O(pieces) if it had
        them all."""
        source = self._peers[peer]
        if not self.holdings.peer_lost(peer, index):
            return False
        if source.current is not None and source.current.index == index:
            self._assembly.let_off(source.current)
        self._assembly.give_back(
            source, [block for block in source.outstanding if block[0] == index]
        )
        piece = self._assembly.solo.get(index)
        if piece is not None and piece.solo == peer:
            self._assembly.close(piece)  # no other peer may finish it
        return True

    # -- what we want ---------------------------------------------------------------------------

    def state(self, index: int) -> State:
        return State(self._assembly.state[index])

    def states(self) -> bytes:
        """The number of the state of each piece."""
        return bytes(self._assembly.state)

    @property
    def done(self) -> bool:
        """Every wanted piece is here and verified."""
        return self.holdings.wanted_left == 0

    def select(self, wanted: Iterable[int], ranks: bytes | None = None) -> Requests:
        """Only these pieces are asked for from now on, by `ranks` (`Missing.rank`). O(pieces).

        Open pieces that are wanted no more are given up; returns their requests, to be cancelled.
        """
        self._assembly.missing.rank(ranks)
        self.holdings.want(wanted)
        cancels = []
        for piece in list(self._assembly.open.values()):
            if not self.holdings.wanted.flags[piece.index]:
                cancels += self._assembly.withdraw(piece)
                self._assembly.close(piece)
        self._assembly.sort_missing()
        return cancels

    def make_way(self) -> Requests:
        """Ask for nothing that is not urgent, for the moment, and give up what takes the memory of
        the first two that are. Returns the requests, to be cancelled."""
        others = [piece for piece in self._assembly.open.values() if piece.index not in self.urgent]
        cancels = [request for piece in others for request in self._assembly.withdraw(piece)]
        for piece in sorted(others, key=lambda piece: piece.left, reverse=True):
            if not self._assembly.memory.fits(self._assembly.geometry.size_of(self.urgent[:2])):
                self._assembly.close(piece)
        return cancels

    @property
    def open_bytes(self) -> int:
        """Bytes of memory for pieces being assembled or at the disk."""
        return self._assembly.memory.used

    def spills(self) -> bool:
        """Lies any piece on the disk, unverified, or is on its way there?"""
        return self._assembly.memory.spills

    def stored(self, piece: OpenPiece, chunk: Chunk) -> bool:
        """These blocks are on the disk. True: now all of the piece is: verify it there, then say
        `verified` or `failed`."""
        assert piece.spill is not None
        self._assembly.memory.landed(piece.spill, chunk)
        return self._assembly.pending.get(piece.index) is piece and not piece.spill.chunks_away

    def not_stored(self, piece: OpenPiece, chunk: Chunk) -> Requests:
        """The disk could not take these blocks: the piece is missing again. Returns its requests,
        to be cancelled."""
        assert piece.spill is not None
        self._assembly.memory.landed(piece.spill, chunk)
        cancels = []
        if self._assembly.pending.get(piece.index) is piece:
            self.failed(piece.index)
        elif self._assembly.open.get(piece.index) is piece:
            cancels = self._assembly.withdraw(piece)
            self._assembly.close(piece)
        return cancels

    def verified(self, index: int) -> None:
        """A pending piece matched its hash and is stored. Its buffer goes back to the pool: no task
        or disk thread may still read it."""
        piece = self._assembly.pending.pop(index)
        self._assembly.unreserve(piece)
        self._assembly.memory.close(piece)
        self._solo.done(index)
        self._assembly.state[index] = HAVE
        self.have.add(index)
        self.holdings.gained(index)

    def failed(self, index: int, suspects: Iterable[PeerKey] | None = None) -> None:
        """A pending piece is missing again, its buffer back in the pool.

        `suspects` (of a broken one; None when it was the disk's fault) do not get it again while
        there is anything else to ask them for, so that the next attempt comes from one other peer.
        """
        piece = self._assembly.pending.pop(index)
        if suspects is not None:
            piece.avoid = frozenset(suspects)
        self._assembly.missing_again(piece)

    def proved(self, peer: PeerKey, *, proved: bool = True) -> None:
        """The peer completed a whole piece alone; or is suspected again."""
        source = self._peers[peer]
        source.proved = proved
        source.lost = source.lost and not proved

    def lost(self, index: int) -> None:
        """A piece we had is gone from the disk, or is broken there: missing again."""
        if not self.have.discard(index):
            return
        self._assembly.state[index] = MISSING
        self.holdings.lost(index)
        self._assembly.now_missing(index)

    # -- what may be on this disk already -------------------------------------------------------

    def hold(self, indices: Iterable[int]) -> list[int]:
        """Ask no peer for these pieces until `found` or `let_go`. Returns those of them that are
        held from now on: missing and wanted ones, whose last attempt was not broken."""
        held = []
        for index in indices:
            if (
                self._assembly.state[index] == MISSING
                and self.holdings.wanted.flags[index]
                and index not in self._assembly.missing.broken
            ):
                self._assembly.missing.remove(index)
                self._assembly.state[index] = HELD
                held.append(index)
        self._held += len(held)
        return held

    def let_go(self, indices: Iterable[int]) -> None:
        """They are not there: those that are held are missing again."""
        for index in indices:
            if self._assembly.state[index] == HELD:
                self._held -= 1
                self._assembly.state[index] = MISSING
                self._assembly.now_missing(index)

    def found(self, index: int) -> None:
        """A held piece matched its hash and is stored."""
        assert self._assembly.state[index] == HELD
        self._held -= 1
        self._assembly.state[index] = HAVE
        self.have.add(index)
        self.holdings.gained(index)

    # -- requests -------------------------------------------------------------------------------

    def next_requests(
        self,
        peer: PeerKey,
        room: int,
        now: float,
        *,
        allowed: Collection[int] | None = None,
        alone: bool = False,
    ) -> list[Block]:
        """At most `room` blocks to ask this peer for, in the order told at the top.

        While the peer chokes us, `allowed` names the only pieces it may be asked for (BEP 6). A
        peer on parole is asked `alone`, and only when it does not choke us. One call with much room
        is cheaper than many with little.
        """
        source = self._peers[peer]
        found: list[Block] = []
        if room <= 0 or not (self.holdings.wanted_left if source.all else source.interest):
            return found
        if source.refused:
            source.pause_refused(now)
        if alone:
            if allowed is None:
                piece = self._solo.piece_on_parole(source, now)
                if piece is not None:
                    self._assembly.take(source, piece, room, now, found)
            return found
        if allowed is not None:
            self._allowed_fast(source, room, now, allowed, found)
            return found
        if self.urgent:
            self._ask_urgent(source, room, now, found)
        while len(found) < room:
            piece = source.current or self._another_for(source, now)
            if piece is None:
                self._last_resorts(source, room, now, found)
                break
            if not self._assembly.take(source, piece, room, now, found):
                break
        return found

    def received(
        self, peer: PeerKey, index: int, begin: int, data: bytes | memoryview
    ) -> Received | None:
        """Copies a block into its piece. None means: taken, and nothing else to do.

        `index`, `begin` and the length may be anything. A block that was given back (a timeout, a
        choke) is welcome as long as it is missing; then it is cancelled elsewhere.
        """
        source = self._peers[peer]
        size = len(data)
        if source.outstanding.pop((index, begin, size), None) is None:
            return self._assembly.not_outstanding(source, index, begin, data)
        piece = self._assembly.open[index]
        number, chunk = begin // BLOCK, None
        if piece.spill is None:
            piece.buffer[begin : begin + size] = data
        else:
            chunk = self._assembly.memory.put(piece.spill, begin, data)
        copies = piece.blocks[number]
        piece.blocks[number] = RECEIVED
        piece.senders[number] = peer
        piece.left -= 1
        if copies == 1 and piece.left and chunk is None:
            return None
        return self._assembly.settled(piece, Block(index, begin, size), copies > 1, chunk)

    def expected(self, peer: PeerKey, most: int) -> list[DueRun]:
        """The next answers of this peer, `most` blocks of them, as far as they can be received
        where they belong. When they have come: `received_run`, before anything else is done."""
        return expected(self._peers[peer].outstanding, self._assembly.open, most)

    def places(self, peer: PeerKey, index: int, begin: int, count: int) -> list[memoryview] | None:
        """Where these blocks go, if `received_run` may take them then."""
        return places(self._peers[peer].outstanding, self._assembly.open.get(index), begin, count)

    def received_run(self, peer: PeerKey, index: int, first: int, count: int) -> Received | None:
        """So many blocks of a `DueRun` of this peer, from `first` on, lie in their places: as
        `received` for each of them."""
        piece = self._assembly.open[index]
        answered = piece.requests(first, count)
        deque(map(self._peers[peer].outstanding.__delitem__, answered), 0)
        piece.blocks[first : first + count] = bytes((RECEIVED,)) * count
        piece.senders[first : first + count] = [peer] * count
        piece.left -= count
        return None if piece.left else self._assembly.settled(piece, answered[-1], False, None)

    def rejected(self, peer: PeerKey, block: Place) -> bool:
        """BEP 6 reject. For an outstanding request: free again, and this peer is not asked for that
        piece for FIRST_PAUSE, longer each time. For any other, such as one given back by `choked`:
        nothing. Returns whether a request came back."""
        source = self._peers[peer]
        if source.outstanding.pop(block, None) is None:
            source.late.pop(block, None)
            return False
        source.refuse(block[0])
        self._assembly.unanswered(source, block)
        return True

    def choked(self, peer: PeerKey, *, keep: Collection[int] = ()) -> int:
        """Gives back all outstanding requests save for pieces in `keep` (allowed fast); returns how
        many. Right with and without the fast extension: rejects that follow change nothing, and
        blocks that come after all are welcome."""
        source = self._peers[peer]
        if source.current is not None and source.current.index not in keep:
            self._assembly.let_off(source.current)
        given_up = [block for block in source.outstanding if block[0] not in keep]
        return self._assembly.give_back(source, given_up)

    def give_back(self, peer: PeerKey, *, keep: int = 0) -> int:
        """For a peer that snubs us: all requests but the `keep` oldest are free for others, and
        welcome if they come after all. Returns how many."""
        source = self._peers[peer]
        if source.current is not None:
            self._assembly.let_off(source.current)
        return self._assembly.give_back(source, list(islice(source.outstanding, keep, None)))

    def expire(self, before: float) -> Requests:
        """Gives back requests made before then; returns them (to be cancelled, say). They are
        welcome if they come after all, and the peer is not asked for these pieces for
        REFUSAL_PAUSE. O(peers) when there is none."""
        expired: Requests = []
        for source in self._peers.values():
            for block in source.asked_before(before):
                del source.outstanding[block]
                source.refused[block[0]] = REFUSAL_PAUSE
                self._assembly.unanswered(source, block)
                expired.append((source.key, Block._make(block)))
        return expired

    def take_away(self, idle: Iterable[tuple[PeerKey, bool]], now: float) -> Requests:
        """See `Solo.take_away`. Returns requests, to be cancelled."""
        return self._solo.take_away(idle, now)

    def outstanding(self, peer: PeerKey) -> int:
        """Requests the peer has not answered."""
        return len(self._peers[peer].outstanding)

    def oldest_request(self, peer: PeerKey) -> float | None:
        """When the oldest unanswered request was made; None if there is none."""
        return next(iter(self._peers[peer].outstanding.values()), None)

    # -- choosing -------------------------------------------------------------------------------

    def _another_for(self, source: PeerPieces, now: float) -> OpenPiece | None:
        for index, piece in self._assembly.released.items():
            if piece.solo in (None, source.key) and source.can(index, now):
                self._assembly.own(source, piece)
                return piece
        return self._assembly.begin_next(source, now)

    def _ask_urgent(self, source: PeerPieces, room: int, now: float, found: list[Block]) -> None:
        """A share of each piece that a reader waits for, so that all work on the first of them."""
        if self.hurried:
            found += ask_again(self._assembly, source, room, now, self._copies, self.hurried)
        for index in self.urgent:
            piece = self._assembly.partial.get(index)
            if not source.can(index, now):
                continue
            if piece is None and self._assembly.missing.holds(index) and self._assembly.fits(index):
                piece = self._assembly.begin(source, index, now)
            if piece and piece.solo in (None, source.key):
                share = len(found) + -(-len(piece.blocks) // self.helpers)
                self._assembly.take(source, piece, min(room, share), now, found)
                if len(found) >= room:
                    return

    def _last_resorts(self, source: PeerPieces, room: int, now: float, found: list[Block]) -> None:
        for piece in list(self._assembly.partial.values()):
            if piece.solo in (None, source.key) and source.can(piece.index, now):
                self._assembly.take(source, piece, room, now, found)
                if len(found) == room:
                    return
        for index in list(self._assembly.missing.broken):
            if source.can(index, now) and self._assembly.fits(index):
                self._assembly.take(
                    source, self._assembly.begin(source, index, now), room, now, found
                )
                if len(found) == room:
                    return
        if not found and not source.outstanding and self._assembly.solo:
            left = self._solo.left_behind(source, now)
            if left is not None:
                self._assembly.take(source, left, room, now, found)
                return
        if not found and not source.outstanding and self._assembly.make_way_for(source, now):
            new = self._assembly.begin_next(source, now)
            if new is not None:
                self._assembly.take(source, new, room, now, found)
        elif not self._held and all_requested(self._assembly):
            room = min(room - len(found), ENDGAME_DEPTH - len(source.outstanding))
            found += ask_again(self._assembly, source, room, now, self._copies)

    def _allowed_fast(
        self,
        source: PeerPieces,
        room: int,
        now: float,
        allowed: Collection[int],
        found: list[Block],
    ) -> None:
        for index in allowed:
            if len(found) == room:
                return
            if not 0 <= index < len(self._assembly.state) or not source.can(index, now):
                continue
            piece = self._assembly.open.get(index)
            if piece is None:
                if self._assembly.state[index] != MISSING or not self.holdings.wanted.flags[index]:
                    continue
                if not self._assembly.fits(index):
                    continue
                piece = self._assembly.begin(source, index, now)
            if piece.free and piece.solo in (None, source.key):
                self._assembly.take(source, piece, room, now, found)
