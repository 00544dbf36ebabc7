"""What is asked of a torrent that is here: to pause, to go on, to check its files, to move, and
whatever is new when it is given once more.

The rule: what cannot be done is refused before anything has changed, and what was done is recorded
before the answer.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import trio

from dht_torrent.bounds import MAX_SOURCES
from dht_torrent.config.seeding import SeedingLimits
from dht_torrent.engine.net.tls import Identity
from dht_torrent.engine.shift import Shift
from dht_torrent.engine.torrent.content import Content
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.joining import check_identity
from dht_torrent.engine.torrent.moving import MoveOrder, Mover
from dht_torrent.engine.torrent.place import Move
from dht_torrent.engine.torrent.rate_limits import NewRate
from dht_torrent.engine.torrent.record import ResumeRecord
from dht_torrent.engine.torrent.sharing import Hashed
from dht_torrent.engine.torrent.stages import Active, Failed, Paused
from dht_torrent.errors import InputError
from dht_torrent.geometry import Geometry
from dht_torrent.metainfo import Magnet, Metainfo
from dht_torrent.torrent import naming
from dht_torrent.torrent.selection import (
    Selection,
    check_selection,
    is_selected,
    piece_ranks,
    wanted_empty,
    wanted_pieces,
)


class Commands:
    """Carries out what is asked of one torrent, while its supervisor runs it."""

    def __init__(self, core: TorrentCore, record: ResumeRecord, mover: Mover) -> None:
        self.move: Move | None = None
        """To be made by the supervisor as soon as the session has ended."""
        self._core = core
        self._record = record
        self._mover = mover

    async def pause(self) -> None:
        """See `Torrent.pause`."""
        self._core.paused = True
        await self._interrupt()

    async def resume(self) -> None:
        """See `Torrent.resume`."""
        core = self._core
        core.paused = False
        core.keeping.insist()
        core.forgive()
        await self._interrupt()

    async def queue(self, waits: bool) -> None:
        """Let it wait for its turn, or go on."""
        self._core.queued = waits
        self._core.attempt.cancel()
        await trio.lowlevel.checkpoint()

    async def label(self, labels: Sequence[str]) -> None:
        """See `Torrent.set_labels`. Raises InputError."""
        self._core.keeping.label(labels)
        self._record.changed()
        await self._record.save()

    async def limit_seeding(self, limits: SeedingLimits) -> None:
        """See `Torrent.set_seeding_limits`."""
        self._core.keeping.limits = limits
        self._record.changed()
        await self._record.save()

    async def supersede(self) -> None:
        """See `Torrent.supersede`. Raises InputError."""
        core = self._core
        if not core.place.shared:
            raise InputError(f"{core.name} was fetched, and nothing else is shared in its place")
        core.superseded = True
        core.super_seed = False
        core.forgive()
        await self._interrupt()

    async def recheck(self) -> None:
        """See `Torrent.recheck`. Raises InputError."""
        core = self._core
        if core.metainfo is None:
            raise InputError("nothing to recheck: the metadata is not known yet")
        core.forgive()
        core.unfinished()  # until we know better
        core.look_around_again()
        core.place.open(core.metainfo).insist()
        await self._interrupt()

    def set_limits(self, up: NewRate, down: NewRate) -> None:
        """See `Torrent.set_limits`. Raises InputError."""
        self._core.connections.limits.set(up, down)
        self._record.changed()

    async def renew(
        self,
        magnet: Magnet,
        metainfo: Metainfo | None,
        folder: Path | None,
        select: Selection | None,
        *,
        sequential: bool,
        paused: bool,
        overwrite: bool,
        identity: Identity | None = None,
        sources: Sequence[Path] = (),
    ) -> None:
        """It was given once more, as to `Node.get`. Whatever is new takes effect; InputError, or
        StorageError where a file that is wanted now is somebody else's, says what cannot, and then
        nothing has changed."""
        core = self._core
        known = core.metainfo or metainfo
        if known is not None:
            check_selection(select, known)
        check_identity(known, identity or core.context.identity)
        moves = folder is not None and await self._can_move(folder)
        if overwrite and core.place.shared:
            raise InputError(f"{core.name} is shared in place and never written to")
        if identity is not None:
            await core.node.open_tls()
        await self._want(select, known, overwrite=overwrite)
        if sources:
            core.sources = tuple(dict.fromkeys((*sources, *core.sources)))[:MAX_SOURCES]
            core.reuse_trouble = None
            core.look_around_again()
        core.add_peers(magnet.peers)
        core.context.magnet = core.context.magnet.with_hints(magnet)
        if sequential:
            self.set_sequential(True)
        if folder is not None and moves and core.content is None and core.metainfo is None:
            core.place.root = folder  # nothing has begun there: nobody need be interrupted
        elif folder is not None and moves:
            await self._move_to(Move(folder, shared=False))
        if metainfo is not None:
            core.learn(metainfo)
        if identity is not None:
            self._identify(identity)
        self._record.changed()
        if paused:
            await self.pause()
        elif isinstance(core.stage, Paused | Failed):
            await self.resume()
        await core.look()  # "it is here" is not said of files that have gone meanwhile
        await self._record.save()

    # -- where it lies --------------------------------------------------------------------------

    async def carry(self, folder: Path, *, wait: bool) -> None:
        """See `Torrent.move`. Raises InputError, StorageError."""
        core, place = self._core, self._core.place
        metainfo = core.metainfo
        if metainfo is None:
            place.root = folder  # nothing has begun there
            self._record.changed()
            await self._record.save()
            return
        here = place.path(metainfo)
        assert here is not None
        await self._stop_moving()
        if await core.node.disk.run(_same, here, folder / here.name):
            return
        root = folder / here.name if place.shared else folder
        shift = Shift(root, place.names)
        await self._mover.check(shift, metainfo)
        await self._shift(shift, wait=wait)

    async def rename(self, path: str, name: str) -> None:
        """See `Torrent.rename`. Raises InputError, StorageError."""
        core, place = self._core, self._core.place
        if core.metainfo is None:
            raise InputError("the files of this torrent are not known yet")
        await self._stop_moving()
        key, names = naming.rename(core.metainfo, place.names, path, name)
        root = place.root.with_name(name) if place.shared and not key else place.root
        if names == place.names and root == place.root:
            return
        await self._shift(Shift(root, names, key), wait=True)

    async def look_in(self, folder: Path) -> None:
        """See `Torrent.look_in`."""
        core, place = self._core, self._core.place
        await self._stop_moving()
        here = place.path(core.metainfo)
        if here is None:
            place.root = folder
            self._record.changed()
            await self._record.save()
            return
        root = folder / here.name if place.shared else folder
        if not await core.node.disk.run(_same, here, folder / here.name):
            core.place.trouble = None
            await self._move_to(Move(root, place.shared, stays=True))

    async def _stop_moving(self) -> None:
        """What is not done of an earlier order is given up."""
        order = self._mover.order
        if order is not None:
            order.scope.cancel()
            await order.done.wait()
        elif self._core.place.shift is not None:  # it waits for a disk to come back
            await self._mover.give_up()

    async def _shift(self, shift: Shift, *, wait: bool) -> None:
        core = self._core
        if self._mover.order is not None:
            raise InputError(f"{core.name} is being moved already")
        self._mover.order = order = MoveOrder()
        core.place.shift = shift
        core.forgive()
        core.attempt.cancel()
        if not wait:
            await order.begun.wait()
            return
        await order.done.wait()
        if order.trouble is not None:
            raise copy.copy(order.trouble)

    async def super_seed(self, on: bool) -> None:
        """See `Torrent.set_super_seed`."""
        core = self._core
        if core.super_seed == on:
            return
        core.super_seed = on
        if on:
            await self._interrupt()  # who is connected knows that we have everything
            return
        if isinstance(core.stage, Active):
            core.stage.swarm.reveal_all(trio.current_time())
        self._record.changed()
        await self._record.save()

    async def share_from(
        self,
        path: Path,
        metainfo: Metainfo,
        hashed: Hashed,
        identity: Identity | None = None,
        *,
        super_seed: bool | None = None,
    ) -> None:
        """All of it lies at `path`, and was just hashed: serve it from there. Raises InputError
        when it is served from elsewhere already. `super_seed` None leaves that as it is."""
        core = self._core
        here = core.place.path(core.metainfo)
        failed = isinstance(core.stage, Failed)
        if here is not None and await core.node.disk.run(_same, here, path):
            if core.is_complete and not failed and not core.superseded:
                if identity is not None:
                    self._identify(identity)
                    await self._record.save()
                if super_seed is not None:
                    await self.super_seed(super_seed)
                return
        elif core.finished.is_set() and not failed and not core.superseded:
            raise InputError(f"{core.name} is here already, at {here}")
        core.learn(metainfo)
        if identity is not None:
            self._identify(identity)
        core.select = None
        core.superseded = False
        if super_seed is not None:
            core.super_seed = super_seed
        await self._move_to(Move(path, shared=True, hashed=hashed))
        await self.resume()
        await self._record.save()

    def _identify(self, identity: Identity) -> None:
        """Use this certificate, or what lies under the same names by now, from the next session on,
        which begins at once."""
        self._core.context.identity = identity
        self._record.changed()
        self._core.attempt.cancel()

    async def _can_move(self, folder: Path) -> bool:
        """Is that another place than it has? Raises InputError when it cannot go there any more."""
        core, place = self._core, self._core.place
        path = place.path(core.metainfo)
        if path is None:
            return folder != place.root
        if await core.node.disk.run(_same, path, folder / path.name):
            return False
        if place.shared or not (place.content is None or place.content.untouched):
            raise InputError(
                f"{core.name} is here already, at {path}; remove it to put it elsewhere"
            )
        return True

    async def _move_to(self, move: Move) -> None:
        if self.move is not None:
            self.move.done.set()
        self.move = move
        await self._interrupt()
        await move.done.wait()

    async def _interrupt(self) -> None:
        self._record.changed()
        self._core.attempt.cancel()
        await self._record.save()  # now: the caller hears of it if it cannot be kept
        await trio.lowlevel.checkpoint()

    async def _want(
        self, select: Selection | None, metainfo: Metainfo | None, *, overwrite: bool
    ) -> None:
        """Want these files too; None wants all (BEP 53: a second magnet only adds). A selection
        that names files which do not exist makes room for one that does not."""
        core = self._core
        wanted: Selection | None = None
        if core.select is not None and select is not None:
            wanted = (*core.select, *select)
        if metainfo is not None and wanted is not None and not _exists(wanted, metainfo):
            wanted = None if select is None else tuple(select)
        await self._want_exactly(wanted, metainfo, overwrite=overwrite)

    async def _want_exactly(
        self, wanted: Selection | None, metainfo: Metainfo | None, *, overwrite: bool
    ) -> None:
        """Want these files and no others. Raises StorageError."""
        core, content = self._core, self._core.content
        # While it is about to be looked at anew, nothing is claimed: what comes next does that.
        is_known = content is not None and content.have is not None
        if isinstance(core.stage, Active) and core.metainfo and content is not None and is_known:
            geometry = core.metainfo.geometry
            pieces = wanted_pieces(wanted, geometry)
            if wanted != core.select:
                await self._extend(content, pieces, wanted_empty(wanted, geometry), overwrite)
            if isinstance(core.stage, Active):
                now = trio.current_time()
                core.stage.swarm.want(pieces, self._ranks(wanted, geometry), now)
                if not core.stage.complete:
                    core.unfinished()
                    core.keeping.completed_at = None
                    core.connections.candidates.need_seeds(now)
                    core.connections.wake()
        elif overwrite:
            core.place.insist()
        if wanted != core.select:
            core.look_around_again()
        core.select = None if wanted is None else tuple(wanted)

    def _ranks(self, wanted: Selection | None, geometry: Geometry) -> bytes | None:
        priorities = self._core.priorities
        return piece_ranks(wanted, priorities, geometry) if priorities else None

    async def set_files(
        self, select: Selection | None, priorities: Mapping[int, int] | None
    ) -> None:
        """See `Torrent.set_files`. Raises MetainfoError, StorageError; then nothing has changed."""
        core = self._core
        metainfo = core.metainfo
        if metainfo is None:
            raise InputError("the files of this torrent are not known yet")
        wanted = None if select is None else tuple(select)
        check_selection(wanted, metainfo)
        if wanted is not None and all(
            is_selected(wanted, number) for number in range(len(metainfo.files))
        ):
            wanted = None
        before = core.priorities
        if priorities is not None:
            core.priorities = _checked_priorities(priorities, metainfo)
        try:
            await self._want_exactly(wanted, metainfo, overwrite=False)
        except BaseException:
            core.priorities = before
            raise
        self._record.changed()
        core.tell()
        await self._record.save()

    def set_sequential(self, on: bool) -> None:
        """See `Torrent.set_sequential`."""
        core = self._core
        core.sequential = on
        if isinstance(core.stage, Active):
            core.stage.swarm.picker.sequential = on
        self._record.changed()

    async def _extend(
        self, content: Content, pieces: Collection[int], empty: Collection[int], overwrite: bool
    ) -> None:
        """Take hold of more files while others are exchanged. Raises StorageError."""
        content.overwrite = overwrite
        try:
            if await content.claim(pieces, empty):
                self._record.changed()
                await self._record.write()
            have = content.have
            missing = [index for index in pieces if have is None or index not in have]
            metainfo = self._core.metainfo
            assert metainfo is not None
            await content.prepare(metainfo.geometry.size_of(missing))
        finally:
            content.overwrite = False


def _checked_priorities(priorities: Mapping[int, int], metainfo: Metainfo) -> dict[int, int]:
    """Those that are not 0. Raises InputError."""
    for number, priority in priorities.items():
        if not 0 <= number < len(metainfo.files):
            raise InputError(
                f"there is no file {number}: {metainfo.name} has {len(metainfo.files)}"
            )
        if priority not in (-1, 0, 1):
            raise InputError(f"a priority is -1, 0 or 1, not {priority!r}")
    return {number: priority for number, priority in priorities.items() if priority}


def _exists(select: Selection, metainfo: Metainfo) -> bool:
    return all(last < len(metainfo.files) for _, last in select)


def _same(one: Path, other: Path) -> bool:
    """Is that one place? Blocking."""
    return os.path.realpath(one) == os.path.realpath(other)
