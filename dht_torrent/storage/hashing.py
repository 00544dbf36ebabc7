"""Reading a file or folder to share: which files, in which order, and the SHA-1 of every piece.

Blocking, and on all cores: each thread reads whole pieces into a buffer of its own and hashes them,
and both let go of Python's lock. A file that is not what it was when the listing was made ends it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dht_torrent.errors import InputError
from dht_torrent.geometry import Geometry
from dht_torrent.relief import Relief, no_relief, relieved
from dht_torrent.syscalls import cores, read_at

Progress = Callable[[int, int], None]
"""Called with bytes hashed and bytes in all, from worker threads but never twice at once."""

_CHUNK = 1 << 20
"""Pieces longer than this are read and hashed in chunks, which stay in the processor's cache."""


class Sampler(Protocol):
    """Looks at parts of the files while they are hashed, in the same threads."""

    def regions(self, first: int, end: int) -> Iterable[tuple[int, int]]:
        """Place and length of the parts that begin from `first` to before `end` in a file. None is
        longer than a MiB; the last one may reach beyond the end of the file, which cuts it."""
        ...

    def taker(self) -> Callable[[int, memoryview], None]:
        """What one thread gives each part to, with its place in the file. The bytes are its own
        only for the call."""
        ...


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A regular file to share."""

    location: Path
    path: tuple[str, ...]
    """Inside the folder; for a single file its name."""
    length: int
    modified: int
    """Nanoseconds since 1970."""
    executable: bool


def list_sources(root: Path, relief: Relief = no_relief) -> list[SharedFile]:
    """What sharing `root` shares: the file itself, or every file below the folder.

    In order of their whole paths' bytes, so that a folder has the same infohash on every machine;
    libtorrent's `canonical` order. Links are followed when they lead to a file inside the folder.
    Raises InputError, naming the file, for a link that leads outside, to a folder or nowhere; for
    a device, pipe or socket; and for what cannot be read. `relief` is called when there is no
    descriptor to open a folder with.
    """
    try:
        if root.is_dir():
            found = _walk(root, (), root.resolve(), relief)
            return sorted(found, key=lambda source: os.fsencode("/".join(source.path)))
        return [_source(root, (root.name,), root.stat())]
    except OSError as exc:
        raise InputError(_reason(exc, root)) from None
    except RecursionError:
        raise InputError(f"{root} has folders nested too deep") from None


def hash_pieces(
    sources: Sequence[SharedFile],
    geometry: Geometry,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    relief: Relief = no_relief,
    sampler: Sampler | None = None,
) -> bytes:
    """20 bytes of SHA-1 for every piece of `geometry`, whose files are `sources` in this order.
    `sampler` looks at parts of them on the way.

    `threads` defaults to one a core. Raises InputError when a file cannot be read, or is not as
    long or as old as its source says, or when `cancelled` says so. `relief` is as in
    `list_sources`.
    """
    job = _Job(sources, geometry, progress, cancelled, relief, sampler)
    count = max(1, min(threads or cores(), geometry.piece_count))
    if count == 1:
        job.work()
    else:
        with ThreadPoolExecutor(count, thread_name_prefix="hash") as pool:
            try:
                futures = [pool.submit(job.work) for _ in range(count)]
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                job.stop()  # whichever way it ended, the others need not go on
        for future in futures:
            future.result()
    for source in sources:
        job.check_unchanged(source)
    return bytes(job.digests)


class _Job:
    """The pieces handed out so far, and where their hashes go. Shared by the threads."""

    def __init__(
        self,
        sources: Sequence[SharedFile],
        geometry: Geometry,
        progress: Progress | None,
        cancelled: Callable[[], bool] | None,
        relief: Relief,
        sampler: Sampler | None,
    ) -> None:
        self.digests = bytearray(20 * geometry.piece_count)
        self._sources = sources
        self._geometry = geometry
        self._progress = progress
        self._cancelled = cancelled
        self._relief = relief
        self._sampler = sampler
        self._lock = threading.Lock()
        self._next = 0
        self._done = 0

    def stop(self) -> None:
        with self._lock:
            self._next = self._geometry.piece_count

    def work(self) -> None:
        """Hash runs of pieces until none are left."""
        piece_length = self._geometry.piece_length
        buffer = memoryview(bytearray(min(piece_length, _CHUNK)))
        # Small pieces are taken by the run: the next piece is then likely in the same file.
        run = max(1, 4 * _CHUNK // piece_length)
        opened = _Opened(self._relief)
        look = _Look(self._sampler) if self._sampler is not None else None
        try:
            while (pieces := self._take(run)) is not None:
                for index in pieces:
                    digest = self._hash(index, buffer, opened, look)
                    self.digests[20 * index : 20 * index + 20] = digest
                self._report(pieces)
        finally:
            opened.close()

    def _take(self, run: int) -> range | None:
        if self._cancelled is not None and self._cancelled():
            raise InputError("cancelled")
        with self._lock:
            first = self._next
            self._next = min(first + run, self._geometry.piece_count)
            return range(first, self._next) if first < self._next else None

    def _hash(self, index: int, buffer: memoryview, opened: _Opened, look: _Look | None) -> bytes:
        geometry = self._geometry
        digest = hashlib.sha1(usedforsecurity=False)
        start = index * geometry.piece_length
        for span in geometry.spans(start, geometry.piece_size(index)):
            source = self._sources[span.file]
            at, left = span.offset, span.length
            try:
                fd = opened.get(source)
                while left:
                    count = read_at(fd, buffer[: min(left, len(buffer))], at)
                    if count == 0:
                        raise InputError(f"{source.location} became shorter while it was read")
                    digest.update(buffer[:count])
                    if look is not None:
                        look(fd, source, at, buffer[:count])
                    at += count
                    left -= count
            except OSError as exc:
                raise InputError(_reason(exc, source.location)) from None
        return digest.digest()

    def _report(self, pieces: range) -> None:
        if self._progress is None:
            return
        geometry = self._geometry
        with self._lock:
            self._done += sum(map(geometry.piece_size, pieces))
            self._progress(self._done, geometry.total)

    def check_unchanged(self, source: SharedFile) -> None:
        try:
            status = source.location.stat()
        except OSError as exc:
            raise InputError(_reason(exc, source.location)) from None
        if (status.st_size, status.st_mtime_ns) != (source.length, source.modified):
            raise InputError(f"{source.location} changed while it was read")


class _Look:
    """Hands one thread's sampler what it wants to see."""

    def __init__(self, sampler: Sampler) -> None:
        self._regions = sampler.regions
        self._take = sampler.taker()
        self._buffer: memoryview | None = None

    def __call__(self, fd: int, source: SharedFile, at: int, content: memoryview) -> None:
        """`content` of the file was read, from `at` on. What begins in it and ends after it, in the
        next piece perhaps, which may be another thread's, is read again. Raises OSError."""
        for start, length in self._regions(at, at + len(content)):
            wanted = min(length, source.length - start)
            part = content[start - at : start - at + wanted]
            if len(part) < wanted:
                if self._buffer is None:
                    self._buffer = memoryview(bytearray(_CHUNK))
                part = self._buffer[:wanted]
                done = 0
                while count := read_at(fd, part[done:], start + done):
                    done += count
                part = part[:done]  # a file that became shorter is found out by whoever hashes it
            self._take(start, part)


class _Opened:
    """The one file a thread has open: consecutive pieces mostly lie in the same."""

    def __init__(self, relief: Relief) -> None:
        self._relief = relief
        self._source: SharedFile | None = None
        self._fd = -1

    def get(self, source: SharedFile) -> int:
        if source is not self._source:
            self.close()
            flags = os.O_RDONLY | os.O_CLOEXEC
            self._fd = relieved(self._relief, os.open, source.location, flags)
            self._source = source
        return self._fd

    def close(self) -> None:
        if self._source is not None:
            os.close(self._fd)
            self._source = None


def _walk(folder: Path, inside: tuple[str, ...], root: Path, relief: Relief) -> list[SharedFile]:
    found = []
    with relieved(relief, os.scandir, folder) as listing:
        entries = list(listing)  # so that no folder stays open while those below it are read
    for entry in entries:
        location = folder / entry.name
        path = (*inside, entry.name)
        try:
            if entry.is_dir(follow_symlinks=False):
                found += _walk(location, path, root, relief)
                continue
            if entry.is_symlink():
                _check_link(location, root)
            found.append(_source(location, path, location.stat()))
        except OSError as exc:
            raise InputError(_reason(exc, location)) from None
    return found


def _check_link(location: Path, root: Path) -> None:
    try:
        target = location.resolve(strict=True)
    except RuntimeError:  # what pathlib makes of ELOOP before Python 3.13
        raise InputError(f"{location} is a link that leads to itself") from None
    if not target.is_relative_to(root):
        raise InputError(f"{location} is a link that leads outside the folder")
    if target.is_dir():
        raise InputError(f"{location} is a link to a folder")


def _source(location: Path, path: tuple[str, ...], status: os.stat_result) -> SharedFile:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{location} is not a regular file")
    if not os.access(location, os.R_OK):
        raise InputError(f"{location} cannot be read: permission denied")
    return SharedFile(
        location,
        path,
        status.st_size,
        status.st_mtime_ns,
        executable=bool(status.st_mode & stat.S_IXUSR),
    )


def _reason(exc: OSError, location: Path) -> str:
    return f"{location} cannot be read: {exc.strerror or exc}"
