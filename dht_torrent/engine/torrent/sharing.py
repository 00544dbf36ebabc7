"""What the user has already: hashed where it lies, and shared from there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from dht_torrent.engine.torrent.changes import Stamps
from dht_torrent.engine.torrent.context import OpenStorage
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.trust import settled
from dht_torrent.errors import DhtTorrentError
from dht_torrent.metainfo import Metainfo
from dht_torrent.relief import Relief, no_relief
from dht_torrent.storage.hashing import Sampler
from dht_torrent.storage.making import make


@dataclass(frozen=True, slots=True)
class Hashed:
    """All of it was hashed and found right."""

    stamps: Stamps
    """The files then, from `settled`."""
    at_ns: int
    """When that began, in Unix nanoseconds."""


async def hash_content(
    disk: Disk,
    open_storage: OpenStorage,
    content: Path,
    *,
    piece_length: int | None = None,
    private: bool = False,
    ssl_cert: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
    relief: Relief = no_relief,
    sampler: Sampler | None = None,
) -> tuple[Metainfo, Hashed]:
    """Hash the user's own file or folder. Returns what it is as a torrent, and the files' stamps
    from before; cancelled, it ends between two pieces. `progress(bytes_done, bytes_total)` may be
    called from a worker thread; so is `relief`, when there is no descriptor to open a file with.
    `sampler` sees parts of the content on the way.
    Raises InputError when it cannot be read or is empty."""
    cancelled = False

    def hash_all() -> tuple[Metainfo, Hashed]:
        started = time.time_ns()
        metainfo = make(
            content,
            piece_length=piece_length,
            private=private,
            ssl_cert=ssl_cert,
            progress=progress,
            cancelled=lambda: cancelled,
            relief=relief,
            sampler=sampler,
        )
        # A file modified after the hashing began gets a stamp that never matches, so it will be
        # hashed again: what was read of it may have been either version.
        stamps = open_storage(metainfo, content, True).stamps()
        return metainfo, Hashed(settled(stamps, time.time_ns(), since=started), started)

    async def watch_for_cancel() -> None:
        nonlocal cancelled
        try:
            await trio.sleep_forever()
        finally:
            cancelled = True  # the thread looks at it between two pieces

    hashing: tuple[Metainfo, Hashed] | DhtTorrentError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_for_cancel)
        try:
            hashing = await disk.run(hash_all)
        except DhtTorrentError as error:
            hashing = error  # raised outside, or the nursery would wrap it in a group
        nursery.cancel_scope.cancel()
    if isinstance(hashing, DhtTorrentError):
        raise hashing
    return hashing
