"""A DHT of modelled holders, and what a test does with slots on it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from dht_torrent.catalogue import Entry, Proof, Source, SwarmHealth
from dht_torrent.config import CatalogueConfig, DhtConfig, SearchConfig
from dht_torrent.dht.items import Item, MutableItem, SigningKey, mutable_target, sign
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.search.catalogue import LocalCatalogue, open_catalogue
from dht_torrent.engine.search.meter import Meter
from dht_torrent.engine.search.publisher import Publisher
from dht_torrent.engine.search.records import DhtRecords
from dht_torrent.engine.search.searching import Searcher
from dht_torrent.engine.search.slots import DhtSlots, SlotKeys
from dht_torrent.engine.search.tree import Trees
from dht_torrent.engine.search.views import SearchQuery, SearchResult
from dht_torrent.lab.population.holders import Holders, ModelItems
from dht_torrent.search.label import Index, Label, epoch_of, salt_of, seed_of
from dht_torrent.search.node import Posting, TrieNode, decode, made_of, minutes_at
from dht_torrent.search.words import title_words

START = 1_790_000_000.0
"""Unix time when a test begins, of 2026."""
CONFIG = SearchConfig(
    publish_rate=1000.0,
    publish_burst=1000.0,
    search_rate=1000.0,
    search_burst=1000.0,
    max_puts_per_hour=10**9,
)
WORD = Label(Index.WORDS, b"ubuntu")


def clock() -> float:
    """Unix time, in step with Trio's."""
    return START + trio.current_time()


class World:
    """The holders; each participant comes to them in its own way."""

    def __init__(
        self, size: int = 300, *, loss: float = 0.0, seed: int = 1, seconds: float = 0.3
    ) -> None:
        """A get takes `seconds`, a put a fifth of it."""
        self.seconds = seconds
        self.rng = random.Random(seed)
        self.holders = Holders(
            size, random.Random(seed), config=DhtConfig(unlimited=True), loss=loss
        )

    def items(self, *, seconds: float = 0.5) -> ModelItems:
        return ModelItems(self.holders, get_seconds=seconds, put_seconds=seconds / 5)

    def slots(
        self,
        items: ModelItems | None = None,
        *,
        config: SearchConfig = CONFIG,
        clock: Callable[[], float] = clock,
        keys: SlotKeys | None = None,
    ) -> DhtSlots:
        return DhtSlots(
            items or self.items(),
            config,
            Meter(config),
            rng=random.Random(self.rng.random()),
            clock=clock,
            keys=keys,
        )

    def records(self, items: ModelItems | None = None) -> DhtRecords:
        return DhtRecords(items or self.items(), CONFIG, Meter(CONFIG), clock=clock)

    def copies(self, label: Label, epoch: int | None = None) -> list[MutableItem]:
        """What the closest nodes hold in the slot of now."""
        target = key_of(label, epoch).public
        found = []
        for prefix in self.holders.closest(mutable_target(target, salt_of(label)))[:8]:
            item = self.holders.get(
                mutable_target(target, salt_of(label)), prefix, trio.current_time()
            )
            if isinstance(item, MutableItem):
                found.append(item)
        return found

    def nodes(self, label: Label) -> list[TrieNode]:
        """The same as nodes of the tree."""
        return [decode(item.encoded, label) for item in self.copies(label)]

    def overwrite(
        self, label: Label, value: bytes, seq: int, *, nodes: Iterable[int] = range(8)
    ) -> None:
        """As a vandal does, who knows the word: on the nodes of these ranks."""
        item = sign(key_of(label), value, seq, salt_of(label))
        closest = self.holders.closest(item.target)
        for rank in nodes:
            self.force(closest[rank], item)

    def lose(self, label: Label) -> None:
        """No node has the slot of now any more."""
        self.holders.lose(mutable_target(key_of(label).public, salt_of(label)))

    def force(self, prefix: int, item: Item) -> None:
        code = self.holders.put(prefix, item, None, trio.current_time())
        assert code is None, code


def key_of(label: Label, epoch: int | None = None) -> SigningKey:
    return SigningKey(seed_of(label, epoch if epoch is not None else epoch_of(label, clock())))


def posting(number: int, *, age: float = 0.0, title: str = "") -> Posting:
    """Of the torrent with this number, renewed so many seconds ago."""
    infohash = random.Random(f"torrent {number}").randbytes(20)
    record = random.Random(f"record {number}").randbytes(20)
    minutes = minutes_at(clock() - age)
    return Posting(infohash, record, minutes, 1000, 0, title or f"title {number}", ())


def node_of(*numbers: int) -> TrieNode:
    return made_of([posting(number) for number in numbers])


def titles(node: TrieNode | None) -> set[str]:
    assert node is not None
    return {entry.preview for entry in node.entries if isinstance(entry, Posting)}


@dataclass
class Titled:
    """A torrent of the tests."""

    title: str
    size: int = 1 << 20
    files: int = 1
    published: float | None = None
    tags: tuple[str, ...] = ()

    @property
    def infohash(self) -> bytes:
        return hashlib.sha1(self.title.encode()).digest()


class NoSwarms:
    """Nobody has anything."""

    def __init__(self) -> None:
        self.names: dict[bytes, str] = {}
        self.counts: dict[bytes, SwarmHealth] = {}
        self.here: dict[bytes, SwarmHealth] = {}
        self.looked = 0

    def name(self, infohash: bytes) -> str | None:
        return self.names.get(infohash)

    def joined(self, infohash: bytes) -> SwarmHealth | None:
        return self.here.get(infohash)

    async def look(self, infohash: bytes) -> SwarmHealth | None:
        self.looked += 1
        await trio.sleep(0.3)
        return self.counts.get(infohash)


class Person:
    """Who publishes and searches, with everything that a node has for it."""

    def __init__(
        self, world: World, catalogue: LocalCatalogue, seed: int, config: SearchConfig
    ) -> None:
        self.items = world.items(seconds=world.seconds)
        self.catalogue = catalogue
        self.key = SigningKey(random.Random(f"key {seed}").randbytes(32))
        self.meter = Meter(config)
        rng = random.Random(seed)
        self.slots = DhtSlots(self.items, config, self.meter, rng=rng, clock=clock)
        self.trees = Trees(self.slots, rng, config)
        self.records = DhtRecords(self.items, config, self.meter, clock=clock)
        self.swarms = NoSwarms()
        self.faults = Faults(fail_fast=True)
        self.searcher = Searcher(
            catalogue, self.trees, self.records, self.swarms, config, clock=clock
        )
        self.publisher = Publisher(
            catalogue,
            self.trees,
            self.records,
            self.key,
            config,
            rng=rng,
            clock=clock,
            faults=self.faults,
        )

    async def publish(self, *torrents: Titled | str) -> None:
        """Put them into the outbox, as the node does."""
        for one in torrents:
            torrent = one if isinstance(one, Titled) else Titled(one)
            published = torrent.published if torrent.published is not None else clock()
            entry = Entry(
                infohash=torrent.infohash,
                title=torrent.title,
                words=" ".join(title_words(torrent.title)),
                size=torrent.size,
                files=torrent.files,
                published=int(published),
                sources=Source.OWN,
                proof=Proof.STRONG,
                tags=torrent.tags,
            )
            await self.catalogue.put([entry], int(clock()))
            await self.publisher.add(torrent.infohash)

    async def settle(self, seconds: float = 600.0) -> None:
        """Let the publisher work for so long."""
        with trio.move_on_after(seconds):
            await self.publisher.run()

    async def search(self, text: str = "", **options: Any) -> list[SearchResult]:
        """Search, and wait for the end."""
        found: list[SearchResult] = []
        self.cost = await self.searcher.run(SearchQuery(text=text, **options), found.append)
        return found

    async def names(self, text: str = "", **options: Any) -> list[str]:
        """The titles of what is found."""
        return [result.name for result in await self.search(text, **options)]


@asynccontextmanager
async def people(
    world: World, count: int, *, config: SearchConfig = CONFIG
) -> AsyncIterator[list[Person]]:
    """Who knows nothing yet but the same DHT."""
    async with AsyncExitStack() as stack:
        settings = CatalogueConfig(inline=True)
        yield [
            Person(
                world, await stack.enter_async_context(open_catalogue(None, settings)), n, config
            )
            for n in range(count)
        ]
