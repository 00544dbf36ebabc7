"""Nodes of the DHT on a network in memory, and what a test does with them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import trio

from dht_torrent import bencode
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import ErrorReply, Query, Reply
from dht_torrent.engine.dht.announces import PeerLookup
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.net.protocols import DatagramSocket
from dht_torrent.ids import Address, HostPort, InfoHash, NodeId
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.trace import Record

CONFIG = DhtConfig()
HASH = InfoHash(b"\x77" * 20)
OTHER = NodeId(b"\x99" * 20)
MINUTE = 60.0


class Lab:
    """Nodes, each on a host of its own; `latency` is one way."""

    def __init__(self, nursery: trio.Nursery, latency: float = 0.01, seed: int = 7) -> None:
        self.rng = random.Random(seed)
        self.net = FakeNetwork(random.Random(seed), latency=latency)
        self.nursery = nursery
        self.records: list[Record] = []

    async def node(
        self,
        ip: str,
        *bootstrap: Dht | HostPort,
        port: int = 6881,
        config: DhtConfig = CONFIG,
        state: bytes | None = None,
        node_id: NodeId | None = None,
        nursery: trio.Nursery | None = None,
    ) -> Dht:
        points = [
            HostPort(*point.address) if isinstance(point, Dht) else point for point in bootstrap
        ]
        dht = Dht(
            self.net.host(ip),
            Address(ip, port),
            config,
            rng=random.Random(self.rng.getrandbits(64)),
            bootstrap=points,
            state=state,
            node_id=node_id,
            trace=self.records.append,
        )
        await (nursery or self.nursery).start(dht.run)
        return dht

    async def nodes(
        self, count: int, *, public: bool = False, config: DhtConfig = CONFIG
    ) -> list[Dht]:
        """A network that has settled; all come in through the first."""
        made: list[Dht] = []
        for number in range(count):
            ip = f"11.0.{number}.1" if public else f"10.0.0.{number + 1}"
            made.append(await self.node(ip, *made[:1], config=config))
        for dht in made:
            await dht.bootstrapped()
        if public:  # where strangers are pinged late, it takes longer
            await trio.sleep(10 * MINUTE)
        return made

    async def raw(self, ip: str, port: int = 6881) -> DatagramSocket:
        """A socket whose bytes the test writes by hand."""
        return await self.net.host(ip).open_udp(Address(ip, port))


class Found:
    """Collects peers, and lets one wait for them."""

    def __init__(self) -> None:
        self.peers: list[Address] = []
        self._event = trio.Event()

    def __call__(self, peers: Sequence[Address]) -> None:
        self.peers += peers
        self._event.set()

    async def some(self) -> list[Address]:
        await self._event.wait()
        return self.peers


async def find(dht: Dht, port: int | None = None) -> PeerLookup:
    return await dht.announces.find_peers(HASH, announce_port=port, on_peers=Found())


def saved(dht: Dht) -> set[bytes]:
    """The contacts it would keep over a restart."""
    state = bencode.decode(dht.state())
    assert isinstance(state, dict)
    nodes = state[b"nodes"]
    assert isinstance(nodes, list)
    return {raw for raw in nodes if isinstance(raw, bytes)}


def query(method: bytes, **args: bencode.Value) -> bytes:
    named = {name.encode(): value for name, value in args.items()}
    return krpc.encode(Query(b"tt", method, {b"id": bytes(OTHER), **named}))


async def replies(socket: DatagramSocket) -> list[Reply | ErrorReply]:
    """What arrives on `socket` within a second, queries left out."""
    found = []
    with trio.move_on_after(1):
        while True:
            for data, _ in await socket.receive():
                message = krpc.decode(data)
                if isinstance(message, Reply | ErrorReply):
                    found.append(message)
    return found


async def only_query(socket: DatagramSocket, method: bytes) -> tuple[Query, Address]:
    """The next query of that kind to arrive."""
    while True:
        for data, source in await socket.receive():
            message = krpc.decode(data)
            if isinstance(message, Query) and message.method == method:
                return message, source
