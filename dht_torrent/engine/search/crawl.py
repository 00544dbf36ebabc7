"""The crawl: asks nodes of the DHT what they store (BEP 51), then peers what that is (BEP 9), and
puts it into the catalogue. No torrent is added for it, and nothing of one is kept but its entry.

The rule: every query has its turn, at one rate and within the hour's budget, and what strangers
may make us hold, dial or wait for is bounded. `search.crawl` decides whom to ask and what to look
at.

    run
    |- _walk      asks nodes, as long as not too much waits to be looked at
    |- _look x n  takes an infohash: its peers, their metadata, the catalogue
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Sequence
from typing import Final

import trio

from dht_torrent.catalogue import Proof, Source, SwarmHealth
from dht_torrent.config import CrawlConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.engine.dht.samples import NoSamples
from dht_torrent.engine.search.catalogue import LocalCatalogue
from dht_torrent.engine.search.crawl_counts import CrawlCounts, HashOutcome, NodeOutcome
from dht_torrent.engine.search.denying import Denied
from dht_torrent.engine.search.info import InfoFetch
from dht_torrent.engine.search.meter import PacedTurns, until
from dht_torrent.engine.search.own import entry_of
from dht_torrent.engine.search.views import CrawlStatus
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import InputError, MetainfoError, NoReply, StorageError
from dht_torrent.ids import Address, InfoHash, distance
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.search.crawl import Ask, CrawlPlan, Want
from dht_torrent.torrent.metadata import MetadataMemory

LOOK_AROUND: Final = 60.0
"""Seconds between two looks for nodes in our own tables, while none waits to be asked."""
STORAGE_PAUSE: Final = 60.0
"""Seconds before the next attempt when the catalogue cannot store anything."""
MAX_TOLD: Final = 100
"""Peers heard of one answer."""


class Crawler:
    """`run` does the work."""

    def __init__(
        self,
        context: NodeContext,
        catalogue: LocalCatalogue,
        here: Container[InfoHash],
        denied: Denied,
        *,
        clock: Callable[[], float],
    ) -> None:
        """`here`: torrents of the node itself. `clock` gives Unix time."""
        self._context = context
        self._catalogue = catalogue
        self._here = here
        self._denied = denied
        self._clock = clock
        self._config: CrawlConfig = context.config.crawl
        self._plan = CrawlPlan(self._config, context.rng, trio.current_time())
        self._counts = CrawlCounts(self._config)
        rate = min(self._config.rate, self._config.max_rate)
        self._turns = PacedTurns(rate, burst=1)
        self._memory = MetadataMemory(self._config.max_metadata_held)
        self._heard = AutoResetEvent()
        """Set when a node has named others."""
        self._more = AutoResetEvent()
        """Set when there is something to look at ..."""
        self._room = AutoResetEvent()
        """... and when there is less."""

    def status(self) -> CrawlStatus:
        """A snapshot for people."""
        return self._counts.status(self._plan, trio.current_time())

    async def run(self) -> None:
        """A service."""
        await self._context.dht.bootstrapped()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._walk)
            for _ in range(self._config.fetches_at_once):
                nursery.start_soon(self._look)

    # -- nodes ----------------------------------------------------------------------------------

    async def _walk(self) -> None:
        slots = trio.Semaphore(self._config.asks_at_once)
        async with trio.open_nursery() as nursery:
            while True:
                while self._plan.is_full:
                    await self._room.wait()
                ask = self._plan.next_node(trio.current_time())
                if ask is None:
                    await self._look_around()
                    continue
                await slots.acquire()
                await self._turn()
                nursery.start_soon(self._ask, ask, slots)

    async def _look_around(self) -> None:
        """Nobody is left to ask: there are our own tables, and those whose interval ends."""
        now = trio.current_time()
        contacts = [(view.id, view.address) for view in self._context.dht.contacts()]
        if not self._plan.heard_of(contacts, now):
            with trio.move_on_at(now + LOOK_AROUND):
                await self._heard.wait()

    async def _ask(self, ask: Ask, slots: trio.Semaphore) -> None:
        try:
            with self._context.faults.confined(f"the crawl's question to {ask.address}"):
                outcome = await self._sample(ask)
                self._counts.node(outcome, trio.current_time())
        finally:
            slots.release()

    async def _sample(self, ask: Ask) -> NodeOutcome:
        try:
            sample = await self._context.dht.sample(ask.address, ask.target)
        except NoSamples as answer:
            self._plan.told_of(ask, _named(answer.nodes), trio.current_time())
            self._heard.set()
            return NodeOutcome.UNSUPPORTED
        except NoReply as error:
            return NodeOutcome.SILENT if error.code is None else NodeOutcome.UNSUPPORTED
        except InputError:  # of a family in which we have no socket any more
            return NodeOutcome.SILENT
        now = trio.current_time()
        nodes = _named(sample.nodes)
        self._plan.answered(ask, sample.interval, sample.samples, nodes, now)
        self._heard.set()
        if not sample.samples:
            return NodeOutcome.EMPTY
        self._more.set()
        return NodeOutcome.TOLD

    # -- infohashes -----------------------------------------------------------------------------

    async def _look(self) -> None:
        """One after the other, as they are named."""
        while True:
            want = self._plan.next_hash()
            if want is None:
                await self._more.wait()
                continue
            if self._plan.waiting:
                self._more.set()  # for the next of us
            if not self._plan.is_full:
                self._room.set()
            await self._settle(want)

    async def _settle(self, want: Want) -> None:
        outcome: HashOutcome | None = None
        try:
            with self._context.faults.confined(f"the crawl's look at {want.infohash.hex()}"):
                outcome = await self._learn(want)
            self._counts.trouble = None
        except StorageError as error:
            self._counts.trouble = f"nothing can be stored: {error}"
            await trio.sleep(STORAGE_PAUSE)
        finally:
            if outcome is None:
                self._plan.put_back(want)
            elif outcome.is_miss:
                self._plan.missed(want)
            else:
                self._plan.settled(want)
            if outcome is not None:
                self._counts.hash(outcome, trio.current_time())

    async def _learn(self, want: Want) -> HashOutcome:
        """Raises StorageError."""
        config = self._config
        if self._denied.torrent(want.infohash):
            return HashOutcome.DENIED
        if want.infohash in self._here:
            return HashOutcome.KNOWN
        known = await self._catalogue.get(want.infohash)
        if known is not None and known.proof is Proof.STRONG:
            return HashOutcome.KNOWN
        peers = await self._peers(want)
        if not peers:
            return HashOutcome.NO_PEERS
        counts = self._counts
        await _within(lambda now: counts.fetches.below_at(config.max_fetches_per_hour, now))
        await _within(lambda now: counts.bytes.below_at(config.max_bytes_per_hour, now))
        counts.fetches.add(trio.current_time())
        fetch = InfoFetch(self._context, want.infohash, config, self._memory, self._took)
        fetched = await fetch.run(peers)
        if fetched.info is None:
            if fetched.too_large:
                return HashOutcome.TOO_LARGE
            return HashOutcome.NO_METADATA if fetched.reached else HashOutcome.UNREACHABLE
        try:
            metainfo = await self._context.disk.run(
                from_info, fetched.info, info_hash=want.infohash
            )
        except MetainfoError:
            return HashOutcome.MALFORMED
        return await self._store(metainfo, len(peers))

    async def _store(self, metainfo: Metainfo, peers: int) -> HashOutcome:
        """Raises StorageError."""
        if metainfo.private or metainfo.ssl_cert is not None:
            return HashOutcome.PRIVATE
        if await self._context.disk.run(self._is_denied, metainfo):
            return HashOutcome.DENIED
        now = int(self._clock())
        entry = entry_of(metainfo, Source.CRAWL)
        if (await self._catalogue.put([entry], now)).refused:
            return HashOutcome.DENIED
        await self._catalogue.set_health(
            {metainfo.info_hash: SwarmHealth(None, peers, now, "get_peers")}
        )
        return HashOutcome.FOUND

    def _is_denied(self, metainfo: Metainfo) -> bool:
        """By all of its files, of which the catalogue keeps the first hundred."""
        paths = ("/".join(file.path) for file in metainfo.files)
        return self._denied.torrent(metainfo.info_hash, metainfo.name, *paths)

    async def _peers(self, want: Want) -> Sequence[Address]:
        """Those that the node that named it knows; of what was in vain before, those that the
        closest nodes know, one asked after the other."""
        most = self._config.lookup_nodes if want.again else 1
        found: dict[Address, None] = {}
        met = {want.named_by}
        todo: list[tuple[int, Address]] = [(0, want.named_by)]
        for _ in range(most):
            if not todo or len(found) >= self._config.max_peers:
                break
            _, address = heapq.heappop(todo)
            await self._turn()
            try:
                reply = await self._context.dht.query(
                    address, krpc.GET_PEERS, {b"info_hash": want.infohash}
                )
            except (NoReply, InputError):
                continue
            peers = [peer for peer, _ in zip(reply.values(), range(MAX_TOLD), strict=False)]
            found |= dict.fromkeys(peer for peer in peers if address.may_name(peer))
            for info in reply.nodes(ipv6=address.is_ipv6):
                if info.address not in met and address.may_name(info.address):
                    met.add(info.address)
                    heapq.heappush(todo, (distance(info.id, want.infohash), info.address))
        return list(found)

    def _took(self, size: int) -> None:
        self._counts.bytes.add(trio.current_time(), size)

    async def _turn(self) -> None:
        """Before each query."""
        counts, most = self._counts, self._config.max_queries_per_hour
        await self._turns.wait()
        await _within(lambda now: counts.queries.below_at(most, now))
        counts.queries.add(trio.current_time())


async def _within(when: Callable[[float], float]) -> None:
    """Wait for room in an hour's budget. Others may take it meanwhile: then wait again."""
    while (moment := when(now := trio.current_time())) > now:
        await until(moment, now)


def _named(nodes: Sequence[NodeInfo]) -> list[tuple[bytes, Address]]:
    return [(info.id, info.address) for info in nodes]
