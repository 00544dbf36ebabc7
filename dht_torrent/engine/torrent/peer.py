"""One connection: a reader that turns bytes into events, a writer that turns wishes into bytes.

Whichever ends, both end. A peer's fault (broken rule, silence, a dead socket) ends here; what the
events mean is decided by the torrent, synchronously, while the payloads still lie in the buffer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import trio

from dht_torrent.config import PeerConfig
from dht_torrent.engine.net.protocols import Encryption
from dht_torrent.engine.torrent.handshake import NewConnection
from dht_torrent.engine.torrent.rate_limits import Line, TorrentLimits
from dht_torrent.engine.views import PeerInfo
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address
from dht_torrent.peer.connection import Event, Sendable
from dht_torrent.peer.extensions import MetadataRequest
from dht_torrent.peer.messages import (
    Choke,
    KeepAlive,
    Reject,
    encode_requests,
    put_piece_header,
)
from dht_torrent.peer.pace import Pace
from dht_torrent.torrent.limits import HEADER
from dht_torrent.torrent.peer_pieces import FIRST_PAUSE, REFUSAL_PAUSE
from dht_torrent.torrent.pieces import BufferPool
from dht_torrent.torrent.pipeline import Pipeline, SpeedMeter

OUTBOX_LIMIT = 4 << 20
"""Bytes of messages waiting for a peer that does not read them; more close the connection. Room for
the Have of every piece of a large torrent and a full metadata queue."""

BACKLOG = 256 * 1024
"""Bytes of these with which it is closed sooner, if it reads nothing at all: it goes on asking."""

PROBE_PAUSE = 30.0
"""Seconds between two probes: strangers who claim a peer's id must not have us pester it."""

REJECTS_IN_ROW = 4
"""Times a peer may reject what it is asked for before it is left alone for a while."""

_BUFFER_STEP = 64 * 1024
"""Sizes of send buffers are multiples of this, so that few sizes serve all batches."""

Serve = Callable[[Sequence[tuple[int, int, int]], Sequence[memoryview]], Awaitable[None]]
"""Reads blocks (index, begin, length) that a peer asked for, each into its buffer."""


class Peer:
    """The other end of a connection in a torrent, and what both sides have told each other."""

    def __init__(
        self,
        key: int,
        new: NewConnection,
        config: PeerConfig,
        now: float,
        *,
        source: str,
        incoming: bool,
        limits: TorrentLimits | None = None,
        buffers: BufferPool | None = None,
    ) -> None:
        """Without `limits` there will never be any. `buffers` for what is sent may be shared by
        all connections."""
        self.key = key
        self.stream = new.stream
        self.connection = new.connection
        self.peer_id = new.handshake.peer_id
        self.address: Address = new.stream.remote
        self.listens_at: Address | None = None if incoming else self.address
        """Where we dialled it; None if it came to us and was not dialled there since."""
        self.claims: Address | None = None
        """Where it says it listens (BEP 10's `p`), if it came to us: to be believed by nobody."""
        self.confirming = False
        """It is, or was, dialled at that address to see whether it is there."""
        self.source = source
        self.incoming = incoming
        self.client = ""
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

        self.asked: deque[tuple[int, int, int]] = deque()
        """Blocks the peer wants, in order; not in the socket buffer, so a choke can drop them."""
        self.cancels: list[tuple[tuple[int, int, int], int]] = []
        """Of this turn: a block, and how many were in `asked` when the peer took it back."""
        self.ports = 0
        """Times it told where its DHT node listens."""
        self.serve: Serve | None = None
        self.why = "closed by the peer"

        self._config = config
        self._limits = limits
        self._buffers = buffers or BufferPool(0)
        self._may_send = 0
        """Bytes the limit lets us send; 0 while we wait in line, or have not asked."""
        self._in_line = False
        self._outbox = bytearray()
        self._to_write = AutoResetEvent()
        self._scope = trio.CancelScope()
        self._silence = trio.CancelScope()
        self._sending = trio.CancelScope()
        self._send_began = now
        self._heard_at = now
        self._probed_at = float("-inf")
        self._probed = False
        self._answer = trio.Event()

    # -- what the torrent says ------------------------------------------------------------------

    def tell(self, message: Sendable) -> None:
        """Queue a message. Closes the connection if the peer has stopped reading."""
        self._queue(self.connection.send(message))

    def tell_soon(self, message: Sendable) -> None:
        """Queue a message that may wait for the next write, or for `flush`."""
        self._outbox += self.connection.send(message)

    def flush(self) -> None:
        """Send what was told soon."""
        if self._outbox:
            self._queue(b"")

    def request(self, blocks: Sequence[tuple[int, int, int]]) -> None:
        """Queue a request for each of `blocks`, as one write."""
        self._queue(encode_requests(blocks))

    def choke(self, now: float) -> None:
        """Choke, and say no to all it asked save allowed-fast pieces (BEP 6: choke comes first)."""
        self.am_choking = True
        self.choked_at = now
        self.tell(Choke())
        kept = [r for r in self.asked if r[0] in self.allowed_by_us]
        if self.connection.fast:
            for request in self.asked:
                if request[0] not in self.allowed_by_us:
                    self.tell(Reject(*request))
        self.asked = deque(kept)

    def note_rejects(self, now: float) -> None:
        """It rejected some of what it was asked for, or choked us instead of answering. Who does
        nothing else is asked ever less."""
        self.rejects_in_row += 1
        doublings = self.rejects_in_row - REJECTS_IN_ROW
        if doublings >= 0:
            self.rests_until = now + min(FIRST_PAUSE * 2.0 ** min(doublings, 10), REFUSAL_PAUSE)

    def drop(self, why: str) -> None:
        """Close the connection; its tasks end and its blocks go back."""
        self.why = why
        self._scope.cancel()

    def silence(self, now: float) -> float:
        """Seconds since its last byte."""
        return now - self._heard_at

    def probe(self, now: float, *, urgent: bool = False) -> trio.Event:
        """Ask for a sign of life; the event is set when there is one, or when it is over.

        A keep-alive makes a host whose program is gone say so (TCP resets); a question after the
        metadata is answered by any peer that speaks BEP 9, if only with a no. Who owes an answer,
        has been silent for long, or has an heir (`urgent`) is closed if nothing at all comes within
        `probe_timeout`; thrice that after its last byte, as under a limit it may read slowly."""
        config = self._config
        owes_answer = self.connection.supports("ut_metadata")
        if not self._probed:
            if now - self._probed_at < PROBE_PAUSE:
                return self._answer
            self._probed, self._probed_at, self._answer = True, now, trio.Event()
            self.tell(KeepAlive())
            if owes_answer:
                self.tell(MetadataRequest(0))
        # Not while a limit keeps us from reading: then the deadline is infinite.
        reading = self._silence.deadline < float("inf")
        if reading and (urgent or owes_answer or self.silence(now) >= config.silence):
            due = max(self._probed_at, self._heard_at + 2 * config.probe_timeout)
            due = max(now, due + config.probe_timeout)
            self._silence.deadline = min(self._silence.deadline, due)
        return self._answer

    def answered(self) -> None:
        """It has shown that it is alive, or has ended."""
        self._probed = False
        self._answer.set()

    def part_for_good(self, now: float) -> None:
        """Both sides have everything: nothing will ever be exchanged here. What we have told is
        still sent, and the other side may leave first, now that it knows; else it would dial again,
        and again. After `parting_timeout` we close."""
        if not self.has_no_use:
            self.has_no_use = True
            self.why = "both have everything"
            self._scope.deadline = now + self._config.parting_timeout

    @property
    def is_dropped(self) -> bool:
        return self._scope.cancel_called

    @property
    def backlog(self) -> int:
        """Bytes of messages the peer has not read yet."""
        return len(self._outbox)

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
        )

    def _queue(self, data: bytes) -> None:
        self._outbox += data
        waiting = len(self._outbox)
        if waiting > BACKLOG:
            due = self._send_began + self._config.backlog_timeout
            self._sending.deadline = min(self._sending.deadline, due)
            if waiting > OUTBOX_LIMIT:
                self.drop("does not read what it is sent")
        self.wake_writer()

    def wake_writer(self) -> None:
        """Call after adding to `asked`: the writer serves it when it may."""
        self._to_write.set()

    # -- the two loops --------------------------------------------------------------------------

    async def run(
        self, buffer: memoryview, on_events: Callable[[Peer, list[Event], float], None]
    ) -> None:
        """Exchange messages until either side ends. `buffer` may be shared by all connections:
        nothing runs between a receive and the end of `on_events`."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._read(buffer, on_events)
                    nursery.cancel_scope.cancel()
        except* (
            PeerProtocolError,
            OSError,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
        ) as group:
            self.why = _first_reason(group)
        finally:
            if self._limits is not None:
                self._limits.leave(self.key)
            self.stream.close()

    async def _read(
        self, buffer: memoryview, on_events: Callable[[Peer, list[Event], float], None]
    ) -> None:
        config, connection, stream = self._config, self.connection, self.stream
        receive_into, parse, limits = stream.receive_into, connection.receive, self._limits
        heard = progressed = trio.current_time()
        pace = Pace(config, heard, len(buffer))
        unheard = 0
        room = buffer[: pace.room]
        with self._silence as patience:
            while True:
                # A message that has begun must end: silence and drip-feeding have different clocks.
                deadline = heard + config.idle_timeout
                if connection.mid_message:
                    deadline = min(deadline, progressed + config.message_timeout)
                patience.deadline = deadline
                size = await receive_into(room)
                if size == 0:
                    return
                self._heard_at = heard = trio.current_time()
                if self._probed:
                    self.answered()
                was_mid_message, downloaded = connection.mid_message, self.downloaded
                events = parse(buffer[:size])
                if events or not (was_mid_message and connection.mid_message):
                    progressed = heard  # a message ended, or one has only just begun
                on_events(self, events, heard)
                messages = len(events) + connection.unheard - unheard
                unheard = connection.unheard
                wait = pace.took(size, messages, self.downloaded + self.uploaded, heard)
                events.clear()  # while we wait they would keep the memory they look into
                if wait:
                    patience.deadline = float("inf")
                    await trio.sleep(wait)
                    heard, progressed = heard + wait, progressed + wait
                if limits is None or not limits.down.limited:
                    if len(room) != pace.room:
                        room = buffer[: pace.room]
                    continue
                holds_payload = self.downloaded != downloaded or connection.mid_message
                if holds_payload or not limits.down.charge(size):
                    patience.deadline = float("inf")
                    await limits.down.pay(self.key, size)
                    # It is we who were silent: the peer's clocks stood still.
                    waited = trio.current_time() - heard
                    heard, progressed = heard + waited, progressed + waited
                room = buffer[: min(pace.room, limits.down.ahead(size))]
        raise PeerProtocolError("went silent")

    async def _write(self) -> None:
        config, stream, connection = self._config, self.stream, self.connection
        while True:
            if not self._outbox and not (self.asked and self.serve and not self._in_line):
                with trio.move_on_after(config.keepalive_interval) as pause:
                    await self._to_write.wait()
                if pause.cancelled_caught:
                    self._outbox += connection.send(KeepAlive())
                continue
            pieces = memoryview(b"")
            blocks = self._next_batch()
            if self._in_line and not self._outbox:
                continue
            if blocks:
                buffer, pieces = await self._filled(blocks)
                if self.am_choking and not connection.fast:
                    pieces = memoryview(
                        b""
                    )  # without BEP 6 our choke cancelled them while we were reading
            # Taken after the read, so that what was queued meanwhile is not held up by it.
            messages = bytes(self._outbox)
            if messages:
                self._outbox.clear()
                if self._limits is not None and self._limits.up.limited:
                    self._limits.up.charge(len(messages))
            if pieces:
                sent = len(pieces) - HEADER * len(blocks)
                self.took_at = trio.current_time()
                self.uploaded += sent
                self.uploaded_since_unchoke += sent
                self.up.add(sent, self.took_at)
            self._send_began = trio.current_time()
            self._sending = trio.CancelScope(deadline=self._send_began + config.send_timeout)
            with self._sending as patience:
                await stream.send(messages, pieces)
            if patience.cancelled_caught:
                raise PeerProtocolError("does not read what it is sent")
            if blocks:
                self._buffers.give(buffer)

    async def _filled(self, blocks: Sequence[tuple[int, int, int]]) -> tuple[bytearray, memoryview]:
        """A buffer, and the part of it that now holds a Piece message for each of `blocks`."""
        assert self.serve is not None
        size = sum([length for _, _, length in blocks]) + HEADER * len(blocks)
        buffer = self._buffers.take(-(-size // _BUFFER_STEP) * _BUFFER_STEP)
        view = memoryview(buffer)
        into: list[memoryview] = []
        at = 0
        for index, begin, length in blocks:
            put_piece_header(view, at, index, begin, length)
            at += HEADER
            into.append(view[at : at + length])
            at += length
        await self.serve(blocks, into)
        return buffer, view[:size]

    def _next_batch(self) -> list[tuple[int, int, int]]:
        """The blocks to send now: about a second of this peer's rate, so that a slow peer neither
        holds much memory nor runs into the send timeout."""
        if not self.asked or self.serve is None:
            return []
        room = min(self._config.send_batch, max(32 * 1024, int(self.up.value(trio.current_time()))))
        if self._limits is not None and self._limits.up.limited:
            return self._limited_batch(self._limits.up, room)
        batch = []
        asked = self.asked
        while asked and room > 0:
            block = asked.popleft()
            batch.append(block)
            room -= block[2]
        return batch

    def _limited_batch(self, up: Line, room: int) -> list[tuple[int, int, int]]:
        """Those of the blocks that the limit lets go now; if none, we wait in line."""
        asked = self.asked
        if not self._may_send and not self._in_line:
            least = HEADER + asked[0][2]
            most = max(least, min(room, sum(HEADER + length for _, _, length in asked)))
            self._may_send = up.ask(self.key, least, most, self._on_turn)
            self._in_line = not self._may_send
        batch = []
        while asked and HEADER + asked[0][2] <= self._may_send:
            block = asked.popleft()
            batch.append(block)
            self._may_send -= HEADER + block[2]
        if self._may_send:
            up.give_back(self._may_send)
            self._may_send = 0
        return batch

    def _on_turn(self, size: int) -> None:
        self._in_line = False
        self._may_send = size
        self.wake_writer()


def _first_reason(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
