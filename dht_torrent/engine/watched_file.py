"""A file of the user's that is read again when it changes: a deny-list, an IP filter.

The rule: what cannot be read, is half written or makes no sense leaves what was read before, and is
said once.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar

import trio

from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import InputError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Stamp = tuple[int, int, int]


class WatchedFile(Generic[_T]):
    """Reads it in a worker thread. `watch` is its task."""

    def __init__(
        self,
        path: Path,
        disk: Disk,
        interval: float,
        *,
        what: str,
        parse: Callable[[bytes], _T],
        most: int,
    ) -> None:
        """`parse` gets at most `most` + 1 bytes, and raises InputError. `what` it is, for people.
        `interval`: seconds between two looks."""
        self.trouble: str | None = None
        """Why it stays as it was."""
        self.path = path
        """The file that is followed."""
        self._disk = disk
        self._interval = interval
        self._what = what
        self._parse = parse
        self._most = most
        self._stamp: _Stamp | None = None
        self._now = AutoResetEvent()

    async def load(self) -> _T | None:
        """What it says, if it has changed since. Raises InputError."""
        path = self.path
        stamp, found = await self._disk.run(self._read, path, self._stamp)
        if path is not self.path:
            return None  # another one is followed since
        self._stamp = stamp
        return found

    async def check(self, path: Path) -> None:
        """Raises InputError if that file could not be followed."""
        await self._disk.run(self._read, path, None)

    def follow(self, path: Path) -> None:
        """Follow that file from now on, and read it at once."""
        self.path, self._stamp = Path(path), None
        self._now.set()

    async def watch(self, changed: Callable[[_T], Awaitable[None]]) -> None:
        """A service: follows the file, and calls `changed` after each change."""
        while True:
            with trio.move_on_after(self._interval):
                await self._now.wait()
            try:
                found = await self.load()
            except InputError as error:
                trouble = f"{self._what} stays as it was: {error}"
                if self.trouble is None:
                    logger.warning("%s", trouble)
                self.trouble = trouble
                continue
            self.trouble = None
            if found is not None:
                await changed(found)

    def _read(self, path: Path, before: _Stamp | None) -> tuple[_Stamp, _T | None]:
        try:
            # A pipe nobody writes to would keep the thread for ever, and cannot be read again.
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
                stamp = _stamp(descriptor, path)
                if stamp == before:
                    return stamp, None
                data = file.read(self._most + 1)
                if _stamp(descriptor, path) != stamp:
                    raise InputError(f"{path}: it is being written")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        try:
            return stamp, self._parse(data)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def _stamp(descriptor: int, path: Path) -> _Stamp:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise InputError(f"{path}: it is not a file")
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
