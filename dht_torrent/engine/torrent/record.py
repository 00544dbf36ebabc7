"""The resume record of a torrent: written soon after anything changed, and at its end.

The rule: a record is of one place, and an older one never comes after a newer one. One that could
not be written is reported and tried again: the one before still holds.
"""

from __future__ import annotations

import logging

import trio

from dht_torrent.engine.resume import Resume
from dht_torrent.engine.state import StateDir
from dht_torrent.engine.torrent.content import Content, Vouched
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.stages import Active
from dht_torrent.errors import StorageError
from dht_torrent.ids import Address

logger = logging.getLogger(__name__)


class ResumeRecord:
    """Keeps the record of one torrent true."""

    def __init__(self, core: TorrentCore, resume: Resume | None) -> None:
        self.warning: str | None = None
        """What is wrong although the torrent works: its record cannot be written, say."""
        self.tried = trio.Event()
        """Writing was tried once; `warning` says how that went."""
        self.writing = trio.Lock()
        """Held while a record is written, and by those who change the place it is of."""
        self._core = core
        self._dirty = resume is None
        self._bans = list(resume.banned) if resume else []  # as they were recorded
        self._forgotten = False

    def changed(self) -> None:
        """Something is different from what was recorded."""
        self._dirty = True

    async def keep(self) -> None:
        """Write what changed, until cancelled."""
        while True:
            await self.write()  # at once, too: what was just added must survive a crash
            await trio.sleep(self._core.node.config.torrent.resume_interval)

    async def write(self) -> None:
        """Write the record if anything changed."""
        state = self._core.node.state
        async with self.writing:
            if state is not None and self._is_changed() and not self._forgotten:
                await self._write_to(state)
        self.tried.set()

    async def save(self) -> None:
        """Write what changed, now; a bug in that does not end what the caller is about. `warning`
        says how it went."""
        with self._core.confined(ends=None):
            await self.write()

    async def forget(self) -> None:
        """Remove the record; none is written from now on. Raises StorageError when it cannot be
        removed: then nothing has changed."""
        node = self._core.node
        if node.state is None:
            return
        self._forgotten = True
        try:
            async with self.writing:
                await node.disk.run(node.state.remove, self._core.context.info_hash)
        except BaseException:
            self._forgotten = False
            raise

    def _banned(self) -> list[Address]:
        return self._core.connections.candidates.bans.dump(trio.current_time())

    def _is_changed(self) -> bool:
        return self._dirty or self._bans != self._banned()

    async def _write_to(self, state: StateDir) -> None:
        core = self._core
        self._dirty = False
        vouched, saved = Vouched(), False
        try:
            if core.content is not None:
                vouched = await self._vouch(core.content)
            bans = self._banned()
            await core.node.disk.run(state.save, self.now(vouched))
            self._bans, saved = bans, True
            self.warning = None
        except StorageError as error:
            if self.warning is None:  # said once, not every half minute
                logger.warning("%s: could not save its resume record: %s", core.name, error)
            self.warning = f"cannot be saved and would be lost at a restart: {error}"
        finally:
            # Also when cancelled: the last save, at the end, must not think this one was it.
            self._dirty = self._dirty or not (saved and vouched.final)

    async def _vouch(self, content: Content) -> Vouched:
        """See `Content.vouch`. A disk that cannot keep what it took stops the exchange."""
        try:
            return await content.vouch()
        except StorageError as error:
            if isinstance(self._core.stage, Active):
                self._core.fail(error)
            raise

    def now(self, vouched: Vouched) -> Resume:
        """The record as it would be written now."""
        core, place, limits = self._core, self._core.place, self._core.connections.limits
        keeping = core.keeping
        known, banned = core.connections.candidates.dump(trio.current_time())
        return Resume(
            info_hash=core.context.info_hash,
            magnet=str(core.context.magnet),
            added_at=keeping.added_at,
            content=place.root,
            shared=place.shared,
            info=core.metainfo.info if core.metainfo else None,
            have=vouched.have,
            stamps=vouched.stamps,
            stamped_at=vouched.stamped_at,
            made=vouched.made,
            begun=vouched.begun,
            filled=vouched.filled,
            mount=vouched.mount,
            overwrite=place.overwrite or vouched.overwrite,
            select=core.select,
            priorities=core.priorities,
            sequential=core.sequential,
            super_seed=core.super_seed,
            paused=core.paused,
            downloaded=core.totals.downloaded,
            uploaded=core.totals.uploaded,
            wasted=core.wasted,
            completed_at=keeping.completed_at,
            peers=tuple(known),
            banned=tuple(banned),
            limit_up=limits.up.rate,
            limit_down=limits.down.rate,
            identity=core.context.identity,
            superseded=core.superseded,
            published=core.published,
            not_published=core.not_published if core.published is None else None,
            sources=core.sources,
            looked_around=core.looked_around,
            reused=core.totals.reused,
            labels=keeping.labels,
            seeding=keeping.limits,
            retired=keeping.retired,
            rank=keeping.rank,
            names=place.names,
            shift=place.shift,
        )
