"""The loop that writes one connection: the messages in its outbox, and the blocks it asked for.

The rule: messages never wait behind blocks, and what is read from the disk for a peer is no more
than it takes in about a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from dht_torrent.config import PeerConfig
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.rate_limits import Line
from dht_torrent.errors import PeerProtocolError
from dht_torrent.peer.messages import KeepAlive, put_piece_headers
from dht_torrent.torrent.limits import HEADER, MESSAGE
from dht_torrent.torrent.pieces import BufferPool
from dht_torrent.torrent.requests import Run, batch_size

_LEAST_BUFFER = 4
"""Send buffers hold so many full blocks, or twice, four times ... as many: few sizes serve all
batches, and a used buffer is there for the next one."""


class Writer:
    """Of one connection."""

    __slots__ = ("_buffers", "_config", "_in_line", "_limit", "_may_send", "peer")

    def __init__(self, peer: Peer, config: PeerConfig, limit: Line, buffers: BufferPool) -> None:
        """`buffers` for what is sent may be shared by all connections."""
        self.peer = peer
        self._config = config
        self._limit = limit
        self._buffers = buffers
        self._may_send = 0
        """Bytes the limit lets us send; 0 while we wait in line, or have not asked."""
        self._in_line = False

    async def run(self) -> None:
        """Until cancelled. Raises PeerProtocolError if the peer does not read what it is sent."""
        outbox = self.peer.outbox
        while True:
            with outbox.clock(trio.current_time()):
                await self._write()
            if outbox.is_sending:
                raise PeerProtocolError("does not read what it is sent")
            if outbox.is_silent(trio.current_time()):
                outbox.put_later(self.peer.connection.send(KeepAlive()))

    async def _write(self) -> None:
        """Until the clock ends."""
        peer, outbox = self.peer, self.peer.outbox
        stream, connection = peer.stream, peer.connection
        while True:
            if not outbox and not (peer.asked and peer.serve and not self._in_line):
                outbox.rest()
                await outbox.news.wait()
                continue
            if not outbox.begin_turn():
                return
            pieces = memoryview(b"")
            runs = self._next_batch()
            if self._in_line and not outbox:
                continue
            if runs:
                buffer, pieces = await self._filled(runs)
                if peer.am_choking and not connection.fast:
                    # Without BEP 6 our choke cancelled them while we were reading.
                    pieces = memoryview(b"")
            # Taken after the read, so that what was queued meanwhile is not held up by it.
            messages = outbox.take()
            if messages and self._limit.limited:
                self._limit.charge(len(messages))
            now = trio.current_time()
            if pieces:
                payload = sum([length * blocks for _, _, length, blocks in runs])
                peer.was_sent(payload, now)
            outbox.begin_send(now)
            await stream.send(messages, pieces)
            outbox.end_send()
            if runs:
                self._buffers.give(buffer)

    async def _filled(self, runs: Sequence[Run]) -> tuple[bytearray, memoryview]:
        """A buffer, and the part of it that now holds a Piece message for each block of `runs`."""
        serve = self.peer.serve
        assert serve is not None
        size = sum([(HEADER + length) * blocks for _, _, length, blocks in runs])
        room = _LEAST_BUFFER
        while room * MESSAGE < size:
            room *= 2
        buffer = self._buffers.take(room * MESSAGE)
        view = memoryview(buffer)
        into: list[memoryview] = []
        at = 0
        for run in runs:
            # Every time anew: a stream that encrypts does so in place.
            put_piece_headers(buffer, at, *run)
            step = HEADER + run.length
            after = at + step * run.blocks
            into += [view[start : start + run.length] for start in range(at + HEADER, after, step)]
            at = after
        await serve(runs, into)
        return buffer, view[:size]

    def _next_batch(self) -> list[Run]:
        """The blocks to send now."""
        peer = self.peer
        asked = peer.asked
        if not asked or peer.serve is None:
            return []
        room = batch_size(peer.up.value(trio.current_time()), self._config.send_batch)
        return self._limited_batch(room) if self._limit.limited else asked.take(room)

    def _limited_batch(self, room: int) -> list[Run]:
        """Those of the blocks that the limit lets go now; if none, we wait in line."""
        asked = self.peer.asked
        if not self._may_send and not self._in_line:
            least = HEADER + asked.first_length
            most = max(least, min(room, asked.size(HEADER)))
            self._may_send = self._limit.ask(self.peer.key, least, most, self._on_turn)
            self._in_line = not self._may_send
        runs = asked.take_within(self._may_send, HEADER)
        left = self._may_send - sum([(HEADER + length) * blocks for _, _, length, blocks in runs])
        if left:
            self._limit.give_back(left)
        self._may_send = 0
        return runs

    def _on_turn(self, size: int) -> None:
        self._in_line = False
        self._may_send = size
        self.peer.wake_writer()
