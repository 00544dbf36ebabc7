"""Peers whose bytes are written by hand, so that our encoder and decoder cannot be wrong together.

They use nothing of the package under test. Layouts: BEP 3 (handshake, messages), BEP 10 (extension
handshake) and BEP 9 (ut_metadata).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

CHOKE, UNCHOKE, INTERESTED, NOT_INTERESTED, HAVE, BITFIELD, REQUEST, PIECE, CANCEL = range(9)
EXTENDED = 20
METADATA_ID = 3
"""The id under which our ut_metadata messages are to be sent to us."""
BLOCK = 16384

HandsUp = (trio.BrokenResourceError, trio.ClosedResourceError, EOFError)
"""The other side went away."""


class Wire:
    """One connection, message by message."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def handshake(self, info_hash: bytes, peer_id: bytes, *, extended: bool = False) -> bytes:
        """Say ours, hear theirs: 68 bytes."""
        reserved = bytes(5) + (b"\x10" if extended else b"\x00") + bytes(2)
        await self._stream.send_all(
            b"\x13BitTorrent protocol" + reserved + info_hash + peer_id.ljust(20, b"-")
        )
        return await self._exactly(68)

    async def send(self, kind: int, payload: bytes = b"") -> None:
        await self._stream.send_all(struct.pack(">IB", 1 + len(payload), kind) + payload)

    async def receive(self) -> tuple[int, bytes]:
        """The next message that is no keep-alive. Raises one of `HandsUp` at the end."""
        while True:
            (length,) = struct.unpack(">I", await self._exactly(4))
            if length:
                message = await self._exactly(length)
                return message[0], message[1:]

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = await self._stream.receive_some(65536)
            if not data:
                raise EOFError
            self._buffer += data
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def single_file_info(name: str, content: bytes, piece_length: int) -> bytes:
    """The info dict of a torrent of one file, spelled out."""
    pieces = b"".join(
        hashlib.sha1(content[at : at + piece_length]).digest()
        for at in range(0, len(content), piece_length)
    )
    return b"d6:lengthi%de4:name%d:%b12:piece lengthi%de6:pieces%d:%be" % (
        len(content),
        len(name),
        name.encode(),
        piece_length,
        len(pieces),
        pieces,
    )


Answer = Callable[[int, int, bytes], bytes | None]
"""(piece, begin, the true bytes) -> the bytes to send, or None to send nothing, ever."""


def honest(piece: int, begin: int, data: bytes) -> bytes | None:
    return data


def poison(piece: int, begin: int, data: bytes) -> bytes | None:
    """One wrong bit in every block."""
    return bytes([data[0] ^ 1]) + data[1:]


def stall(piece: int, begin: int, data: bytes) -> bytes | None:
    return None


@dataclass
class RawSeed:
    """Claims to have everything, unchokes everybody, and answers requests as `answer` says."""

    info: bytes
    content: bytes
    piece_length: int
    answer: Answer = honest
    name: bytes = b"-RW0001-"
    metadata: bool = True
    """Whether it also serves the info dict (BEP 9)."""
    quota: int | None = None
    """Blocks served in all, after which every connection is cut and no new one is answered."""
    gate: trio.Event | None = None
    """Everybody stays choked until this is set."""
    requests: list[tuple[int, int, int]] = field(default_factory=list)
    """(connection, piece, begin) in the order they came."""
    served: int = 0
    connections: int = 0
    exhausted: trio.Event = field(default_factory=trio.Event)

    @property
    def info_hash(self) -> bytes:
        return hashlib.sha1(self.info).digest()

    async def run(
        self, *, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen on loopback until cancelled or exhausted; started with the address."""
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, self._welcome, listeners)
            task_status.started(listeners[0].socket.getsockname()[:2])
            await self.exhausted.wait()
            nursery.cancel_scope.cancel()

    async def _welcome(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        connection = self.connections
        wire = Wire(stream)
        try:
            await wire.handshake(self.info_hash, self.name, extended=self.metadata)
            if self.metadata:
                await wire.send(EXTENDED, b"\x00" + self._extension_handshake())
            await wire.send(BITFIELD, self._bitfield())
            if self.gate is not None:
                await self.gate.wait()
            await wire.send(UNCHOKE)
            their_metadata = 0
            while True:
                kind, payload = await wire.receive()
                if kind == REQUEST:
                    await self._serve(wire, connection, payload)
                elif kind == EXTENDED and payload[0] == 0:
                    their_metadata = _id_of_ut_metadata(payload)
                elif kind == EXTENDED and payload[0] == METADATA_ID:
                    await self._serve_metadata(wire, their_metadata, payload[1:])
        except HandsUp:
            return

    def _bitfield(self) -> bytes:
        count = -(-len(self.content) // self.piece_length)
        bits = (1 << count) - 1
        width = -(-count // 8)
        return (bits << (width * 8 - count)).to_bytes(width, "big")

    def _extension_handshake(self) -> bytes:
        return b"d1:md11:ut_metadatai%dee13:metadata_sizei%dee" % (METADATA_ID, len(self.info))

    async def _serve(self, wire: Wire, connection: int, payload: bytes) -> None:
        piece, begin, length = struct.unpack(">III", payload)
        self.requests.append((connection, piece, begin))
        start = piece * self.piece_length + begin
        data = self.answer(piece, begin, self.content[start : start + length])
        if data is None:
            return
        await wire.send(PIECE, struct.pack(">II", piece, begin) + data)
        self.served += 1
        if self.quota is not None and self.served >= self.quota:
            self.exhausted.set()
            await trio.sleep_forever()  # until `run` cuts the connection

    async def _serve_metadata(self, wire: Wire, to: int, message: bytes) -> None:
        # d8:msg_typei0e5:piecei<n>ee
        number = int(message.partition(b"5:piecei")[2].partition(b"e")[0])
        data = self.info[number * BLOCK : (number + 1) * BLOCK]
        head = b"d8:msg_typei1e5:piecei%de10:total_sizei%dee" % (number, len(self.info))
        await wire.send(EXTENDED, bytes([to]) + head + data)


def _id_of_ut_metadata(handshake: bytes) -> int:
    return int(handshake.partition(b"11:ut_metadatai")[2].partition(b"e")[0] or b"0")


async def ride_free(
    address: tuple[str, int], info_hash: bytes, name: bytes, pieces: int, piece_length: int
) -> int:
    """Connect, ask for whole pieces one after the other, give nothing. Returns the bytes received.

    Ends when the other side hangs up; run it under a timeout otherwise.
    """
    received = 0
    async with await trio.open_tcp_stream(*address) as stream:
        wire = Wire(stream)
        await wire.handshake(info_hash, name)
        await wire.send(INTERESTED)
        wanted = iter(
            (piece, begin) for piece in range(pieces) for begin in range(0, piece_length, BLOCK)
        )
        try:
            while True:
                kind, payload = await wire.receive()
                if kind == PIECE:
                    received += len(payload) - 8
                if kind in {UNCHOKE, PIECE} and (block := next(wanted, None)) is not None:
                    await wire.send(REQUEST, struct.pack(">III", *block, BLOCK))
        except HandsUp:
            return received
