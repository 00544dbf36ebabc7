"""One search: our own catalogue at once, and the index as long as its patience lasts.

The rule: a torrent is given once. Each entry of the index that fits is checked before it is given;
what could not be checked comes last, and only if there is room; and while it takes up room, no more
is read. So what strangers write neither passes for more than it is, nor takes the place of what is.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Final

import trio

from dht_torrent.catalogue import CatalogueQuery, Entry, KnownPublisher, Proof
from dht_torrent.config import SearchConfig
from dht_torrent.engine.search.catalogue import LocalCatalogue
from dht_torrent.engine.search.checking import Checker, Found, Swarms
from dht_torrent.engine.search.fits import Fits
from dht_torrent.engine.search.reading import DAY, IndexReader, SearchCost, keys_of
from dht_torrent.engine.search.records import Records
from dht_torrent.engine.search.results import Emit
from dht_torrent.engine.search.tree import Trees
from dht_torrent.engine.search.views import SearchQuery, SearchResult
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import StorageError
from dht_torrent.search.choice import Key, root_of
from dht_torrent.search.node import Posting
from dht_torrent.search.rank import SeenEntries

MAX_CLAIMS: Final = 4
"""Publishers of one torrent whose records a search looks up, one after the other."""
MAX_FOUND: Final = 2000
"""Torrents of one search whose entries fit; `max_gets` slots hold fewer."""
MAX_ASKED: Final = 100
"""Queries that are remembered, to know which is asked again."""
SAVE_PATIENCE: Final = 1.0
"""Seconds that storing what was verified gets when a search is cut short."""


class Searcher:
    """Runs searches."""

    def __init__(
        self,
        catalogue: LocalCatalogue,
        trees: Trees,
        records: Records,
        swarms: Swarms,
        config: SearchConfig,
        *,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives Unix time."""
        self.catalogue = catalogue
        self.trees = trees
        self.records = records
        self.swarms = swarms
        self.config = config
        self.clock = clock
        self.seen = SeenEntries()
        """How much each publisher was met with."""
        self.publishers: list[KnownPublisher] = []
        """Whom the user trusts or blocks, as far as we know: the catalogue may be away."""
        self._asked: OrderedDict[Hashable, float] = OrderedDict()
        """What was searched for lately, and when."""

    async def run(self, query: SearchQuery, emit: Emit) -> SearchCost:
        """Search, and hand over what is found as it comes. Raises StorageError."""
        search = _Search(self, query, emit)
        deadline = trio.current_time() + query.patience
        await search.here()
        try:
            if query.network and not search.is_full:
                with trio.move_on_at(deadline) as search.scope:
                    await search.there()
            search.give_rest()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_PATIENCE):
                await search.save()
        return search.cost

    def trees_for(self, fits: Fits) -> Trees:
        """The index as a search for this may see it. Whoever searches for the same again wants to
        see what is new; and others not what is older than half a minute. But who types on, or
        searches for something similar, need not read again what was read a moment ago."""
        now, config = trio.current_time(), self.config
        asked: Hashable = (frozenset(fits.words), fits.start, fits.codes)
        before = self._asked.pop(asked, float("-inf"))
        self._asked[asked] = now
        if len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        is_again = now - before < config.slot_search_time
        return self.trees.since(
            now - (config.slot_repeat_time if is_again else config.slot_search_time)
        )


class _Search:
    """One search."""

    def __init__(self, searcher: Searcher, query: SearchQuery, emit: Emit) -> None:
        self.cost = SearchCost()
        self.scope = trio.CancelScope()
        """Around all that asks the network."""
        self._searcher = searcher
        self._catalogue = searcher.catalogue
        self._query = query
        self._emit = emit
        self._fits = Fits(query)
        self._checker = Checker(
            searcher.catalogue,
            searcher.records,
            searcher.swarms,
            searcher.seen,
            self._fits,
            searcher.config,
            self.cost,
            clock=searcher.clock,
        )
        self._reader: IndexReader | None = None
        self._given: set[bytes] = set()
        self._here: dict[bytes, Entry] = {}
        """What our catalogue has, unverified, and was not given."""
        self._found: dict[bytes, Found] = {}
        """What the index has, and was not given."""
        self._failed = 0
        """How many of these are `is_failed`."""
        self._waiting: deque[Found] = deque()
        self._checking = 0
        self._settled = AutoResetEvent()
        """Set when something was checked."""

    @property
    def is_full(self) -> bool:
        """As many were given as were asked for."""
        return len(self._given) >= self._query.limit

    async def here(self) -> None:
        """Give what we know, the best first; what is not verified is kept for the end, as the
        network may know better. Without the catalogue the network is asked alone; raises
        StorageError when it is not to be."""
        query = self._query
        entries: list[Entry] = []
        try:
            self._searcher.publishers = await self._catalogue.publishers()
            entries = await self._catalogue.search(self._of_catalogue())
        except StorageError:
            if not query.network:
                raise
        self._checker.heed(self._searcher.publishers)
        for entry in entries:
            if entry.proof is Proof.UNVERIFIED and query.network:
                self._here[entry.infohash] = entry
            else:
                self._give(self._checker.local(entry))

    def _of_catalogue(self) -> CatalogueQuery:
        query, fits = self._query, self._fits
        return CatalogueQuery(
            words=fits.words if fits.start is None else (*fits.words, fits.start),
            prefix=fits.start is not None,
            min_size=query.min_size,
            max_size=query.max_size,
            since=int(query.since) if query.since is not None else None,
            limit=query.limit,
        )

    async def there(self) -> None:
        """Read the index, and check what is found, side by side."""
        searcher = self._searcher
        async with trio.open_nursery() as nursery:

            async def take(postings: Sequence[Posting]) -> bool:
                for posting in postings:
                    self._add(posting)
                self._check_more(nursery)
                while self._is_enough and not self.is_full:
                    await self._settled.wait()  # some of these may be wrong: then there is room
                return self.is_full

            self._reader = IndexReader(
                searcher.trees_for(self._fits),
                self._fits,
                searcher.config,
                take,
                self.cost,
                counts=await self._counts(),
                now=searcher.clock(),
            )
            await self._reader.run()

    def give_rest(self) -> None:
        """What could not be checked, when there is nothing more to wait for."""
        rest = [self._checker.local(entry) for entry in self._here.values()]
        for found in self._found.values():
            result = self._checker.unverified(found)
            if result is not None and found.infohash not in self._here:
                rest.append(result)
        for result in sorted(rest, key=lambda result: -result.score):
            self._give(result)

    async def save(self) -> None:
        """Remember what was learned."""
        await self._checker.save()
        counted = self._reader.counted if self._reader is not None else {}
        if counted:
            roots = {root_of(key): count for key, count in counted.items()}
            with suppress(StorageError):
                await self._catalogue.remember_counts(roots, int(self._searcher.clock()))

    # -- within ---------------------------------------------------------------------------------

    @property
    def _is_enough(self) -> bool:
        """There will be, unless those that are being checked turn out to be wrong."""
        return len(self._given) + len(self._found) - self._failed >= self._query.limit

    async def _counts(self) -> dict[Key, int]:
        """How common the words are, as far as we have seen within a day."""
        roots = {root_of(key): key for key in keys_of(self._fits.words)}
        since = int(self._searcher.clock()) - DAY
        with suppress(StorageError):  # the network goes on without
            known = await self._catalogue.counts(list(roots), since)
            return {roots[root]: count for root, count in known.items()}
        return {}

    def _add(self, posting: Posting) -> None:
        infohash = posting.infohash
        if infohash in self._given or self._catalogue.denied.torrent(infohash, posting.preview):
            return
        found = self._found.get(infohash)
        if found is None:
            if len(self._found) >= MAX_FOUND:
                return
            found = self._found[infohash] = Found(infohash)
            self._waiting.append(found)
        if posting.record in found.targets or len(found.targets) >= MAX_CLAIMS:
            return
        found.targets.add(posting.record)
        found.postings[posting.record] = posting
        if found.is_failed:  # this publisher may have a record
            found.is_failed = False
            self._failed -= 1
            self._waiting.append(found)

    def _check_more(self, nursery: trio.Nursery) -> None:
        """Begin to check those that wait, as many at a time as may be."""
        most = min(self._searcher.config.records_at_once, self._query.limit - len(self._given))
        while self._waiting and self._checking < most:
            self._checking += 1
            nursery.start_soon(self._check, self._waiting.popleft(), nursery)

    async def _check(self, found: Found, nursery: trio.Nursery) -> None:
        result = await self._checker.verify(found, nursery)
        self._checking -= 1
        if result is not None:
            self._give(result)
        elif found.postings.keys() <= found.tried:
            found.is_failed = True
            self._failed += 1
        else:  # another publisher's entry came meanwhile
            self._waiting.append(found)
        self._settled.set()
        if self.is_full:
            self.scope.cancel()
        else:
            self._check_more(nursery)

    def _give(self, result: SearchResult) -> None:
        if self._catalogue.denied.torrent(result.info_hash, result.name):
            self._found.pop(result.info_hash, None)
            self._here.pop(result.info_hash, None)
        elif not self.is_full and result.info_hash not in self._given:
            self._given.add(result.info_hash)
            self._found.pop(result.info_hash, None)
            self._here.pop(result.info_hash, None)
            self._emit(result)
