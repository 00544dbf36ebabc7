"""Torrents whose contents have a known share in common, among many others, searched for on a DHT
that is modelled. The rule: trees, records and searches are the node's own (`engine.search`);
contents are sets of hashes, as content on a disk becomes one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dht_torrent.config import DhtConfig, SearchConfig
from dht_torrent.engine.search.similar import SimilarSearch
from dht_torrent.engine.search.views import SimilarResult
from dht_torrent.lab.population.holders import Holders, ModelItems
from dht_torrent.lab.studies.search_participants import UNMETERED, Participant, unix_time
from dht_torrent.search.chunks import BINS
from dht_torrent.search.codes import size_code
from dht_torrent.search.label import Index, Label, tree_root
from dht_torrent.search.node import Posting, minutes_at, with_key
from dht_torrent.search.record import make_record, record_salt, record_target, record_value
from dht_torrent.search.similar import Kinship, Traits
from dht_torrent.search.sketch import (
    CONTENT_SIZE,
    CONTENT_TREES,
    content_key,
    content_sketch,
    minima_of,
)

ELEMENTS: Final = 500
"""Of both contents of a pair together: those of half a MiB that is looked at."""
SIZE: Final = 1 << 20
FIRST: Final = 10
"""Results among which the other one is to be."""
PATIENCE: Final = 600.0
"""Seconds: nothing here is slow, and what is measured is not the patience."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two contents, one of which is published and asked for by the other."""

    jaccard: float
    """The share that they have in common, exactly."""
    published: bytes
    """Sketches."""
    asked: bytes
    infohash: bytes
    """Of the one that is published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOutcome:
    """How one search went."""

    jaccard: float
    place: int | None
    """Of the other one among the results, from 1; None: it is not there."""
    kinship: str | None
    """What it is called."""
    estimate: float | None
    results: int
    wrong: int
    """Others that are called near duplicates."""
    gets: int
    records: int


def make_pair(jaccard: float, rng: random.Random) -> Pair:
    """Of contents with about this share in common."""
    elements = [rng.getrandbits(64) for _ in range(ELEMENTS)]
    both = round(jaccard * ELEMENTS)
    half = both + (ELEMENTS - both) // 2
    one, other = elements[:half], elements[:both] + elements[half:]
    sketches = [content_sketch(minima_of(each, BINS)) for each in (one, other)]
    published, asked = sketches
    assert published is not None
    assert asked is not None
    return Pair(both / ELEMENTS, published, asked, rng.randbytes(20))


class SimilarityStudy:
    """An index of many contents."""

    def __init__(
        self,
        rng: random.Random,
        *,
        holders: int = 10_000,
        loss: float = 0.0,
        config: SearchConfig = UNMETERED,
    ) -> None:
        self.rng = rng
        self.holders = Holders(holders, rng, config=DhtConfig(unlimited=True), loss=loss)
        self._config = config
        self._publisher = self._participant()

    def _participant(self) -> Participant:
        return Participant(ModelItems(self.holders), self.rng, self._config)

    async def publish(
        self, pairs: Sequence[Pair], others: int, done: Callable[[int], None]
    ) -> None:
        """One of each pair with its record, and so many others, of which nobody looks up anything:
        to say that they are something else costs their record. `done` counts trees."""
        key = self._publisher.key
        records = self._publisher.records
        for pair in pairs:
            record = make_record(
                pair.infohash,
                f"content {pair.infohash.hex()[:12]}",
                size=SIZE,
                files=1,
                published=int(unix_time()),
                alike=Traits(title="", content=pair.published),
            )
            await records.put(key, record_salt(pair.infohash), record_value(record))
        contents = [(pair.infohash, pair.published) for pair in pairs]
        contents += [
            (self.rng.randbytes(20), self.rng.randbytes(CONTENT_SIZE)) for _ in range(others)
        ]
        for tree in range(CONTENT_TREES):
            entries = [
                with_key(self._posting(infohash), content_key(sketch, tree))
                for infohash, sketch in contents
            ]
            await self._publisher.trees.insert(Label(Index.CONTENT, tree_root(tree)), entries)
            done(tree + 1)

    def _posting(self, infohash: bytes) -> Posting:
        record = record_target(self._publisher.key.public, infohash)
        preview = f"content {infohash.hex()[:8]}"
        return Posting(infohash, record, minutes_at(unix_time()), size_code(SIZE), 0, preview)

    async def ask(self, pair: Pair) -> PairOutcome:
        """Search for what is similar to the other one; by somebody who knows nothing yet."""
        reader = self._participant()
        search = SimilarSearch(
            Traits(title="", size=SIZE, files=1, content=pair.asked),
            None,
            catalogue=reader.catalogue,
            trees=reader.trees,
            records=reader.records,
            config=self._config,
            clock=unix_time,
        )
        results = await search.run(FIRST, PATIENCE, network=True)
        return outcome(pair, results, search)


def outcome(pair: Pair, results: Sequence[SimilarResult], search: SimilarSearch) -> PairOutcome:
    """What became of it."""
    near = Kinship.NEAR_DUPLICATE.value
    place, found = next(
        ((n, one) for n, one in enumerate(results, 1) if one.info_hash == pair.infohash),
        (None, None),
    )
    return PairOutcome(
        jaccard=pair.jaccard,
        place=place,
        kinship=found.kinship if found is not None else None,
        estimate=found.content if found is not None else None,
        results=len(results),
        wrong=sum(one.kinship == near and one is not found for one in results),
        gets=search.gets,
        records=search.records,
    )
