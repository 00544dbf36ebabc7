"""Those who publish in the index and search in it, in studies. The rule: all of a participant is a
node's own (`engine.search`); of it only the DHT, time and dice are the lab's.
"""

from __future__ import annotations

import math
import random
import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import trio

from dht_torrent.catalogue import Entry, Proof, Source, SwarmHealth
from dht_torrent.catalogue.sqlite import SqliteCatalogue
from dht_torrent.config import CatalogueConfig, SearchConfig
from dht_torrent.dht.items import SigningKey
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.search.catalogue import LocalCatalogue
from dht_torrent.engine.search.meter import Meter
from dht_torrent.engine.search.publisher import Publisher
from dht_torrent.engine.search.reading import SearchCost
from dht_torrent.engine.search.records import DhtRecords, RecordItems
from dht_torrent.engine.search.searching import Searcher
from dht_torrent.engine.search.slots import DhtSlots, SlotCache, SlotKeys
from dht_torrent.engine.search.tree import Trees
from dht_torrent.engine.search.views import SearchQuery, SearchResult
from dht_torrent.lab.population.holders import Holders, ModelItems
from dht_torrent.lab.studies.titles import Title

BEGAN: Final = 1_798_761_600.0
"""Unix time at which the lab's clock begins: 2027-01-01."""
GET_SECONDS: Final = 1.0
"""A publisher's lookup takes so long, and what others write meanwhile it has not seen ..."""
PUT_SECONDS: Final = 0.25
"""... and a round of puts."""
GRAIN: Final = 0.25
"""Seconds of which the end of either is a multiple."""
SETTLE: Final = 30.0
"""Seconds between two looks whether publishers have something to do."""

# The lab is not to wait: what is counted are operations, not what they may be in an hour.
UNMETERED: Final = SearchConfig(
    publish_rate=1_000_000.0,
    publish_burst=1_000_000.0,
    max_puts_per_hour=1_000_000,
    search_rate=1_000_000.0,
    search_burst=1_000_000.0,
    peers_looked_up=0,
    slot_cache=500,  # or hundreds of publishers would keep gigabytes
)
_CATALOGUE: Final = CatalogueConfig(inline=True, cache_bytes=1024 * 1024)


def unix_time() -> float:
    """The lab's clock as that of the world."""
    return BEGAN + trio.current_time()


class NoSwarms:
    """For searches that do not ask how many share what they find."""

    def name(self, infohash: bytes) -> str | None:
        return None

    def joined(self, infohash: bytes) -> SwarmHealth | None:
        return None

    async def look(self, infohash: bytes) -> SwarmHealth | None:
        await trio.lowlevel.checkpoint()
        return None


def slow_items(holders: Holders) -> ModelItems:
    """For who publishes: others write while it reads and writes."""
    return ModelItems(holders, get_seconds=GET_SECONDS, put_seconds=PUT_SECONDS, grain=GRAIN)


class CountedItems(RecordItems, Protocol):
    """Items that know how often they were looked up: `gets` for slots, `finds` for records."""

    gets: int
    finds: int
    puts_of: Counter[bytes]


class Participant:
    """What a node has of the index, over any items: those of a model, or of a full node."""

    def __init__(
        self,
        items: CountedItems,
        rng: random.Random,
        config: SearchConfig = UNMETERED,
        keys: SlotKeys | None = None,
    ) -> None:
        self.items = items
        self.config = config
        self.key = SigningKey(rng.randbytes(32))
        store = SqliteCatalogue(None, _CATALOGUE)
        weakref.finalize(self, store.close)  # thousands of them come and go in a study
        self.catalogue = LocalCatalogue(store, _CATALOGUE)
        meter = Meter(config)
        self.slots = DhtSlots(items, config, meter, rng=rng, clock=unix_time, keys=keys)
        self.trees = Trees(self.slots, rng, config)
        self.records = records = DhtRecords(items, config, meter, clock=unix_time)
        self.publisher = Publisher(
            self.catalogue,
            self.trees,
            records,
            self.key,
            config,
            rng=rng,
            clock=unix_time,
            faults=Faults(fail_fast=True),
        )
        self.searcher = Searcher(
            self.catalogue, self.trees, records, NoSwarms(), config, clock=unix_time
        )

    async def publish(self, titles: Iterable[Title]) -> None:
        """Have these published, as soon as the publisher runs."""
        now = int(unix_time())
        chosen = list(titles)
        await self.catalogue.put(
            [
                Entry(
                    infohash=title.info_hash,
                    title=title.text,
                    words=" ".join(sorted(title.words)),
                    size=title.size,
                    files=1,
                    published=now,
                    sources=Source.OWN,
                    proof=Proof.STRONG,
                )
                for title in chosen
            ],
            now,
        )
        for title in chosen:
            await self.publisher.add(title.info_hash)

    async def search(self, query: SearchQuery) -> tuple[list[SearchResult], SearchCost]:
        """All results, in the order in which they came, and what they took."""
        results: list[SearchResult] = []
        cost = await self.searcher.run(query, results.append)
        return results, cost

    def forget_slots(self) -> None:
        """As if the last search was longer ago than slots are remembered. The clock stays where it
        is, or what publishers have put would expire between two queries."""
        self.slots.cache = SlotCache(self.config)

    async def is_busy(self, until: float = math.inf) -> bool:
        """Something is to be published by now, and was by that moment of the lab's clock."""
        moment = BEGAN + min(until, trio.current_time())
        return bool(await self.catalogue.due(int(moment), 1))


async def published(participants: Sequence[Participant], seconds: float | None = None) -> None:
    """Let all of them publish what is new; or for so long, and until what was due by then is done.

    That must not depend on moments in which a publisher has nothing to do: one with thousands of
    entries, looked after every hour, soon has none. And nobody stops before the others, however
    long these take: nodes forget what is not put again."""
    async with trio.open_nursery() as nursery:
        for one in participants:
            nursery.start_soon(one.publisher.run)
        began = trio.current_time()
        async with trio.open_nursery() as waiting:
            for one in participants:
                if seconds is None:
                    waiting.start_soon(_new_is_done, one, began)
                else:
                    waiting.start_soon(_due_is_done, one, began + seconds)
        nursery.cancel_scope.cancel()


async def _due_is_done(one: Participant, until: float) -> None:
    await trio.sleep_until(until)
    while True:
        if not await one.is_busy(until):
            return
        await trio.sleep(SETTLE)


async def _new_is_done(one: Participant, began: float) -> None:
    config = one.config
    # From then on what has been written comes round again.
    until = began + config.check_interval * (1 - config.check_spread)
    give_up = math.inf  # what failed is tried again, and may fail as long as it likes
    while True:
        await trio.sleep(SETTLE)
        if await one.is_busy(until):
            continue
        now = trio.current_time()
        give_up = min(give_up, now + 2 * config.retry_interval)
        if one.publisher.trouble is None or now >= give_up:
            return
