"""Values put into a network of full nodes and looked for by others. The rule: what is measured is
what the user of a node sees, from the question to the answer, retries included.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from dht_torrent.config import DhtConfig
from dht_torrent.dht.items import immutable
from dht_torrent.engine.dht.node import Dht
from dht_torrent.ids import Address, InfoHash
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.dhtnet import PORT, DhtNet, nearest
from dht_torrent.trace import LookupDone, Record

KINDS = ("peers", "item")
"""What is put: an announce (BEP 5) or an immutable item (BEP 44)."""
GRAIN = 0.001
"""Seconds to which arrivals are rounded up."""
GROWTH = 0.5
"""Newcomers at a time, as a share of those who are there: the faster a network of thousands is
complete, the less upkeep it has behind it."""
SIDE_BY_SIDE = 50
"""Values under way at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupPlan:
    """An experiment. Times in seconds."""

    nodes: int
    lookups: int
    latency: float = 0.05
    """One way, on average: each datagram takes from half to one and a half of it."""
    loss: float = 0.0
    """Share of the datagrams that are lost."""
    dead: float = 0.0
    """Share of the nodes that vanish without a word before the first value is put."""
    paths: int | None = None
    """Disjoint ways of stores and retries; None: as the node has it."""
    bootstraps: int | None = None
    """All come in through so many nodes, which were the first; None: through any."""
    settle: float = 0.0
    """Between the last bootstrap and the first value."""


@dataclass(frozen=True, slots=True)
class Search:
    """How the search for one value went."""

    kind: str
    found: bool
    hops: int
    """How far from the searcher's table the farthest of the closest nodes was."""
    asked: int
    answered: int
    seconds: float
    """Until the search ended."""
    first: float | None
    """Seconds until there was a value; None when there was none."""
    stored: int
    """Nodes that confirmed to have stored it."""
    overlap: int | None
    """Of the k nodes that the search ended at, those the store chose. None for an item, whose
    search ends at the first that has it."""
    right: int
    """Of the k nodes that are truly the closest that live, those the store chose."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The routing tables of the living nodes, before the first value."""

    depth: list[int]
    """Of the deepest bucket: how often it was split."""
    contacts: list[int]
    """Live contacts."""


class LookupStudy:
    """Builds the network of a plan, and searches in it."""

    def __init__(self, plan: LookupPlan, rng: random.Random, nursery: trio.Nursery) -> None:
        self.plan = plan
        self.rng = rng
        config = DhtConfig(unlimited=True)
        if plan.paths is not None:
            config = DhtConfig(unlimited=True, paths=plan.paths, announce_paths=plan.paths)
        spread = (0.5 * plan.latency, 1.5 * plan.latency)
        self.wire = FakeNetwork(
            random.Random(rng.getrandbits(64)), latency=spread, loss=plan.loss, grain=GRAIN
        )
        self.net = DhtNet(rng, nursery, self.wire, config=config, trace=self._hear)
        # Once it is built: those who live stay the same, and none of them lies about addresses, so
        # that no id changes (BEP 42). Made anew for each value it would be 5 % of a large run.
        self._living: dict[int, Dht] = {}
        self._done: dict[bytes, list[LookupDone]] = {}  # of targets that are being looked for

    async def build(self, grown: Callable[[int], None]) -> Tables:
        """Bootstrap all nodes; `grown` hears how many there are. Then kill those that are to
        die."""
        plan = self.plan
        entry_points = None
        if plan.bootstraps is not None:
            await self.net.grow(min(plan.bootstraps, plan.nodes), at_once=1)
            entry_points = list(self.net.nodes)
        while (here := len(self.net.nodes)) < plan.nodes:
            batch = max(20, int(GROWTH * here))
            await self.net.grow(min(plan.nodes, here + batch), at_once=batch, via=entry_points)
            grown(len(self.net.nodes))
        await trio.sleep(plan.settle)
        tables = self.tables()
        for number in self.rng.sample(list(self.net.nodes), int(plan.dead * plan.nodes)):
            self.net.kill(number)
        self._living = self.net.by_id()
        return tables

    def tables(self) -> Tables:
        """What they look like now."""
        views = [dht.status() for dht in self.net.nodes.values()]
        return Tables(
            [view.buckets - 1 for view in views],
            [view.good + view.questionable + view.bad for view in views],
        )

    async def search_all(self, done: Callable[[int], None]) -> list[Search]:
        """Put and find `lookups` values, `SIDE_BY_SIDE` at a time; `done` hears how many."""
        found: dict[int, Search] = {}
        slots = trio.Semaphore(SIDE_BY_SIDE)

        async def one(number: int) -> None:
            async with slots:
                search = self._peers if KINDS[number % 2] == "peers" else self._item
                found[number] = await search(self.net.some())
                done(len(found))

        async with trio.open_nursery() as nursery:
            for number in range(self.plan.lookups):
                nursery.start_soon(one, number)
        return [found[number] for number in range(self.plan.lookups)]

    async def _peers(self, publisher: Dht) -> Search:
        info_hash = InfoHash(self.rng.randbytes(20))
        self._done[info_hash] = []
        stored = await publisher.announces.find_peers(
            info_hash, announce_port=PORT, on_peers=_ignore
        )
        publisher.announces.withdraw(
            info_hash
        )  # once is enough: what is stored now stays for 45 minutes
        chosen = self._chosen(info_hash)
        searcher = self._other_than(publisher, chosen)
        began = trio.current_time()
        first: list[float] = []

        def came(peers: Sequence[Address]) -> None:
            if publisher.address in peers:
                first.append(trio.current_time() - began)

        result = await searcher.announces.find_peers(info_hash, on_peers=came)
        return self._judge(
            "peers",
            publisher,
            info_hash,
            chosen,
            publisher.address in result.peers,
            trio.current_time() - began,
            first[0] if first else None,
            stored.announced_to,
        )

    async def _item(self, publisher: Dht) -> Search:
        item = immutable(self.rng.randbytes(20))
        self._done[item.target] = []
        stored = await publisher.items.put(item, keep=False)
        chosen = self._chosen(item.target)
        searcher = self._other_than(publisher, chosen)
        began = trio.current_time()
        found = await searcher.items.get(item.target) == item
        seconds = trio.current_time() - began
        first = seconds if found else None
        return self._judge(
            "item", publisher, item.target, chosen, found, seconds, first, len(stored.stored)
        )

    def _judge(
        self,
        kind: str,
        publisher: Dht,
        target: bytes,
        chosen: Sequence[Address],
        found: bool,
        seconds: float,
        first: float | None,
        stored: int,
    ) -> Search:
        records = self._done.pop(target)
        k = self.net.config.k
        truly = [
            one.address for one in nearest(self._living, target, k + 1) if one is not publisher
        ]
        closest = records[-1].closest if records else ()
        return Search(
            kind,
            found,
            hops=max((record.hops for record in records), default=0),
            asked=sum(record.asked for record in records),
            answered=sum(record.answered for record in records),
            seconds=seconds,
            first=first,
            stored=stored,
            overlap=sum(one in chosen for one in closest[:k]) if kind == "peers" else None,
            right=sum(one in chosen for one in truly[:k]),
        )

    def _chosen(self, target: bytes) -> Sequence[Address]:
        """Where the last lookup of `target` said to store; forgets the lookups so far."""
        records, self._done[target] = self._done[target], []
        return records[-1].closest if records else ()

    def _other_than(self, publisher: Dht, holders: Sequence[Address]) -> Dht:
        """The node that looks for it: one that does not have it, if there is any."""
        for _ in range(100):
            dht = self.net.some()
            if dht is not publisher and dht.address not in holders:
                return dht
        return publisher

    def _hear(self, record: Record) -> None:
        if isinstance(record, LookupDone) and record.target in self._done:
            self._done[record.target].append(record)


def _ignore(peers: Sequence[Address]) -> None:
    """For who only announces."""
