"""Who reads a torrent's files while they load. The rule: a reader gets verified bytes alone, waits
for those that are missing, and has what it waits for asked for first.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import trio

from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.stages import Active, Failed, Paused
from dht_torrent.engine.torrent.swarm import Swarm
from dht_torrent.errors import StorageError
from dht_torrent.geometry import Geometry
from dht_torrent.torrent.reading import ReadingPlace, urgent, window
from dht_torrent.torrent.requests import Run

MOST = 1 << 20
"""Bytes of one read at most."""


class Readers:
    """Those of one torrent."""

    def __init__(self, core: TorrentCore) -> None:
        self._core = core
        self._open: dict[Reader, None] = {}

    def open(self, file: int, geometry: Geometry) -> Reader:
        """A reader of this file. To be closed."""
        reader = Reader(self._core, file, geometry, self._moved, self._open.pop)
        self._open[reader] = None
        return reader

    def drive(self, swarm: Swarm) -> None:
        """Let it ask first for what they need."""
        ahead, picker = self._core.node.config.torrent.read_ahead, swarm.picker
        places = [reader._place for reader in self._open]
        picker.urgent = urgent(places, ahead, swarm.geometry, swarm.have)
        peers = self._core.connections.peers.values()
        picker.helpers = sum(not peer.chokes_us for peer in peers) or 1
        picker.hurried = frozenset(
            piece for reader in self._open if (piece := _late_piece(reader)) is not None
        )

    def _moved(self, far: bool) -> None:
        """A reader is elsewhere, or waits for longer; `far`: nothing that it needs was asked for
        yet, so that all else can wait."""
        stage = self._core.stage
        if not isinstance(stage, Active):
            return
        swarm = stage.swarm
        self.drive(swarm)
        if far:
            swarm.downloads.cancel(swarm.picker.make_way())
        if swarm.picker.urgent:
            swarm.downloads.refill_idle(trio.current_time())


class Reader:
    """Reads one file. Made by `Torrent.open`; for `with`, or to be closed."""

    def __init__(
        self,
        core: TorrentCore,
        file: int,
        geometry: Geometry,
        moved: Callable[[bool], None],
        closed: Callable[[Reader, None], None],
    ) -> None:
        self._core = core
        self._geometry = geometry
        self._file = geometry.files[file]
        self._moved = moved
        self._closed = closed
        self._at = 0
        self._window = range(0)
        self._late = False

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.length

    @property
    def _place(self) -> ReadingPlace:
        """What it reads next, in the content."""
        start = self._file.offset
        return ReadingPlace(start + self._at, start + self._file.length)

    async def read(self, offset: int, most: int = MOST) -> bytes:
        """At least one byte from `offset` of the file, and at most `most`; none at its end. Waits
        for what is not here yet. Raises StorageError when that will not come, as the torrent has
        stopped, is paused or is gone, or when it cannot be read."""
        if offset < 0 or most < 1:
            raise ValueError(f"cannot read {most} bytes from {offset}")
        if offset >= self.size:
            await trio.lowlevel.checkpoint()
            return b""
        self._go(offset)
        patience = trio.current_time() + self._core.node.config.torrent.read_patience
        while not (ready := self._ready(min(most, MOST, self.size - offset))):
            self._check()
            with trio.move_on_at(float("inf") if self._late else patience) as waited:
                await self._core.news.wait()
            if waited.cancelled_caught:
                self._late = True
                self._moved(False)
        data = bytearray(ready)
        await self._read_into(data)
        self._go(offset + ready)
        return bytes(data)

    def close(self) -> None:
        """Nothing is hurried for it any more. Idempotent."""
        self._closed(self, None)
        self._moved(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _go(self, offset: int) -> None:
        before = self._at // self._geometry.piece_length
        self._at, self._late = offset, False
        ahead = window(self._place, self._core.node.config.torrent.read_ahead, self._geometry)
        if ahead == self._window:
            return
        far = ahead.start not in self._window and not self._is_here(ahead.start)
        self._window = ahead
        if far or before != ahead.start:
            self._moved(far)

    def _is_here(self, index: int) -> bool:
        content = self._core.content
        return content is not None and content.have is not None and index in content.have

    def _ready(self, most: int) -> int:
        """Verified bytes from here on, `most` at most."""
        start, length = self._place.at, self._geometry.piece_length
        at = start
        while at < start + most and self._is_here(at // length):
            at += length - at % length
        return min(at - start, most)

    async def _read_into(self, data: bytearray) -> None:
        content = self._core.content
        assert content is not None
        view, at, length = memoryview(data), self._place.at, self._geometry.piece_length
        runs, parts = [], []
        while view:
            index, begin = divmod(at, length)
            size = min(length - begin, len(view))
            runs.append(Run(index, begin, size, 1))
            parts.append(view[:size])
            at, view = at + size, view[size:]
        await trio.lowlevel.checkpoint()
        try:
            await content.disk.read(runs, parts)
        except StorageError as error:
            self._core.fail(error)
            raise

    def _check(self) -> None:
        core = self._core
        if isinstance(core.stage, Failed):
            raise core.stage.raised()
        if core.gone:
            raise StorageError(f"{core.name} was removed")
        if isinstance(core.stage, Paused) and core.paused:
            raise StorageError(f"{core.name} is paused, and this part of it is not here")


def _late_piece(reader: Reader) -> int | None:
    """The piece it has waited for too long."""
    return reader._place.at // reader._geometry.piece_length if reader._late else None
