"""The user's deny-list as the node has it: read at the start, and again whenever its file changes.

The rule: what was denied stays denied while its file cannot be read; and a node whose list cannot
be read at the start does not start.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from dht_torrent.catalogue import Entry
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.errors import InputError
from dht_torrent.search.denied import MAX_BYTES, DenyList, parse_deny_list
from dht_torrent.search.words import title_words

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]
"""Of a file: when it was written, its size, and which one it is."""


class Denied:
    """What is denied now."""

    def __init__(self, deny_list: DenyList | None = None) -> None:
        self.list = deny_list or DenyList()
        self.trouble: str | None = None
        """Why the present list is not that of the file, in a line."""

    def torrent(self, infohash: bytes, *texts: str) -> bool:
        """Whether a torrent of which this is said is denied."""
        return bool(self.list) and self.list.denies(infohash, texts)

    def entry(self, entry: Entry) -> bool:
        """Whether an entry of the catalogue is denied."""
        deny = self.list
        if not deny:
            return False
        if deny.has(entry.infohash):
            return True
        # The words were made of title, tags and paths; of many files they have no room for all.
        if deny.has_words([*entry.words.split(" "), *entry.more.split(" ")]):
            return True
        return any(deny.has_words(title_words(file.path)) for file in entry.listed)


class DenyFile(Denied):
    """A deny-list in a file. `watch` is its task."""

    def __init__(self, path: Path, disk: Disk, interval: float) -> None:
        super().__init__()
        self._path = path
        self._disk = disk
        self._interval = interval
        self._stamp: _Stamp | None = None

    async def load(self) -> bool:
        """Read it, if it has changed since. False: it had not. Raises InputError."""
        stamp, found = await self._disk.run(self._read, self._stamp)
        self._stamp = stamp
        if found is None:
            return False
        self.list = found
        return True

    async def watch(self, changed: Callable[[], Awaitable[None]]) -> None:
        """A service: follows the file, and calls `changed` after each change."""
        while True:
            await trio.sleep(self._interval)
            try:
                is_new = await self.load()
            except InputError as error:
                if self.trouble is None:
                    logger.warning("the deny-list stays as it was: %s", error)
                self.trouble = f"the deny-list stays as it was: {error}"
                continue
            self.trouble = None
            if is_new:
                logger.info("the deny-list has %d entries", len(self.list))
                await changed()

    def _read(self, before: _Stamp | None) -> tuple[_Stamp, DenyList | None]:
        try:
            with self._path.open("rb") as file:
                facts = os.fstat(file.fileno())
                stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
                if stamp == before:
                    return stamp, None
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise InputError(f"{self._path}: {error.strerror}") from None
        try:
            return stamp, parse_deny_list(data)
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from None
