"""What a torrent lacks and this disk has is copied, not fetched: out of the content of the other
torrents of this node, and of files and folders that the user named.

The rule: a copy is a piece like any other, verified in the very buffer that is written (`disk`).
What may be here is not asked of peers until it was looked for (`torrent.reuse`); what else is
missing is asked of them meanwhile. Sources are never written to, and whatever is wrong with one
costs no more than a line and a few reads.
"""

from __future__ import annotations

import logging
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import trio

from dht_torrent.engine.torrent.content import Content
from dht_torrent.engine.torrent.context import LocalContent, NodeContext
from dht_torrent.engine.torrent.saving import SAVE_BATCH, SAVERS
from dht_torrent.engine.torrent.swarm import Swarm
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import InputError, StorageError
from dht_torrent.geometry import Span
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage.local import LocalFile, LocalReader, find_files
from dht_torrent.torrent.piece_states import State
from dht_torrent.torrent.reuse import SAMPLE, Local, Probe, Reuse

_NEWS = 64
"""Pieces that came from peers and were not learned from yet; the oldest are forgotten."""
_VARIETY = 8
"""Different bytes in a sample that means something."""

logger = logging.getLogger(__name__)


def check_sources(sources: Sequence[Path], target: Path | None) -> None:
    """Blocking. Raises InputError for one that is neither a file nor a folder, or that is where the
    download goes: `target`, unless that is not known yet."""
    place = os.path.realpath(target) if target is not None else None
    for source in sources:
        try:
            mode = source.stat().st_mode
        except OSError as exc:
            raise InputError(f"{source}: {exc.strerror or exc}") from None
        except RuntimeError:  # what pathlib makes of ELOOP before Python 3.13
            raise InputError(f"{source}: a link that leads to itself") from None
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InputError(f"{source} is neither a file nor a folder: nothing can be reused")
        real = os.path.realpath(source)
        if place is not None and (real == place or real.startswith(place + os.sep)):
            raise InputError(
                f"{source} is where the download goes: what is right there is used by itself"
            )


class Reusing:
    """Looks for what one session of a torrent lacks. Made by `look_around`."""

    def __init__(
        self,
        node: NodeContext,
        content: Content,
        metainfo: Metainfo,
        plan: Reuse,
        reader: LocalReader,
    ) -> None:
        self._node = node
        self._content = content
        self._geometry = metainfo.geometry
        self._plan = plan
        self._reader = reader
        self._buffer_size = min(
            metainfo.geometry.piece_length, node.config.torrent.max_piece_in_memory
        )
        self._moved_at = trio.current_time()
        self._slow = False
        self._fetched: deque[int] = deque(maxlen=_NEWS)
        self._news = AutoResetEvent()
        self._more = AutoResetEvent()

    @property
    def busy(self) -> bool:
        """Is anything looked for that no peer is asked for?"""
        return len(self._plan) > 0 and not self._slow

    def hold(self, swarm: Swarm) -> None:
        """Before peers are asked for anything: not for what may be here."""
        swarm.picker.hold(self._plan.held())

    async def run(
        self,
        swarm: Swarm,
        note: Callable[[int, str | None], None],
        done: Callable[[], None],
    ) -> None:
        """Look for all of it, and tell `note` of the bytes that were found, and what was wrong with
        a source; then say `done`, and learn from what peers send where to look again, until all is
        here. In the end nothing is held any more."""
        swarm.on_fetched = self._note_fetched
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._learn, swarm)
                while True:
                    await self._look(swarm, note)
                    done()
                    if swarm.picker.done or self._slow:
                        break
                    await self._more.wait()
                nursery.cancel_scope.cancel()
        finally:
            swarm.on_fetched = None
            swarm.picker.let_go(self._plan.left)
            self._reader.close()

    async def _look(self, swarm: Swarm, note: Callable[[int, str | None], None]) -> None:
        """For all there is to be looked for."""
        self._moved_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_the_clock, swarm)
            async with trio.open_nursery() as workers:
                for _ in range(min(SAVERS, self._node.disk.threads)):
                    workers.start_soon(self._work, swarm, note)
            nursery.cancel_scope.cancel()

    def _note_fetched(self, index: int) -> None:
        """This piece came from peers, and is on the disk."""
        self._fetched.append(index)
        self._news.set()

    async def _learn(self, swarm: Swarm) -> None:
        """Where what came from peers lies on this disk, and its neighbours with it."""
        while True:
            if swarm.picker.done:
                self._more.set()
                return
            if not self._fetched:
                await self._news.wait()
                continue
            for probe in self._plan.probes(self._fetched.popleft()):
                at = await self._node.disk.run(self._locate, probe)
                if at is not None:
                    held = swarm.picker.hold(self._plan.located(probe, at))
                    self._plan.again(held)
                    self._more.set()

    def _locate(self, probe: Probe) -> int | None:
        """Where in its local file the sample lies. Blocking."""
        try:
            sample = self._content.disk.storage.read(probe.at, SAMPLE)
        except StorageError:
            return None
        if len(set(sample)) < _VARIETY:
            return None
        window = bytearray(probe.length)
        span = Span(probe.local, probe.start, probe.length)
        if not self._reader.read([span], 0, memoryview(window)):
            return None
        at = window.find(sample)
        return probe.start + at if at >= 0 else None

    async def _watch_the_clock(self, swarm: Swarm) -> None:
        """A disk that does not answer, of a machine that is off, say, does not hold up anything."""
        patience = self._node.config.torrent.reuse_patience
        due = trio.current_time()
        while due < self._moved_at + patience:
            due = self._moved_at + patience
            await trio.sleep_until(due)
        self._slow = True
        swarm.let_go(self._plan.left)

    async def _work(self, swarm: Swarm, note: Callable[[int, str | None], None]) -> None:
        buffer = memoryview(bytearray(self._buffer_size))
        plan, picker = self._plan, swarm.picker
        large = self._geometry.piece_length > self._buffer_size
        while taken := plan.take(1 if large else SAVE_BATCH):
            if not self._slow:
                picker.hold(taken)  # what was in doubt, if no peer has begun with it
            attempts = {i: plan.places(i) for i in taken if picker.state(i) is State.HELD}
            for index in taken:
                if index not in attempts:
                    plan.drop(index)
            if not attempts:
                await trio.lowlevel.checkpoint()
                continue
            with self._content.writing(list(attempts)):
                result = await self._content.disk.reuse(
                    [
                        (index, [partial(self._reader.read, place) for place in places])
                        for index, places in attempts.items()
                    ],
                    buffer,
                )
            self._moved_at = trio.current_time()
            again: list[int] = []
            gone: list[int] = []
            for index, number in result.found:
                again += plan.found(index, attempts[index][number])
            for index in result.missed:
                gone += plan.missed(index, attempts[index])
            if not self._slow:
                picker.hold(again)
            found = swarm.reused([index for index, _ in result.found], result.error)
            note(sum(map(self._geometry.piece_size, found)), self._reader.trouble)
            swarm.let_go(gone)
            if result.error is not None:
                return


async def look_around(
    node: NodeContext,
    content: Content,
    metainfo: Metainfo,
    sources: Sequence[Path],
    missing: Sequence[int],
) -> tuple[Reusing | None, str | None]:
    """What there may be of the missing pieces, in `sources` and in the other torrents of this node.
    None if there is nothing. Also what was wrong with a source, in a line."""
    stop = False

    async def watch_the_clock() -> None:
        nonlocal stop
        try:
            await trio.sleep(node.config.torrent.reuse_look)
        finally:
            stop = True  # the thread looks at it between two folders

    others = [one for one in node.contents() if one.metainfo.info_hash != metainfo.info_hash]
    if not missing or not (sources or others):
        return None, None
    work = _Search(node, content.path, metainfo, lambda: stop)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_the_clock)
        plan = await node.disk.run(work.run, sources, others, missing)
        nursery.cancel_scope.cancel()
    if not len(plan):
        return None, work.trouble
    reader = LocalReader(work.files, node.descriptors)
    return Reusing(node, content, metainfo, plan, reader), work.trouble


class _Search:
    """For files that may hold content of a torrent. Blocking."""

    def __init__(
        self, node: NodeContext, path: Path, metainfo: Metainfo, stop: Callable[[], bool]
    ) -> None:
        self.files: list[LocalFile] = []
        self.trouble: str | None = None
        self._local: list[Local] = []
        """What there is to know of each of `files`."""
        self._path = path
        self._metainfo = metainfo
        self._stop = stop
        self._relief = node.descriptors.relieve
        self._most = node.config.torrent.reuse_files
        solid = [file for file in metainfo.geometry.files if file.length and not file.pad]
        self._sizes = {file.length for file in solid}
        self._names = {file.path[-1] for file in solid}

    def run(
        self, sources: Iterable[Path], others: Iterable[LocalContent], missing: Iterable[int]
    ) -> Reuse:
        apart = os.path.realpath(self._path)
        for source in sources:
            found = find_files(
                os.fspath(source),
                self._most,
                apart=apart,
                stop=self._stop,
                relief=self._relief,
            )
            self.trouble = self.trouble or found.trouble
            single = len(found.files) == 1 and self._metainfo.single
            for file in found.files:
                self._add(file, near=True, sure=single)
        near = {other.metainfo.info_hash for other in others if self._is_near(other.metainfo)}
        for other in sorted(others, key=lambda one: one.metainfo.info_hash not in near):
            if self._stop():
                break
            if os.path.realpath(other.path) != apart:
                self._add_torrent(other, near=other.metainfo.info_hash in near)
        return Reuse(self._metainfo.geometry, self._metainfo.name, self._local, missing)

    def _is_near(self, other: Metainfo) -> bool:
        """May files of the same path be the same although their sizes differ?"""
        return other.name == self._metainfo.name or self._metainfo.may_share_files(other)

    def _add_torrent(self, other: LocalContent, *, near: bool) -> None:
        where = os.path.realpath(other.path)
        geometry = other.metainfo.geometry
        for number, file in enumerate(geometry.files):
            if file.pad or not file.length:
                continue
            have = other.have
            if have is not None and not any(have.flags[i] for i in geometry.file_pieces(number)):
                continue
            single = other.metainfo.single
            location = where if single else os.path.join(where, *file.path)  # noqa: PTH118 - a text
            self._add(LocalFile(location, file.path, file.length), near=near)

    def _add(self, file: LocalFile, *, near: bool, sure: bool = False) -> None:
        path = file.path
        if sure:  # one file, and one is wanted: whatever it is called
            path = self._metainfo.geometry.files[0].path
        if file.length in self._sizes or (near and path[-1] in self._names):
            self.files.append(file)
            self._local.append(Local(path, file.length, near))
