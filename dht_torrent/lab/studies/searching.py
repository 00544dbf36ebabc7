"""Titles published in the index and searched for, on a DHT that is modelled. The rule: what should
be found is known by looking at every title; who publishes and searches is in `search_participants`.

Who searches is one of three. *Searchers* share the queries, and each remembers what a node has in
its catalogue: how common words were, and what it has verified. Their searches are further apart
than slots are kept (`SearchConfig.slot_cache_time`), so no slot is remembered; the first ones of
each are asked knowing nothing, and count. A *newcomer* knows nothing at all. Or it is one node that
asks everything within minutes, and remembers slots as well.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from dht_torrent.config import DhtConfig, SearchConfig
from dht_torrent.dht.items import MAX_SEQ
from dht_torrent.engine.search.checking import ELLIPSIS
from dht_torrent.engine.search.slots import SlotKeys
from dht_torrent.engine.search.views import SearchQuery, SearchResult
from dht_torrent.lab.population.holders import Holders, ModelItems
from dht_torrent.lab.studies.search_participants import (
    UNMETERED,
    CountedItems,
    Participant,
    published,
    slow_items,
    unix_time,
)
from dht_torrent.lab.studies.titles import Corpus, Title, precision, recall
from dht_torrent.search.choice import root_of
from dht_torrent.search.codes import size_code, word_key
from dht_torrent.search.label import EPOCH, Index, Label
from dht_torrent.search.node import (
    MAX_COUNT,
    MAX_HIDDEN,
    Posting,
    TrieNode,
    WordEntry,
    hidden_word,
    join,
    minutes_at,
    storable,
)
from dht_torrent.search.node import Entry as IndexEntry
from dht_torrent.search.record import record_target

LIMIT: Final = 50
"""Results that a search wants."""
PATIENCE: Final = 600.0
"""Seconds it gets: nothing here is slow, and what is measured is not the patience."""
MAX_KEYS: Final = 400_000
"""Slots whose key pairs are remembered for all participants together; some 700 bytes each."""
SALTS: Final = frozenset(index.code for index in Index)
"""Of the index's slots."""
JUNK: Final = b"4:junk"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryOutcome:
    """How one query went."""

    query: str
    truth: int
    """Titles that it should find ..."""
    found: int
    """... and those of them that it found."""
    recall: float
    precision: float
    """Of the first ten."""
    results: int
    verified: int
    forged: int
    """Results shown as verified whose publisher never said so."""
    gets: int
    """Lookups for slots: without those that were remembered."""
    rounds: int
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """An experiment."""

    publishers: int = 200
    holders: int = 10_000
    loss: float = 0.0
    """Share of the queries to holders that come to nothing."""
    config: SearchConfig = field(default_factory=lambda: UNMETERED)


class SearchStudy:
    """Publishes a corpus on modelled holders, and searches in it."""

    def __init__(
        self,
        plan: SearchPlan,
        corpus: Corpus,
        rng: random.Random,
        items: Callable[[bool], CountedItems] | None = None,
    ) -> None:
        """`items` makes those of a participant, told whether it publishes; None: over modelled
        holders."""
        self.plan = plan
        self.corpus = corpus
        self.rng = rng
        config = DhtConfig(unlimited=True)
        self.holders = Holders(plan.holders, rng, config=config, loss=plan.loss)
        many = min(plan.publishers, len(corpus))
        self._items = items or self._model
        self._keys = SlotKeys(MAX_KEYS)
        self.publishers = [self._participant(publishes=True) for _ in range(many)]
        self._said: dict[tuple[str, str], str] = {}
        """The titles that publishers say, by their key and the infohash."""

    def _model(self, publishes: bool) -> CountedItems:
        if publishes:
            return slow_items(self.holders)
        return ModelItems(self.holders)

    def _participant(self, *, publishes: bool) -> Participant:
        return Participant(self._items(publishes), self.rng, self.plan.config, self._keys)

    def newcomer(self) -> Participant:
        """Somebody who knows nothing yet."""
        return self._participant(publishes=False)

    async def publish(self) -> None:
        """All titles, dealt out to the publishers like cards."""
        many = len(self.publishers)
        for number, publisher in enumerate(self.publishers):
            titles = self.corpus.titles[number::many]
            await publisher.publish(titles)
            key = publisher.key.public.hex()
            for title in titles:
                self._said[key, title.info_hash.hex()] = title.text
        await published(self.publishers)

    async def entries(self) -> int:
        """Entries in the trees that publishers look after; a torrent has one in each of some."""
        rows = 0
        for publisher in self.publishers:
            rows += (await publisher.catalogue.summary()).outbox
        return rows - len(self.corpus)  # a record for each

    def writes(self) -> int:
        """How often a slot was read and written, splits included."""
        puts = (publisher.items.puts_of for publisher in self.publishers)
        return sum(count for one in puts for salt, count in one.items() if salt in SALTS)

    async def period(self) -> None:
        """Let every publisher look after every entry at least once: within so much time each is
        due."""
        config = self.plan.config
        await published(self.publishers, config.check_interval * (1 + config.check_spread))

    async def ask(
        self,
        queries: Sequence[str],
        done: Callable[[int], None],
        *,
        by: Participant | None = None,
        prefix: bool = False,
    ) -> list[QueryOutcome]:
        """Search for each; by somebody new each time, or by one who remembers."""
        asked = []
        for number, text in enumerate(queries, 1):
            asked.append(await self.ask_one(text, by or self.newcomer(), prefix=prefix))
            done(number)
        return asked

    async def ask_in_turn(
        self, queries: Sequence[str], done: Callable[[int], None], searchers: int
    ) -> list[QueryOutcome]:
        """Search for each, by so many nodes that take turns. They are new ones each time this is
        called: else they would have verified before what is asked for again."""
        crowd = [self.newcomer() for _ in range(searchers)]
        asked = []
        for number, text in enumerate(queries):
            by = crowd[number % searchers]
            by.forget_slots()
            asked.append(await self.ask_one(text, by))
            done(number + 1)
        return asked

    async def ask_one(self, text: str, by: Participant, *, prefix: bool = False) -> QueryOutcome:
        query = SearchQuery(text=text, prefix=prefix, limit=LIMIT, patience=PATIENCE)
        truth = self.corpus.truth(text, prefix=prefix)
        return await self._judged(by, query, truth)

    async def ask_sizes(self, smallest: int, largest: int, by: Participant) -> QueryOutcome:
        """Search for all that is from so many bytes to so many."""
        query = SearchQuery(min_size=smallest, max_size=largest, limit=LIMIT, patience=PATIENCE)
        truth = {one.number for one in self.corpus.titles if smallest <= one.size <= largest}
        return await self._judged(by, query, truth)

    async def _judged(self, by: Participant, query: SearchQuery, truth: set[int]) -> QueryOutcome:
        before = by.items.gets
        results, cost = await by.search(query)
        numbers = [self.corpus.number(result.info_hash) for result in results]
        found = [-1 if number is None else number for number in numbers]
        verified = [result for result in results if result.verified]
        return QueryOutcome(
            query=query.text,
            truth=len(truth),
            found=len(truth.intersection(found)),
            recall=recall(found, truth, LIMIT),
            precision=precision(found, truth),
            results=len(results),
            verified=len(verified),
            forged=sum(self._is_forged(result) for result in verified),
            gets=by.items.gets - before,
            rounds=cost.rounds,
            records=cost.records,
        )

    def _is_forged(self, result: SearchResult) -> bool:
        name = result.name.removesuffix(ELLIPSIS) if result.name_is_cut else result.name
        return self._said.get((result.publisher or "", result.id)) != name

    # -- prefixes and ranges --------------------------------------------------------------------

    async def type_prefix(self, word: str) -> tuple[QueryOutcome, QueryOutcome]:
        """Somebody new types the beginning of a word, and then one letter more."""
        by = self.newcomer()
        start = max(2, min(len(word) - 2, 5))
        cold = await self.ask_one(word[:start], by, prefix=True)
        return cold, await self.ask_one(word[: start + 1], by, prefix=True)

    async def words_between(self, first: str, last: str, gets: int) -> set[str]:
        """What the dictionary has from one word to another, read by somebody new."""
        found: set[str] = set()

        async def take(entries: Sequence[IndexEntry]) -> bool:
            found.update(one.word for one in entries if isinstance(one, WordEntry))
            return False

        top = Label(Index.DICTIONARY, b"")
        start, end = word_key(first), word_key(last)
        await self.newcomer().trees.scan(top, start, end, take, gets=gets, first=True)
        return {word for word in found if first <= word <= last}

    # -- what may go wrong ----------------------------------------------------------------------

    def burn(self, share: float) -> int:
        """A vandal overwrites so many of the index's slots, drawn at random, with the highest
        sequence number there is: until their epoch ends nobody can mend them. Returns how many."""
        slots = [target for target, salt in self.holders.salts().items() if salt in SALTS]
        burned = self.rng.sample(slots, int(share * len(slots)))
        for target in burned:
            self.holders.overwrite(target, JUNK, MAX_SEQ, trio.current_time())
        return len(burned)

    async def forge(self, words: Iterable[str]) -> None:
        """A vandal writes into the trees of these words: entries that name another publisher's
        record of another torrent, entries with another title, and a fake interior node."""
        vandal = self.newcomer()
        now = minutes_at(unix_time())
        for word in words:
            honest, other = self.rng.sample(self.corpus.titles, 2)
            target = self._record_of(honest)
            flag = Posting(honest.info_hash, target, now, size_code(honest.size), 0, word)
            hashes = tuple(sorted({hidden_word(word) for word in (word, *sorted(other.words))}))
            forged = [
                flag,
                flag._replace(infohash=other.info_hash, hidden=hashes[:MAX_HIDDEN]),
                flag._replace(infohash=self.rng.randbytes(20)),
                flag._replace(record=self.rng.randbytes(20)),
            ]
            top = Label(Index.WORDS, root_of((word,)))
            await vandal.trees.insert(top, forged)
            seen = await vandal.slots.read(top)
            lie = TrieNode(dict.fromkeys(range(top.index.arity), MAX_COUNT), {})
            node = join(seen.node, lie) if seen.node is not None else lie
            await vandal.slots.write(seen, storable(top, node))

    def _record_of(self, title: Title) -> bytes:
        publisher = self.publishers[title.number % len(self.publishers)]
        return record_target(publisher.key.public, title.info_hash)

    async def next_epoch(self) -> None:
        """Let a day pass in which all publishers are away, and come back: every slot is another
        then, and every entry is written anew."""
        await trio.sleep(EPOCH)
        self.holders.expire(trio.current_time())
        await published(self.publishers)


async def write_at_once(
    holders: Holders,
    writers: int,
    each: int,
    rng: random.Random,
    config: SearchConfig = UNMETERED,
) -> tuple[int, int]:
    """So many publishers put so many entries each into the tree of one word, all at once. Returns
    how many of these entries nobody can find afterwards, and how many when all have looked after
    theirs once."""
    crowd = [Participant(slow_items(holders), rng, config) for _ in range(writers)]
    top = Label(Index.WORDS, b"everybody")

    def made(infohash: bytes) -> Posting:
        record = hashlib.sha1(infohash).digest()
        return Posting(infohash, record, minutes_at(unix_time()), 0, 0, "everybody writes this")

    hashes = [[rng.randbytes(20) for _ in range(each)] for _ in crowd]

    async def write(number: int, *, again: bool) -> None:
        mine = map(made, hashes[number])
        if not again:
            await crowd[number].trees.insert(top, mine)
            return
        await trio.sleep(rng.uniform(0, UNMETERED.check_interval))
        await crowd[number].trees.renew(top, mine)

    async def missing(*, again: bool) -> int:
        async with trio.open_nursery() as nursery:
            for number in range(writers):
                nursery.start_soon(partial(write, number, again=again))
        found: set[bytes] = set()

        async def take(entries: Sequence[IndexEntry]) -> bool:
            found.update(entry.infohash for entry in entries if isinstance(entry, Posting))
            return False

        reader = Participant(ModelItems(holders), rng)
        await reader.trees.walk(top, take, gets=10_000, first=True)
        return sum(one not in found for mine in hashes for one in mine)

    lost = await missing(again=False)
    return lost, await missing(again=True)
