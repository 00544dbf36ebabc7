"""What of one torrent is on disk, and what may be believed of it.

The rule: a piece is had only if it was hashed and nothing about its files has changed since, as far
as their sizes and times tell. What we write we know of; all else is somebody else's doing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from dht_torrent.engine.disk import Disk, TorrentDisk
from dht_torrent.engine.host import OpenStorage
from dht_torrent.engine.state import Resume, settled, trusted
from dht_torrent.errors import DhtTorrentError, StorageError
from dht_torrent.metainfo import Metainfo, make
from dht_torrent.relief import Relief, no_relief
from dht_torrent.storage import FileStamp, Storage
from dht_torrent.torrent.pieces import Bitfield

Stamps = tuple[FileStamp | None, ...]


class Content:
    """The files of a torrent whose metadata is known."""

    def __init__(
        self,
        disk: Disk,
        storage: Storage,
        metainfo: Metainfo,
        *,
        shared: bool,
        resume: Resume | None = None,
        hashed: Stamps | None = None,
    ) -> None:
        """`shared` content is the user's own and is never written. `hashed` are stamps taken before
        all of it was hashed and found right."""
        self.disk = TorrentDisk(disk, storage, metainfo.geometry, metainfo.pieces)
        self.have: Bitfield | None = None
        """Pieces verified on disk; None until `establish`, and after doubt."""
        self._pool = disk
        self._storage = storage
        self._metainfo = metainfo
        self._shared = shared
        self._resume = resume
        self._hashed = hashed
        self._seen: Stamps = ()
        self._looking = trio.Lock()
        self._written: set[int] = set()
        """Files we wrote to since `_seen`."""
        self._writing: Counter[int] = Counter()
        """Files we are writing to, and in how many places."""

    @property
    def path(self) -> Path:
        return self._storage.path

    async def establish(self, progress: Callable[[int, int], None]) -> Bitfield:
        """Find out which pieces are here, hashing only what cannot be believed.

        `progress(pieces_done, pieces_total)`. Raises StorageError if shared content has changed."""
        geometry = self._metainfo.geometry
        now = await self._stamps()
        have, doubtful = self._believed(now)
        if doubtful:
            for index in await self.disk.check(sorted(doubtful), progress=progress):
                have.add(index)
        self._seen = now
        self._written.clear()
        self._resume = self._hashed = None
        self.have = have
        if self._shared and not have.complete:
            missing = geometry.piece_count - have.count
            self.doubt()
            if not any(now):
                raise StorageError(f"{self.path} is not there any more; resume when it is back")
            raise StorageError(
                f"{self.path}: {missing} of {geometry.piece_count} pieces no longer match; "
                "share it again to share it as it is now"
            )
        return have

    def _believed(self, now: Stamps) -> tuple[Bitfield, set[int]]:
        count = self._metainfo.geometry.piece_count
        if self._hashed is not None and self._hashed == now:
            return Bitfield.full(count), set()
        if self.have is not None and self._seen == now:
            return self.have, set()
        if self._resume is not None:
            trust = trusted(self._resume, now, self._metainfo.geometry)
            return Bitfield(count, trust.trusted), trust.recheck
        return Bitfield(count), set(range(count))

    async def prepare(self, needed: int) -> None:
        """Make folders and empty files for a download of `needed` bytes. Raises StorageError."""
        if not self._shared:
            await self._pool.run(self._storage.create, needed)
            self._seen = await self._stamps()

    def doubt(self) -> None:
        """Believe nothing any more: the next `establish` hashes everything."""
        self.have = None
        self._resume = self._hashed = None

    @contextmanager
    def writing(self, indices: Sequence[int]) -> Iterator[None]:
        """Around our own writes of these pieces: whatever changes in their files is no surprise,
        however many looks at them fall in between."""
        geometry = self._metainfo.geometry
        files = {number for index in indices for number in geometry.piece_files(index)}
        self._writing.update(files)
        try:
            yield
        finally:
            self._writing -= Counter(files)
            self._written |= files

    async def rest(self) -> None:
        """Between two sessions: remember the files as our own writes left them."""
        self._seen = await self._stamps()
        self._written.clear()

    async def changed_files(self) -> list[str]:
        """Paths of files that changed or vanished behind our back since the last look."""
        async with self._looking:  # a look takes over what was written since the one before
            return await self._look()

    async def _look(self) -> list[str]:
        before, ours = self._seen, self._ours()
        self._written.clear()
        now = await self._stamps()
        ours |= self._ours()  # a write that fell between the two is ours, whichever saw it
        self._seen = now
        return [
            "/".join(file.path)
            for number, (file, old, new) in enumerate(
                zip(self._metainfo.geometry.files, before, now, strict=True)
            )
            if (old != new and number not in ours) or (new is None and self._holds(number))
        ]

    def _holds(self, number: int) -> bool:
        """Is there something of this file that must be on disk? Then our own writes are no excuse
        for its absence."""
        file, have = self._metainfo.geometry.files[number], self.have
        if file.pad or not file.length or have is None:
            return False
        return any(index in have for index in self._metainfo.geometry.file_pieces(number))

    async def vouch(self) -> tuple[bytes, Stamps | None, bool]:
        """What a resume record may claim: the bitfield, the stamps it holds for, and whether those
        are final. The data is on the disk before anybody says so. Raises StorageError."""
        if self.have is None:
            return b"", None, True
        have = self.have.to_wire()
        await self._pool.run(self._storage.sync)
        now = await self._stamps()
        ours = self._ours()
        # A file that somebody else changed, which nobody has noticed yet, is not vouched for.
        stamps = tuple(
            FileStamp(stamp.size, 0) if stamp and stamp != seen and number not in ours else stamp
            for number, (stamp, seen) in enumerate(
                zip(settled(now, time.time_ns()), self._seen, strict=True)
            )
        )
        return have, stamps, stamps == now

    async def delete(self) -> None:
        """Remove the files, and the folders this leaves empty. Shared content stays."""
        if not self._shared:
            await self._pool.run(self._storage.delete)

    async def close(self) -> None:
        await self._pool.run(self._storage.close)

    def _ours(self) -> set[int]:
        """Files in which a change since `_seen` may be our own."""
        return self._written | self._writing.keys()

    async def _stamps(self) -> Stamps:
        return await self._pool.run(self._storage.stamps)


async def hash_content(
    disk: Disk,
    open_storage: OpenStorage,
    content: Path,
    *,
    piece_length: int | None = None,
    private: bool = False,
    progress: Callable[[int, int], None] | None = None,
    relief: Relief = no_relief,
) -> tuple[Metainfo, Stamps]:
    """Hash the user's own file or folder. Returns what it is as a torrent, and the files' stamps
    from before; cancelled, it ends between two pieces. `progress(bytes_done, bytes_total)` may be
    called from a worker thread; so is `relief`, when there is no descriptor to open a file with.
    Raises InputError when it cannot be read or is empty."""
    cancelled = False

    def hash_all() -> tuple[Metainfo, Stamps]:
        started = time.time_ns()
        metainfo = make(
            content,
            piece_length=piece_length,
            private=private,
            progress=progress,
            cancelled=lambda: cancelled,
            relief=relief,
        )
        # A file modified after the hashing began gets a stamp that never matches, so it will be
        # hashed again: what was read of it may have been either version.
        return metainfo, settled(open_storage(metainfo, content, True).stamps(), started, 0)

    async def watch_for_cancel() -> None:
        nonlocal cancelled
        try:
            await trio.sleep_forever()
        finally:
            cancelled = True  # the thread looks at it between two pieces

    hashing: tuple[Metainfo, Stamps] | DhtTorrentError
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
