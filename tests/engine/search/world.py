"""A DHT of modelled holders, and what a test does with slots on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import trio

from dht_torrent.config import DhtConfig, SearchConfig
from dht_torrent.dht.items import Item, MutableItem, SigningKey, mutable_target, sign
from dht_torrent.engine.search.meter import Meter
from dht_torrent.engine.search.records import DhtRecords
from dht_torrent.engine.search.slots import DhtSlots
from dht_torrent.lab.population.holders import Holders, ModelItems
from dht_torrent.search.label import Index, Label, epoch_of, salt_of, seed_of
from dht_torrent.search.node import Posting, TrieNode, decode, made_of, minutes_at

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

    def __init__(self, size: int = 300, *, loss: float = 0.0, seed: int = 1) -> None:
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
    ) -> DhtSlots:
        return DhtSlots(
            items or self.items(),
            config,
            Meter(config),
            rng=random.Random(self.rng.random()),
            clock=clock,
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
