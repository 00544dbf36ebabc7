"""The engine on a fake network: nodes with content in memory, and peers written by hand."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from dht_torrent import Config, Node, open_node
from dht_torrent.config import DiskConfig, UtpConfig
from dht_torrent.engine.net.protocols import Stream
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address, HostPort, InfoHash
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage import MemoryStorage, Storage
from dht_torrent.trace import PeerDropped
from tests.helpers.nodes import Records
from tests.helpers.raw_peer import Answer, honest, single_file_info

KIB = 1024
SEED, LEECH, HAND = "10.0.0.1", "10.0.0.2", "10.0.0.3"
PORT = 6881

CHOKE, UNCHOKE, INTERESTED, NOT_INTERESTED, HAVE, BITFIELD, REQUEST, PIECE, CANCEL, PORT_MESSAGE = (
    range(10)
)
HAVE_ALL, HAVE_NONE, REJECT, ALLOWED_FAST, EXTENDED = 14, 15, 16, 17, 20


@dataclass(frozen=True)
class Sample:
    """A torrent of one file of random bytes."""

    data: bytes
    piece_length: int
    info: bytes

    @property
    def metainfo(self) -> Metainfo:
        return from_info(self.info)

    @property
    def count(self) -> int:
        return -(-len(self.data) // self.piece_length)

    def magnet(self, *hosts: str) -> str:
        peers = "".join(f"&x.pe={host}:{PORT}" for host in hosts)
        return f"magnet:?xt=urn:btih:{self.metainfo.info_hash.hex()}{peers}"

    def block(self, piece: int, begin: int, length: int = BLOCK) -> bytes:
        start = piece * self.piece_length + begin
        return self.data[start : start + length]


def sample(
    size: int = 256 * KIB, piece_length: int = 32 * KIB, *, seed: int = 1, private: bool = False
) -> Sample:
    data = random.Random(seed).randbytes(size)
    info = single_file_info("film.bin", data, piece_length)
    if private:
        info = info[:-1] + b"7:privatei1ee"
    return Sample(data, piece_length, info)


def content(storage: Storage, size: int) -> bytes:
    """All that was written to a storage that is complete."""
    return storage.read(0, size)


class World:
    """A fake network and the nodes on it. Content is in memory, one storage per host."""

    def __init__(self, seed: int = 1, **network: Any) -> None:
        self.net = FakeNetwork(random.Random(seed), **network)
        self.records = Records()
        self.storages: dict[str, MemoryStorage] = {}
        """Of the first torrent of each host."""
        self._contents: dict[tuple[str, InfoHash], MemoryStorage] = {}
        self._seed = seed

    @contextlib.asynccontextmanager
    async def node(
        self,
        ip: str,
        *,
        bootstrap: Sequence[str] = (),
        open_storage: Callable[[Metainfo, Path, bool], Storage] | None = None,
        **changes: Any,
    ) -> AsyncIterator[Node]:
        plain = Config(
            bootstrap=[HostPort(host, PORT) for host in bootstrap],
            listen=f"{ip}:{PORT}",
            disk=DiskConfig(inline=True),
            fail_fast=True,
            # Those written by hand know neither, and many tests count who is dialled when.
            encryption="allow",
            utp=UtpConfig(enabled=False),
        )

        def in_memory(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
            return self.storage(ip, metainfo)

        async with open_node(
            replace(plain, **changes),
            network=self.net.host(ip),
            open_storage=open_storage or in_memory,
            rng=random.Random(f"{self._seed} {ip}"),
            trace=self.records,
        ) as node:
            yield node

    @contextlib.asynccontextmanager
    async def seed(self, sample: Sample, ip: str = SEED, **changes: Any) -> AsyncIterator[Torrent]:
        """A node that has all of `sample`."""
        self.storage(ip, sample.metainfo).write(0, sample.data)
        async with self.node(ip, **changes) as node:
            torrent = await node.get(sample.metainfo)
            with trio.fail_after(5):
                await torrent.completed()
            yield torrent

    def storage(self, ip: str, metainfo: Metainfo) -> MemoryStorage:
        storage = self._contents.get((ip, metainfo.info_hash))
        if storage is None:
            storage = MemoryStorage(metainfo.geometry)
            self._contents[ip, metainfo.info_hash] = storage
            self.storages.setdefault(ip, storage)
        return storage


class Hand:
    """One end of a connection, its bytes written by hand."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.peer_id = b""
        """The other side's."""
        self._buffer = bytearray()

    async def raw(self, data: bytes) -> None:
        await self.stream.send(data)

    async def send(self, kind: int, *numbers: int, data: bytes = b"") -> None:
        payload = struct.pack(f">{len(numbers)}I", *numbers) + data
        await self.raw(struct.pack(">IB", 1 + len(payload), kind) + payload)

    async def hello(
        self,
        info_hash: bytes,
        peer_id: bytes = b"-HW0001-by-hand",
        *,
        fast: bool = True,
        extended: bool = False,
        dht: bool = False,
    ) -> bytes:
        """Say our handshake and hear theirs: its 68 bytes."""
        reserved = bytes(5) + bytes([0x10 * extended, 0, 0x04 * fast | 0x01 * dht])
        await self.raw(b"\x13BitTorrent protocol" + reserved + info_hash + peer_id.ljust(20, b"-"))
        heard = await self._exactly(68)
        self.peer_id = heard[48:]
        return heard

    async def receive(self) -> tuple[int, bytes]:
        """The next message; a keep-alive is (-1, b""). Raises EOFError at the end."""
        (length,) = struct.unpack(">I", await self._exactly(4))
        if not length:
            return -1, b""
        message = await self._exactly(length)
        return message[0], message[1:]

    async def receive_all(self, into: memoryview) -> list[tuple[int, bytes]]:
        """All messages that have come whole, as soon as something came. Raises as `receive`."""
        size = await self.stream.receive_into(into)
        if not size:
            raise EOFError
        data = bytes(self._buffer) + bytes(into[:size])
        messages, at = [], 0
        while at + 4 <= len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if end > len(data):
                break
            if end > at + 4:
                messages.append((data[at + 4], data[at + 5 : end]))
            at = end
        self._buffer[:] = data[at:]
        return messages

    async def expect(self, kind: int) -> bytes:
        """The payload of the next message of this kind; others are passed over."""
        while True:
            got, payload = await self.receive()
            if got == kind:
                return payload

    async def heard(self, seconds: float) -> list[tuple[int, bytes]]:
        """All messages of this time, or until the end."""
        messages = []
        with trio.move_on_after(seconds), contextlib.suppress(EOFError, OSError):
            while True:
                messages.append(await self.receive())
        return messages

    async def closed(self) -> float:
        """Read on until the other side hangs up. Returns when that was."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                await self.receive()
        return trio.current_time()

    async def _exactly(self, count: int) -> bytes:
        buffer = memoryview(bytearray(64 * KIB))
        while len(self._buffer) < count:
            size = await self.stream.receive_into(buffer)
            if not size:
                raise EOFError
            self._buffer += buffer[:size]
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


async def dial(world: World, to: str, ip: str = HAND) -> Hand:
    """Connect to the node at `to`. No handshake yet."""
    return Hand(await world.net.host(ip).connect(Address(to, PORT)))


async def greeted(
    world: World, torrent: Torrent, ip: str = HAND, *, to: str = SEED, **hello: Any
) -> Hand:
    """Connect to the node at `to`, with both handshakes done."""
    hand = await dial(world, to, ip)
    await hand.hello(torrent.info_hash, hello.pop("peer_id", b"-HW0001-" + ip.encode()), **hello)
    return hand


async def unchoked(hand: Hand) -> None:
    """Say that we have nothing and want all, and wait for our turn."""
    await hand.send(HAVE_NONE)
    await hand.send(INTERESTED)
    with trio.fail_after(60):
        await hand.expect(UNCHOKE)


@contextlib.asynccontextmanager
async def listening(
    world: World, ip: str, handle: Callable[[Hand], Awaitable[None]]
) -> AsyncIterator[list[Hand]]:
    """A host that answers each connection with `handle`; a peer that hangs up ends it. Yields the
    connections so far."""
    listener = await world.net.host(ip).listen(Address(ip, PORT))
    hands: list[Hand] = []

    async def one(hand: Hand) -> None:
        try:
            await handle(hand)
        except (EOFError, OSError):
            pass
        finally:
            hand.stream.close()

    async def accept(nursery: trio.Nursery) -> None:
        while True:
            hands.append(Hand(await listener.accept()))
            nursery.start_soon(one, hands[-1])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, nursery)
        yield hands
        nursery.cancel_scope.cancel()
    listener.close()


@dataclass
class HandSeed:
    """Says it has everything, unchokes everybody, and answers as `answer` says. Also serves the
    info dict, or something else in its place."""

    sample: Sample
    answer: Answer = honest
    info: bytes | None = None
    """What it says the info dict is."""
    size: int | None = None
    """What it says is the size of that."""
    pause: float = 0.0
    """Seconds before each block."""
    fast: bool = True
    claims: int | None = None
    """The port at which it says it listens."""
    requests: list[tuple[int, int]] = field(default_factory=list)
    heard: list[int] = field(default_factory=list)
    """Kinds of all messages."""

    async def __call__(self, hand: Hand) -> None:
        info = self.info if self.info is not None else self.sample.info
        size = self.size if self.size is not None else len(info)
        name = b"-HW0002-" + hand.stream.local.host.encode()
        await hand.hello(self.sample.metainfo.info_hash, name, fast=self.fast, extended=True)
        if self.fast:
            await hand.send(HAVE_ALL)
        else:
            count = self.sample.count
            bits = ((1 << count) - 1) << (-count % 8)
            await hand.send(BITFIELD, data=bits.to_bytes(-(-count // 8), "big"))
        port = b"" if self.claims is None else b"1:pi%de" % self.claims
        extensions = b"d1:md11:ut_metadatai3ee13:metadata_sizei%de%be" % (size, port)
        await hand.send(EXTENDED, data=b"\0" + extensions)
        await hand.send(UNCHOKE)
        theirs = 0
        while True:
            kind, payload = await hand.receive()
            self.heard.append(kind)
            if kind == REQUEST:
                await self._serve(hand, *struct.unpack(">III", payload))
            elif kind == EXTENDED and payload[0] == 0:
                theirs = int(payload.partition(b"11:ut_metadatai")[2].partition(b"e")[0])
            elif kind == EXTENDED and payload[0] == 3 and b"8:msg_typei0e" in payload:
                number = int(payload.partition(b"5:piecei")[2].partition(b"e")[0])
                data = info[number * BLOCK : (number + 1) * BLOCK]
                head = b"d8:msg_typei1e5:piecei%de10:total_sizei%dee" % (number, size)
                await hand.send(EXTENDED, data=bytes([theirs]) + head + data)

    async def _serve(self, hand: Hand, piece: int, begin: int, length: int) -> None:
        self.requests.append((piece, begin))
        if self.pause:
            await trio.sleep(self.pause)
        data = self.answer(piece, begin, self.sample.block(piece, begin, length))
        if data is not None:
            await hand.send(PIECE, piece, begin, data=data)
        else:
            await hand.raw(bytes(4))  # alive, and nothing else


async def entered(torrent: Torrent, state: str, seconds: float = 60) -> None:
    """Returns when the torrent is in this state."""
    with trio.fail_after(seconds):
        while torrent.state != state:
            await trio.sleep(0.1)


async def drop_reasons(world: World, count: int = 1) -> list[str]:
    """Why connections ended, as soon as `count` have."""
    with trio.fail_after(1000):
        while len(drops := world.records.of(PeerDropped)) < count:
            await trio.sleep(0.5)
    return [record.why for record in drops]
