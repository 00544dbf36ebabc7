"""Content in real files: nothing outside its own folder is ever read, written or deleted, and a
file that is not as long as the torrent says does not pass for whole.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import itertools
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from dht_torrent.config import DiskConfig
from dht_torrent.errors import StorageError
from dht_torrent.geometry import Span
from dht_torrent.metainfo import Metainfo
from dht_torrent.relief import NO_DESCRIPTORS, relieved
from dht_torrent.storage.batches import Write, cut, read_all, scatter, write_all
from dht_torrent.storage.descriptors import Descriptors, OpenFile
from dht_torrent.storage.folder import (
    Folder,
    FolderWalk,
    Parts,
    fail,
    failure,
    ignores_case,
    resolved,
)
from dht_torrent.storage.moving import Layout
from dht_torrent.storage.owners import CLOSED, KEEP, NEW, OWN, Place, may_write
from dht_torrent.storage.protocol import ContentSurvey, Data, FileStamp, Scratch
from dht_torrent.storage.scratch import FileScratch
from dht_torrent.storage.unflushed import Unflushed
from dht_torrent.syscalls import UNSUPPORTED, flush, free_space, is_in_memory

_T = TypeVar("_T")

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None) if hasattr(os, "preadv") else None
_SEEK_DATA: int | None = getattr(os, "SEEK_DATA", None)
_SEEK_HOLE: int | None = getattr(os, "SEEK_HOLE", None)
# Some file systems count further than a record can.
_LEAST_TIME, _MOST_TIME = -(2**63) + 1, 2**63 - 1


class FileStorage:
    """Content in real files, sparse: a file grows as pieces come.

    A download lies in `root`/name (the sanitised name from the torrent). Content that is already
    somewhere, under whatever name, is given as `content`, the file or folder itself: links in that
    path are resolved once, here. With `writable` False, `write` and `create` refuse.
    """

    def __init__(
        self,
        root: Path,
        metainfo: Metainfo,
        config: DiskConfig,
        *,
        content: Path | None = None,
        writable: bool = True,
        descriptors: Descriptors | None = None,
    ) -> None:
        """`descriptors` is the pool of open files shared with others; without it there is one for
        this content alone. Raises StorageError if `content` leads in a circle."""
        if content is None:
            base, top = root.absolute(), metainfo.name
        else:
            content = resolved(content)
            base, top = content.parent, content.name
        self.path = base / top
        self._geometry = metainfo.geometry
        self._files = metainfo.geometry.files
        self._folder = Folder(base)
        self._parts: list[Parts] = [
            (top,) if metainfo.single else (top, *file.path) for file in self._files
        ]
        self._single = metainfo.single
        self._writable = writable
        self.access = bytearray(len(self._files))
        self._pool = Descriptors(config.open_files) if descriptors is None else descriptors
        self._lock = threading.Lock()  # guards the making of files
        # Without this object, which would own itself.
        self._open = partial(_open, self._folder, self._parts, self.access, self._lock)
        self._descriptors = self._pool.files(self._open)
        self._unflushed = Unflushed()
        self._nowait = _NOWAIT
        self._in_memory: set[int] = set()
        """Files whose file system knows no flag for that, and needs none."""
        self._devices: dict[int, bool] = {}
        """File systems of such files: are they in memory?"""

    @property
    def layout(self) -> Layout:
        return Layout(self._folder.base, self._parts)

    # -- reading ---------------------------------------------------------------------------------

    def read(self, offset: int, length: int) -> bytes:
        spans = self._geometry.spans(offset, length)
        if len(spans) == 1 and not self._files[spans[0].file].pad:
            span = spans[0]
            with self._using(span.file) as fd:
                self._check_end(fd, span)
                data = os.pread(fd, length, span.offset)
            if len(data) == length:
                return data
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        with FolderWalk(self._folder) as walk:
            for span, views in scatter(self._geometry, offset, buffers):
                if self._files[span.file].pad:
                    _fill_with_zeros(views)
                    continue
                with self._using(span.file, walk=walk) as fd:
                    self._check_end(fd, span)
                    if not read_all(fd, span.offset, views):
                        raise StorageError(f"{self._name(span.file)}: shorter than it should be")

    def try_read_into(self, offset: int, *buffers: memoryview) -> bool:
        if len(self._files) == 1:  # no cuts
            span = self._geometry.spans(offset, sum(map(len, buffers)))
            return not span or self._try_span(span[0], buffers)
        return all(
            self._try_span(span, views) for span, views in scatter(self._geometry, offset, buffers)
        )

    def _try_span(self, span: Span, buffers: Sequence[memoryview]) -> bool:
        if self._files[span.file].pad:
            _fill_with_zeros(buffers)
            return True
        flags = 0 if span.file in self._in_memory else self._nowait
        if flags is None or (file := self._descriptors.take(span.file, write=False)) is None:
            return False  # reading, or opening, might wait
        try:
            self._check_end(file.fd, span)
            return os.preadv(file.fd, buffers, span.offset, flags) == span.length
        except StorageError:
            return False
        except NotImplementedError:  # a C library without preadv2
            self._nowait = None
            return False
        except OSError as exc:
            if exc.errno in UNSUPPORTED:
                self._note_refusal(file, flags)
            return False
        finally:
            self._descriptors.give_back(file)

    def _note_refusal(self, file: OpenFile, flags: int) -> None:
        device = os.fstat(file.fd).st_dev
        if device not in self._devices:
            self._devices[device] = is_in_memory(device)
        if flags and self._devices[device]:
            self._in_memory.add(file.index)  # tmpfs: a plain read does not wait either
        else:
            self._in_memory.discard(file.index)
            self._nowait = None  # do not ask again

    def _check_end(self, fd: int, span: Span) -> None:
        """A file that is too long does not give its last bytes: then the piece there counts as
        missing, and writing it brings the file back to its length."""
        length = self._files[span.file].length
        if span.offset + span.length == length and os.fstat(fd).st_size > length:
            raise StorageError(f"{self._name(span.file)}: longer than it should be")

    def next_data(self, offset: int, end: int) -> tuple[int, int]:
        end = min(end, self._geometry.total)
        index = bisect.bisect_right(self._files, offset, key=lambda file: file.offset) - 1
        for number in range(max(index, 0), len(self._files)):
            file = self._files[number]
            if file.offset >= end:
                break
            start, stop = max(offset, file.offset) - file.offset, file.length
            if file.pad or start >= stop:
                continue
            try:
                with self._descriptors.borrowing(number) as fd:
                    if _SEEK_DATA is not None and _SEEK_HOLE is not None:
                        start = os.lseek(fd, start, _SEEK_DATA)
                        stop = min(stop, os.lseek(fd, start, _SEEK_HOLE))
            except FileNotFoundError:
                continue
            except OSError as exc:
                if exc.errno == errno.ENXIO:  # no data from here to the end of the file
                    continue
                if exc.errno in NO_DESCRIPTORS:
                    fail(self._name(number), exc)
            except StorageError:
                pass  # the next reader will be told
            if start < stop:
                return min(file.offset + start, end), min(file.offset + stop, end)
        return end, end

    # -- writing ---------------------------------------------------------------------------------

    def write(self, offset: int, data: Data) -> None:
        _, error = self.write_many(((offset, data),))
        if error is not None:
            raise error

    def write_many(self, parts: Sequence[tuple[int, Data]]) -> tuple[int, StorageError | None]:
        if not self._writable:
            return 0, StorageError(f"{self.path}: shared in place, never written to")
        with FolderWalk(self._folder) as walk:
            writes = cut(self._geometry, parts)
            for index, found in itertools.groupby(writes, key=lambda one: one.span.file):
                here = list(found)
                done, error = self._write_file(index, here, walk)
                if error is not None:
                    return here[done].part, error
        return len(parts), None

    def _write_file(
        self, index: int, writes: Sequence[Write], walk: FolderWalk
    ) -> tuple[int, StorageError | None]:
        """Returns how many of these writes to one file may be relied on, and why no more."""
        access = self.access[index]
        done, wrote = 0, False
        error: StorageError | None = None
        try:
            if access == CLOSED:
                may_write(access, self._name(index), b"", bytes(writes[0].data))
            with self._using(index, write=access != KEEP, walk=walk) as fd:
                try:
                    for _, span, data in writes:
                        if access in (NEW, OWN) or self._may_write(access, fd, span, data):
                            write_all(fd, span.offset, data)
                            wrote = True
                        done += 1
                except StorageError as exc:
                    error = exc
                except OSError as exc:
                    error = failure(self._name(index), exc)
                if wrote:  # what came before an error is good if the file is
                    self._check_written(fd, index, writes[:done])
                    self._unflushed.note(index)
        except StorageError as exc:
            return 0, exc
        return done, error

    def _may_write(self, access: int, fd: int, span: Span, data: memoryview) -> bool:
        old = os.pread(fd, span.length, span.offset)
        self._check_end(fd, span)
        return may_write(access, self._name(span.file), old, bytes(data))

    def _check_written(self, fd: int, index: int, writes: Sequence[Write]) -> None:
        info, length = os.fstat(fd), self._files[index].length
        if info.st_nlink == 0:
            self._descriptors.drop(index)
            raise StorageError(f"{self._name(index)}: deleted while in use")
        if info.st_size > length and any(
            span.offset + span.length == length for _, span, _ in writes
        ):
            os.ftruncate(fd, length)

    def note_unflushed(self, files: Collection[int]) -> None:
        self._unflushed.note(*files)

    def sync(self, files: Collection[int] | None = None) -> None:
        self._unflushed.sync(self._flush, files)

    def _flush(self, index: int) -> None:
        try:
            # Any descriptor of the file will do: dirty pages belong to the file.
            with self._descriptors.borrowing(index) as fd:
                flush(fd)
        except FileNotFoundError:
            pass  # deleted since; its stamp will say so
        except OSError as exc:
            fail(self._name(index), exc)

    def create(self, needed: int | None = None) -> None:
        if not self._writable:
            raise StorageError(f"{self.path}: shared in place, never written to")
        base = self._folder.base
        try:
            base.mkdir(parents=True, exist_ok=True)
            free = free_space(base)
        except OSError as exc:
            fail(base, exc)
        if needed is None:
            needed = self._missing_bytes()
        if free is not None and needed > free:
            raise StorageError(
                f"{base}: {needed} bytes are needed and {free} are free", disk_full=True
            )
        if not self._single:
            try:
                os.close(
                    self._relieved(lambda: self._folder.open_folder((self.path.name,), create=True))
                )
            except OSError as exc:
                fail(self.path, exc)
        self._folder.device = base.stat().st_dev
        for index, file in enumerate(self._files):
            if file.length == 0 and not file.pad and self.access[index] in (NEW, OWN):
                with self._using(index, write=True) as fd:
                    os.ftruncate(fd, 0)

    def scratch(self) -> Scratch:
        try:
            return FileScratch(self._relieved(self._folder.make_unnamed), self._folder.base)
        except OSError as exc:  # no descriptors left, or no folder
            fail(self._folder.base, exc)

    def _missing_bytes(self) -> int:
        """Bytes that have no block on the disk yet: what is written over costs no space."""
        missing = 0
        for file, info in zip(self._files, _regular(self._look_at_all()), strict=True):
            if not file.pad:
                missing += max(0, file.length - (info.st_blocks * 512 if info else 0))
        return missing

    # -- the files themselves --------------------------------------------------------------------

    def stamps(self) -> tuple[FileStamp | None, ...]:
        return self._stamps(self._look_at_all())

    def _stamps(self, looked: list[os.stat_result | None]) -> tuple[FileStamp | None, ...]:
        infos = _regular(looked)
        for index, fd in self._descriptors.opened():
            # A descriptor whose file was deleted or replaced would hide that from readers.
            info = infos[index]
            with contextlib.suppress(OSError):  # closed meanwhile: then there is nothing to drop
                now = os.fstat(fd)
                if info is None or (info.st_dev, info.st_ino) != (now.st_dev, now.st_ino):
                    self._descriptors.drop(index)
        return tuple(
            info and FileStamp(info.st_size, max(_LEAST_TIME, min(info.st_mtime_ns, _MOST_TIME)))
            for info in infos
        )

    def _look_at_all(self) -> list[os.stat_result | None]:
        """Of whatever lies in the place of each file; None for pad files."""
        try:
            return self._relieved(
                lambda: self._folder.stat_all(
                    None if file.pad else parts
                    for file, parts in zip(self._files, self._parts, strict=True)
                )
            )
        except OSError as exc:  # no descriptors left
            fail(self.path, exc)

    def survey(self) -> ContentSurvey:
        infos = self._look_at_all()
        odd = frozenset(
            number
            for number, info in enumerate(infos)
            if info is not None and not stat.S_ISREG(info.st_mode)
        )
        place = replace(
            self.place(),
            links={
                (info.st_dev, info.st_ino): number
                for number, info in enumerate(infos)
                if info is not None and info.st_nlink > 1 and number not in odd
            },
        )
        return ContentSurvey(self._stamps(infos), odd, place, self.mounted_at())

    def place(self) -> Place:
        base = os.path.realpath(self._folder.base)
        return Place(
            root=os.path.join(base, self.path.name),  # noqa: PTH118 - a text, to be compared
            files=self._paths,
            folds=ignores_case(self.path) or ignores_case(self._folder.base),
        )

    def _paths(self) -> Iterator[tuple[int, str]]:
        for number, (file, parts) in enumerate(zip(self._files, self._parts, strict=True)):
            if not file.pad:
                yield number, "/".join(parts[1:])

    def present(self, numbers: Sequence[int]) -> bool:
        try:
            # Few are looked at when all are gone, and no more than once when all are there.
            for at in range(0, len(numbers), 256):
                part = [self._parts[number] for number in numbers[at : at + 256]]
                if None in self._relieved(partial(self._folder.stat_all, part)):
                    return False
        except OSError:  # no descriptors left
            return False
        return True

    def mounted_at(self) -> str | None:
        path = os.path.realpath(self._folder.base)
        try:
            while not os.path.lexists(path):
                path = os.path.dirname(path)  # noqa: PTH120 - of a text, as above
            device = os.stat(path).st_dev  # noqa: PTH116
            while path != (above := os.path.dirname(path)):  # noqa: PTH120
                if os.stat(above).st_dev != device:  # noqa: PTH116
                    break
                path = above
        except OSError:
            return None
        return path

    def blank(self, number: int, start: int, stop: int) -> bool:
        at = start
        try:
            with self._using(number) as fd:
                while at < stop:
                    try:
                        at = at if _SEEK_DATA is None else os.lseek(fd, at, _SEEK_DATA)
                    except OSError as exc:
                        if exc.errno == errno.ENXIO:  # no data from here to the end of the file
                            break
                        # Else this file system cannot tell, and what lies there is read.
                    data = os.pread(fd, min(1 << 20, max(0, stop - at)), at)
                    if not data:
                        break
                    if data.count(0) < len(data):
                        return False
                    at += len(data)
        except StorageError as error:
            if not error.missing:
                raise
        return True

    def delete(self, numbers: Iterable[int]) -> None:
        self.close()
        folders = set(self._folder.made)
        for number in numbers:
            parts = self._parts[number]
            folders.update(parts[:depth] for depth in range(1, len(parts)))
            self._remove(parts, folder=False)
            self.access[number] = NEW
        for parts in sorted(folders, key=len, reverse=True):
            self._remove(parts, folder=True)

    def _remove(self, parts: Parts, *, folder: bool) -> None:
        try:
            self._relieved(lambda: self._folder.remove(parts, folder=folder))
        except OSError as exc:  # no descriptors left
            fail(self._folder.path(parts), exc)

    def close(self) -> None:
        self._descriptors.close()

    def _name(self, index: int) -> Path:
        return self._folder.path(self._parts[index])

    def _relieved(self, work: Callable[[], _T]) -> _T:
        """`work`, which may be repeated, with whatever descriptors others can spare."""
        return relieved(self._pool.relieve, work)

    @contextlib.contextmanager
    def _using(
        self, index: int, *, write: bool = False, walk: FolderWalk | None = None
    ) -> Iterator[int]:
        """A descriptor that stays open inside the block. OSErrors leave it as StorageError."""
        try:
            open_file = self._open if walk is None else partial(self._open, walk=walk)
            file = self._descriptors.borrow(index, write=write, open_file=open_file)
            try:
                yield file.fd
            finally:
                self._descriptors.give_back(file)
        except OSError as exc:
            fail(self._name(index), exc)


def _fill_with_zeros(buffers: Sequence[memoryview]) -> None:
    for buffer in buffers:
        buffer[:] = bytes(len(buffer))


def _regular(infos: list[os.stat_result | None]) -> list[os.stat_result | None]:
    """None for what is not a regular file, too."""
    return [info if info is not None and stat.S_ISREG(info.st_mode) else None for info in infos]


def _open(
    folder: Folder,
    parts: Sequence[Parts],
    access: bytearray,
    making: threading.Lock,
    index: int,
    write: bool,
    walk: FolderWalk | None = None,
) -> int:
    if write and access[index] == NEW:
        with making:  # two threads may want the same one
            if access[index] == NEW:
                fd = folder.make_file(parts[index], walk)
                access[index] = OWN
                return fd
    return folder.open_file(parts[index], write=write, walk=walk)
