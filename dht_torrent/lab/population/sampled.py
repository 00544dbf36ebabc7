"""A DHT to be crawled: light nodes that respond to samples (BEP 51) and lookups, and peers that
give metadata (BEP 9), all on a network in memory. The rule: each node keeps the time before which
it is not to be asked for a sample again, and ends the run when it is.

The torrents of a node are those it is among the eight closest to. What it tells of them is drawn
anew whenever its interval is over, as BEP 51 has it.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, get_args

import trio

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.config import PeerConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import ErrorReply, NodeInfo, Query, Reply
from dht_torrent.engine.net.protocols import DatagramSocket, Stream
from dht_torrent.errors import KrpcError, LocalProtocolError, PeerProtocolError
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address, InfoHash, NodeId, PeerId
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.dhtnet import PORT, host_address
from dht_torrent.lab.population.virtual import VirtualNetwork
from dht_torrent.peer.connection import Connection, HandshakeReceived
from dht_torrent.peer.extensions import ExtensionHandshake, MetadataData, MetadataRequest
from dht_torrent.peer.messages import HaveNone

COPIES: Final = 8
"""Nodes that know of a torrent."""
SAMPLES: Final = 20
"""Infohashes in a sample (libtorrent)."""
INTERVALS: Final = (600, 3600, 21_600)
"""Seconds, of which each node has one: libtorrent's is the last."""
MOST_INTERVAL: Final = 21_600
"""Of BEP 51."""
PEER_HOSTS: Final = 500
"""Hosts that share all torrents, each some."""

Hostile = Literal["lengths", "inventor", "hasty", "eternal", "braggart", "follower", "bomber"]
"""What a liar does: samples of other lengths; infohashes made up by the dozen; an interval of 0, or
of a thousand million seconds; an absurd number of torrents; ids next to the target at addresses
where nobody is; torrents whose peers send anything but their metadata."""
HOSTILE: Final[tuple[Hostile, ...]] = get_args(Hostile)
Bomb = Literal["huge", "wrong", "slow", "chatter", "garbage"]
BOMBS: Final[tuple[Bomb, ...]] = get_args(Bomb)


@dataclass(slots=True)
class _LightNode:
    number: int
    info: NodeInfo
    interval: int
    deaf: bool
    """It does not know BEP 51."""
    hostile: Hostile | None = None
    torrents: list[int] = field(default_factory=list)
    not_before: float = float("-inf")
    asked: int = 0


class SampledNetwork:
    """`size` nodes and `torrents` torrents. `dead` of the nodes and of the torrents' peers are not
    there, `deaf` of the nodes do not know BEP 51, and `hostile` of them lie."""

    def __init__(
        self,
        net: FakeNetwork,
        size: int,
        torrents: int,
        seed: int,
        *,
        dead: float = 0.0,
        deaf: float = 0.0,
        hostile: float = 0.0,
        kinds: Sequence[Hostile] = HOSTILE,
    ) -> None:
        rng = random.Random(f"sampled {seed}")
        self.net = net
        self.torrents = torrents
        self.queries: Counter[str] = Counter()
        """That the nodes got, by method."""
        self._rng = rng
        self._dht = VirtualNetwork(size, seed, dead=dead)
        self._infos = [info_of(number, seed) for number in range(torrents)]
        self.info_hashes = [InfoHash(hashlib.sha1(info).digest()) for info in self._infos]
        self._number_of = {hash_: number for number, hash_ in enumerate(self.info_hashes)}
        self._dead_peer = [rng.random() < dead for _ in range(torrents)]
        self._bombs: dict[InfoHash, Bomb] = {}
        self.nodes: dict[int, _LightNode] = {}
        for number in range(size):
            if not self._dht.is_dead(number):
                self.nodes[number] = _LightNode(
                    number,
                    self._dht.info(number),
                    rng.choice(INTERVALS),
                    rng.random() < deaf,
                    rng.choice(kinds) if rng.random() < hostile else None,
                )
        for place, info_hash in enumerate(self.info_hashes):
            for info in self._dht.closest(info_hash, COPIES, but=-1):
                self.nodes[self._dht.number(info.id)].torrents.append(place)

    def reachable(self) -> int:
        """Torrents that can be found: told of by an honest node, and with a peer that is there."""
        told = {
            place
            for node in self.nodes.values()
            if not node.deaf and node.hostile is None
            for place in node.torrents
        }
        return sum(not self._dead_peer[place] for place in told)

    def entry_points(self, count: int) -> list[Address]:
        """Of living nodes."""
        some = self._rng.sample(list(self.nodes), count)
        return [self.nodes[number].info.address for number in some]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Respond until cancelled."""
        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                address = node.info.address
                socket = await self.net.host(address.host).open_udp(address)
                nursery.start_soon(socket.serve, partial(self._take, node, socket))
            for number in range(PEER_HOSTS):
                await nursery.start(self._listen, peer_address(number), self._honest_peer)
            for number, bomb in enumerate(BOMBS):
                at = peer_address(PEER_HOSTS + number)
                await nursery.start(self._listen, at, partial(self._bomb_peer, bomb))
            task_status.started()

    # -- nodes ----------------------------------------------------------------------------------

    def _take(
        self,
        node: _LightNode,
        socket: DatagramSocket,
        datagrams: Sequence[tuple[bytes, Address]],
    ) -> None:
        for data, source in datagrams:
            try:
                query = krpc.decode(data)
            except KrpcError:
                continue
            if isinstance(query, Query):
                self.queries[query.method.decode()] += 1
                socket.send(krpc.encode(self._respond(node, query, source)), source)

    def _respond(self, node: _LightNode, query: Query, source: Address) -> Reply | ErrorReply:
        body: dict[bytes, Value] = {b"id": node.info.id}
        if query.target is not None:
            known = self._dht.known(node.number, query.target, 8)
            if node.hostile == "follower":
                known = [self._neighbour(query.target) for _ in range(8)]
            body[b"nodes"] = b"".join(info.id + info.address.compact() for info in known)
        match query.method:
            case krpc.SAMPLE_INFOHASHES:
                if node.deaf:
                    return ErrorReply(query.tid, krpc.METHOD_UNKNOWN, "Method Unknown")
                body |= self._sample(node)
            case krpc.GET_PEERS:
                assert query.target is not None
                body[b"token"] = b"token"
                body[b"values"] = self._values(node, InfoHash(query.target))
        return Reply(query.tid, body, source)

    def _sample(self, node: _LightNode) -> dict[bytes, Value]:
        now = trio.current_time()
        if now < node.not_before:
            raise AssertionError(
                f"{node.info.address} was asked {node.not_before - now:.1f} s before its time"
            )
        node.not_before = now + node.interval
        node.asked += 1
        most = min(SAMPLES, len(node.torrents))
        told: list[bytes] = [
            self.info_hashes[place] for place in self._rng.sample(node.torrents, most)
        ]
        interval, num = node.interval, len(node.torrents)
        raw = b"".join(told)
        match node.hostile:
            case "lengths":
                return {b"interval": interval, b"num": num, b"samples": raw + bytes(7)}
            case "inventor":
                raw = self._rng.randbytes(20 * 90)
            case "hasty":
                interval = 0
                node.not_before = now + 60  # for a crawl that hammers him is no better than he
            case "eternal":
                interval = 10**9
                node.not_before = now + MOST_INTERVAL
            case "braggart":
                num = self._rng.choice((-5, 2**62))
            case "bomber":
                told = [self._rng.randbytes(20) for _ in range(SAMPLES)]
                for infohash in told:
                    self._bombs[InfoHash(infohash)] = self._rng.choice(BOMBS)
                raw = b"".join(told)
        return {b"interval": interval, b"num": num, b"samples": raw}

    def _values(self, node: _LightNode, info_hash: InfoHash) -> list[Value]:
        bomb = self._bombs.get(info_hash)
        if bomb is not None:
            return [peer_address(PEER_HOSTS + BOMBS.index(bomb)).compact()]
        place = self._number_of.get(info_hash)
        if place is None or place not in node.torrents:
            return []
        if self._dead_peer[place]:
            return [Address("172.31.255.1", PORT).compact()]  # where nobody is
        return [peer_address(place % PEER_HOSTS).compact()]

    def _neighbour(self, target: bytes) -> NodeInfo:
        """A node that is not there, closer to the target than all that are."""
        id_ = NodeId(target[:18] + self._rng.randbytes(2))
        return NodeInfo(id_, Address(f"172.30.{self._rng.randrange(256)}.9", PORT))

    # -- peers ----------------------------------------------------------------------------------

    async def _listen(
        self,
        address: Address,
        serve: Callable[[Stream], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        listener = await self.net.host(address.host).listen(address)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                stream = await listener.accept()
                nursery.start_soon(self._serve, stream, serve)

    async def _serve(self, stream: Stream, serve: Callable[[Stream], Awaitable[None]]) -> None:
        try:
            await serve(stream)
        except (OSError, PeerProtocolError, LocalProtocolError, trio.ClosedResourceError):
            pass
        finally:
            stream.close()

    async def _honest_peer(self, stream: Stream) -> None:
        """Gives the metadata of what it is asked for, and nothing else."""
        peer = _Server(stream)
        handshake = await peer.greet()
        info = self._infos[self._number_of[handshake.info_hash]]
        await peer.introduce(len(info))
        while True:
            for piece in await peer.requests():
                block = info[piece * BLOCK : (piece + 1) * BLOCK]
                await peer.give(MetadataData(piece, len(info), block))

    async def _bomb_peer(self, bomb: Bomb, stream: Stream) -> None:
        peer = _Server(stream)
        await peer.greet()
        size = {"huge": (1 << 31) - 1, "wrong": 3 * BLOCK, "slow": 64 * BLOCK}.get(bomb, BLOCK)
        await peer.introduce(size)
        while True:
            pieces = await peer.requests()
            for piece in pieces:
                if bomb == "slow":
                    await trio.sleep(5.0)
                if bomb == "garbage":
                    await stream.send(self._rng.randbytes(4096))
                elif bomb == "chatter":
                    await stream.send(bytes(4) * 16_384)  # keep-alives
                    await trio.sleep(0.1)
                    await stream.send(bytes(4) * 100_000)
                else:
                    await peer.give(MetadataData(piece, size, bytes(BLOCK)))


class _Server:
    """One connection from the other side: what a peer says who has the metadata."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._connection = Connection(PeerConfig(), dht=False)
        self._buffer = memoryview(bytearray(16 * 1024))

    async def greet(self) -> HandshakeReceived:
        while True:
            size = await self._stream.receive_into(self._buffer)
            if size == 0:
                raise PeerProtocolError("closed")
            for event in self._connection.receive(self._buffer[:size]):
                assert isinstance(event, HandshakeReceived)
                own = PeerId(b"-LB0001-000000000000")
                await self._stream.send(self._connection.send_handshake(event.info_hash, own))
                return event

    async def introduce(self, size: int) -> None:
        hello = self._connection.send(HaveNone())
        await self._stream.send(
            hello + self._connection.send(ExtensionHandshake(metadata_size=size))
        )

    async def requests(self) -> list[int]:
        """Pieces of the metadata asked for, at least one."""
        found = _requested(self._connection.receive(b""))
        while not found:
            size = await self._stream.receive_into(self._buffer)
            if size == 0:
                raise PeerProtocolError("closed")
            found = _requested(self._connection.receive(self._buffer[:size]))
        return found

    async def give(self, message: MetadataData) -> None:
        await self._stream.send(self._connection.send(message))


def _requested(events: Sequence[object]) -> list[int]:
    return [event.piece for event in events if isinstance(event, MetadataRequest)]


def peer_address(number: int) -> Address:
    """Where peers are: none of the nodes' hosts."""
    return Address(f"172.16.{number >> 8}.{number & 255}", PORT)


def info_of(number: int, seed: int) -> bytes:
    """The info dict of a torrent, different for each."""
    rng = random.Random(f"torrent {seed} {number}")
    pieces = rng.randrange(1, 60)
    return bencode.encode(
        {
            b"length": pieces << 20,
            b"name": b"Title %d %s.iso" % (number, rng.randbytes(4).hex().encode()),
            b"piece length": 1 << 20,
            b"pieces": rng.randbytes(20 * pieces),
        }
    )


CRAWLER: Final = host_address((1 << 24) - 2)
"""Where no light node lives."""
