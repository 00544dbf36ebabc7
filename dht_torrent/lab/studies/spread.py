"""How content spreads through a swarm, on virtual time. The rule: the nodes are the very nodes
people run; only sockets, storage, time and dice are the lab's.

All begin at the same moment, the hardest case: a swarm that has nothing, and its seeds. The
torrent is private and its peers are told of each other, so that the DHT plays no part. A leech that
is complete stays and seeds. Uploads are limited by the nodes themselves: what waits, waits in the
node, where a choke can drop it, and not on the wire.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from dht_torrent import bencode
from dht_torrent.config import Config, DiskConfig, PeerConfig, TorrentConfig
from dht_torrent.engine.opening import open_node
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.ids import HostPort
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.dhtnet import host_address
from dht_torrent.lab.population.roles import free_rider
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage import MemoryStorage, Storage

_WINDOW = 128 * 1024
"""Bytes one direction of a connection holds in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadPlan:
    """A swarm. Sizes are bytes, rates bytes per second."""

    leeches: int
    size: int
    """Of the content."""
    piece_length: int
    seeds: Sequence[int]
    """What each seed can send."""
    up: int
    """What each leech can send ..."""
    down: int
    """... and receive."""
    free_riders: int = 0
    """So many of the leeches give nothing. All of them: the seeds alone serve all of them."""
    sequential: bool = False
    """Leeches fetch pieces in order of index."""
    allowed_fast: int = 0
    """Pieces that each peer allows a choked newcomer (BEP 6). The usual ten are a hundredth of most
    contents; of the small ones here they would be a tenth, from a seed to each of its leeches."""
    torrent: TorrentConfig = field(default_factory=TorrentConfig)
    """Of the leeches. Seeds have the defaults."""
    known: int = 20
    """Other leeches each one is told of, drawn at random."""
    latency: float = 0.02
    """Seconds one way."""
    patience: float = math.inf
    """Seconds after which a leech that is not complete stays so."""


@dataclass(slots=True)
class Leech:
    """What became of one."""

    gives: bool
    seconds: float | None = None
    """From the start until it was complete."""
    downloaded: int = 0
    """Payload bytes, good or not."""
    uploaded: int = 0
    wasted: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """What became of all."""

    leeches: list[Leech]
    seeds_uploaded: int
    """Payload bytes all seeds sent."""

    def seconds(self, *, gives: bool = True) -> list[float]:
        """When they became complete, those who give or those who do not; the first one first."""
        return sorted(
            leech.seconds
            for leech in self.leeches
            if leech.gives == gives and leech.seconds is not None
        )


async def spread(rng: random.Random, plan: SpreadPlan) -> Spread:
    """Run it until every leech is complete. For `lab.run`. Every complete copy is compared with the
    content: raises RuntimeError if one differs."""
    return await _Swarm(rng, plan).run()


class _Swarm:
    """Seeds are the nodes 0, 1, ...; the leeches come behind them."""

    def __init__(self, rng: random.Random, plan: SpreadPlan) -> None:
        self._rng = rng
        self._plan = plan
        self._net = FakeNetwork(rng, latency=plan.latency, window=_WINDOW)
        self._content = rng.randbytes(plan.size)
        self._metainfo = metainfo_of(self._content, plan.piece_length, private=True)
        riders = set(rng.sample(range(plan.leeches), plan.free_riders))
        self._leeches = [Leech(number not in riders) for number in range(plan.leeches)]
        self._copies = [MemoryStorage(self._metainfo.geometry) for _ in self._leeches]
        self._left = plan.leeches
        self._done = trio.Event()

    async def run(self) -> Spread:
        plan = self._plan
        async with trio.open_nursery() as nursery:
            seeds: list[Torrent] = [
                await nursery.start(self._seed, number) for number in range(len(plan.seeds))
            ]
            torrents: list[Torrent] = [
                await nursery.start(self._leech, number) for number in range(plan.leeches)
            ]
            began = trio.current_time()
            for number, (torrent, leech) in enumerate(zip(torrents, self._leeches, strict=True)):
                torrent.add_peers(self._peers_of(len(seeds) + number))
                nursery.start_soon(self._watch, torrent, leech, began)
            with trio.move_on_after(plan.patience):
                await self._done.wait()
            for torrent, leech in zip(torrents, self._leeches, strict=True):
                leech.downloaded, leech.uploaded = torrent.downloaded, torrent.uploaded
                leech.wasted = torrent.wasted
            uploaded = sum(seed.uploaded for seed in seeds)
            nursery.cancel_scope.cancel()
        self._compare()
        return Spread(self._leeches, uploaded)

    def _compare(self) -> None:
        for number, (leech, copy) in enumerate(zip(self._leeches, self._copies, strict=True)):
            if leech.seconds is not None and copy.read(0, self._plan.size) != self._content:
                raise RuntimeError(f"the copy of leech {number} differs")

    def _peers_of(self, number: int) -> list[HostPort]:
        """All seeds, and some other leeches."""
        first, count = len(self._plan.seeds), self._plan.leeches
        others = [other for other in range(first, first + count) if other != number]
        known = self._rng.sample(others, min(self._plan.known, len(others)))
        return [HostPort(*host_address(other)) for other in (*range(first), *known)]

    async def _watch(self, torrent: Torrent, leech: Leech, began: float) -> None:
        await torrent.completed()
        leech.seconds = trio.current_time() - began
        self._left -= 1
        if not self._left:
            self._done.set()

    async def _seed(self, number: int, task_status: trio.TaskStatus[Torrent]) -> None:
        plan, storage = self._plan, MemoryStorage(self._metainfo.geometry)
        storage.write(0, self._content)
        config = _config(number, TorrentConfig(), plan.seeds[number], plan.allowed_fast)
        await self._run(number, config, storage, task_status)

    async def _leech(self, number: int, task_status: trio.TaskStatus[Torrent]) -> None:
        plan = self._plan
        place = len(plan.seeds) + number
        self._net.host(host_address(place).host).downlink.rate = plan.down
        config = _config(place, plan.torrent, plan.up, plan.allowed_fast)
        if not self._leeches[number].gives:
            config = free_rider(config)
        await self._run(place, config, self._copies[number], task_status)

    async def _run(
        self,
        number: int,
        config: Config,
        storage: Storage,
        task_status: trio.TaskStatus[Torrent],
    ) -> None:
        def open_storage(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
            return storage

        async with open_node(
            config,
            network=self._net.host(host_address(number).host),
            open_storage=open_storage,
            rng=random.Random(self._rng.getrandbits(64)),
        ) as node:
            torrent = await node.get(self._metainfo, sequential=self._plan.sequential)
            task_status.started(torrent)
            await trio.sleep_forever()


def _config(number: int, torrent: TorrentConfig, up: int, allowed_fast: int) -> Config:
    return Config(
        bootstrap=(),
        listen=str(host_address(number)),
        limit_up=up,
        peer=PeerConfig(allowed_fast=allowed_fast),
        torrent=torrent,
        disk=DiskConfig(inline=True),
        fail_fast=True,
    )


def metainfo_of(content: bytes, piece_length: int, *, private: bool) -> Metainfo:
    """A torrent of one file."""
    hashes = b"".join(
        hashlib.sha1(content[at : at + piece_length]).digest()
        for at in range(0, len(content), piece_length)
    )
    info: dict[bytes, bencode.Value] = {
        b"length": len(content),
        b"name": b"content",
        b"piece length": piece_length,
        b"pieces": hashes,
    }
    return from_info(bencode.encode(info | ({b"private": 1} if private else {})))
