"""One uninterrupted attempt at a torrent: find peers, fetch the info dict, check what is on the
disk, exchange.

Whatever ends it, with it end all its tasks and connections. What comes next is `supervisor`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from dht_torrent.engine.torrent.connections import their_fault
from dht_torrent.engine.torrent.content import Content
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.joining import check_identity, join_torrent
from dht_torrent.engine.torrent.readers import Readers
from dht_torrent.engine.torrent.record import ResumeRecord
from dht_torrent.engine.torrent.reusing import Reusing, look_around
from dht_torrent.engine.torrent.stages import Active, Checking
from dht_torrent.engine.torrent.swarm import Swarm
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import InputError, MetainfoError, StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.torrent.selection import check_selection, wanted_empty, wanted_pieces

logger = logging.getLogger(__name__)


class Session:
    """An attempt. Made for one `run`."""

    def __init__(self, core: TorrentCore, record: ResumeRecord, readers: Readers) -> None:
        self._core = core
        self._record = record
        self._readers = readers
        self._node = core.node
        self._swarm: Swarm | None = None
        self._reuse_news = AutoResetEvent()
        """There is more to look for, or a plan has been carried out."""

    async def run(self) -> None:
        """Until cancelled, or until it cannot go on; then the core has a fault."""
        core = self._core
        try:
            await self._join()
        except (StorageError, MetainfoError) as error:
            core.fail(error)
            return
        known = core.metainfo is not None
        core.enter(Checking(core.extensions) if known else core.fetching())
        try:
            async with trio.open_nursery() as nursery:
                # Peers first: who is connected while the info is fetched stays for the exchange.
                await nursery.start(core.connections.run)
                nursery.start_soon(core.discovery.run)
                nursery.start_soon(self._begin)
                await self._by_the_clock()
        finally:
            core.extensions.exchange(None)
            core.on_look_again = None
            swarm, self._swarm = self._swarm, None  # which has methods of ours: a cycle
            if swarm is not None:
                await swarm.close()

    async def _begin(self) -> None:
        """Until pieces can be exchanged."""
        core = self._core
        try:
            self._swarm = await self._open(await self._metadata())
        except (StorageError, MetainfoError) as error:
            core.fail(error)
            return
        core.on_look_again = self._look_again
        self._look_again()

    async def _by_the_clock(self) -> None:
        """What is due every now and then, all by one task: a node may have a thousand torrents."""
        config = self._core.node.config.torrent
        look_at = trio.current_time() + config.file_check_interval
        while True:
            await self._record.write()  # at once, too: what was just added must survive a crash
            write_at = trio.current_time() + config.resume_interval
            while look_at <= write_at:
                await trio.sleep_until(look_at)
                await self._core.look()
                look_at = trio.current_time() + config.file_check_interval
            await trio.sleep_until(write_at)

    async def _join(self) -> None:
        """In an SSL torrent, make ready what proves that we are a member. Raises StorageError
        or MetainfoError where that is not to be had."""
        context = self._core.context
        if self._core.adopt():
            self._record.changed()
        context.membership = None
        check_identity(context.metainfo, context.identity)
        if context.identity is None:
            return
        try:
            context.membership = await self._node.disk.run(
                join_torrent, context.identity, context.info_hash, context.metainfo
            )
        except InputError as error:
            raise StorageError(str(error)) from None

    async def _metadata(self) -> Metainfo:
        """Known already, fetched from peers, or given meanwhile."""
        core = self._core
        if core.metainfo is None:
            fetching = core.fetching()
            core.enter(fetching)
            core.connections.wake()
            with trio.CancelScope() as core.learning:
                core.learn(await fetching.fetch.run())
            if core.metainfo is None:
                await trio.sleep_forever()  # this session is over: see `learn`
            assert core.metainfo is not None
            self._record.changed()
            await self._record.write()
        return core.metainfo

    async def _open(self, metainfo: Metainfo) -> Swarm:
        """Open the content, find out what is there, and let all connected peers take part."""
        core, stage = self._core, Checking(self._core.extensions)
        core.enter(stage)
        if core.context.is_private:
            core.discovery.end()  # BEP 27, learned late

        def note(done: int, total: int) -> None:
            stage.done, stage.total = done, total

        check_selection(core.select, metainfo)
        core.look_again = False
        content = core.place.open(metainfo)
        have = await content.establish(note, superseded=core.superseded)
        while True:
            select = core.select
            check_selection(select, metainfo)
            wanted = wanted_pieces(select, metainfo.geometry)
            if core.superseded:
                wanted = set()
            if await content.claim(wanted, wanted_empty(select, metainfo.geometry)):
                self._record.changed()
                await self._record.write()  # what is ours must be known after a crash, too
            missing = [index for index in wanted if index not in have]
            await content.prepare(metainfo.geometry.size_of(missing))
            core.reusing = await self._look_around(content, metainfo, missing)
            if select == core.select:  # else more was wanted meanwhile
                break
        swarm = Swarm(
            self._node,
            metainfo,
            content,
            have,
            core.connections,
            on_event=core.extensions.on_event,
            on_saved=self._on_saved,
            on_fault=core.fail,
            super_seed=core.super_seed,
            on_revealed=self._on_revealed,
        )
        swarm.picker.sequential = core.sequential
        swarm.picker.select(wanted, core.ranks())
        self._readers.drive(swarm)
        if core.reusing is not None:
            core.reusing.hold(swarm)
        if not swarm.picker.done:
            core.unfinished()  # it may have been complete before a recheck
        core.extensions.exchange(swarm)
        core.enter(Active(swarm, core.extensions))
        self._record.changed()
        self._let_all_in(swarm)
        return swarm

    async def _look_around(
        self, content: Content, metainfo: Metainfo, missing: Sequence[int]
    ) -> Reusing | None:
        """For what this disk may have of the missing pieces."""
        core = self._core
        if core.looked_around:  # before a restart, say: what is missing since then is not here
            return None
        found, trouble = await look_around(self._node, content, metainfo, core.sources, missing)
        self._note_reused(0, trouble)
        return found

    async def _reuse(self) -> None:
        """Copy what this disk has of it already, instead of fetching it; and look again when there
        is more to be had."""
        core, content, swarm = self._core, self._core.content, self._swarm
        assert content is not None
        assert swarm is not None
        if core.reusing is None and not core.look_again:
            self._note_looked_around()
        while core.reusing is not None or core.look_again:
            found: Reusing | None = None
            looks = False
            async with trio.open_nursery() as nursery:
                if core.reusing is not None:
                    nursery.start_soon(self._reuse_all, swarm, core.reusing)
                while core.reusing is not None and not core.look_again:
                    await self._reuse_news.wait()
                if core.look_again:
                    core.look_again, looks = False, True
                    core.looked_around = False
                    missing = [i for i in swarm.picker.holdings.wanted if i not in swarm.have]
                    found = await self._look_around(content, swarm.metainfo, missing)
                    nursery.cancel_scope.cancel()  # the new plan has all that the old one has left
            core.reusing = found
            if found is not None:
                found.hold(swarm)
            elif looks:
                self._note_looked_around()

    async def _reuse_all(self, swarm: Swarm, reusing: Reusing) -> None:
        try:
            await reusing.run(swarm, self._note_reused, self._note_looked_around)
        finally:
            self._core.reusing = None
            self._reuse_news.set()

    def _look_again(self) -> None:
        self._reuse_news.set()
        self._core.connections.chores.call(self._reuse)

    def _note_looked_around(self) -> None:
        """All was looked for once."""
        core = self._core
        if not core.looked_around and core.fault is None:
            core.looked_around = True
            self._record.changed()
        core.tell()

    def _note_reused(self, size: int, trouble: str | None) -> None:
        core = self._core
        core.totals.reused += size
        if trouble is not None and core.reuse_trouble is None:
            core.reuse_trouble = f"not all could be reused: {trouble}"
            logger.info("%s: %s", core.name, core.reuse_trouble)

    def _let_all_in(self, swarm: Swarm) -> None:
        """Those who connected before pieces could be exchanged."""
        core, now = self._core, trio.current_time()
        for peer in list(core.connections.peers.values()):
            with (
                self._node.faults.confined(f"the connection to {peer.address}", ends=peer.drop),
                their_fault(peer),
            ):
                swarm.join_late(peer, now)
                core.extensions.introduce_again(peer)
        swarm.begin()
        if not swarm.picker.done:
            core.connections.candidates.need_seeds(now)
        self._note_completion()
        core.connections.wake()

    def _on_saved(self) -> None:
        """More pieces are verified and on disk."""
        self._core.news.set()
        self._record.changed()
        if self._note_completion():  # a look right after the last write of ours
            self._core.connections.chores.call(self._core.look)

    def _note_completion(self) -> bool:
        """Whether it has just become complete."""
        core = self._core
        if not core.is_complete or core.finished.is_set():
            return False
        core.finished.set()
        if core.keeping.completed():
            logger.info("%s: complete", core.name)
            fetched = core.totals.downloaded or core.totals.reused
            if fetched and not core.place.shared and core.node.completed is not None:
                core.node.completed(core.context.info_hash)
        now = trio.current_time()
        if isinstance(core.stage, Active) and core.stage.swarm.upload_only:
            core.extensions.completed(now)
        for peer in list(core.connections.peers.values()):
            if peer.is_seed:
                peer.part_for_good(now)
        core.tell()
        return True

    def _on_revealed(self) -> None:
        """Super seeding has done its work, or is wanted no more."""
        core = self._core
        core.super_seed = False
        self._record.changed()
        core.extensions.completed(trio.current_time())
        logger.info("%s: super seeding has ended", core.name)
        core.tell()
