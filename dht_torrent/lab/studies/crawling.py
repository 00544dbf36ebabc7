"""A crawl of a network in memory, on virtual time: how much it finds, how fast, and what it asks.
The rule: the crawler is the node people run; of the others only what it can see is modelled, and
they themselves see to it that none is asked before its time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from dht_torrent.config import CatalogueConfig, Config, CrawlConfig, DiskConfig
from dht_torrent.dht import krpc
from dht_torrent.engine.node import Node
from dht_torrent.engine.opening import open_node
from dht_torrent.engine.search.views import CrawlStatus
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.sampled import CRAWLER, HOSTILE, Hostile, SampledNetwork

ENTRY_POINTS: Final = 5
LATENCY: Final = 0.05
"""Seconds one way."""
START: Final = 1_790_000_000.0
"""Unix time at which it begins."""
HOUR: Final = 3600.0
_METHODS: Final = tuple(
    b"1:q%d:%b" % (len(method), method) for method in (krpc.SAMPLE_INFOHASHES, krpc.GET_PEERS)
)
"""How the queries of a crawl look in a datagram."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlingPlan:
    """What is crawled, and how."""

    nodes: int = 2000
    torrents: int = 20_000
    hours: float = 24.0
    rate: float = 20.0
    dead: float = 0.05
    deaf: float = 0.2
    hostile: float = 0.0
    kinds: Sequence[Hostile] = HOSTILE


@dataclass(slots=True)
class CrawlingOutcome:
    """How it went."""

    torrents: int
    reachable: int
    """Torrents of which an honest node tells, and which have a peer that is there."""
    found: int = 0
    false: int = 0
    """Entries in the catalogue that are no torrent of the network."""
    queries: int = 0
    """Samples and lookups that left the crawler ..."""
    peak: int = 0
    """... and most of them within one second."""
    datagrams: int = 0
    """All that left it, to keep its place in the DHT as well."""
    nodes: int = 0
    """That told of torrents at least once."""
    hours: list[CrawlStatus] = field(default_factory=list)
    """As of the end of each."""


class _Tap:
    """Counts what leaves the crawler."""

    def __init__(self) -> None:
        self.queries = self.peak = self.datagrams = 0
        self._recent: list[float] = []

    def __call__(self, source: Address, to: Address, data: bytes) -> None:
        if source.host != CRAWLER.host:
            return
        self.datagrams += 1
        if not any(method in data for method in _METHODS):
            return
        now = trio.current_time()
        self.queries += 1
        self._recent = [one for one in self._recent if one > now - 0.9999] + [now]
        self.peak = max(self.peak, len(self._recent))


async def crawling(
    rng: random.Random,
    plan: CrawlingPlan,
    done: Callable[[int], None] = lambda hour: None,
) -> CrawlingOutcome:
    """Crawl for so long. Raises AssertionError when a node was asked before its time."""
    net = FakeNetwork(rng, latency=LATENCY)
    seed = rng.getrandbits(32)
    world = SampledNetwork(
        net,
        plan.nodes,
        plan.torrents,
        seed,
        dead=plan.dead,
        deaf=plan.deaf,
        hostile=plan.hostile,
        kinds=plan.kinds,
    )
    tap = _Tap()
    outcome = CrawlingOutcome(plan.torrents, world.reachable())
    async with trio.open_nursery() as nursery:
        await nursery.start(world.run)
        net.tap = tap
        async with open_node(
            config_of(plan, world),
            network=net.host(CRAWLER.host),
            rng=random.Random(rng.getrandbits(64)),
            clock=lambda: START + trio.current_time(),
        ) as node:
            for hour in range(1, max(1, round(plan.hours)) + 1):
                await trio.sleep(HOUR)
                outcome.hours.append(status_of(node))
                done(hour)
            await _count(node, world, outcome)
        nursery.cancel_scope.cancel()
    outcome.queries, outcome.peak, outcome.datagrams = tap.queries, tap.peak, tap.datagrams
    outcome.nodes = sum(one.asked > 0 for one in world.nodes.values())
    return outcome


def config_of(plan: CrawlingPlan, world: SampledNetwork) -> Config:
    """Of the crawler."""
    return Config(
        bootstrap=[HostPort(*address) for address in world.entry_points(ENTRY_POINTS)],
        listen=str(CRAWLER),
        disk=DiskConfig(inline=True),
        catalogue=CatalogueConfig(inline=True),
        encryption="off",
        crawl=CrawlConfig(enabled=True, rate=plan.rate, max_queries_per_hour=72_000),
        fail_fast=True,
    )


def status_of(node: Node) -> CrawlStatus:
    """Of its crawl."""
    search = node.status().search
    assert search is not None
    assert search.crawl is not None
    return search.crawl


async def _count(node: Node, world: SampledNetwork, outcome: CrawlingOutcome) -> None:
    truly = {info_hash.hex().encode() for info_hash in world.info_hashes}
    async for part in node.export_catalogue():
        for line in part.splitlines():
            known = line[7:47] in truly
            outcome.found += known
            outcome.false += not known
