"""The only owner of a torrent: runs one session after another, and rests while it is paused or
stopped by an error.

Pausing, an error, a recheck or a move ends the session's scope, with every task and connection in
it, and `Supervisor.run` decides what comes next.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import trio

from dht_torrent.engine.net.tls import Identity
from dht_torrent.engine.resume import Resume
from dht_torrent.engine.torrent.commands import Commands
from dht_torrent.engine.torrent.context import NodeContext, TorrentContext
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.keeping import Keeping
from dht_torrent.engine.torrent.moving import Mover
from dht_torrent.engine.torrent.place import ContentPlace, Move
from dht_torrent.engine.torrent.readers import Readers
from dht_torrent.engine.torrent.record import ResumeRecord
from dht_torrent.engine.torrent.session import Session
from dht_torrent.engine.torrent.sharing import Hashed
from dht_torrent.engine.torrent.stages import Failed, Paused, Queued
from dht_torrent.engine.views import Removal
from dht_torrent.errors import OurFault, StorageError
from dht_torrent.metainfo import Magnet, Metainfo
from dht_torrent.torrent.selection import Selection

logger = logging.getLogger(__name__)

SHUTDOWN_PATIENCE = 10.0
"""Seconds the last save of the resume record gets when the node ends."""


class Supervisor:
    """Owns a torrent from its adding to its removal. Users have a `Torrent` of it."""

    def __init__(
        self,
        node: NodeContext,
        magnet: Magnet,
        root: Path,
        *,
        metainfo: Metainfo | None = None,
        shared: bool = False,
        hashed: Hashed | None = None,
        resume: Resume | None = None,
        select: Selection | None = None,
        sequential: bool = False,
        super_seed: bool = False,
        paused: bool = False,
        overwrite: bool = False,
        identity: Identity | None = None,
        sources: Sequence[Path] = (),
    ) -> None:
        """As for `ContentPlace`. `resume` is the record of an earlier run, `identity` our
        certificate for an SSL torrent, and `sources` are where to look before peers are asked."""
        context = TorrentContext(node, magnet, metainfo, resume.identity if resume else identity)
        place = ContentPlace(
            node,
            root,
            shared=shared,
            hashed=hashed,
            resume=resume,
            overwrite=resume.overwrite if resume else overwrite,
        )
        self.core = core = TorrentCore(
            context,
            place,
            select=select,
            sequential=sequential,
            super_seed=resume.super_seed if resume else super_seed,
            paused=resume.paused if resume else paused,
            keeping=Keeping(node.clock, resume),
        )
        core.sources = resume.sources if resume else tuple(sources)
        core.looked_around = resume.looked_around if resume else False
        self.record = ResumeRecord(core, resume)
        self.mover = Mover(core, self.record)
        self.commands = Commands(core, self.record, self.mover)
        self.readers = Readers(core)
        core.add_peers(magnet.peers)
        if resume:
            core.superseded = resume.superseded
            core.priorities = dict(resume.priorities)
            core.published = resume.published
            core.not_published = resume.not_published
            core.totals.restore(resume)
            core.connections.limits.restore(resume.limit_up, resume.limit_down)
            core.connections.found(resume.peers, "resume")
            for address in resume.banned:
                core.connections.candidates.ban(address, trio.current_time())

    async def run(self) -> None:
        """Serve this torrent until cancelled."""
        core = self.core
        try:
            while True:
                if core.content is not None:
                    core.content.conclude()
                if self.commands.move is not None:
                    await self._settle(self.commands.move)
                elif core.place.shift is not None and core.fault is None:
                    await self.mover.run()
                elif core.paused:
                    await self._rest(Paused())
                elif core.no_room is not None:
                    await self._rest(Paused(core.no_room))
                elif core.queued:
                    await self._rest(Queued())
                elif core.fault is not None:
                    await self._rest(core.fault)
                else:
                    with trio.CancelScope() as core.attempt, core.confined(ends=self._on_bug):
                        await Session(core, self.record, self.readers).run()
                    core.leave_exchange()
        finally:
            core.leave_exchange()
            core.gone = True
            core.tell()
            if core.keeping.moved:
                self.record.changed()
            if self.commands.move is not None:
                self.commands.move.done.set()
            if self.mover.order is not None:
                self.mover.order.end(StorageError(f"{core.name} was removed, or the node closed"))
            if core.content is not None:
                core.content.conclude()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SHUTDOWN_PATIENCE):
                await self.record.save()
                if core.content is not None:
                    await core.content.close()

    async def delete(self, *, data: bool) -> Removal:
        """With `data`, remove the files this torrent made; then nothing is held for it any more.
        Call when `run` has ended. Raises StorageError."""
        core = self.core
        if core.metainfo is None:
            return Removal()
        await self.mover.give_up()
        content = core.place.open(core.metainfo)
        try:
            return await content.delete() if data else Removal()
        finally:
            content.let_go()

    async def _settle(self, move: Move) -> None:
        """Between two sessions."""
        core = self.core
        async with self.record.writing:  # a record is of one place
            trouble = await core.place.move(move)
        if trouble is not None:
            logger.warning("%s: %s", core.name, trouble)
        core.forgive()
        core.unfinished()
        if self.commands.move is move:  # else it shall be elsewhere by now
            self.commands.move = None
        self.record.changed()
        move.done.set()

    async def _rest(self, stage: Paused | Queued | Failed) -> None:
        """Do nothing until told otherwise, or until it is time to try again."""
        core = self.core
        core.node.dht.withdraw(core.context.info_hash)
        with trio.CancelScope() as core.attempt:
            with core.confined(ends=None):
                if core.content is not None and core.content.have is not None:
                    try:
                        await core.content.rest()
                    except StorageError as error:  # then all is hashed again on going on
                        logger.warning("%s: could not look at its files: %s", core.name, error)
            core.enter(stage)
            self.record.changed()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_recorded)
                if isinstance(stage, Failed) and is_missing(stage.error):
                    with core.confined(ends=None):
                        await self._until_back()
                else:
                    retry_at = stage.retry_at if isinstance(stage, Failed) else None
                    await trio.sleep_until(retry_at if retry_at is not None else float("inf"))
                nursery.cancel_scope.cancel()
        if core.fault is stage:
            core.fault = None

    async def _keep_recorded(self) -> None:
        """As `ResumeRecord.keep`, for a torrent at rest: a bug there does not end its rest."""
        with self.core.confined(ends=None):
            await self.record.keep()

    async def _until_back(self) -> None:
        """Returns when what is missing has come back."""
        while True:
            await trio.sleep(self.core.node.config.torrent.missing_check_interval)
            if self.core.place.shift is not None:
                if await self.mover.back():
                    return
            elif self.core.content is None or await self.core.content.back():
                return

    def _on_bug(self, text: str) -> None:
        self.core.fail(
            OurFault(
                f"stopped by a bug in dht_torrent, please report it: {text}; resume tries again"
            )
        )


def is_missing(error: Exception) -> bool:
    """Did something that was verified go away, which may come back?"""
    return isinstance(error, StorageError) and error.missing
