"""Search as a node has it: the local catalogue, publishing and searching, and the tasks for them.

The rule: nothing is published that its user did not ask for, and the records of the torrents say
what that is. The outbox follows them: what is in it and not in them goes, and what is in them and
not in it, because the catalogue was lost, comes back.

The catalogue is opened when it is first needed (`engine.search.placing`).
"""

from __future__ import annotations

import io
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from typing import Final

import trio

from dht_torrent.catalogue import Entry, PublisherTrust, Source
from dht_torrent.dht.items import KEY_SIZE, SigningKey
from dht_torrent.engine.keys import PUBLISHER, KeyStore
from dht_torrent.engine.search.catalogue import LocalCatalogue
from dht_torrent.engine.search.crawl import Crawler
from dht_torrent.engine.search.denying import Denied, DenyFile
from dht_torrent.engine.search.fits import Fits
from dht_torrent.engine.search.likes import Likes
from dht_torrent.engine.search.meter import Meter
from dht_torrent.engine.search.own import NodeSwarms, check_tags, is_public, own_entry, why_not
from dht_torrent.engine.search.placing import placed
from dht_torrent.engine.search.publisher import Publisher, record_of
from dht_torrent.engine.search.records import DhtRecords, parse_key
from dht_torrent.engine.search.results import Emit, SearchResults, Spawn
from dht_torrent.engine.search.searching import Searcher
from dht_torrent.engine.search.slots import DhtSlots
from dht_torrent.engine.search.tree import Trees
from dht_torrent.engine.search.views import (
    CatalogueImport,
    CatalogueStatus,
    PublisherView,
    SearchQuery,
    SearchStatus,
    SimilarFound,
    SimilarQuery,
)
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.errors import DhtTorrentError, InputError, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.search.words import title_words

logger = logging.getLogger(__name__)

LOOK_INTERVAL: Final = 30.0
"""Seconds between two looks which torrents are here and what is known of them."""
DENIED: Final = "it is on this node's deny-list, and is not published"


class SearchService:
    """The index: publishing into it, and asking it. `run` is its task."""

    def __init__(
        self,
        context: NodeContext,
        torrents: Mapping[InfoHash, Torrent],
        supervisors: Mapping[InfoHash, Supervisor],
        spawn: Spawn,
        denied: Denied,
        *,
        keys: random.Random,
        clock: Callable[[], float],
    ) -> None:
        """`keys` makes secrets, and `clock` gives Unix time."""
        self.warnings: list[str] = []
        """What cannot be used, a line each."""
        self.on_verdict: Callable[[bytes | None], None] = lambda key: None
        """Called when the user has blocked a publisher or does so no more; with None, when the
        deny-list has changed."""
        self._context = context
        self._config = context.config.search
        self._torrents = torrents
        self._supervisors = supervisors
        self._spawn = spawn
        self._denied = denied
        self._dice = keys
        self._clock = clock
        self._meter = Meter(self._config)
        self._slots = DhtSlots(context.dht, self._config, self._meter, rng=context.rng, clock=clock)
        self._trees = Trees(self._slots, context.rng, self._config)
        self._records = DhtRecords(context.dht, self._config, self._meter, clock=clock)
        self._swarms = NodeSwarms(torrents, context.dht, clock)
        self.likes = Likes(context, supervisors, self._trees, self._records, clock)
        """What torrents are like."""
        self._searches = trio.Semaphore(self._config.max_searches)
        self._wanted = trio.Event()
        self._opened = trio.Event()
        self._keyed = trio.Event()
        self._noting = trio.Lock()
        self._noted: set[InfoHash] = set()
        """Torrents that the catalogue has as ours."""
        self._catalogue: LocalCatalogue | None = None
        self._why_none: DhtTorrentError | None = None
        self._searcher: Searcher | None = None
        self._publisher: Publisher | None = None
        self._key: SigningKey | None = None
        self._crawler: Crawler | None = None
        if context.config.crawl.enabled:
            self._wanted.set()

    async def run(self) -> None:
        """A service: keeps the catalogue open, and what it says of our torrents true; publishes."""
        if self._context.state is None:
            await self._wanted.wait()
        while not self._wanted.is_set() and not self._torrents:
            with trio.move_on_after(LOOK_INTERVAL):
                await self._wanted.wait()
        async with AsyncExitStack() as stack:
            try:
                await self._open(stack)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._publish)
                    nursery.start_soon(self._crawl)
                    nursery.start_soon(self._heed)
                    await self._follow()
            finally:
                self._catalogue = self._publisher = self._searcher = self._crawler = None
                self._why_none = StorageError("the node is closing")
                self._opened.set()

    # -- asking ---------------------------------------------------------------------------------

    def search(self, query: SearchQuery) -> SearchResults:
        """See `Node.search`."""
        if Fits(query).is_empty:
            raise InputError("give words to search for, a size or a date")

        async def find(emit: Emit) -> None:
            await self.local()
            with suppress(StorageError):  # what is here is looked for again and again
                await self._note_all()
            if self._searcher is not None:
                async with self._searches:
                    await self._searcher.run(query, emit)

        return SearchResults(find, self._spawn, self._context.faults, limit=query.limit)

    async def similar(self, query: SimilarQuery) -> SimilarFound:
        """See `Node.similar`."""
        catalogue = await self.local()
        await self._note_all()
        assert self._searcher is not None  # made with the catalogue
        async with self._searches:
            return await self.likes.search(query, catalogue, self._searcher)

    async def judge(self, publisher: str, *, trusted: bool = False, blocked: bool = False) -> None:
        """See `Node.trust` and `Node.block`."""
        key = parse_key(publisher)
        trust = PublisherTrust.NEUTRAL
        if trusted or blocked:
            trust = PublisherTrust.TRUSTED if trusted else PublisherTrust.BLOCKED
        catalogue = await self.local()
        before = (await catalogue.trust([key])).get(key, PublisherTrust.NEUTRAL)
        await catalogue.set_trust(key, trust, int(self._clock()))
        if before is not trust and PublisherTrust.BLOCKED in (before, trust):
            self.on_verdict(key)

    async def publishers(self) -> list[PublisherView]:
        """See `Node.publishers`."""
        known = await (await self.local()).publishers()
        return [
            PublisherView(
                key=one.key.hex(),
                trust="trusted" if one.trust is PublisherTrust.TRUSTED else "blocked",
                since=float(one.since),
            )
            for one in known
            if one.trust is not PublisherTrust.NEUTRAL
        ]

    # -- the catalogue --------------------------------------------------------------------------

    async def catalogue_status(self) -> CatalogueStatus:
        """See `Node.catalogue_status`."""
        summary = await (await self.local()).summary()
        return CatalogueStatus(
            torrents=summary.torrents,
            own=summary.own,
            bytes=summary.bytes,
            bytes_most=summary.bytes_most,
        )

    async def export_catalogue(self) -> AsyncGenerator[bytes, None]:
        """See `Node.export_catalogue`."""
        catalogue = await self.local()
        await self._note_all()
        async with aclosing(catalogue.export_lines()) as parts:
            async for part in parts:
                yield part

    async def import_catalogue(self, lines: bytes) -> CatalogueImport:
        """See `Node.import_catalogue`."""
        catalogue = await self.local()
        done = await catalogue.import_lines(io.BytesIO(lines), title_words, int(self._clock()))
        return CatalogueImport(
            lines=done.lines,
            added=done.added,
            known=done.known,
            refused=done.refused,
            skipped=dict(done.skipped),
            first_skipped=dict(done.first_skipped),
        )

    # -- publishing -----------------------------------------------------------------------------

    async def publish(self, supervisor: Supervisor, tags: Sequence[str]) -> None:
        """See `Node.publish`."""
        core = supervisor.core
        check_tags(tags)
        if (why := why_not(core)) is not None:
            raise InputError(why)
        most = self._config.max_published
        others = [one for one in self._supervisors.values() if one is not supervisor]
        if sum(one.core.published is not None for one in others) >= most:
            raise InputError(f"one node publishes at most {most:,} torrents")
        entry = own_entry(core, self._clock())
        assert entry is not None  # or there was a reason not to publish it
        record_of(replace(entry, tags=tuple(tags)), self._clock())  # could anybody find it?
        if self._is_denied(entry, tags):
            raise InputError(DENIED)
        await self.local()
        await self._make_key()
        before, core.published = core.published, tuple(tags)
        try:
            await self._note(core, anew=True)
        except BaseException:
            # As if it had not been asked for; the catalogue is brought in line at the next look.
            core.published = before
            supervisor.record.changed()  # it may have been written meanwhile
            self._noted.discard(core.context.info_hash)
            raise
        supervisor.record.changed()
        await supervisor.record.save()

    async def publish_shared(self, supervisor: Supervisor, tags: Sequence[str]) -> None:
        """Publish what was just added. That it cannot be is told by the torrent (`not_published`):
        it is shared all the same."""
        core = supervisor.core
        try:
            await self.publish(supervisor, tags)
        except DhtTorrentError as error:
            if core.published is None:
                core.not_published = str(error)
                supervisor.record.changed()
            logger.warning("%s is shared, but not published: %s", core.name, error)

    async def unpublish(self, supervisor: Supervisor) -> bool:
        """See `Node.unpublish`."""
        core = supervisor.core
        was = core.published is not None
        core.published = core.not_published = None
        supervisor.record.changed()
        await supervisor.record.save()
        if self._publisher is not None:
            await self._publisher.remove(core.context.info_hash)
        return was

    async def removed(self, info_hash: InfoHash) -> None:
        """The torrent is not here any more."""
        self._noted.discard(info_hash)
        if self._catalogue is None:
            return  # what it has of this one goes when it is opened
        try:
            async with self._noting:
                await self._forget([info_hash])
        except StorageError as error:
            logger.warning("the catalogue still has a torrent that was removed: %s", error)

    def status(self) -> SearchStatus | None:
        """A snapshot for people."""
        now = trio.current_time()
        publisher = self._publisher
        return SearchStatus(
            publisher=self._key.public.hex() if self._key is not None else None,
            published=sum(one.core.is_published for one in self._supervisors.values()),
            entries=publisher.entries if publisher is not None else 0,
            due=publisher.due if publisher is not None else 0,
            gets_hour=self._meter.gets.within(now),
            puts_hour=self._meter.puts.within(now),
            puts_hour_most=self._config.max_puts_per_hour,
            refused=self._slots.refused,
            trouble=(self._catalogue.trouble if self._catalogue is not None else None)
            or (publisher.trouble if publisher is not None else None)
            or self._denied.trouble,
            crawl=self._crawler.status() if self._crawler is not None else None,
            denied=len(self._denied.list),
        )

    # -- within ---------------------------------------------------------------------------------

    async def local(self) -> LocalCatalogue:
        """The catalogue, opened if it was not. Raises StorageError."""
        self._wanted.set()
        await self._opened.wait()
        if self._catalogue is None:
            why = self._why_none
            raise StorageError(str(why) if why is not None else "there is no catalogue")
        return self._catalogue

    async def _open(self, stack: AsyncExitStack) -> None:
        found = await stack.enter_async_context(placed(self._context, self._denied, self._dice))
        self._catalogue, self._why_none = found.catalogue, found.why_none
        self.warnings += found.warnings
        if self._catalogue is None:
            return
        self._searcher = Searcher(
            self._catalogue,
            self._trees,
            self._records,
            self._swarms,
            self._config,
            clock=self._clock,
        )
        state = self._context.state
        if state is not None:
            try:
                key = await self._context.disk.run(KeyStore(state.path).read, PUBLISHER)
            except (InputError, StorageError) as error:
                self.warnings.append(f"nothing is published: {error}")
                logger.warning("nothing is published: %s", error)
            else:
                self._use(key)

    async def _make_key(self) -> None:
        """Have a key to publish under. Raises InputError and StorageError when there is one that
        cannot be used."""
        if self._key is not None:
            self._use(self._key)
            return
        state = self._context.state
        seed = self._dice.randbytes(KEY_SIZE)
        if state is None:
            self._use(SigningKey(seed))
            return
        keys = KeyStore(state.path)
        self._use(await self._context.disk.run(keys.read_or_make, PUBLISHER, seed))

    def _use(self, key: SigningKey | None) -> None:
        if key is None or self._publisher is not None or self._catalogue is None:
            return
        self._key = key
        self._publisher = Publisher(
            self._catalogue,
            self._trees,
            self._records,
            key,
            self._config,
            rng=self._context.rng,
            clock=self._clock,
            faults=self._context.faults,
        )
        self._keyed.set()

    async def _publish(self) -> None:
        await self._keyed.wait()
        await self._context.dht.bootstrapped()
        publisher = self._publisher
        assert publisher is not None
        await self._context.faults.keep("publishing", publisher.run)

    def _is_denied(self, entry: Entry, tags: Sequence[str]) -> bool:
        return self._denied.entry(entry) or self._denied.torrent(entry.infohash, *tags)

    async def _crawl(self) -> None:
        if self._catalogue is None or not self._context.config.crawl.enabled:
            return
        self._crawler = Crawler(
            self._context, self._catalogue, self._torrents, self._denied, clock=self._clock
        )
        await self._context.faults.keep("the crawl", self._crawler.run)

    async def _heed(self) -> None:
        """Keep what is denied out of what was stored and published before."""
        if isinstance(self._denied, DenyFile) and self._catalogue is not None:
            await self._purge()
            await self._denied.watch(self._denials_changed)

    async def _denials_changed(self) -> None:
        await self._purge()
        self.on_verdict(None)

    async def _purge(self) -> None:
        assert self._catalogue is not None
        try:
            for info_hash in await self._catalogue.purge():
                await self._forget([InfoHash(info_hash)])
            self._noted.clear()  # what we share may be denied now, or no more
            await self._note_all()
        except StorageError as error:
            logger.warning("the catalogue still has what is denied: %s", error)

    async def _follow(self) -> None:
        """Keep the catalogue in step with the torrents that are here."""
        if self._catalogue is None:
            self._opened.set()
            await trio.sleep_forever()
        begun = False
        while True:
            try:
                if not begun:
                    await self._forget_others()
                    begun = True
                await self._note_all()
                await self._catalogue.keep_up()
            except StorageError as error:
                if self._catalogue.trouble is None:  # which was told, once
                    logger.warning("the catalogue does not know all torrents: %s", error)
            self._opened.set()
            await trio.sleep(LOOK_INTERVAL)

    async def _note_all(self) -> None:
        """Note the torrents that the catalogue does not know to be ours. Raises StorageError."""
        for supervisor in list(self._supervisors.values()):
            await self._note(supervisor.core)

    async def _note(self, core: TorrentCore, *, anew: bool = False) -> None:
        """Put a torrent into the catalogue, and into the outbox if it is published."""
        info_hash = core.context.info_hash
        if (info_hash in self._noted and not anew) or self._catalogue is None:
            return
        await self.likes.prepare(core, self._catalogue)
        async with self._noting:
            published = core.published
            entry = own_entry(core, self._clock())
            if entry is None or info_hash not in self._torrents:
                return
            known = await self._catalogue.get(info_hash)
            if known is not None and known.sources & Source.OWN and known.published is not None:
                entry = replace(entry, published=known.published)
            await self._catalogue.put([entry], int(self._clock()))
            await self.likes.note(core, self._catalogue)
            if core.published != published:
                return  # whoever has changed it comes next
            core.not_published = self._why_not_now(core, entry)
            if published is None or core.not_published is not None:
                # Of an earlier run; or somebody wrote into our files, or into our records.
                await self._catalogue.remove_outbox(info_hash)
            else:
                try:
                    await self._make_key()
                except (InputError, StorageError) as error:
                    core.not_published = str(error)
                if self._publisher is not None:
                    await self._publisher.add(info_hash, anew=anew)
            self._noted.add(info_hash)  # after a failure it is tried again

    def _why_not_now(self, core: TorrentCore, entry: Entry) -> str | None:
        """Why a torrent that is to be published cannot be, in a line."""
        if core.published is None:
            return core.not_published  # it could not be when it was shared
        if self._is_denied(entry, core.published):
            return DENIED
        try:
            record_of(entry, self._clock())
        except InputError as error:
            return str(error)
        return why_not(core)

    async def _forget_others(self) -> None:
        """What the catalogue has as ours, and is not here any more."""
        assert self._catalogue is not None
        after, gone = 0, list[InfoHash]()
        while True:
            entries, after = await self._catalogue.page(after, source=Source.OWN)
            if not entries:
                break
            for entry in entries:
                info_hash = InfoHash(entry.infohash)
                supervisor = self._supervisors.get(info_hash)
                if supervisor is None or not is_public(supervisor.core):
                    gone.append(info_hash)
        async with self._noting:
            await self._forget(gone)

    async def _forget(self, info_hashes: Sequence[InfoHash]) -> None:
        assert self._catalogue is not None
        for info_hash in info_hashes:
            if self._publisher is not None:
                await self._publisher.remove(info_hash)
            else:
                await self._catalogue.remove_outbox(info_hash)
        await self._catalogue.forget(info_hashes, Source.OWN)
