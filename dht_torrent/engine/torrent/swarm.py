"""The exchange of one torrent whose metadata is known: every peer event meets a decider here.

All methods but the few service tasks are synchronous: what a batch of events changes, it changes at
once. A piece is announced only after its hash was right *and* it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import trio

from dht_torrent.engine.torrent.banning import Banning
from dht_torrent.engine.torrent.choking import Choking
from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.content import Content
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.downloads import Downloads
from dht_torrent.engine.torrent.hiding import Hiding
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.saving import Saved, Saving
from dht_torrent.engine.torrent.uploads import Uploads
from dht_torrent.engine.weak import weakly
from dht_torrent.errors import PeerProtocolError, StorageError
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import InfoHash, PeerKey
from dht_torrent.metainfo import Metainfo
from dht_torrent.peer.connection import Event
from dht_torrent.peer.messages import (
    BitfieldMessage,
    BlocksInPlace,
    Cancel,
    Have,
    HaveAll,
    HaveNone,
    Haves,
    Interested,
    NotInterested,
    Piece,
    PieceRun,
    Request,
    RequestRun,
    Suggest,
)
from dht_torrent.torrent.picker import Picker
from dht_torrent.torrent.piece_states import Received, State
from dht_torrent.torrent.pieces import Bitfield, Chunk, OpenPiece
from dht_torrent.torrent.super_seed import SuperSeed
from dht_torrent.trace import PieceDone

HAVE_PAUSE = 0.1
"""Seconds a Have may wait for company, towards a peer that is interested in us anyway."""


class Swarm:
    """The peers of an active torrent, and what they give and take."""

    def __init__(
        self,
        node: NodeContext,
        metainfo: Metainfo,
        content: Content,
        have: Bitfield,
        connections: Connections,
        *,
        on_event: Callable[[Peer, Event, float], None],
        on_saved: Callable[[], None],
        on_fault: Callable[[StorageError], None],
        super_seed: bool = False,
        on_revealed: Callable[[], None] = lambda: None,
    ) -> None:
        """`have` is kept and updated as pieces are verified. `on_event` takes messages that are not
        about pieces. `on_saved` hears of pieces that are verified and on disk, `on_fault` of
        content that could not be read or written. `super_seed`: begin with `hiding` what is here,
        which must be all of it; `on_revealed` hears of its end."""
        self.metainfo = metainfo
        self.geometry = metainfo.geometry
        self.have = have
        self.picker = Picker(
            metainfo.geometry, have, node.config.torrent, node.rng, memory=node.piece_memory
        )
        self.choking = Choking(
            connections.peers,
            self.picker,
            metainfo,
            node.config.torrent,
            node.rng,
            connections.chores,
        )
        self.on_fetched: Callable[[int], None] | None = None
        """Hears of each piece that came from peers, once it is on the disk."""
        self.wasted = 0
        """Payload bytes that came twice, unasked, or in a piece that failed."""

        self._peers = connections.peers
        self._chores = connections.chores
        self._config = node.config
        self._rng = node.rng
        self._trace = node.trace
        self._content = content
        self._on_event = on_event
        self._on_saved = on_saved
        self._on_fault = on_fault
        self._on_revealed = on_revealed
        self._banning = Banning(metainfo, connections, self.picker, node.trace)
        self.downloads = Downloads(
            connections.peers,
            self.picker,
            self._banning,
            connections.limits.down,
            node.config,
            connections.chores,
        )
        self._saving = Saving(
            content.disk,
            content.writing,
            self.picker.spills,
            self.picker.holdings.any_asked,
            weakly(self._settle),
            node.config.torrent,
            connections.chores,
        )
        self._uploads = Uploads(metainfo, node.config.peer, content.disk, have, on_fault)
        self.hiding: Hiding | None = None
        """Whom we have shown what, while we super-seed."""
        if super_seed and have.complete:
            self.hiding = Hiding(
                connections.peers,
                SuperSeed(metainfo.geometry, self.picker.holdings, node.config.torrent, node.rng),
                self._uploads.read,
                self.reveal_all,
            )
        self._info_hash: InfoHash = metainfo.info_hash
        self._shortest = min(
            metainfo.geometry.piece_size(0),
            metainfo.geometry.piece_size(metainfo.geometry.piece_count - 1),
        )
        """A range below this lies in any piece."""
        self._handlers: dict[type, Callable[[Peer, object, float], None]] = {
            **self.downloads.handlers(),
            Interested: self._on_interested,
            NotInterested: self._on_not_interested,
            Have: self._on_have,
            Haves: self._on_haves,
            BitfieldMessage: self._on_bitfield,
            HaveAll: self._on_have_all,
            HaveNone: self._on_have_none,
            Cancel: _note_cancel,
            Suggest: _ignore,
        }

    def want(self, wanted: Iterable[int], ranks: bytes | None, now: float) -> None:
        """Ask for these pieces and no others, by their ranks."""
        self.downloads.select(wanted, ranks, now)
        if self.picker.done:
            self._on_saved()

    # -- begin and end --------------------------------------------------------------------------

    def begin(self) -> None:
        """All who are connected have been let in."""
        self.choking.begin()
        if self.hiding is not None:
            self._chores.call(self.hiding.run)

    async def close(self) -> None:
        """The exchange is over, and all its tasks and connections have ended: nothing large waits
        for the garbage collector."""
        await self._saving.close()
        self._handlers.clear()  # bound methods: a cycle through this object
        self.hiding = None
        self.picker.release()

    async def _send_haves(self) -> None:
        """In a busy swarm a write for each Have to each peer would cost more than the blocks."""
        await trio.sleep(HAVE_PAUSE)
        for peer in list(self._peers.values()):
            peer.flush()

    # -- peers come and go ----------------------------------------------------------------------

    def join(self, peer: Peer, now: float) -> None:
        """A peer that just connected takes part: told what we have, in BEP 6's short forms if it
        knows them. Raises PeerProtocolError if what it said before does not fit the torrent."""
        self._let_in(peer, now)
        hidden = self.hiding is not None
        if peer.connection.fast and self.have.complete and not hidden:
            peer.tell(HaveAll())
        elif peer.connection.fast and (hidden or not self.have.count):
            peer.tell(HaveNone())
        elif self.have.count and not hidden:
            peer.tell(BitfieldMessage(self.have.to_wire()))
        self._take_part(peer, now)

    def join_late(self, peer: Peer, now: float) -> None:
        """As `join`, for a peer that connected before the metadata was known: a bitfield may no
        longer be sent, so it is told piece by piece what was found on disk."""
        self._let_in(peer, now)
        if self.hiding is None and self.have.count:
            peer.tell(Haves(tuple(self.have)))
        self._take_part(peer, now)

    def _let_in(self, peer: Peer, now: float) -> None:
        """Before anything can go wrong: all that is done with peers here takes them to be known."""
        self.picker.peer_joined(peer.key)
        self._banning.joined(peer, now)
        peer.serve_with(self._uploads.read)
        peer.expect_with(partial(self.picker.expected, peer.key))
        if self.hiding is not None:
            self.hiding.joined(peer, now)

    def _take_part(self, peer: Peer, now: float) -> None:
        self.on_events(peer, peer.connection.set_piece_count(self.geometry.piece_count), now)
        if peer.interested and self.hiding is None:
            self._uploads.offer_fast_pieces(peer)

    def leave(self, peer: Peer, now: float) -> None:
        """Its blocks are missing again, and others may have them at once."""
        if not self.picker.holdings.knows(peer.key):
            return  # a fault of ours kept it from joining
        self.picker.peer_left(peer.key)
        self._banning.left(peer)
        if self.hiding is not None:
            self.hiding.left(peer)
        self.downloads.refill_idle(now)
        if not peer.am_choking:
            self.choking.slot_freed()

    # -- what a peer says -----------------------------------------------------------------------

    def on_events(self, peer: Peer, events: Sequence[Event], now: float) -> None:
        """Take a batch of messages. Raises PeerProtocolError when the peer broke a rule."""
        picker, key, size = self.picker, peer.key, 0
        received = picker.received
        shortest, max_asked = self._shortest, self._config.peer.max_asked
        have = self._shown_to(peer).flags
        for event in events:
            if type(event) is Piece:
                index, begin, data = event
                size += len(data)
                outcome = received(key, index, begin, data)
                if outcome is not None:
                    self._unusual(peer, event, outcome, now)
            elif type(event) is BlocksInPlace:
                size += event.blocks * BLOCK
                outcome = picker.received_run(key, *event)
                if outcome is not None and outcome.piece is not None:
                    self._save(outcome.piece)
            elif type(event) is PieceRun:
                size += event.blocks * BLOCK
                self._take_run(peer, event, now)
            elif type(event) is RequestRun:
                self._uploads.request_run(peer, event, self._shown_to(peer), now)
            elif type(event) is Request:
                index, begin, length = event
                # A good request asks few questions: all but the last piece have the full length.
                if (
                    0 < length <= BLOCK
                    and begin + length <= shortest
                    and have[index]
                    and not peer.am_choking
                    and len(peer.asked) < max_asked
                ):
                    peer.asked.add(index, begin, length)
                else:
                    self._uploads.request(peer, event, self._shown_to(peer), now)
            else:
                handler = self._handlers.get(type(event))
                if handler is not None:
                    handler(peer, event, now)
                else:
                    self._on_event(peer, event, now)
        if size:
            peer.gave_blocks(size, now)
        if peer.cancels:
            self._uploads.cancel(peer)
        if peer.asked:
            peer.wake_writer()
        self.downloads.settle(peer, now)

    def _take_run(self, peer: Peer, run: PieceRun, now: float) -> None:
        """As each of its pieces."""
        index, begin, blocks, _ = run
        places = self.picker.places(peer.key, index, begin, blocks)
        if places is None:
            for piece in run.pieces():
                outcome = self.picker.received(peer.key, *piece)
                if outcome is not None:
                    self._unusual(peer, piece, outcome, now)
            return
        for place, data in zip(places, run.payloads(), strict=True):
            place[:] = data
        outcome = self.picker.received_run(peer.key, index, begin // BLOCK, blocks)
        if outcome is not None and outcome.piece is not None:
            self._save(outcome.piece)

    def _unusual(self, peer: Peer, event: Piece, outcome: Received, now: float) -> None:
        self.downloads.cancel(outcome.cancels)
        if outcome.kind != "accepted":
            self.wasted += len(event.data)
            most = self._config.peer.max_unwanted_blocks
            if outcome.kind == "unwanted" and peer.sent_unwanted_block() > most:
                raise PeerProtocolError("sends blocks that were not requested")
        if outcome.piece is not None:
            self._save(outcome.piece, outcome.chunk)

    def _on_interested(self, peer: Peer, event: object, now: float) -> None:
        if peer.told_interest(True):
            if self.hiding is None:
                self._uploads.offer_fast_pieces(peer)
            self.choking.wanted()

    def _on_not_interested(self, peer: Peer, event: object, now: float) -> None:
        if peer.told_interest(False) and not peer.am_choking:
            self.choking.slot_freed()

    def _on_have(self, peer: Peer, event: object, now: float) -> None:
        assert isinstance(event, Have)
        hiding = self.hiding
        known = self.picker.holdings.peer_count(peer.key)
        self._has_more(peer, event, now)
        if hiding is not None and self.picker.holdings.peer_count(peer.key) > known:
            hiding.shows(peer, event.index, now)

    def _on_haves(self, peer: Peer, event: object, now: float) -> None:
        assert isinstance(event, Haves)
        if self.hiding is None:
            self._has_more(peer, event.indices, now)
            return
        for index in event.indices:
            self._on_have(peer, Have(index), now)

    def _has_more(self, peer: Peer, indices: Iterable[int], now: float) -> None:
        if self.picker.holdings.peer_has(peer.key, *indices):
            peer.show_interest(True)
        self._note_progress(peer, now)

    def _on_bitfield(self, peer: Peer, event: object, now: float) -> None:
        assert isinstance(event, BitfieldMessage)
        bits = Bitfield.from_wire(event.bits, self.geometry.piece_count)
        self._told(peer, self.picker.holdings.peer_bitfield(peer.key, bits), now)

    def _on_have_all(self, peer: Peer, event: object, now: float) -> None:
        self._told(peer, self.picker.holdings.peer_has_all(peer.key), now)

    def _on_have_none(self, peer: Peer, event: object, now: float) -> None:
        self._told(peer, 0, now)  # a late one takes nothing back

    def _told(self, peer: Peer, fresh: int, now: float) -> None:
        """It has told what it has, of which so many pieces are news."""
        if not fresh and peer.told_nothing_new() > self._config.peer.max_idle_bitfields:
            raise PeerProtocolError("announces the same pieces again and again")
        self.downloads.review_interest(peer)
        self._note_progress(peer, now)
        if self.hiding is not None:
            self.hiding.told(peer, now)

    def lost(self, peer: Peer, index: int, now: float) -> None:
        """It has this piece no longer. Raises PeerProtocolError if it stops being a seed again and
        again, which is much work."""
        was_seed = peer.is_seed
        if not self.picker.peer_lost(peer.key, index):
            return
        if was_seed and peer.told_nothing_new() > self._config.peer.max_idle_bitfields:
            raise PeerProtocolError("changes all the time what it has")
        self.downloads.review_interest(peer)
        self._note_progress(peer, now)
        self.downloads.ask_others()

    def _note_progress(self, peer: Peer, now: float) -> None:
        peer.told_pieces(self.picker.holdings.peer_count(peer.key), self.geometry.piece_count)
        if peer.is_seed and self.have.complete:
            peer.part_for_good(now)

    # -- super seeding --------------------------------------------------------------------------

    @property
    def upload_only(self) -> bool:
        """Nothing is wanted any more, and peers may know."""
        return self.picker.done and self.hiding is None

    def reveal_all(self, now: float) -> None:
        """No super seeding any more: everybody is told of all that it lacks."""
        hiding, self.hiding = self.hiding, None
        if hiding is None:
            return
        hiding.end()
        for peer in list(self._peers.values()):
            if not self.picker.holdings.knows(peer.key):
                continue
            peer.serve_with(self._uploads.read)
            shown = hiding.shown_to(peer).flags
            has = self.picker.holdings.peer_has_piece
            news = [index for index in self.have if not shown[index] and not has(peer.key, index)]
            if news:
                peer.tell_soon(Haves(tuple(news)))
            peer.flush()
            if peer.interested:
                self._uploads.offer_fast_pieces(peer)
            self._note_progress(peer, now)
        self._on_revealed()

    def _shown_to(self, peer: Peer) -> Bitfield:
        """The pieces it may ask for."""
        return self.have if self.hiding is None else self.hiding.shown_to(peer)

    # -- pieces ---------------------------------------------------------------------------------

    def _save(self, piece: OpenPiece, chunk: Chunk | None = None) -> None:
        self._saving.add(piece, chunk, doubted=self._banning.doubts(piece.index))

    def _settle(self, outcome: Saved) -> None:
        """The disk has done what it was given."""
        now = trio.current_time()
        for piece, chunk in outcome.stored:
            if self.picker.stored(piece, chunk):
                self._save(piece)
        for piece, chunk in outcome.unstored:
            self.wasted += chunk.filled
            self.downloads.cancel(self.picker.not_stored(piece, chunk))
        for piece in outcome.bad:
            self.wasted += piece.size
            suspects = self._banning.failed(piece, outcome.digests[piece.index], now)
            self.picker.failed(piece.index, suspects)
        for piece in outcome.unsaved:
            self.wasted += piece.size
            self.picker.failed(piece.index)
        if outcome.saved:
            for piece in outcome.saved:
                self._banning.passed(piece, outcome.digests.get(piece.index), now)
                self.picker.verified(piece.index)
            self._announce({piece.index: set(piece.senders) for piece in outcome.saved})
            if self.on_fetched is not None:
                for piece in outcome.saved:
                    self.on_fetched(piece.index)
        if outcome.error is not None:
            self._on_fault(outcome.error)
        self.downloads.refill_idle(now)

    def reused(self, indices: Iterable[int], error: StorageError | None) -> list[int]:
        """These pieces were on this disk, and are verified and written to where they belong, up to
        an error. Returns those of them that are news."""
        found = [index for index in indices if self.picker.state(index) is State.HELD]
        for index in found:
            self.picker.found(index)
        if found:
            self._announce({index: set() for index in found})
        if error is not None:
            self._on_fault(error)
        return found

    def let_go(self, indices: Sequence[int]) -> None:
        """These pieces are not on this disk: peers may be asked for them."""
        if indices:
            self.picker.let_go(indices)
            self.downloads.refill_idle(trio.current_time())

    def _announce(self, pieces: Mapping[int, set[PeerKey]]) -> None:
        """These pieces, of whom those came, are verified and written: only now do others hear of
        them."""
        for index in pieces:
            self._trace(PieceDone(self._info_hash, index))
        for peer in list(self._peers.values()):
            if not peer.is_seed:
                self._tell(peer, pieces)
        for peer in list(self._peers.values()):
            self.downloads.review_interest(peer)
        self._on_saved()

    def _tell(self, peer: Peer, pieces: Mapping[int, set[PeerKey]]) -> None:
        has, key = self.picker.holdings.peer_has_piece, peer.key
        lacks = [index for index in pieces if not has(key, index)]
        # What it gave it has, and may be a super seed that waits to hear who else has.
        gave = [index for index, by in pieces.items() if key in by and has(key, index)]
        if not lacks and not gave:
            return
        news = Haves((*lacks, *gave))
        if lacks and not peer.interested:
            peer.tell(news)
        else:  # it knows already why it wants us
            peer.tell_soon(news)
            self._chores.call(self._send_haves)


def _note_cancel(peer: Peer, event: object, now: float) -> None:
    assert isinstance(event, Cancel)
    peer.cancelled((event.index, event.begin, event.length))


def _ignore(peer: Peer, event: object, now: float) -> None:
    """Suggestions need no action."""
