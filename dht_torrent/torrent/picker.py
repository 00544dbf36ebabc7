"""A piece is in exactly one of five states: missing, open, pending, have, or held.

    missing --next_requests--> open --received--> pending --verified--> have --lost--> missing
       ^------------------------'-----------failed---'
    missing --hold--> held --found--> have
       ^--let_go-------'

*Open*: being assembled, some blocks requested. *Pending*: assembled, at the disk. What open and
pending pieces take of the memory is bounded (`memory`): a slow disk slows the asking. *Held*: no
peer is asked for it, as it may be on this disk already.

What a peer with room is asked for, after its share of what is `urgent`, in this order:

1. the rest of the piece it works on;
2. released: open pieces whose worker left, choked us or went silent;
3. a new piece of its own, which `missing` chooses;
4. only if it may open none: free blocks of pieces other peers work on, oldest first;
5. a broken piece it *is* suspected of;
6. the endgame, when no block that a connected peer has is left unrequested: blocks outstanding
   elsewhere, longest ago first, a few at a time and in at most `endgame_copies` places.

A whole piece each (3 before 4) gives blame one address, and duplicate writes no chance; sharing (4)
keeps big pieces from waiting for slow peers, and memory from filling with half pieces.

A piece that has been broken is *solo* from then on: one peer alone sends all of it, best one that
has proved itself, so that its hash tells the truth about that peer. If it stops, another begins
anew. A peer on parole (`alone`) is asked for solo pieces only, one at a time.

Costs: a request or a block O(1); opening a piece O(distinct availabilities), with a peer that has
little O(pieces) at worst but once.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Container, Iterable, Sequence
from itertools import islice
from operator import and_

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import BLOCK, Geometry
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.endgame import ENDGAME_DEPTH, Place, Requests, asked_longest
from dht_torrent.torrent.holdings import Holdings
from dht_torrent.torrent.memory import PieceMemory, TorrentMemory
from dht_torrent.torrent.missing import Missing
from dht_torrent.torrent.peer_pieces import REFUSAL_PAUSE, SOLO_PATIENCE, PeerPieces
from dht_torrent.torrent.piece_states import Received, State
from dht_torrent.torrent.pieces import NOBODY, RECEIVED, Bitfield, Block, Chunk, OpenPiece
from dht_torrent.torrent.runs import DueRun, expected, places

_MISSING, _OPEN, _PENDING, _HAVE, _HELD = range(5)
_IS_MISSING = bytes(number == _MISSING for number in range(256))
_DUPLICATE = Received("duplicate")
_UNWANTED = Received("unwanted")


class Picker:
    """Which blocks to ask of which peer, for one torrent. Peers join before use."""

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
        self.sequential = False
        """Open pieces in order of index (for watching while it loads) instead of the rarest."""
        self.urgent: Sequence[int] = ()
        """Pieces that come before all others, in this order, if they are missing and wanted."""
        self.hurried: Collection[int] = ()  # of these; they are asked of more peers than one
        self.helpers = 1  # peers that may be asked for urgent pieces, each for its share
        self.holdings = Holdings(geometry, have)
        """What the peers have, and what we want of it."""
        self._geometry = geometry
        self._config = config
        self._memory = TorrentMemory(memory or PieceMemory(1 << 62, config.max_open_bytes), config)
        self._state = have.flags.translate(bytes.maketrans(b"\x00\x01", bytes((_MISSING, _HAVE))))
        self._peers = self.holdings.peers
        self._open: dict[int, OpenPiece] = {}
        self._pending: dict[int, OpenPiece] = {}
        self._partial: dict[int, OpenPiece] = {}  # open, with free blocks
        self._released: dict[int, OpenPiece] = {}  # those of them that no peer works on
        self._solo: dict[int, OpenPiece] = {}  # open, and for one peer alone
        self._held = 0  # pieces in that state
        self._taken_away: dict[int, int] = {}  # solo piece -> how often
        self._missing = Missing(self.holdings.rarity, have, config, rng)
        self._sort_missing()

    def release(self) -> None:
        """The exchange is over, and no disk thread reads a piece any more: all buffers go back to
        the pool. Call nothing afterwards but what asks."""
        for piece in (*self._open.values(), *self._pending.values()):
            self._memory.close(piece)
        self._memory.release()
        for kept in (self._open, self._pending, self._partial, self._released, self._peers):
            kept.clear()

    # -- peers come, go, and lose a piece -------------------------------------------------------

    def peer_joined(self, peer: PeerKey) -> None:
        """A connection that has no piece yet. Its key must be new."""
        self.holdings.joined(peer)

    def peer_left(self, peer: PeerKey) -> None:
        """Its outstanding blocks are free again, its pieces no longer counted."""
        self.choked(peer)
        for piece in [piece for piece in self._solo.values() if piece.solo == peer]:
            self._close(piece)
        self.holdings.left(peer)

    def peer_lost(self, peer: PeerKey, index: int) -> bool:
        """The peer has this piece no longer (BEP 54): what it was asked of it is free for others,
        and welcome if it comes after all. False if it was not known to have it. O(pieces) if it had
        them all."""
        source = self._peers[peer]
        if not self.holdings.peer_lost(peer, index):
            return False
        if source.current is not None and source.current.index == index:
            self._release_piece(source.current)
        self._give_back(source, [block for block in source.outstanding if block[0] == index])
        piece = self._solo.get(index)
        if piece is not None and piece.solo == peer:
            self._close(piece)  # no other peer may finish it
        return True

    # -- what we want ---------------------------------------------------------------------------

    def state(self, index: int) -> State:
        return State(self._state[index])

    def states(self) -> bytes:
        """The number of the state of each piece."""
        return bytes(self._state)

    @property
    def done(self) -> bool:
        """Every wanted piece is here and verified."""
        return self.holdings.wanted_left == 0

    def select(self, wanted: Iterable[int], ranks: bytes | None = None) -> Requests:
        """Only these pieces are asked for from now on, by `ranks` (`Missing.rank`). O(pieces).

        Open pieces that are wanted no more are given up; returns their requests, to be cancelled.
        """
        self._missing.rank(ranks)
        self.holdings.want(wanted)
        cancels = []
        for piece in list(self._open.values()):
            if not self.holdings.wanted.flags[piece.index]:
                cancels += self._withdraw(piece)
                self._close(piece)
        self._sort_missing()
        return cancels

    def make_way(self) -> Requests:
        """Ask for nothing that is not urgent, for the moment, and give up what takes the memory of
        the first two that are. Returns the requests, to be cancelled."""
        others = [piece for piece in self._open.values() if piece.index not in self.urgent]
        cancels = [request for piece in others for request in self._withdraw(piece)]
        for piece in sorted(others, key=lambda piece: piece.left, reverse=True):
            if not self._memory.fits(self._geometry.size_of(self.urgent[:2])):
                self._close(piece)
        return cancels

    @property
    def open_bytes(self) -> int:
        """Bytes of memory for pieces being assembled or at the disk."""
        return self._memory.used

    def spills(self) -> bool:
        """Lies any piece on the disk, unverified, or is on its way there?"""
        return self._memory.spills

    def stored(self, piece: OpenPiece, chunk: Chunk) -> bool:
        """These blocks are on the disk. True: now all of the piece is: verify it there, then say
        `verified` or `failed`."""
        assert piece.spill is not None
        self._memory.landed(piece.spill, chunk)
        return self._pending.get(piece.index) is piece and not piece.spill.chunks_away

    def not_stored(self, piece: OpenPiece, chunk: Chunk) -> Requests:
        """The disk could not take these blocks: the piece is missing again. Returns its requests,
        to be cancelled."""
        assert piece.spill is not None
        self._memory.landed(piece.spill, chunk)
        cancels = []
        if self._pending.get(piece.index) is piece:
            self.failed(piece.index)
        elif self._open.get(piece.index) is piece:
            cancels = self._withdraw(piece)
            self._close(piece)
        return cancels

    def verified(self, index: int) -> None:
        """A pending piece matched its hash and is stored. Its buffer goes back to the pool: no task
        or disk thread may still read it."""
        piece = self._pending.pop(index)
        self._let_go(piece)
        self._memory.close(piece)
        self._taken_away.pop(index, None)
        self._state[index] = _HAVE
        self.have.add(index)
        self.holdings.gained(index)

    def failed(self, index: int, suspects: Iterable[PeerKey] | None = None) -> None:
        """A pending piece is missing again, its buffer back in the pool.

        `suspects` (of a broken one; None when it was the disk's fault) do not get it again while
        there is anything else to ask them for, so that the next attempt comes from one other peer.
        """
        piece = self._pending.pop(index)
        if suspects is not None:
            piece.avoid = frozenset(suspects)
        self._missing_again(piece)

    def proved(self, peer: PeerKey, *, proved: bool = True) -> None:
        """The peer completed a whole piece alone; or is suspected again."""
        source = self._peers[peer]
        source.proved = proved
        source.lost = source.lost and not proved

    def lost(self, index: int) -> None:
        """A piece we had is gone from the disk, or is broken there: missing again."""
        if not self.have.discard(index):
            return
        self._state[index] = _MISSING
        self.holdings.lost(index)
        self._now_missing(index)

    # -- what may be on this disk already -------------------------------------------------------

    def hold(self, indices: Iterable[int]) -> list[int]:
        """Ask no peer for these pieces until `found` or `let_go`. Returns those of them that are
        held from now on: missing and wanted ones, whose last attempt was not broken."""
        held = []
        for index in indices:
            if (
                self._state[index] == _MISSING
                and self.holdings.wanted.flags[index]
                and index not in self._missing.broken
            ):
                self._missing.remove(index)
                self._state[index] = _HELD
                held.append(index)
        self._held += len(held)
        return held

    def let_go(self, indices: Iterable[int]) -> None:
        """They are not there: those that are held are missing again."""
        for index in indices:
            if self._state[index] == _HELD:
                self._held -= 1
                self._state[index] = _MISSING
                self._now_missing(index)

    def found(self, index: int) -> None:
        """A held piece matched its hash and is stored."""
        assert self._state[index] == _HELD
        self._held -= 1
        self._state[index] = _HAVE
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
                self._ask_alone(source, room, now, found)
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
            if not self._take(source, piece, room, now, found):
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
            return self._not_outstanding(source, index, begin, data)
        piece = self._open[index]
        number, chunk = begin // BLOCK, None
        if piece.spill is None:
            piece.buffer[begin : begin + size] = data
        else:
            chunk = self._memory.put(piece.spill, begin, data)
        copies = piece.blocks[number]
        piece.blocks[number] = RECEIVED
        piece.senders[number] = peer
        piece.left -= 1
        if copies == 1 and piece.left and chunk is None:
            return None
        return self._settled(piece, Block(index, begin, size), copies > 1, chunk)

    def expected(self, peer: PeerKey, most: int) -> list[DueRun]:
        """The next answers of this peer, `most` blocks of them, as far as they can be received
        where they belong. When they have come: `received_run`, before anything else is done."""
        return expected(self._peers[peer].outstanding, self._open, most)

    def places(self, peer: PeerKey, index: int, begin: int, count: int) -> list[memoryview] | None:
        """Where these blocks go, if `received_run` may take them then."""
        return places(self._peers[peer].outstanding, self._open.get(index), begin, count)

    def received_run(self, peer: PeerKey, index: int, first: int, count: int) -> Received | None:
        """So many blocks of a `DueRun` of this peer, from `first` on, lie in their places: as
        `received` for each of them."""
        piece = self._open[index]
        answered = piece.requests(first, count)
        deque(map(self._peers[peer].outstanding.__delitem__, answered), 0)
        piece.blocks[first : first + count] = bytes((RECEIVED,)) * count
        piece.senders[first : first + count] = [peer] * count
        piece.left -= count
        return None if piece.left else self._settled(piece, answered[-1], False, None)

    def rejected(self, peer: PeerKey, block: Place) -> bool:
        """BEP 6 reject. For an outstanding request: free again, and this peer is not asked for that
        piece for FIRST_PAUSE, longer each time. For any other, such as one given back by `choked`:
        nothing. Returns whether a request came back."""
        source = self._peers[peer]
        if source.outstanding.pop(block, None) is None:
            source.late.pop(block, None)
            return False
        source.refuse(block[0])
        self._refused(source, block)
        return True

    def _refused(self, source: PeerPieces, block: Place) -> None:
        piece = self._open[block[0]]
        self._put_back(source, piece, block)
        if source.current is piece:
            self._release_piece(piece)
        self._close_if_empty(piece)

    def choked(self, peer: PeerKey, *, keep: Collection[int] = ()) -> int:
        """Gives back all outstanding requests save for pieces in `keep` (allowed fast); returns how
        many. Right with and without the fast extension: rejects that follow change nothing, and
        blocks that come after all are welcome."""
        source = self._peers[peer]
        if source.current is not None and source.current.index not in keep:
            self._release_piece(source.current)
        given_up = [block for block in source.outstanding if block[0] not in keep]
        return self._give_back(source, given_up)

    def give_back(self, peer: PeerKey, *, keep: int = 0) -> int:
        """For a peer that snubs us: all requests but the `keep` oldest are free for others, and
        welcome if they come after all. Returns how many."""
        source = self._peers[peer]
        if source.current is not None:
            self._release_piece(source.current)
        return self._give_back(source, list(islice(source.outstanding, keep, None)))

    def expire(self, before: float) -> Requests:
        """Gives back requests made before then; returns them (to be cancelled, say). They are
        welcome if they come after all, and the peer is not asked for these pieces for
        REFUSAL_PAUSE. O(peers) when there is none."""
        expired: Requests = []
        for source in self._peers.values():
            for block in source.asked_before(before):
                del source.outstanding[block]
                source.refused[block[0]] = REFUSAL_PAUSE
                self._refused(source, block)
                expired.append((source.key, Block._make(block)))
        return expired

    def take_away(self, idle: Iterable[tuple[PeerKey, bool]], now: float) -> Requests:
        """A peer must not hold up the download with a piece that others are not let near. `idle`:
        peers that could be asked and have nothing to do, each with whether it is on parole. A solo
        piece that is not done after SOLO_PATIENCE is given to one that can have it, to be begun
        anew; to one on parole, which may not help out, any piece is. Returns requests, to be
        cancelled."""
        cancels: Requests = []
        for key, alone in idle:
            source = self._peers[key]
            if source.lost:
                continue
            for piece in list((self._open if alone else self._solo).values()):
                patience = SOLO_PATIENCE * 2 ** min(self._taken_away.get(piece.index, 0), 16)
                if (
                    piece.solo != key
                    and now - piece.opened_at >= patience
                    and source.can(piece.index, now)
                ):
                    cancels += self._take_away(piece)
                    if self._fits(piece.index):
                        mine = self._open_piece(source, piece.index, now)
                        if alone:
                            self._reserve(source, mine)
                    break
        return cancels

    def outstanding(self, peer: PeerKey) -> int:
        """Requests the peer has not answered."""
        return len(self._peers[peer].outstanding)

    def oldest_request(self, peer: PeerKey) -> float | None:
        """When the oldest unanswered request was made; None if there is none."""
        return next(iter(self._peers[peer].outstanding.values()), None)

    # -- choosing -------------------------------------------------------------------------------

    def _another_for(self, source: PeerPieces, now: float) -> OpenPiece | None:
        for index, piece in self._released.items():
            if piece.solo in (None, source.key) and source.can(index, now):
                self._own(source, piece)
                return piece
        return self._new_for(source, now)

    def _ask_urgent(self, source: PeerPieces, room: int, now: float, found: list[Block]) -> None:
        """A share of each piece that a reader waits for, so that all work on the first of them."""
        self._ask_again(source, room, now, found, self.hurried)
        for index in self.urgent:
            piece = self._partial.get(index)
            if not source.can(index, now):
                continue
            if piece is None and self._missing.holds(index) and self._fits(index):
                piece = self._open_piece(source, index, now)
            if piece and piece.solo in (None, source.key):
                share = len(found) + -(-len(piece.blocks) // self.helpers)
                self._take(source, piece, min(room, share), now, found)
                if len(found) >= room:
                    return

    def _new_for(self, source: PeerPieces, now: float) -> OpenPiece | None:
        index = self._missing.choose(source, now, sequential=self.sequential)
        if index is None or not self._fits(index):
            return None
        return self._open_piece(source, index, now)

    def _ask_alone(self, source: PeerPieces, room: int, now: float, found: list[Block]) -> None:
        """For a peer on parole: what is left of its piece, or the next one when that is settled."""
        piece = source.current
        if piece is not None and piece.index != source.alone:
            if self._is_its_own(source, piece):
                self._reserve(source, piece)
            else:
                self._release_piece(piece)
                piece = None
        if piece is None and source.alone is not None:
            mine = self._released.get(source.alone)
            if mine is not None and source.can(mine.index, now):
                self._own(source, mine)
                piece = mine
        elif piece is None and not source.outstanding:
            piece = self._piece_alone(source, now)
        if piece is not None:
            self._take(source, piece, room, now, found)

    def _piece_alone(self, source: PeerPieces, now: float) -> OpenPiece | None:
        """A piece from its beginning: one that is missing, or else one that no peer works on."""
        piece = self._new_for(source, now)
        if piece is None:
            index = next((i for i in self._missing.broken if source.can(i, now)), None)
            if index is not None and self._fits(index):
                piece = self._open_piece(source, index, now)
        if piece is None:
            index = self._give_up_idle(source, now)
            if index is not None:
                if self._fits(index):
                    piece = self._open_piece(source, index, now)
            elif self._make_way_for(source, now):
                piece = self._new_for(source, now)
        if piece is not None:
            self._reserve(source, piece)
        return piece

    def _give_up_idle(self, source: PeerPieces, now: float) -> int | None:
        """Closes a released piece that is not asked of any peer, so that this one can begin it
        anew. Of several the one with the least in it."""
        idle = [
            piece
            for piece in self._released.values()
            if piece.free == piece.left and source.can(piece.index, now)
        ]
        if not idle:
            return None
        piece = max(idle, key=lambda piece: piece.left)
        self._close(piece)
        return piece.index

    def _is_its_own(self, source: PeerPieces, piece: OpenPiece) -> bool:
        """Is it the only peer that sent any of it, or is asked for it?"""
        if any(sender not in (NOBODY, source.key) for sender in piece.senders):
            return False
        asked = sum(block[0] == piece.index for block in source.outstanding)
        return (
            asked == piece.left - piece.free
            and max((copies for copies in piece.blocks if copies != RECEIVED), default=0) <= 1
        )

    def _reserve(self, source: PeerPieces, piece: OpenPiece) -> None:
        piece.solo = source.key
        self._solo[piece.index] = piece
        source.alone = piece.index

    def _let_go(self, piece: OpenPiece) -> None:
        """Its one peer need not finish it any more: it has, or may not."""
        if piece.solo is not None:
            self._solo.pop(piece.index, None)
            source = self._peers.get(piece.solo)
            if source is not None and source.alone == piece.index:
                source.alone = None

    def _take_away(self, piece: OpenPiece) -> Requests:
        holders = {sender for sender in piece.senders if sender != NOBODY}
        withdrawn = self._withdraw(piece)
        slow = {key for key, _ in withdrawn} | (
            {piece.solo} if piece.solo in self._peers else set()
        )
        for key in slow:
            self._peers[key].lost = True
        holders |= slow
        for key in sorted(holders):
            if key in self._peers:
                self._peers[key].refused[piece.index] = REFUSAL_PAUSE
        self._taken_away[piece.index] = self._taken_away.get(piece.index, 0) + 1
        piece.avoid = (piece.avoid or frozenset()) | holders
        if piece.index in self._open:
            self._close(piece)
        return withdrawn

    def _fits(self, index: int) -> bool:
        return self._memory.fits(self._geometry.piece_size(index))

    def _last_resorts(self, source: PeerPieces, room: int, now: float, found: list[Block]) -> None:
        for piece in list(self._partial.values()):
            if piece.solo in (None, source.key) and source.can(piece.index, now):
                self._take(source, piece, room, now, found)
                if len(found) == room:
                    return
        for index in list(self._missing.broken):
            if source.can(index, now) and self._fits(index):
                self._take(source, self._open_piece(source, index, now), room, now, found)
                if len(found) == room:
                    return
        if not found and not source.outstanding and self._solo:
            left = self._left_solo(source, now)
            if left is not None:
                self._take(source, left, room, now, found)
                return
        if not found and not source.outstanding and self._make_way_for(source, now):
            new = self._new_for(source, now)
            if new is not None:
                self._take(source, new, room, now, found)
        elif self._all_requested():
            room = min(room - len(found), ENDGAME_DEPTH - len(source.outstanding))
            self._ask_again(source, room, now, found, self._open)

    def _left_solo(self, source: PeerPieces, now: float) -> OpenPiece | None:
        """A solo piece whose peer stopped, begun anew by this one."""
        for piece in self._solo.values():
            if (
                piece.index in self._released
                and piece.free == piece.left
                and source.can(piece.index, now)
            ):
                self._close(piece)
                fits = self._fits(piece.index)
                return self._open_piece(source, piece.index, now) if fits else None
        return None

    def _make_way_for(self, source: PeerPieces, now: float) -> bool:
        """For a peer with nothing to do because released pieces fill the memory: give one up."""
        if self._pending or self._memory.settling or not self._released:
            return False
        index = self._missing.choose(source, now, sequential=self.sequential)
        if index is None or self._fits(index):
            return False
        if not (idle := [one for one in self._released.values() if one.free == one.left]):
            return False
        copies = self.holdings.availability
        self._close(max(idle, key=lambda piece: (not copies(piece.index), piece.left)))
        return True

    def _all_requested(self) -> bool:
        shared = (index for index, piece in self._partial.items() if piece.solo is None)
        if self._held or any(map(self.holdings.availability, shared)):
            return False
        return self._missing.out_of_reach()

    def _ask_again(
        self, source: PeerPieces, room: int, now: float, found: list[Block], among: Container[int]
    ) -> None:
        """Blocks of these open pieces that others were asked for."""
        most = min(self._config.endgame_copies, RECEIVED - 1)

        def fits(index: int, number: int) -> bool:
            shared = index in among and index not in self._solo
            return shared and self._open[index].blocks[number] < most and source.can(index, now)

        for block in asked_longest(self._peers.values(), source, room, fits):
            self._open[block[0]].blocks[block[1] // BLOCK] += 1
            source.outstanding[block] = now
            found.append(Block._make(block))

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
            if not 0 <= index < len(self._state) or not source.can(index, now):
                continue
            piece = self._open.get(index)
            if piece is None:
                if self._state[index] != _MISSING or not self.holdings.wanted.flags[index]:
                    continue
                if not self._fits(index):
                    continue
                piece = self._open_piece(source, index, now)
            if piece.free and piece.solo in (None, source.key):
                self._take(source, piece, room, now, found)

    # -- open pieces ----------------------------------------------------------------------------

    def _open_piece(self, source: PeerPieces, index: int, now: float) -> OpenPiece:
        piece = self._memory.open(index, self._geometry.piece_size(index))
        piece.opened_at = now
        self._state[index] = _OPEN
        piece.avoid = self._missing.remove(index)
        if piece.avoid is not None:
            piece.solo = source.key
            self._solo[index] = piece
        self._open[index] = self._partial[index] = piece
        self._own(source, piece)
        return piece

    def _own(self, source: PeerPieces, piece: OpenPiece) -> None:
        if source.current is not None:
            self._release_piece(source.current)
        self._released.pop(piece.index, None)
        piece.owner = source.key
        source.current = piece

    def _release_piece(self, piece: OpenPiece) -> None:
        """Its worker, if any, works on it no more: it is released if it has free blocks."""
        if piece.owner is not None:
            self._peers[piece.owner].current = None
            piece.owner = None
        if piece.free:
            self._released[piece.index] = piece

    def _take(
        self, source: PeerPieces, piece: OpenPiece, room: int, now: float, found: list[Block]
    ) -> int:
        """Requests free blocks of `piece` until `found` has `room` of them. Returns how many; none
        if there is no memory for them."""
        blocks = piece.blocks
        count = min(room - len(found), piece.free)
        if piece.spill is not None:
            count = self._memory.grant(piece.spill, count)
            if not count:
                return 0
        first = blocks.find(0)
        if first == len(blocks) - piece.free:
            # The free blocks are the tail, as with every piece of one worker.
            blocks[first : first + count] = b"\x01" * count
            taken = piece.requests(first, count)
        else:
            taken = []
            for _ in range(count):  # a piece may have thousands of blocks, and few of them free
                blocks[first] = 1
                taken += piece.requests(first, 1)
                first = blocks.find(0, first + 1)
        source.outstanding.update(dict.fromkeys(taken, now))
        found += taken
        piece.free -= count
        if not piece.free:
            self._all_taken(piece)
        return count

    def _all_taken(self, piece: OpenPiece) -> None:
        self._partial.pop(piece.index, None)
        self._released.pop(piece.index, None)
        if piece.owner is not None:
            self._peers[piece.owner].current = None
            piece.owner = None

    def _give_back(self, source: PeerPieces, blocks: list[Place]) -> int:
        touched: dict[int, OpenPiece] = {}
        for block in blocks:
            del source.outstanding[block]
            piece = touched[block[0]] = self._open[block[0]]
            self._put_back(source, piece, block)
        for piece in touched.values():
            self._close_if_empty(piece)
        return len(blocks)

    def _put_back(self, source: PeerPieces, piece: OpenPiece, block: Place) -> None:
        """A request that left `source.outstanding` unanswered: one asker less."""
        source.remember_late(block)
        number = block[1] // BLOCK
        piece.blocks[number] -= 1
        if piece.blocks[number] == 0:
            if piece.spill is not None:
                self._memory.waive(piece.spill)
            piece.free += 1
            if piece.free == 1:
                self._partial[piece.index] = self._released[piece.index] = piece

    def _withdraw(self, piece: OpenPiece) -> Requests:
        """Gives back every request for `piece`, of all peers."""
        withdrawn = []
        for source in self._peers.values():
            for block in [b for b in source.outstanding if b[0] == piece.index]:
                del source.outstanding[block]
                self._put_back(source, piece, block)
                withdrawn.append((source.key, Block._make(block)))
        return withdrawn

    def _close_if_empty(self, piece: OpenPiece) -> None:
        if piece.free == len(piece.blocks):
            self._close(piece)

    def _close(self, piece: OpenPiece) -> None:
        """Gives up an open piece that no peer is asked for."""
        assert piece.free == piece.left
        self._all_taken(piece)
        del self._open[piece.index]
        self._missing_again(piece)

    def _missing_again(self, piece: OpenPiece) -> None:
        index = piece.index
        self._state[index] = _MISSING
        self._let_go(piece)
        self._memory.close(piece)
        if piece.avoid is not None and self.holdings.wanted.flags[index]:
            self._missing.add_broken(index, piece.avoid)
        else:
            self._now_missing(index)

    def _now_missing(self, index: int) -> None:
        if self.holdings.wanted.flags[index]:
            for source in self._peers.values():
                source.exhausted = False
            self._missing.add(index)

    def _not_outstanding(
        self, source: PeerPieces, index: int, begin: int, data: bytes | memoryview
    ) -> Received | None:
        """A block that answers no open request: late, a duplicate, of a wrong length, or a lie."""
        block = (index, begin, len(data))
        if block in source.late:
            del source.late[block]
            piece, number = self._open.get(index), begin // BLOCK
            if piece is None or piece.solo not in (None, source.key):
                return _DUPLICATE
            copies, chunk = piece.blocks[number], None
            if copies == RECEIVED:
                return _DUPLICATE
            if piece.spill is None:
                piece.buffer[begin : begin + len(data)] = data
            elif not copies and not self._memory.grant(piece.spill, 1):
                return _DUPLICATE  # there is no memory for it
            else:
                chunk = self._memory.put(piece.spill, begin, data)
            piece.blocks[number] = RECEIVED
            piece.senders[number] = source.key
            piece.left -= 1
            if not copies:
                piece.free -= 1
                if not piece.free:
                    self._all_taken(piece)
            return self._settled(piece, Block._make(block), copies > 0, chunk)
        for asked in source.outstanding:
            if asked[0] == index and asked[1] == begin:
                # The right place, a wrong length: the request is as good as refused.
                piece = self._open[index]
                del source.outstanding[asked]
                self._put_back(source, piece, asked)
                self._close_if_empty(piece)
                break
        return _UNWANTED

    def _settled(
        self, piece: OpenPiece, block: Block, asked_elsewhere: bool, chunk: Chunk | None
    ) -> Received | None:
        """A block was accepted that others were asked for too, or that completed something."""
        cancels = []
        if asked_elsewhere:
            for other in self._peers.values():
                if other.outstanding.pop(block, None) is not None:
                    other.remember_late(block)
                    cancels.append((other.key, block))
        if piece.left:
            if chunk is None and not cancels:
                return None
            return Received("accepted", piece if chunk else None, tuple(cancels), chunk)
        del self._open[piece.index]
        self._solo.pop(piece.index, None)
        self._state[piece.index] = _PENDING
        self._pending[piece.index] = piece
        if piece.spill is not None and chunk is None:
            chunk = self._memory.flush(piece.spill)
        return Received("accepted", piece, tuple(cancels), chunk)

    def _sort_missing(self) -> None:
        """After the selection changed. O(pieces)."""
        missing = self._state.translate(_IS_MISSING)
        self._missing.reset(bytes(map(and_, missing, self.holdings.wanted.flags)))
        for source in self._peers.values():
            source.exhausted = False
