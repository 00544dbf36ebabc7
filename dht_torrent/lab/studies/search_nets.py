"""The index on networks of full nodes: real lookups and datagrams, in virtual time. The rule: what
publishes and searches here is what does so on modelled holders (`searching`), so that one can be
held against the other.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

from dht_torrent.config import DhtConfig, SearchConfig
from dht_torrent.dht.items import Item, MutableItem
from dht_torrent.engine.dht.items import Items
from dht_torrent.engine.dht.surveys import Holder, ItemSurvey, Stored
from dht_torrent.engine.search.views import SearchQuery, SearchResult
from dht_torrent.ids import NodeId
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.dhtnet import DhtNet
from dht_torrent.lab.studies.search_participants import Participant, published
from dht_torrent.lab.studies.searching import QueryOutcome, SearchPlan, SearchStudy
from dht_torrent.lab.studies.titles import Corpus

LATENCY: Final = (0.02, 0.12)
"""Seconds one way, drawn for each datagram: from one city to across an ocean."""
GRAIN: Final = 0.001
"""Seconds to which arrivals are rounded up."""
PEOPLE: Final = 100
"""Searches for the first result."""


class FullItems:
    """The items of a full node, counted as those of the model are."""

    def __init__(self, items: Items) -> None:
        self.gets = 0
        self.finds = 0
        self.puts_of: Counter[bytes] = Counter()
        self._items = items

    async def get(
        self, target: bytes, *, salt: bytes = b"", seq: int | None = None, first: bool = False
    ) -> Item | None:
        self.finds += 1
        return await self._items.get(target, salt=salt, seq=seq, first=first)

    async def get_all(
        self, target: bytes, *, salt: bytes = b"", enough: Callable[[Item], bool] | None = None
    ) -> ItemSurvey:
        self.gets += 1
        return await self._items.get_all(target, salt=salt, enough=enough)

    async def put_to(
        self, holders: Sequence[Holder], item: Item, *, cas: Mapping[NodeId, int] | None = None
    ) -> Stored:
        self.puts_of[item.salt if isinstance(item, MutableItem) else b""] += 1
        return await self._items.put_to(holders, item, cas=cas)


async def full_network(count: int, rng: random.Random, nursery: trio.Nursery) -> DhtNet:
    """So many nodes, all bootstrapped. They run in the nursery."""
    wire = FakeNetwork(random.Random(rng.getrandbits(64)), latency=LATENCY, grain=GRAIN)
    net = DhtNet(rng, nursery, wire, config=DhtConfig(unlimited=True))
    await net.grow(count)
    return net


async def compare(
    rng: random.Random,
    corpus: Corpus,
    plan: SearchPlan,
    queries: Sequence[str],
    done: Callable[[int], None],
) -> tuple[list[QueryOutcome], list[QueryOutcome]]:
    """The same titles and queries on `plan.holders` full nodes, and on as many of the model."""
    model = SearchStudy(plan, corpus, rng)
    await model.publish()
    modelled = await model.ask(queries, _nothing)
    async with trio.open_nursery() as nursery:
        net = await full_network(plan.holders, rng, nursery)
        full = SearchStudy(plan, corpus, rng, lambda _: FullItems(net.some().items))
        await full.publish()
        # Queries take time here, and nodes forget in two hours what nobody puts again.
        for one in full.publishers:
            nursery.start_soon(one.publisher.run)
        asked = await full.ask(queries, done)
        nursery.cancel_scope.cancel()
    return asked, modelled


async def first_results(
    rng: random.Random, nodes: int, done: Callable[[int], None]
) -> list[float | None]:
    """A tenth of so many full nodes publish a title each with one word in common; seconds until
    each of a hundred searches from others has its first result, None for those that find nothing.

    All is as a node has it: what it may do in an hour, and the patience of a search."""
    config = SearchConfig(peers_looked_up=0)
    corpus = Corpus([f"everybody publishes {n}" for n in range(max(1, nodes // 10))], rng)
    found: list[float | None] = []
    async with trio.open_nursery() as nursery:
        net = await full_network(nodes, rng, nursery)
        order = rng.sample(list(net.nodes), len(net.nodes))
        publishers = []
        for number, title in zip(order, corpus.titles, strict=False):
            one = Participant(FullItems(net.nodes[number].items), rng, config)
            await one.publish([title])
            publishers.append(one)
        await published(publishers)
        others = order[len(corpus) :] or order
        for turn in range(PEOPLE):
            by = Participant(FullItems(net.nodes[others[turn % len(others)]].items), rng, config)
            found.append(await _first(by, "everybody"))
            done(turn + 1)
        nursery.cancel_scope.cancel()
    return found


async def _first(by: Participant, word: str) -> float | None:
    began = trio.current_time()
    first: list[float] = []

    def came(result: SearchResult) -> None:
        if not first:
            first.append(trio.current_time() - began)

    await by.searcher.run(SearchQuery(text=word), came)
    return first[0] if first else None


def _nothing(count: int) -> None:
    """For progress that nobody watches."""
