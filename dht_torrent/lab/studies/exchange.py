"""How a swarm finds itself by peer exchange (BEP 11) alone, on virtual time, and what liars do to
it. The rule: every node is told of one other, the entry, which is the only seed; there is no DHT.

All hosts have public addresses, one each. A liar is not a node: it connects to every member of the
swarm, wants nothing, and names a thousand peers a minute that do not exist.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from dht_torrent import bencode
from dht_torrent.config import Config, DiskConfig, TorrentConfig
from dht_torrent.engine.opening import open_node
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.net.streams import FakeStream
from dht_torrent.lab.studies.spread import metainfo_of
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import MemoryStorage, Storage

PORT: Final = 6881
_WINDOW: Final = 128 * 1024
_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangePlan:
    """A swarm. Sizes are bytes, rates bytes per second."""

    nodes: int
    """With the entry."""
    size: int
    """Of the content."""
    piece_length: int
    up: int
    """What each can send ..."""
    down: int
    """... and receive."""
    liars: int = 0
    invented: int = 1000
    """Peers each of them invents a minute. 0: it says nothing, and only takes a connection."""
    latency: float = 0.02
    """Seconds one way."""
    look_at: float = 180.0
    """When it is counted which peers the members know ..."""
    patience: float = 3600.0
    """... and when all is over, complete or not."""
    torrent: TorrentConfig = field(default_factory=TorrentConfig)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What became of it."""

    known: list[int]
    """Other members whose address each one knew then, the entry first."""
    seconds: list[float]
    """From the start until each leech was complete; those that were, the first one first."""
    told: int
    """Lists of invented peers that members took from the liars."""


def member(number: int) -> Address:
    """Where member `number` listens: no two in one /16."""
    return Address(f"{20 + number // 200}.{number % 200}.7.7", PORT)


def _liar(number: int) -> str:
    return f"150.{number}.66.6"


async def exchange(rng: random.Random, plan: ExchangePlan) -> Exchange:
    """Run it until every leech is complete, and for `look_at` at least. For `lab.run`."""
    return await _Swarm(rng, plan).run()


class _Swarm:
    def __init__(self, rng: random.Random, plan: ExchangePlan) -> None:
        self._rng = rng
        self._plan = plan
        self._net = FakeNetwork(rng, latency=plan.latency, window=_WINDOW)
        self._content = rng.randbytes(plan.size)
        self._metainfo = metainfo_of(self._content, plan.piece_length, private=False)
        self._torrents: list[Torrent] = []
        self._seconds: list[float] = []
        self._told = 0
        self._done = trio.Event()

    async def run(self) -> Exchange:
        plan = self._plan
        async with trio.open_nursery() as nursery:
            for number in range(plan.nodes):
                self._torrents.append(await nursery.start(self._member, number))
            began = trio.current_time()
            for torrent in self._torrents[1:]:
                torrent.add_peers([HostPort(*member(0))])
                nursery.start_soon(self._watch, torrent, began)
            for number in range(plan.liars):
                for target in range(plan.nodes):
                    nursery.start_soon(self._lie, number, member(target))
            await trio.sleep(plan.look_at)
            known = [self._known(number) for number in range(plan.nodes)]
            with trio.move_on_at(began + plan.patience):
                await self._done.wait()
            nursery.cancel_scope.cancel()
        return Exchange(known, sorted(self._seconds), self._told)

    def _known(self, number: int) -> int:
        candidates = behind(self._torrents[number]).core.connections.candidates
        others = (other for other in range(self._plan.nodes) if other != number)
        return sum(candidates.source(member(other)) is not None for other in others)

    async def _watch(self, torrent: Torrent, began: float) -> None:
        await torrent.completed()
        self._seconds.append(trio.current_time() - began)
        if len(self._seconds) == self._plan.nodes - 1:
            self._done.set()

    async def _member(self, number: int, task_status: trio.TaskStatus[Torrent]) -> None:
        plan, storage = self._plan, MemoryStorage(self._metainfo.geometry)
        if number == 0:
            storage.write(0, self._content)
        host = self._net.host(member(number).host)
        host.downlink.rate = plan.down

        def open_storage(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
            return storage

        config = Config(
            bootstrap=(),
            listen=str(member(number)),
            limit_up=plan.up,
            torrent=plan.torrent,
            disk=DiskConfig(inline=True),
            fail_fast=True,
        )
        async with open_node(
            config,
            network=host,
            open_storage=open_storage,
            rng=random.Random(self._rng.getrandbits(64)),
        ) as node:
            task_status.started(await node.get(self._metainfo))
            await trio.sleep_forever()

    # -- liars ----------------------------------------------------------------------------------

    async def _lie(self, number: int, target: Address) -> None:
        """To one member, for ever."""
        host = self._net.host(_liar(number))
        rng = random.Random(f"{number} {target}")
        while True:
            try:
                stream = await host.connect(target)
            except OSError:
                await trio.sleep(_MINUTE)
                continue
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_drain, stream, nursery.cancel_scope)
                    await stream.send(*self._greeting(number))
                    while True:
                        if self._plan.invented:
                            await stream.send(_extended(1, self._inventions(rng)))
                            self._told += 1
                        else:
                            await stream.send(bytes(4))  # a keep-alive
                        await trio.sleep(_MINUTE)
            except* OSError:
                pass
            finally:
                stream.close()
            await trio.sleep(_MINUTE)

    def _greeting(self, number: int) -> Iterator[bytes]:
        yield b"\x13BitTorrent protocol" + bytes(5) + b"\x10\x00\x00"
        yield self._metainfo.info_hash + b"-LI0001-%012d" % number
        yield _extended(0, bencode.encode({b"m": {b"ut_pex": 1}, b"p": PORT}))

    def _inventions(self, rng: random.Random) -> bytes:
        count = self._plan.invented
        added = b"".join(
            Address(
                f"{rng.randint(60, 120)}.{rng.getrandbits(8)}.{rng.getrandbits(8)}.1", 1024
            ).compact()
            for _ in range(count)
        )
        entries: dict[bytes, bencode.Value] = {b"added": added, b"added.f": b"\x10" * count}
        return bencode.encode(entries)


def _extended(kind: int, payload: bytes) -> bytes:
    return struct.pack(">IBB", 2 + len(payload), 20, kind) + payload


async def _drain(stream: FakeStream, scope: trio.CancelScope) -> None:
    """Read what comes and forget it; at the end, end the rest."""
    buffer = memoryview(bytearray(4096))
    while await stream.receive_into(buffer):
        pass
    scope.cancel()
