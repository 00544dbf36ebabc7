"""Nothing outside a folder is ever opened, looked at or deleted.

Each component of a path is opened relative to its parent and never through a symbolic link, and
only regular files count. The folder itself may be a link: that was the user's choice.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NoReturn

from dht_torrent.errors import StorageError
from dht_torrent.relief import NO_DESCRIPTORS
from dht_torrent.syscalls import UNSUPPORTED

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a planted FIFO must fail, not wait. It means nothing for regular files.
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
# What trying again does not mend: the user has to do something about the file.
_LASTING: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR})

_UNNAMED: int | None = getattr(os, "O_TMPFILE", None)
# A kernel that does not know the flag takes it for opening a folder in order to write to it.
_NO_UNNAMED: Final = UNSUPPORTED | {errno.EISDIR, errno.ENOENT}
_numbers = itertools.count()

Parts = tuple[str, ...]
"""The components of a path below the folder."""


class Folder:
    """The files and folders below `base`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.made: set[Parts] = set()
        """Folders that were made here, in this life."""
        self.device: int | None = None
        """The file system something is to be made in; None when any will do. While a node runs, a
        disk that is taken out leaves an empty folder of another one behind."""

    def path(self, parts: Parts) -> Path:
        """For people: opened, it would follow links."""
        return self.base.joinpath(*parts)

    def open_file(self, parts: Parts, *, write: bool, walk: FolderWalk | None = None) -> int:
        """A descriptor of a file that is there. Raises StorageError, OSError."""
        return self._open(parts, os.O_RDWR if write else os.O_RDONLY, walk)

    def make_file(self, parts: Parts, walk: FolderWalk | None = None) -> int:
        """A descriptor of a new file; the folders it lies in are made, but never `base`. Raises
        StorageError when something is there already, OSError."""
        try:
            return self._open(parts, os.O_RDWR | os.O_CREAT | os.O_EXCL, walk)
        except FileExistsError:
            raise StorageError(
                f"{self.path(parts)}: a file or a link has appeared there, and is not this "
                "torrent's; move it away, or choose another --output"
            ) from None

    def make_unnamed(self) -> int:
        """A descriptor of a new file of this file system that has no name. Raises StorageError,
        OSError."""
        folder = self.open_folder((), create=True)
        try:
            if _UNNAMED is not None:
                try:
                    return os.open(".", _UNNAMED | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder)
                except OSError as exc:
                    if exc.errno not in _NO_UNNAMED:
                        raise
            # Not every file system has that. A name, for a moment.
            while True:
                name = f".{os.getpid()}-{next(_numbers)}.part"
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
                try:
                    fd = os.open(name, _FILE | flags, 0o600, dir_fd=folder)
                except FileExistsError:
                    continue
                try:
                    os.unlink(name, dir_fd=folder)
                except BaseException:
                    os.close(fd)
                    raise
                return fd
        except OSError as exc:
            if exc.errno in NO_DESCRIPTORS:
                raise
            fail(self.base, exc)
        finally:
            os.close(folder)

    def _open(self, parts: Parts, flags: int, walk: FolderWalk | None) -> int:
        create = bool(flags & os.O_CREAT)
        if walk is None:
            with FolderWalk(self) as short:
                return self._open(parts, flags, short)
        folder = walk.open_folder(parts[:-1], create=create)
        fd = os.open(parts[-1], _FILE | flags, 0o666, dir_fd=folder)
        # What was not there before is what we made.
        if not create and not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise StorageError(f"{self.path(parts)}: not a regular file")
        return fd

    def open_folder(self, parts: Parts, *, create: bool) -> int:
        """A descriptor. Raises FileNotFoundError where there is none, OSError when no descriptors
        are left, StorageError for other trouble."""
        depth = 0
        try:
            fd = os.open(self.base, _FOLDER)
            if create and self.device not in (None, os.fstat(fd).st_dev):
                os.close(fd)
                raise StorageError(
                    f"{self.base}: another file system is there now; nothing is written to it",
                    missing=True,
                )
            for depth in range(1, len(parts) + 1):
                try:
                    below = self._step(fd, parts[:depth], create=create)
                finally:
                    os.close(fd)
                fd = below
        except OSError as exc:
            if exc.errno in NO_DESCRIPTORS or isinstance(exc, FileNotFoundError):
                raise
            fail(self.path(parts[:depth]), exc)
        return fd

    def _step(self, above: int, parts: Parts, *, create: bool) -> int:
        """From the folder above to the last of the parts."""
        try:
            return os.open(parts[-1], _FOLDER | os.O_NOFOLLOW, dir_fd=above)
        except FileNotFoundError:
            if not create:
                raise
        with contextlib.suppress(FileExistsError):  # another thread was first
            os.mkdir(parts[-1], dir_fd=above)
            self.made.add(parts)
        return os.open(parts[-1], _FOLDER | os.O_NOFOLLOW, dir_fd=above)

    def stat_all(self, files: Iterable[Parts | None]) -> list[os.stat_result | None]:
        """Of each that is there, whatever it is; None for others and for None. Raises OSError when
        no descriptors are left."""
        found: list[os.stat_result | None] = []
        folder: Parts | None = None
        fd: int | None = None
        with FolderWalk(self) as walk:
            for parts in files:
                if parts is None:
                    found.append(None)
                    continue
                if parts[:-1] != folder:  # an absent one is not looked for once a file
                    fd, folder = None, parts[:-1]
                    with contextlib.suppress(FileNotFoundError, StorageError):
                        fd = walk.open_folder(folder, create=False)
                info = None
                if fd is not None:
                    with contextlib.suppress(OSError):
                        info = os.stat(parts[-1], dir_fd=fd, follow_symlinks=False)
                found.append(info)
        return found

    def remove(self, parts: Parts, *, folder: bool) -> None:
        """A regular file, or a folder that is empty; anything else stays. Raises StorageError, and
        OSError when no descriptors are left."""
        try:
            fd = self.open_folder(parts[:-1], create=False)
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
                fail(self.path(parts), exc)
        finally:
            os.close(fd)


class FolderWalk:
    """Opens the folders of one file after the other. Files of a folder mostly follow each other: it
    is opened once. For one thread, and not for long: what is moved meanwhile is not noticed."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._at: tuple[Parts, bool] | None = None
        self._fd = -1

    def open_folder(self, parts: Parts, *, create: bool) -> int:
        """A descriptor, open until the next call. Raises as `Folder.open_folder`."""
        if self._at != (parts, create):
            self._close()
            self._fd = self._folder.open_folder(parts, create=create)
            self._at = parts, create
        return self._fd

    def _close(self) -> None:
        self._at = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> FolderWalk:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()


def fail(path: Path, exc: OSError) -> NoReturn:
    """Raises the StorageError that tells people of `exc`."""
    raise failure(path, exc) from exc


def failure(path: Path, exc: OSError) -> StorageError:
    """What tells people of `exc`."""
    reason = exc.strerror or str(exc)
    missing = exc.errno == errno.ENOENT
    if missing:
        reason = "missing"
    if exc.errno in (errno.ELOOP, errno.ENOTDIR):
        reason = "a link or a file is in the way; links inside content are never followed"
    told = StorageError(
        f"{path}: {reason}",
        disk_full=exc.errno in _FULL,
        passing=exc.errno not in _LASTING,
        missing=missing,
    )
    told.__cause__ = exc
    return told


def resolved(content: Path) -> Path:
    """Without links. Raises StorageError where they lead in a circle."""
    try:
        return content.resolve()
    except (OSError, RuntimeError) as exc:  # what pathlib makes of ELOOP before Python 3.13
        raise StorageError(f"{content}: a link that leads to itself") from exc


def ignores_case(path: Path) -> bool:
    """Does the file system find it under the same letters in the other case? False when there is
    nothing, or no letter in its name: a file that is made can still not replace another."""
    other = path.with_name(path.name.swapcase()) if path.name else path
    try:
        return other != path and other.samefile(path)
    except OSError:
        return False
