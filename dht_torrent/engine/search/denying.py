"""The user's deny-list as the node has it: read at the start, and again whenever its file changes.

The rule: what was denied stays denied while its file cannot be read; and a node whose list cannot
be read at the start does not start.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from dht_torrent.catalogue import Entry
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.watched_file import WatchedFile
from dht_torrent.search.denied import MAX_BYTES, DenyList, parse_deny_list
from dht_torrent.search.words import title_words

logger = logging.getLogger(__name__)


class Denied:
    """What is denied now."""

    def __init__(self, deny_list: DenyList | None = None) -> None:
        self.list = deny_list or DenyList()

    @property
    def trouble(self) -> str | None:
        """Why the present list is not that of the file, in a line."""
        return None

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
        self.file = WatchedFile(
            path, disk, interval, what="the deny-list", parse=parse_deny_list, most=MAX_BYTES
        )

    @property
    def trouble(self) -> str | None:
        return self.file.trouble

    async def load(self) -> bool:
        """Read it, if it has changed since. False: it had not. Raises InputError."""
        found = await self.file.load()
        if found is not None:
            self.list = found
        return found is not None

    async def watch(self, changed: Callable[[], Awaitable[None]]) -> None:
        """A service: follows the file, and calls `changed` after each change."""

        async def take(found: DenyList) -> None:
            self.list = found
            logger.info("the deny-list has %d entries", len(found))
            await changed()

        await self.file.watch(take)
