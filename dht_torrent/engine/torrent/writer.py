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
from dht_torrent.peer.messages import KeepAlive, put_piece_header
from dht_torrent.torrent.limits import HEADER
from dht_torrent.torrent.pieces import BufferPool

_BUFFER_STEP = 64 * 1024
"""Sizes of send buffers are multiples of this, so that few sizes serve all batches."""


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
        peer, outbox = self.peer, self.peer.outbox
        stream, connection = peer.stream, peer.connection
        while True:
            if not outbox and not (peer.asked and peer.serve and not self._in_line):
                with trio.move_on_after(self._config.keepalive_interval) as pause:
                    await outbox.news.wait()
                if pause.cancelled_caught:
                    outbox.put_later(connection.send(KeepAlive()))
                continue
            pieces = memoryview(b"")
            blocks = self._next_batch()
            if self._in_line and not outbox:
                continue
            if blocks:
                buffer, pieces = await self._filled(blocks)
                if peer.am_choking and not connection.fast:
                    # Without BEP 6 our choke cancelled them while we were reading.
                    pieces = memoryview(b"")
            # Taken after the read, so that what was queued meanwhile is not held up by it.
            messages = outbox.take()
            if messages and self._limit.limited:
                self._limit.charge(len(messages))
            if pieces:
                peer.was_sent(len(pieces) - HEADER * len(blocks), trio.current_time())
            with outbox.begin_send(trio.current_time()) as patience:
                await stream.send(messages, pieces)
            if patience.cancelled_caught:
                raise PeerProtocolError("does not read what it is sent")
            if blocks:
                self._buffers.give(buffer)

    async def _filled(self, blocks: Sequence[tuple[int, int, int]]) -> tuple[bytearray, memoryview]:
        """A buffer, and the part of it that now holds a Piece message for each of `blocks`."""
        serve = self.peer.serve
        assert serve is not None
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
        await serve(blocks, into)
        return buffer, view[:size]

    def _next_batch(self) -> list[tuple[int, int, int]]:
        """The blocks to send now: about a second of this peer's rate, so that a slow peer neither
        holds much memory nor runs into the send timeout."""
        peer = self.peer
        asked = peer.asked
        if not asked or peer.serve is None:
            return []
        room = min(self._config.send_batch, max(32 * 1024, int(peer.up.value(trio.current_time()))))
        if self._limit.limited:
            return self._limited_batch(room)
        batch = []
        while asked and room > 0:
            block = asked.popleft()
            batch.append(block)
            room -= block[2]
        return batch

    def _limited_batch(self, room: int) -> list[tuple[int, int, int]]:
        """Those of the blocks that the limit lets go now; if none, we wait in line."""
        asked = self.peer.asked
        if not self._may_send and not self._in_line:
            least = HEADER + asked[0][2]
            most = max(least, min(room, sum(HEADER + length for _, _, length in asked)))
            self._may_send = self._limit.ask(self.peer.key, least, most, self._on_turn)
            self._in_line = not self._may_send
        batch = []
        while asked and HEADER + asked[0][2] <= self._may_send:
            block = asked.popleft()
            batch.append(block)
            self._may_send -= HEADER + block[2]
        if self._may_send:
            self._limit.give_back(self._may_send)
            self._may_send = 0
        return batch

    def _on_turn(self, size: int) -> None:
        self._in_line = False
        self._may_send = size
        self.peer.wake_writer()
