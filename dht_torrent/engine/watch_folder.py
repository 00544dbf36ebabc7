"""A folder whose .torrent and .magnet files are added: whoever puts one there need not know how to
speak to a node.

The rule: a file is read when it has not changed between two looks, and then renamed, to
NAME.torrent.added or NAME.torrent.invalid, so that each is added once and a look shows what became
of it; the log has the reason. What is not a regular file, and what is hidden, is left alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

import trio

from dht_torrent import given
from dht_torrent.bounds import MAX_MAGNET, MAX_TORRENT
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.errors import DhtTorrentError, InputError
from dht_torrent.filenames import printable
from dht_torrent.magnet import Magnet
from dht_torrent.metainfo import Metainfo, parse_torrent
from dht_torrent.syscalls import rename_new

logger = logging.getLogger(__name__)

MAX_ENTRIES: Final = 10_000
"""Files to be added that one look takes in, however many others lie there."""
MAX_AT_ONCE: Final = 50
"""Files that it reads."""
SETTLED: Final = 10.0
"""Seconds after its last change for which a file that cannot be read may still be incomplete."""
_NAMES: Final = 1000
"""Names tried for a file that was added, when others of that name were."""
_LIMITS: Final = {".torrent": MAX_TORRENT, ".magnet": MAX_MAGNET + 1000}
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _Stamp(NamedTuple):
    inode: int
    size: int
    changed_ns: int


class WatchFolder:
    """Looks into one folder from time to time."""

    def __init__(
        self,
        folder: Path,
        add: Callable[[Magnet | Metainfo], Awaitable[object]],
        disk: Disk,
        *,
        interval: float,
        clock: Callable[[], float],
    ) -> None:
        """`add` raises DhtTorrentError; `clock` gives Unix time."""
        self._folder = folder
        self._add = add
        self._disk = disk
        self._interval = interval
        self._clock = clock
        self._seen: dict[str, _Stamp] = {}
        """Files at the last look."""
        self._done: dict[str, _Stamp] = {}
        """Those that could not be renamed: they are not added again."""
        self._trouble: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await trio.sleep(self._interval)

    async def look(self) -> None:
        """Add what is whole."""
        try:
            ready = await self._disk.run(self._scan)
        except OSError as error:
            trouble = f"{self._folder}: {error.strerror}"
            if trouble != self._trouble:  # said once, not every few seconds
                logger.warning("nothing is added from the watch folder: %s", trouble)
            self._trouble = trouble
            return
        self._trouble = None
        for name in ready[:MAX_AT_ONCE]:
            await self._take(name)

    def _scan(self) -> list[str]:
        """The files that have not changed since the last look. Blocking. Raises OSError."""
        found: dict[str, _Stamp] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if len(found) >= MAX_ENTRIES:
                    break
                if entry.name.startswith(".") or _kind(entry.name) is None:
                    continue
                with contextlib.suppress(OSError):  # gone meanwhile
                    info = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(info.st_mode):
                        stamp = _Stamp(info.st_ino, info.st_size, info.st_mtime_ns)
                        found[entry.name] = stamp
        before, self._seen = self._seen, found
        self._done = {name: at for name, at in self._done.items() if found.get(name) == at}
        return sorted(
            name
            for name, stamp in found.items()
            if before.get(name) == stamp and name not in self._done
        )

    async def _take(self, name: str) -> None:
        shown = printable(name)
        try:
            source = await self._disk.run(self._read, name)
            if source is None:
                return
            await self._add(source)
        except FileNotFoundError:
            return
        except (DhtTorrentError, OSError) as error:
            if isinstance(error, InputError) and self._may_grow(name):
                return
            logger.warning("%s was not added: %s", shown, error)
            await self._disk.run(self._rename, name, ".invalid")
        else:
            logger.info("%s was added from the watch folder", shown)
            await self._disk.run(self._rename, name, ".added")

    def _may_grow(self, name: str) -> bool:
        """Whoever writes it may only pause."""
        age = self._clock() - self._seen[name].changed_ns / 1e9
        return 0 <= age < SETTLED

    def _read(self, name: str) -> Magnet | Metainfo | None:
        """None: it has changed. Blocking. Raises InputError, OSError."""
        kind = _kind(name)
        assert kind is not None
        limit = _LIMITS[kind]
        fd = os.open(self._folder / name, _FLAGS)
        with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
            info = os.fstat(fd)
            if self._seen[name] != _Stamp(info.st_ino, info.st_size, info.st_mtime_ns):
                return None
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InputError(f"larger than {limit} bytes")
        if kind == ".torrent":
            return parse_torrent(data)
        try:
            lines = data.decode().split("\n")
        except UnicodeDecodeError:
            raise InputError("not a magnet link") from None
        return given.read_link(next((line for line in lines if line.strip()), ""))

    def _rename(self, name: str, suffix: str) -> None:
        """Blocking."""
        for number in range(1, _NAMES):
            more = suffix if number == 1 else f".{number}{suffix}"
            try:
                rename_new(self._folder / name, self._folder / (name + more))
            except FileExistsError:
                continue
            except FileNotFoundError:
                return
            except OSError as error:
                logger.warning("%s stays as it is called: %s", printable(name), error.strerror)
            else:
                return
            break
        self._done[name] = self._seen[name]


def _kind(name: str) -> str | None:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a name
    return suffix if suffix in _LIMITS else None
