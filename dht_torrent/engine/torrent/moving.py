"""Moves the content of a torrent to another folder, and gives its files and folders other names,
while nobody reads or writes it.

The rule: what is to be done stands in the resume record before anything is done, so that a process
which ends in whatever way is followed by one that goes on; `storage.moving` is how. What fails
leaves the content where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from dht_torrent.engine.resume import Resume
from dht_torrent.engine.shift import Shift
from dht_torrent.engine.torrent.content import Content
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.record import ResumeRecord
from dht_torrent.engine.torrent.stages import Moving
from dht_torrent.errors import OurFault, StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage.moving import Carrying, Layout, number_of, rename
from dht_torrent.torrent.naming import Parts, renamed

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class MoveOrder:
    """Somebody wants it done, and may wait for that."""

    begun: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)
    trouble: StorageError | None = None
    """Why it was not."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def end(self, trouble: StorageError | None) -> None:
        """It is done, or will not be."""
        self.trouble = trouble
        self.begun.set()
        self.done.set()


class Mover:
    """Of one torrent; at work between two sessions, when `place.shift` says so."""

    def __init__(self, core: TorrentCore, record: ResumeRecord) -> None:
        self.order: MoveOrder | None = None
        """What is being done, or will be."""
        self._core = core
        self._record = record
        self._run = core.node.disk.run

    async def run(self) -> None:
        """Do what is due. Then it is done, or was given up."""
        core, place = self._core, self._core.place
        shift, order = place.shift, self.order or MoveOrder()
        assert shift is not None
        self.order = order
        core.node.dht.withdraw(core.context.info_hash)
        core.unfinished()  # who waits for its completion is told where that is
        stage = Moving(shift.root)
        core.enter(stage)
        order.begun.set()
        with order.scope, core.confined(ends=self._on_bug):
            try:
                await self._do(shift, stage)
            except StorageError as error:
                order.trouble = error
                logger.warning("%s: not moved: %s", core.name, error)
        if order.scope.cancelled_caught:
            order.trouble = StorageError("was to go elsewhere before it was moved")
        if place.shift is not None:
            order.trouble = order.trouble or StorageError("stopped by a bug in dht_torrent")
            if order.trouble.missing and place.shift.number is not None:
                core.fail(order.trouble)  # where it is shows when it is back
            else:
                await self.give_up()
        core.place.trouble = f"not moved: {order.trouble}" if order.trouble else None
        if self.order is order:
            self.order = None
        self._record.changed()
        await self._record.save()
        order.end(order.trouble)

    async def check(self, shift: Shift, metainfo: Metainfo) -> None:
        """What can be known of a move before it begins. Raises StorageError."""
        content = self._core.place.open(metainfo)
        carrying = await self._carrying(content.layout, shift, metainfo)
        await self._run(carrying.check)

    async def back(self) -> bool:
        """Does it show where that is which was being moved? Cheap enough to be asked every few
        seconds."""
        place, metainfo = self._core.place, self._core.metainfo
        shift = place.shift
        if shift is None or shift.number is None or metainfo is None:
            return True
        try:
            source = place.open(metainfo).layout
            there = await self._carrying(source, shift, metainfo)
            if shift.path is None:
                return await self._run(there.landed, shift.number) is not None
            below = _below(metainfo, shift.path)[0]
            ends = [_place_of(one, shift.path, below) for one in (source, there.target)]
            return shift.number in [await self._run(number_of, end) for end in ends]
        except StorageError:
            return False

    async def give_up(self) -> None:
        """It stays where it is."""
        core, place = self._core, self._core.place
        shift, place.shift = place.shift, None
        self._record.changed()
        if shift is None or shift.path is not None or core.metainfo is None:
            return
        with trio.CancelScope(shield=True), core.confined(ends=None):
            try:
                source = place.open(core.metainfo).layout
                carrying = await self._carrying(source, shift, core.metainfo)
                carrying.numbers = range(len(source.parts))
                await self._run(carrying.give_up)
            except StorageError as error:
                logger.warning("%s: %s", core.name, error)

    def _on_bug(self, text: str) -> None:
        self._core.fail(OurFault(f"stopped by a bug in dht_torrent, please report it: {text}"))

    async def _do(self, shift: Shift, stage: Moving) -> None:
        metainfo = self._core.metainfo
        assert metainfo is not None
        content = self._core.place.open(metainfo)
        if content.have is not None:
            await content.rest()
        carrying = await self._carrying(content.layout, shift, metainfo)
        if shift.path is None:
            await self._carry(shift, stage, metainfo, content, carrying)
        else:
            await self._rename(shift, metainfo, content, carrying.target)

    async def _carrying(self, source: Layout, shift: Shift, metainfo: Metainfo) -> Carrying:
        there = await self._run(
            self._core.node.open_storage,
            renamed(metainfo, shift.names),
            shift.root,
            self._core.place.shared,
        )
        assert there.layout is not None
        return Carrying(source, there.layout, (), metainfo.info_hash.hex())

    # -- to another folder ----------------------------------------------------------------------

    async def _carry(
        self,
        shift: Shift,
        stage: Moving,
        metainfo: Metainfo,
        content: Content,
        carrying: Carrying,
    ) -> None:
        number = shift.number
        landed = await self._run(carrying.landed, number)
        if landed is None:
            raise _astray(carrying.target.top)
        if landed:
            carrying.numbers = content.held()
        else:
            carrying.numbers = await content.movable()
        if carrying.numbers and number is None:
            await self._run(carrying.check)
            await self._note(shift)
            number = await self._gather(carrying, stage)
            shift = await self._note(replace(shift, number=number))

        def settle() -> None:
            if number is None:  # nothing of it is on the disk yet
                return
            if not landed:
                carrying.land(number)
            try:
                for path in carrying.clear():
                    logger.warning("%s: %s stays: it is not what was moved", metainfo.name, path)
            except OSError as error:  # no descriptors left
                logger.warning("%s: not all went from the old place: %s", metainfo.name, error)

        await self._land(shift, metainfo, content, settle)

    async def _gather(self, carrying: Carrying, stage: Moving) -> int:
        """Returns the number of what is to be renamed."""
        if await self._run(carrying.at_once):
            number = await self._run(number_of, carrying.source.top)
            if number is not None:
                return number
        stage.total = await self._run(carrying.size)
        before = 0
        for file in carrying.numbers:
            at, whole = await self._run(carrying.gather, file, 0)
            while not whole:
                stage.done = before + at
                self._core.tell()
                at, whole = await self._run(carrying.gather, file, at)
            before += at
            stage.done = before
            self._core.tell()
        return await self._run(carrying.settle)

    # -- to another name ------------------------------------------------------------------------

    async def _rename(
        self, shift: Shift, metainfo: Metainfo, content: Content, there: Layout
    ) -> None:
        path = shift.path
        assert path is not None
        below = _below(metainfo, path)
        source = _place_of(content.layout, path, below[0])
        target = _place_of(there, path, below[0])
        number = shift.number
        landed = number is not None and await self._run(number_of, target) == number
        if not landed and number is not None and await self._run(number_of, source) != number:
            raise _astray(target)
        if not landed and not set(below).isdisjoint(await content.movable()):
            if (other := await self._run(content.other_within, source)) is not None:
                raise StorageError(f"{source}: torrent {other} is in there as well")
            number = await self._run(number_of, source)
            shift = await self._note(replace(shift, number=number))

        def settle() -> None:
            if number is not None and not landed:
                rename(source, target)

        await self._land(shift, metainfo, content, settle)

    # -- both -----------------------------------------------------------------------------------

    async def _note(self, shift: Shift) -> Shift:
        """Have it in the record. Raises StorageError."""
        self._core.place.shift = shift
        self._record.changed()
        await self._record.save()
        if self._record.warning is not None:
            raise StorageError(self._record.warning)
        return shift

    async def _land(
        self, shift: Shift, metainfo: Metainfo, content: Content, settle: Callable[[], None]
    ) -> None:
        """From here on it is not to be stopped. Raises StorageError, and then it did not happen."""
        with trio.CancelScope(shield=True):
            async with self._record.writing:  # a record is of one place
                await content.flush()  # in the other place nobody knows what was written
                resume: Resume = self._record.now(await content.vouch())
                await self._run(settle)
                await self._core.place.land(metainfo, shift, resume)


def _astray(path: Path) -> StorageError:
    return StorageError(
        f"{path}: what was being moved there is at neither place; goes on when it is back",
        passing=True,
        missing=True,
    )


def _below(metainfo: Metainfo, path: Parts) -> list[int]:
    """The files that lie in what the torrent calls so, or are it."""
    return [
        number
        for number, file in enumerate(metainfo.files)
        if not file.pad and (not path or file.path[: len(path)] == path)
    ]


def _place_of(layout: Layout, path: Parts, number: int) -> Path:
    """Where that is which the torrent calls `path`, and has this file in it."""
    return layout.base.joinpath(*layout.parts[number][: len(path) + 1])
