"""Where content lies. A torrent is one long run of bytes; a storage maps it to files.

The rule: nothing outside the content's own folder is ever read, written or deleted. Each path
component is opened relative to its parent and never through a symbolic link, and only regular
files count. The one folder the user named may be a link: that was the user's choice.

Everything here blocks, on purpose. Calls may come from several threads at once; two concurrent
writes must not overlap.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from dht_torrent.config import DiskConfig
from dht_torrent.errors import StorageError
from dht_torrent.geometry import Geometry, Span
from dht_torrent.metainfo import Metainfo

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None) if hasattr(os, "preadv") else None
_SEEK_DATA: int | None = getattr(os, "SEEK_DATA", None)
_SEEK_HOLE: int | None = getattr(os, "SEEK_HOLE", None)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a planted FIFO must fail, not wait. It means nothing for regular files.
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class FileStamp(NamedTuple):
    """What a file looked like: if it differs later, the content may have changed."""

    size: int
    mtime_ns: int


class Storage(Protocol):
    """The content of one torrent. Offsets run through all files, as pieces do.

    Pad files (BEP 47) read as zeros and are never written. A range outside the torrent is
    ValueError: callers check what peers ask.
    """

    @property
    def path(self) -> Path:
        """The file or folder that is the content."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Raises StorageError if a file is missing, or is not as long as it should be here."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of `buffer`. Raises as `read`."""
        ...

    def try_read_into(self, offset: int, *buffers: memoryview) -> bool:
        """Fill `buffers`, one after the other. False instead of waiting for a disk, and for any
        trouble; they may then be filled in part."""
        ...

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Creates files and folders as needed. Raises StorageError; a part may then be written."""
        ...

    def sync(self) -> None:
        """Push to the disk what writes that have returned put there. Raises StorageError."""
        ...

    def stamps(self) -> tuple[FileStamp | None, ...]:
        """One for each file; None for one that is absent or no regular file, and for pad files."""
        ...

    def next_data(self, offset: int, end: int) -> tuple[int, int]:
        """The first run of bytes in [offset, end) where something may have been written, as its
        start and end; (end, end) if there is none.

        What it steps over is absent, or a hole that reads as zeros.
        """
        ...

    def create(self, needed: int | None = None) -> None:
        """Make the content's folder and its empty files, so that a download can begin.

        `needed` is how many bytes are still to be written; None means all that is not there yet.
        Raises StorageError, with `disk_full` when that many are not free.
        """
        ...

    def delete(self) -> None:
        """Remove the content's files and the folders this leaves empty. Nothing else goes."""
        ...

    def close(self) -> None:
        """Give back all descriptors. Later calls open them again."""
        ...


@dataclass(slots=True, eq=False)
class _OpenFile:
    """A descriptor in the pool. It closes when nobody uses it and the pool has dropped it."""

    fd: int
    users: int = 0
    pooled: bool = True


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
    ) -> None:
        if content is None:
            self._base, top = root.absolute(), metainfo.name
        else:
            content = content.resolve()
            self._base, top = content.parent, content.name
        self.path = self._base / top
        self._geometry = metainfo.geometry
        self._files = metainfo.geometry.files
        # Every file's way from `_base`, which is the only part where links are followed.
        self._parts: list[tuple[str, ...]] = [
            (top,) if metainfo.single else (top, *file.path) for file in self._files
        ]
        self._single = metainfo.single
        self._writable = writable
        self._limit = max(1, config.open_files)
        self._lock = threading.Lock()  # guards the three below
        self._open: OrderedDict[tuple[int, bool], _OpenFile] = OrderedDict()
        self._touched: set[int] = set()
        self._nowait = _NOWAIT

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
        self._read_spans(spans, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._read_spans(self._geometry.spans(offset, len(buffer)), buffer)

    def _read_spans(self, spans: Sequence[Span], buffer: memoryview) -> None:
        filled = 0
        for span in spans:
            part = buffer[filled : filled + span.length]
            filled += span.length
            if self._files[span.file].pad:
                part[:] = bytes(span.length)
                continue
            with self._using(span.file) as fd:
                self._check_end(fd, span)
                done = 0
                while done < span.length:
                    count = os.preadv(fd, [part[done:]], span.offset + done)
                    if count == 0:
                        raise StorageError(f"{self._name(span.file)}: shorter than it should be")
                    done += count

    def try_read_into(self, offset: int, *buffers: memoryview) -> bool:
        spans = self._geometry.spans(offset, sum(map(len, buffers)))
        if len(spans) == 1:
            return self._try_span(spans[0], buffers)
        for buffer in buffers:
            filled = 0
            for span in self._geometry.spans(offset, len(buffer)):
                if not self._try_span(span, (buffer[filled : filled + span.length],)):
                    return False
                filled += span.length
            offset += filled
        return True

    def _try_span(self, span: Span, buffers: Sequence[memoryview]) -> bool:
        if self._files[span.file].pad:
            for buffer in buffers:
                buffer[:] = bytes(len(buffer))
            return True
        if self._nowait is None or (file := self._take(span.file, write=False)) is None:
            return False  # reading, or opening, might wait
        try:
            self._check_end(file.fd, span)
            return os.preadv(file.fd, buffers, span.offset, self._nowait) == span.length
        except StorageError:
            return False
        except OSError as exc:
            if exc.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                self._nowait = None  # this file system cannot; do not ask again
            return False
        finally:
            self._give_back(file)

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
                with self._borrowing(number) as fd:
                    if _SEEK_DATA is not None and _SEEK_HOLE is not None:
                        start = os.lseek(fd, start, _SEEK_DATA)
                        stop = min(stop, os.lseek(fd, start, _SEEK_HOLE))
            except FileNotFoundError:
                continue
            except OSError as exc:
                if exc.errno == errno.ENXIO:  # no data from here to the end of the file
                    continue
            except StorageError:
                pass  # whoever reads there will be told
            if start < stop:
                return min(file.offset + start, end), min(file.offset + stop, end)
        return end, end

    # -- writing ---------------------------------------------------------------------------------

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if not self._writable:
            raise StorageError(f"{self.path}: shared as it is, not written to")
        view = memoryview(data)
        written = 0
        for span in self._geometry.spans(offset, len(view)):
            part = view[written : written + span.length]
            written += span.length
            if not self._files[span.file].pad:
                self._write_span(span, part)

    def _write_span(self, span: Span, part: memoryview) -> None:
        length = self._files[span.file].length
        with self._using(span.file, write=True) as fd:
            done = 0
            while done < span.length:
                done += os.pwrite(fd, part[done:], span.offset + done)
            info = os.fstat(fd)
            if info.st_nlink == 0:
                self._drop(span.file)
                raise StorageError(f"{self._name(span.file)}: deleted while in use")
            if span.offset + span.length == length and info.st_size > length:
                os.ftruncate(fd, length)
        # Noted after the write, so that a sync that starts now includes it.
        with self._lock:
            self._touched.add(span.file)

    def sync(self) -> None:
        with self._lock:
            touched, self._touched = self._touched, set()
        try:
            for index in sorted(touched):
                try:
                    # Any descriptor of the file will do: dirty pages belong to the file.
                    with self._borrowing(index) as fd:
                        _fdatasync(fd)
                except FileNotFoundError:
                    pass  # deleted since; its stamp will say so
                except OSError as exc:
                    _fail(self._name(index), exc)
                touched.discard(index)
        except BaseException:
            with self._lock:
                self._touched |= touched
            raise

    def create(self, needed: int | None = None) -> None:
        if not self._writable:
            raise StorageError(f"{self.path}: shared as it is, not written to")
        try:
            self._base.mkdir(parents=True, exist_ok=True)
            space = os.statvfs(self._base)
        except OSError as exc:
            _fail(self._base, exc)
        if needed is None:
            needed = self._missing_bytes()
        free = space.f_bavail * space.f_frsize
        if needed > free:
            raise StorageError(
                f"{self._base}: {needed} bytes are needed and {free} are free", disk_full=True
            )
        if not self._single:
            try:
                os.close(self._open_folder((self.path.name,), create=True))
            except OSError as exc:
                _fail(self.path, exc)
        for index, file in enumerate(self._files):
            if file.length == 0 and not file.pad:
                with self._using(index, write=True):
                    pass

    def _missing_bytes(self) -> int:
        """Bytes that have no block on the disk yet: what is written over costs no space."""
        missing = 0
        for file, info in zip(self._files, self._stat_all(), strict=True):
            if not file.pad:
                missing += max(0, file.length - (info.st_blocks * 512 if info else 0))
        return missing

    # -- the files themselves --------------------------------------------------------------------

    def stamps(self) -> tuple[FileStamp | None, ...]:
        infos = self._stat_all()
        with self._lock:
            opened = [(key, file) for key, file in self._open.items()]
        for (index, _), file in opened:
            # A descriptor whose file was deleted or replaced would hide that from readers.
            info = infos[index]
            with contextlib.suppress(OSError):  # closed meanwhile: then there is nothing to drop
                now = os.fstat(file.fd)
                if info is None or (info.st_dev, info.st_ino) != (now.st_dev, now.st_ino):
                    self._drop(index)
        return tuple(info and FileStamp(info.st_size, info.st_mtime_ns) for info in infos)

    def _stat_all(self) -> list[os.stat_result | None]:
        """Of each file that is a regular file; None for others and for pad files."""
        found: list[os.stat_result | None] = []
        folder: tuple[str, ...] | None = None
        fd: int | None = None
        try:
            for file, parts in zip(self._files, self._parts, strict=True):
                if file.pad:
                    found.append(None)
                    continue
                if parts[:-1] != folder:  # files of a folder mostly follow each other
                    if fd is not None:
                        os.close(fd)
                    fd, folder = None, parts[:-1]
                    with contextlib.suppress(FileNotFoundError, StorageError):
                        fd = self._open_folder(folder, create=False)
                info = None
                if fd is not None:
                    with contextlib.suppress(OSError):
                        info = os.stat(parts[-1], dir_fd=fd, follow_symlinks=False)
                found.append(info if info is not None and stat.S_ISREG(info.st_mode) else None)
        except OSError as exc:  # no descriptors left
            _fail(self.path, exc)
        finally:
            if fd is not None:
                os.close(fd)
        return found

    def delete(self) -> None:
        self.close()
        folders: set[tuple[str, ...]] = set()
        for file, parts in zip(self._files, self._parts, strict=True):
            if file.pad:
                continue
            folders.update(parts[:depth] for depth in range(1, len(parts)))
            self._remove(parts, folder=False)
        for parts in sorted(folders, key=len, reverse=True):
            self._remove(parts, folder=True)

    def _remove(self, parts: tuple[str, ...], *, folder: bool) -> None:
        try:
            fd = self._open_folder(parts[:-1], create=False)
        except (FileNotFoundError, StorageError):
            return  # absent, or behind a link: not ours
        try:
            if folder:
                os.rmdir(parts[-1], dir_fd=fd)
            elif stat.S_ISREG(os.stat(parts[-1], dir_fd=fd, follow_symlinks=False).st_mode):
                os.unlink(parts[-1], dir_fd=fd)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as exc:
            if not (folder and exc.errno in (errno.ENOTEMPTY, errno.EEXIST)):
                _fail(self._base.joinpath(*parts), exc)
        finally:
            os.close(fd)

    def close(self) -> None:
        with self._lock:
            unused = [file for file in self._open.values() if file.users == 0]
            for file in self._open.values():
                file.pooled = False
            self._open.clear()
        for file in unused:
            os.close(file.fd)

    def _name(self, index: int) -> Path:
        return self._base.joinpath(*self._parts[index])

    # -- the pool of descriptors -----------------------------------------------------------------

    @contextlib.contextmanager
    def _using(self, index: int, *, write: bool = False) -> Iterator[int]:
        """A descriptor that stays open inside the block. OSErrors leave it as StorageError."""
        try:
            with self._borrowing(index, write=write) as fd:
                yield fd
        except OSError as exc:
            _fail(self._name(index), exc)

    @contextlib.contextmanager
    def _borrowing(self, index: int, *, write: bool = False) -> Iterator[int]:
        file = self._take(index, write=write) or self._add(index, write=write)
        try:
            yield file.fd
        finally:
            self._give_back(file)

    def _take(self, index: int, *, write: bool) -> _OpenFile | None:
        with self._lock:
            for key in ((index, True),) if write else ((index, True), (index, False)):
                file = self._open.get(key)
                if file is not None:
                    file.users += 1
                    self._open.move_to_end(key)
                    return file
        return None

    def _add(self, index: int, *, write: bool) -> _OpenFile:
        try:
            fd = self._open_file(self._parts[index], write=write)
        except OSError as exc:
            if exc.errno not in _NO_DESCRIPTORS:
                raise
            self.close()  # others need descriptors more than this pool does
            fd = self._open_file(self._parts[index], write=write)
        file = _OpenFile(fd, users=1)
        with self._lock:
            if (index, write) in self._open:  # another thread was first: use ours this once
                file.pooled = False
            else:
                self._open[index, write] = file
            unused = self._surplus()
        for old in unused:
            os.close(old.fd)
        return file

    def _give_back(self, file: _OpenFile) -> None:
        with self._lock:
            file.users -= 1
            unused = self._surplus()
            if file.users == 0 and not file.pooled and file not in unused:
                unused.append(file)
        for old in unused:
            os.close(old.fd)

    def _surplus(self) -> list[_OpenFile]:
        """Drop the longest unused beyond the limit, and return them. Call with the lock held."""
        unused: list[_OpenFile] = []
        if len(self._open) > self._limit:
            for key in [key for key, file in self._open.items() if file.users == 0]:
                if len(self._open) <= self._limit:
                    break
                file = self._open.pop(key)
                file.pooled = False
                unused.append(file)
        return unused

    def _drop(self, index: int) -> None:
        with self._lock:
            files = [self._open.pop((index, write), None) for write in (False, True)]
            unused = [file for file in files if file is not None and file.users == 0]
            for file in files:
                if file is not None:
                    file.pooled = False
        for old in unused:
            os.close(old.fd)

    def _open_file(self, parts: tuple[str, ...], *, write: bool) -> int:
        folder = self._open_folder(parts[:-1], create=write)
        try:
            flags = _FILE | (os.O_RDWR | os.O_CREAT if write else os.O_RDONLY)
            fd = os.open(parts[-1], flags, 0o666, dir_fd=folder)
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise StorageError(f"{self._base.joinpath(*parts)}: not a regular file")
        return fd

    def _open_folder(self, parts: tuple[str, ...], *, create: bool) -> int:
        """A descriptor of a folder below `_base`, no link followed on the way. Raises
        FileNotFoundError where it does not exist, StorageError for other trouble."""
        walked = self._base
        try:
            if create:
                self._base.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._base, _FOLDER)
            for part in parts:
                walked = walked / part
                try:
                    if create:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(part, dir_fd=fd)
                    below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                finally:
                    os.close(fd)
                fd = below
        except OSError as exc:
            if exc.errno in _NO_DESCRIPTORS or isinstance(exc, FileNotFoundError):
                raise
            _fail(walked, exc)
        return fd


class MemoryStorage:
    """Content in memory, for the lab, with faults on demand.

    As with files, a file is as long as the furthest byte written to it.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        path: Path = Path("memory"),
        space: int | None = None,
        fail_at: int | None = None,
    ) -> None:
        self.path = path
        self.space = space
        """Bytes that can still be written; None is endless. Whole, a write fits or stops short."""
        self.fail_at = fail_at
        """The call to read, write or sync that fails, 1 being the next; None is none."""
        self._geometry = geometry
        self._data = bytearray(geometry.total)
        self._sizes: list[int | None] = [None] * len(geometry.files)
        self._changes = [0] * len(geometry.files)

    def read(self, offset: int, length: int) -> bytes:
        self._step("read")
        for span in self._geometry.spans(offset, length):
            file = self._geometry.files[span.file]
            if not file.pad and span.offset + span.length > (self._sizes[span.file] or 0):
                raise StorageError(f"{'/'.join(file.path)}: shorter than it should be")
        return bytes(memoryview(self._data)[offset : offset + length])

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.read(offset, len(buffer))

    def try_read_into(self, offset: int, *buffers: memoryview) -> bool:
        try:
            data = memoryview(self.read(offset, sum(map(len, buffers))))
        except StorageError:
            return False
        for buffer in buffers:
            buffer[:] = data[: len(buffer)]
            data = data[len(buffer) :]
        return True

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._step("write")
        view = memoryview(data)
        written = 0
        for span in self._geometry.spans(offset, len(view)):
            part = view[written : written + span.length]
            at = offset + written
            written += span.length
            if self._geometry.files[span.file].pad:
                continue
            fits = span.length if self.space is None else min(span.length, self.space)
            self._data[at : at + fits] = part[:fits]
            if fits or not span.length:
                self._sizes[span.file] = max(self._sizes[span.file] or 0, span.offset + fits)
                self._changes[span.file] += 1
            if self.space is not None:
                self.space -= fits
            if fits < span.length:
                raise StorageError("no space left in memory", disk_full=True)

    def sync(self) -> None:
        self._step("sync")

    def stamps(self) -> tuple[FileStamp | None, ...]:
        return tuple(
            None if size is None else FileStamp(size, change)
            for size, change in zip(self._sizes, self._changes, strict=True)
        )

    def next_data(self, offset: int, end: int) -> tuple[int, int]:
        end = min(end, self._geometry.total)
        for file, size in zip(self._geometry.files, self._sizes, strict=True):
            start, stop = max(offset, file.offset), min(file.offset + (size or 0), end)
            if start < stop:
                return start, stop
        return end, end

    def create(self, needed: int | None = None) -> None:
        for index, file in enumerate(self._geometry.files):
            if file.length == 0 and not file.pad:
                self._sizes[index] = 0
        wanted = self._geometry.total if needed is None else needed
        if self.space is not None and wanted > self.space:
            raise StorageError(
                f"{wanted} bytes are needed and {self.space} are free", disk_full=True
            )

    def delete(self) -> None:
        self._data = bytearray(self._geometry.total)
        self._sizes = [None] * len(self._sizes)

    def close(self) -> None:
        """Nothing to give back."""

    def _step(self, what: str) -> None:
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at == 0:
                self.fail_at = None
                raise StorageError(f"injected: this {what} fails")


def _fail(path: Path, exc: OSError) -> NoReturn:
    reason = exc.strerror or str(exc)
    if exc.errno in (errno.ELOOP, errno.ENOTDIR):
        reason = "a link or a file is in the way; links inside content are never followed"
    raise StorageError(f"{path}: {reason}", disk_full=exc.errno in _FULL) from exc
