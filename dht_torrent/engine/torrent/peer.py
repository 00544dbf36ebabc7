"""The other end of a connection: what both sides have told each other, and what it gave and took.

The rule: read by many, changed in one place. What a peer does or is told has a method here, called
by the loops (`reader` and `writer`) and by the modules that decide what it means; none of them sets
a field (tests/engine/torrent/test_peer_fields.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from dht_torrent.config import PeerConfig
from dht_torrent.engine.net.protocols import Encryption
from dht_torrent.engine.torrent.handshake import NewConnection
from dht_torrent.engine.torrent.liveness import Liveness
from dht_torrent.engine.torrent.outbox import Outbox
from dht_torrent.engine.views import PeerInfo
from dht_torrent.ids import Address, PeerKey, Transport
from dht_torrent.peer.answers import Expected
from dht_torrent.peer.connection import Sendable
from dht_torrent.peer.extensions import MetadataRequest
from dht_torrent.peer.identity import client_name
from dht_torrent.peer.messages import (
    AllowedFast,
    Choke,
    Interested,
    KeepAlive,
    NotInterested,
    Reject,
    Unchoke,
    encode_requests,
)
from dht_torrent.torrent.peer_pieces import FIRST_PAUSE, REFUSAL_PAUSE
from dht_torrent.torrent.pieces import Bitfield
from dht_torrent.torrent.pipeline import Pipeline, SpeedMeter
from dht_torrent.torrent.requests import Asked, RequestQueue, Run

REJECTS_IN_ROW = 4
"""Times a peer may reject what it is asked for before it is left alone for a while."""

Serve = Callable[[Sequence[Run], Sequence[memoryview]], Awaitable[None]]
"""Reads blocks that a peer asked for, each into a buffer of its own."""

Expect = Callable[[int], Sequence[Expected]]
"""What a peer sends next, so many blocks at most."""


class Peer:
    """The other end of a connection in a torrent, and what both sides have told each other."""

    def __init__(
        self,
        key: PeerKey,
        new: NewConnection,
        config: PeerConfig,
        now: float,
        *,
        source: str,
        incoming: bool,
        punched: bool = False,
    ) -> None:
        """`punched`: it was reached through the routers between us with the help of a relay."""
        self.key = key
        self.stream = new.stream
        self.connection = new.connection
        self.peer_id = new.handshake.peer_id
        self.address: Address = new.stream.remote
        self.listens_at: Address | None = None if incoming else self.address
        """Where we dialled it; None if it came to us and was not dialled there since."""
        self.claims: Address | None = None
        """Where it says it listens (BEP 10's `p`), if it came to us: a claim, not a fact."""
        self.is_proven = not incoming and not punched
        """It is known to answer there to others too."""
        self.punched = punched
        self.confirming = False
        """It is, or was, dialled at that address to see whether it is there."""
        self.prefers_encryption = False
        """It says so (BEP 10's `e`)."""
        self.source = source
        self.incoming = incoming
        self.client = client_name(self.peer_id, None)
        self.connected_at = now

        self.am_choking = True
        self.am_interested = False
        self.chokes_us = True
        self.interested = False
        self.optimistic = False
        self.snubs_us = False
        self.unchoked_at = now
        self.choked_at = now
        self.uploaded_since_unchoke = 0
        self.last_block_at = now
        self.gave_at = float("-inf")
        """When it last gave us a block, or a part of the metadata."""
        self.took_at = float("-inf")
        """When we last sent it a block."""
        self.offers_info = False
        """It says that it has the metadata, which we lacked then."""
        self.yields = False
        """It was closed to make room: not to be dialled again at once."""

        self.is_seed = False
        self.has_no_use = False
        """Both sides are seeds: not to be dialled again soon."""
        self.piece_total = 0
        """Pieces it has told us of."""
        self.allowed_to_us: set[int] = set()
        """Pieces it lets us have while choked (BEP 6)."""
        self.allowed_by_us: frozenset[int] = frozenset()
        self.fast_set: list[int] | None = None
        """Of which pieces these can be; None until somebody asks."""
        self.fast_blocks_served: dict[int, int] = {}
        self.rejects_in_row = 0
        """Times it rejected something, or choked us while it owed us something, since its last
        block."""
        self.rests_until = 0.0
        """Not to be asked before, since it does nothing but reject."""
        self.unwanted_blocks = 0
        self.invalid_requests = 0
        self.idle_bitfields = 0
        """Times it told what it has, and nothing of it was news."""

        self.pipeline = Pipeline(config)
        self.down = SpeedMeter()
        self.up = SpeedMeter()
        self.downloaded = 0
        self.uploaded = 0

        self.asked = RequestQueue()
        """Blocks the peer wants, in order; not in the socket buffer, so a choke can drop them."""
        self.cancels: list[tuple[Asked, int]] = []
        """Of this turn: a block, and how many were in `asked` when the peer took it back."""
        self.dht_ports = 0
        """Times it told where its DHT node listens."""
        self.serve: Serve | None = None
        self.expect: Expect | None = None
        self.gather = 0
        """Bytes of its answers that are worth waiting for."""
        self.why = "closed by the peer"

        self.outbox = Outbox(config, now)
        self.liveness = Liveness(config, now)
        self.scope = trio.CancelScope()
        """Around both loops."""
        self._config = config

    # -- what the torrent says ------------------------------------------------------------------

    def tell(self, message: Sendable) -> None:
        """Queue a message. Closes the connection if the peer has stopped reading."""
        self._put(self.connection.send(message))

    def tell_soon(self, message: Sendable) -> None:
        """Queue a message that may wait for the next write, or for `flush`."""
        self.outbox.put_later(self.connection.send(message))

    def flush(self) -> None:
        """Send what was told soon."""
        if self.outbox:
            self._put(b"")

    def request(self, blocks: Sequence[tuple[int, int, int]]) -> None:
        """Queue a request for each of `blocks`, as one write."""
        self._put(encode_requests(blocks))

    def unchoke(self, now: float) -> None:
        """It may ask for blocks from now on."""
        self.am_choking = False
        self.unchoked_at = now
        self.uploaded_since_unchoke = 0
        self.tell(Unchoke())

    def choke(self, now: float) -> None:
        """Choke, and say no to all it asked save allowed-fast pieces (BEP 6: choke comes first)."""
        self.am_choking = True
        self.choked_at = now
        self.tell(Choke())
        dropped = self.asked.keep(self.allowed_by_us)
        if self.connection.fast:
            for request in dropped:
                self.tell(Reject(*request))

    def show_interest(self, interested: bool) -> None:
        """Say whether it has what we want, if that is news."""
        if self.am_interested != interested:
            self.am_interested = interested
            self.tell(Interested() if interested else NotInterested())

    def allow_fast(self, pieces: list[int], have: Bitfield) -> None:
        """Let it ask for those of `pieces` that we `have` while it is choked (BEP 6)."""
        self.fast_set = pieces
        self.allowed_by_us = frozenset(index for index in pieces if index in have)
        for index in pieces:
            if index in self.allowed_by_us:
                self.tell(AllowedFast(index))

    def expect_with(self, expect: Expect | None) -> None:
        """Its answers are received where `expect` says from now on."""
        self.expect = expect

    def serve_with(self, serve: Serve | None) -> None:
        """Its blocks are read by `serve` from now on; None: not served any more."""
        self.serve = serve

    def hold_optimistic_slot(self, holds: bool) -> None:
        """Whether it is unchoked by chance."""
        self.optimistic = holds

    def begin_confirming(self) -> None:
        """It is dialled where it claims to listen, once."""
        self.confirming = True

    def confirm(self, over: Transport) -> None:
        """It does listen where it claims to. Its router may let in our uTP for what it sent us."""
        self.listens_at = self.claims
        self.is_proven = over is Transport.TCP

    # -- what the peer does ---------------------------------------------------------------------

    def told_client(self, client: str) -> None:
        """It says which program it is."""
        self.client = client_name(self.peer_id, client)

    def told_preference(self, encryption: bool) -> None:
        """It says whether it prefers encrypted connections. Once said, it stays."""
        self.prefers_encryption = self.prefers_encryption or encryption

    def told_port(self, port: int) -> Address | None:
        """It says at which port it listens. Returns the address it claims by that, if it came to us
        and has not claimed one before."""
        if not self.incoming or self.claims is not None:
            return None
        self.claims = Address(self.address.host, port)
        return self.claims

    def told_dht_port(self) -> int:
        """It says where its DHT node listens. Returns how often it did."""
        self.dht_ports += 1
        return self.dht_ports

    def offered_metadata(self) -> None:
        """It says that it has the metadata."""
        self.offers_info = True

    def choked_us(self) -> None:
        self.chokes_us = True

    def unchoked_us(self, now: float) -> None:
        self.chokes_us = False
        self.last_block_at = now  # the snubbing clock starts when it may send
        self.pipeline.restart()

    def told_interest(self, interested: bool) -> bool:
        """It says whether it wants what we have. False if it had said so before."""
        was, self.interested = self.interested, interested
        return was != interested

    def cancelled(self, block: Asked) -> None:
        """It takes a request back, of those it has made so far; see `RequestQueue.take_back`."""
        self.cancels.append((block, len(self.asked)))

    def take_back(self) -> list[Asked]:
        """What it cancelled in this turn leaves the queue. Returns what was in it; the rest is on
        its way already."""
        cancels, self.cancels = self.cancels, []
        return self.asked.take_back(cancels)

    def allowed_fast(self, index: int) -> None:
        """We may ask for this piece while it chokes us (BEP 6)."""
        self.allowed_to_us.add(index)

    def refused_fast(self, index: int) -> None:
        """We may not, after all."""
        self.allowed_to_us.discard(index)

    def gave_metadata(self, now: float) -> None:
        """It sent a part of the metadata that it was asked for."""
        self.gave_at = now

    def gave_blocks(self, size: int, now: float) -> None:
        """So many bytes of blocks came, in one batch."""
        self.downloaded += size
        self.down.add(size, now)
        self.pipeline.update(self.down.value(now), now, size)
        self.last_block_at = self.gave_at = now
        self.snubs_us = False
        self.rejects_in_row = 0

    def owes(self, requests: int) -> None:
        """It has not answered so many yet."""
        self.gather = self.pipeline.gather(requests)

    def was_sent(self, size: int, now: float) -> None:
        """So many bytes of blocks are on their way to it."""
        self.took_at = now
        self.uploaded += size
        self.uploaded_since_unchoke += size
        self.up.add(size, now)

    def snubbed_us(self) -> None:
        """It owes us blocks, and sends none."""
        self.snubs_us = True
        self.pipeline.snubbed()

    def told_pieces(self, count: int, total: int) -> None:
        """It has said of so many pieces of the torrent that it has them."""
        self.piece_total = count
        self.is_seed = count == total

    def note_rejects(self, now: float) -> None:
        """It rejected some of what it was asked for, or choked us instead of answering. Who does
        nothing else is asked ever less."""
        self.rejects_in_row += 1
        doublings = self.rejects_in_row - REJECTS_IN_ROW
        if doublings >= 0:
            self.rests_until = now + min(FIRST_PAUSE * 2.0 ** min(doublings, 10), REFUSAL_PAUSE)

    # -- what is held against it: each returns how often it did so ------------------------------

    def drew_fast_block(self, index: int) -> int:
        """It asked, choked, for a block of this piece, which it is allowed."""
        self.fast_blocks_served[index] = count = self.fast_blocks_served.get(index, 0) + 1
        return count

    def made_invalid_request(self) -> int:
        """It asked for what it cannot have."""
        self.invalid_requests += 1
        return self.invalid_requests

    def sent_unwanted_block(self) -> int:
        """It sent a block it was not asked for."""
        self.unwanted_blocks += 1
        return self.unwanted_blocks

    def told_nothing_new(self) -> int:
        """It told what it has, at the cost of looking at all of it, and none of it was news."""
        self.idle_bitfields += 1
        return self.idle_bitfields

    # -- its end --------------------------------------------------------------------------------

    def drop(self, why: str) -> None:
        """Close the connection; its tasks end and its blocks go back."""
        self.why = why
        self.scope.cancel()

    def make_room(self) -> None:
        """Close the connection in favour of another one."""
        self.yields = True
        self.drop("made room for another")

    def failed(self, why: str) -> None:
        """The connection has ended, by the other side's doing."""
        self.why = why

    def probe(self, now: float, *, urgent: bool = False) -> trio.Event:
        """Ask for a sign of life; the event is set when there is one, or when it is over.

        A keep-alive makes a host whose program is gone say so (TCP resets); a question after the
        metadata is answered by any peer that speaks BEP 9, if only with a no. Who owes an answer,
        has been silent for long, or has an heir (`urgent`) is closed if nothing at all comes in
        time."""
        owes_answer = self.connection.supports("ut_metadata")
        if self.liveness.begin_probe(now):
            self.tell(KeepAlive())
            if owes_answer:
                self.tell(MetadataRequest(0))
        if urgent or owes_answer or self.liveness.silence(now) >= self._config.silence:
            self.liveness.expect_answer(now)
        return self.liveness.answer

    def part_for_good(self, now: float) -> None:
        """Both sides have everything: nothing will ever be exchanged here. What we have told is
        still sent, and the other side may leave first, now that it knows; else it would dial again,
        and again. After `parting_timeout` we close."""
        if not self.has_no_use:
            self.has_no_use = True
            self.why = "both have everything"
            self.scope.deadline = now + self._config.parting_timeout

    @property
    def is_dropped(self) -> bool:
        return self.scope.cancel_called

    @property
    def backlog(self) -> int:
        """Bytes of messages the peer has not read yet."""
        return len(self.outbox)

    def info(self, pieces: int, now: float) -> PeerInfo:
        """The connection as users see it, in a torrent of `pieces` pieces."""
        flags = ""
        if self.am_interested:
            flags += "d" if self.chokes_us else "D"
        if self.interested:
            flags += "u" if self.am_choking else "U"
        flags += "S" if self.snubs_us else ""
        flags += "O" if self.optimistic else ""
        flags += "F" if self.connection.fast else ""
        encryption = self.stream.encryption
        flags += "H" if self.punched else ""
        if encryption is not None:
            flags += "e" if encryption is Encryption.MSE else "E"
        return PeerInfo(
            address=str(self.address),
            client=self.client,
            source=self.source,
            incoming=self.incoming,
            progress=self.piece_total / pieces if pieces else 0.0,
            down_rate=self.down.value(now),
            up_rate=self.up.value(now),
            downloaded=self.downloaded,
            uploaded=self.uploaded,
            flags=flags,
            encryption=self.stream.encryption,
            transport=self.stream.transport,
            punched=self.punched,
            chokes_us=self.chokes_us,
            wanted=self.am_interested,
            choked=self.am_choking,
            wants=self.interested,
            peer_id=self.peer_id.hex(),
        )

    def wake_writer(self) -> None:
        """Call after adding to `asked`: the writer serves it when it may."""
        self.outbox.news.set()

    def _put(self, data: bytes) -> None:
        if not self.outbox.put(data):
            self.drop("does not read what it is sent")
