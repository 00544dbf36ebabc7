"""Content goes to another folder, or part of it gets another name.

The rule: the one step that counts is a rename, which never replaces anything. Before it all is at
the old place, after it all is at the new one. What a folder holds beside our files stays where it
is. A process that is killed in between finds out where it was by the number that the file system
gives to what is renamed (`Carrying.landed`), and goes on.

Across file systems, or out of a folder that holds other things as well, the files are gathered
first in a hidden place beside the target, as copies, or as second names of the same files; they go
from the old place when all of them are at the new one. A copy that was cut off goes on where it
was: as far as it is the same as its source by now, byte for byte, whatever a power cut has made of
it. Blocking.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dht_torrent.errors import StorageError
from dht_torrent.relief import NO_DESCRIPTORS
from dht_torrent.storage.folder import Folder, Parts, fail
from dht_torrent.syscalls import UNSUPPORTED, flush_folder, free_space, read_at, rename_new

VISIT: Final = 32 << 20
"""Bytes copied in one call."""
_SLICE: Final = 1 << 20
_SEEK_DATA: int | None = getattr(os, "SEEK_DATA", None)
_NO_LINK: Final = UNSUPPORTED | {errno.EXDEV, errno.EMLINK, errno.EACCES}
_COARSE: Final = 2_000_000_000
"""Nanoseconds by which a file system that counts in seconds may round a time (FAT)."""
_SECOND: Final = 1_000_000_000


class Layout(NamedTuple):
    """Where the files of some content are called what."""

    base: Path
    """The folder that its file or folder lies in."""
    parts: Sequence[tuple[str, ...]]
    """Of each file, from there on."""

    @property
    def top(self) -> Path:
        """The file or folder that is the content."""
        return self.base / self.parts[0][0]


def number_of(path: Path) -> int | None:
    """The file system's number of the file or folder there; None where there is none."""
    try:
        return path.lstat().st_ino
    except OSError:
        return None


def rename(source: Path, target: Path) -> None:
    """In one step, and not in place of anything. Raises StorageError."""
    try:
        if _same_but_for_case(source, target):
            source.rename(target)
        else:
            rename_new(source, target)
        for folder in dict.fromkeys((target.parent, source.parent)):
            flush_folder(folder)
    except FileExistsError:
        raise StorageError(f"{target}: something is there already") from None
    except OSError as exc:
        fail(source, exc)


def _same_but_for_case(source: Path, target: Path) -> bool:
    """Where case does not count, the target is there, and is what is renamed."""
    if source.parent != target.parent or source.name.casefold() != target.name.casefold():
        return False
    try:
        return source.samefile(target) and source.name != target.name
    except OSError:
        return False


class Carrying:
    """The files `numbers` of some content on their way from one place to another."""

    def __init__(self, source: Layout, target: Layout, numbers: Sequence[int], tag: str) -> None:
        """`tag` tells the hidden place from those of others."""
        self.source = source
        self.target = target
        self.numbers = numbers
        hidden = f".{tag}.moving"
        self.hidden = target.base / hidden
        self._from = Folder(source.base)
        self._to = Folder(target.base)
        self._parts = [(hidden, *parts[1:]) for parts in target.parts]
        self._seen: dict[int, tuple[int, int]] = {}  # size and time when its copying began
        self._had: dict[int, int] = {}  # bytes of an earlier copy, to be compared

    # -- before ---------------------------------------------------------------------------------

    def check(self) -> None:
        """Make the folder it goes into. Raises StorageError where the content cannot go."""
        base = self.target.base
        try:
            base.mkdir(parents=True, exist_ok=True)
            real, top = Path(os.path.realpath(base)), os.path.realpath(self.source.top)
        except OSError as exc:
            fail(base, exc)
        if not os.access(base, os.W_OK | os.X_OK):
            raise StorageError(f"{base}: nothing can be written there")
        if real.is_relative_to(top):
            raise StorageError(f"{base}: lies inside of what is to be moved there")
        if os.path.lexists(self.target.top):
            raise StorageError(f"{self.target.top}: something is there already")

    def landed(self, number: int | None) -> bool | None:
        """Was what has this number renamed already? None: it is at neither place now, as when a
        disk is not there. Without a number nothing was."""
        if number is None:
            return False
        if number_of(self.target.top) == number:
            return True
        return False if number in (number_of(self.hidden), number_of(self.source.top)) else None

    def at_once(self) -> bool:
        """Can all of it go by one rename? Not to another file system, and not with other things in
        its folder."""
        top = self.source.top
        try:
            info = top.lstat()
            if self.target.base.stat().st_dev != info.st_dev:
                return False
            if not stat.S_ISDIR(info.st_mode):
                return stat.S_ISREG(info.st_mode)
            ours = {self.source.parts[number] for number in self.numbers}
            return _holds_nothing_but(self.source.base, ours, info.st_dev)
        except OSError as exc:
            if exc.errno in NO_DESCRIPTORS:
                fail(top, exc)
            return False

    def size(self) -> int:
        """Bytes on the disk of all that goes. Raises StorageError if there is no room for them."""
        looked = self._from.stat_all([self.source.parts[number] for number in self.numbers])
        sizes = [info.st_blocks * 512 for info in looked if info is not None]
        if self._is_elsewhere():
            free = free_space(self.target.base)
            there = self._to.stat_all([self._parts[number] for number in self.numbers])
            needed = sum(sizes) - sum(info.st_blocks * 512 for info in there if info is not None)
            if free is not None and needed > free:
                raise StorageError(
                    f"{self.target.base}: {needed} bytes are needed and {free} are free",
                    disk_full=True,
                )
        return sum(info.st_size for info in looked if info is not None)

    def _is_elsewhere(self) -> bool:
        try:
            return self.target.base.stat().st_dev != self.source.base.stat().st_dev
        except OSError as exc:
            fail(self.target.base, exc)

    # -- gathering ------------------------------------------------------------------------------

    def gather(self, number: int, at: int) -> tuple[int, bool]:
        """Have this file at the hidden place, too, or `VISIT` bytes of it from `at` on; 0 begins,
        or goes on with a copy that was cut off. Returns how far it is, and whether that is all.
        Raises StorageError."""
        try:
            if at == 0 and self._is_gathered(number):
                return self._seen[number][0], True
            return self._copy(number, at)
        except OSError as exc:
            fail(self._from.path(self.source.parts[number]), exc)

    def _is_gathered(self, number: int) -> bool:
        """It is there from before, or the file can have a second name there."""
        source = self._from.open_file(self.source.parts[number], write=False)
        try:
            info = os.fstat(source)
        finally:
            os.close(source)
        self._seen[number] = info.st_size, info.st_mtime_ns
        parts = self._parts[number]
        (there,) = self._to.stat_all([parts])
        if there is not None:
            if _alike(info, there) and info.st_mtime_ns == there.st_mtime_ns:
                return True
            if stat.S_ISREG(there.st_mode) and there.st_nlink == 1:
                self._had[number] = min(there.st_size, info.st_size)
                return False
            self._to.remove(parts, folder=False)  # no copy of ours
        above = self._from.open_folder(self.source.parts[number][:-1], create=False)
        try:
            below = self._to.open_folder(parts[:-1], create=True)
            try:
                os.link(
                    self.source.parts[number][-1],
                    parts[-1],
                    src_dir_fd=above,
                    dst_dir_fd=below,
                    follow_symlinks=False,
                )
            except OSError as exc:
                if exc.errno not in _NO_LINK:
                    raise
                return False
            finally:
                os.close(below)
        finally:
            os.close(above)
        return True

    def _copy(self, number: int, at: int) -> tuple[int, bool]:
        size, changed_at = self._seen[number]
        source = self._from.open_file(self.source.parts[number], write=False)
        try:
            parts = self._parts[number]
            had = self._had.get(number)
            began = at > 0 or had is not None
            target = self._to.open_file(parts, write=True) if began else self._to.make_file(parts)
            try:
                end = min(size, at + VISIT)
                if had is not None:
                    same = _same_until(source, target, at, min(end, had))
                    if same < end:  # from there on it is copied
                        del self._had[number]
                        os.ftruncate(target, same)
                    at = same
                _copy_range(source, target, at, end)
                if end < size:
                    return end, False
                info = os.fstat(source)
                if (info.st_size, info.st_mtime_ns) != (size, changed_at):
                    raise StorageError(
                        f"{self._from.path(self.source.parts[number])}: changed while it was copied"
                    )
                os.ftruncate(target, size)
                with contextlib.suppress(OSError):  # not every file system has modes
                    os.fchmod(target, stat.S_IMODE(info.st_mode))
                os.fsync(target)
                # Last of all: with this time it is whole.
                os.utime(target, ns=(info.st_atime_ns, changed_at))
                return size, True
            finally:
                os.close(target)
        finally:
            os.close(source)

    def settle(self) -> int:
        """All is gathered: it stays so after a power cut. Returns the number of the hidden place.
        Raises StorageError."""
        folders = {parts[:depth] for parts in self._gathered() for depth in range(1, len(parts))}
        try:
            for parts in sorted(folders, key=len, reverse=True):
                flush_folder(self._to.path(parts))
            flush_folder(self.target.base)
            return self.hidden.lstat().st_ino
        except OSError as exc:
            fail(self.hidden, exc)

    def land(self, number: int) -> None:
        """The step that counts: what has this number goes to the new place. Raises StorageError;
        then nothing has changed."""
        whole = number_of(self.source.top) == number
        rename(self.source.top if whole else self.hidden, self.target.top)

    # -- after ----------------------------------------------------------------------------------

    def clear(self) -> list[Path]:
        """Remove what is at the new place from the old one, and the folders which that leaves
        empty. Returns what could not be removed, or is another file by now."""
        left = []
        folders: set[Parts] = set()
        for number in self.numbers:
            parts = self.source.parts[number]
            (old,), (new,) = (
                self._from.stat_all([parts]),
                self._to.stat_all([self.target.parts[number]]),
            )
            # Also of those that went before a process was killed.
            folders.update(parts[:depth] for depth in range(1, len(parts)))
            if old is None:
                continue
            if new is None or not _alike(old, new):
                left.append(self._from.path(parts))
                continue
            try:
                self._from.remove(parts, folder=False)
            except (StorageError, OSError):
                left.append(self._from.path(parts))
        for parts in sorted(folders, key=len, reverse=True):
            with contextlib.suppress(StorageError, OSError):
                self._from.remove(parts, folder=True)
        with contextlib.suppress(OSError):
            flush_folder(self.source.base)
        return left

    def give_up(self) -> None:
        """Remove what was gathered. What else is there stays."""
        folders = {parts[:depth] for parts in self._gathered() for depth in range(1, len(parts))}
        with contextlib.suppress(StorageError, OSError):
            for parts in self._gathered():
                self._to.remove(parts, folder=False)
            for parts in sorted(folders, key=len, reverse=True):
                self._to.remove(parts, folder=True)

    def _gathered(self) -> list[Parts]:
        return [self._parts[number] for number in self.numbers]


def _alike(one: os.stat_result, copy: os.stat_result) -> bool:
    """Are they one file, or is one the finished copy of the other?"""
    if not (stat.S_ISREG(one.st_mode) and stat.S_ISREG(copy.st_mode)):
        return False
    if os.path.samestat(one, copy):
        return True
    apart = abs(one.st_mtime_ns - copy.st_mtime_ns)
    rounded = not copy.st_mtime_ns % _SECOND and apart <= _COARSE
    return one.st_size == copy.st_size and (not apart or rounded)


def _holds_nothing_but(base: Path, ours: set[Parts], device: int) -> bool:
    """Is there nothing in the folder of these files but them, and folders? Ends with the first
    other thing. Raises OSError."""
    folders: set[Parts] = {parts[:depth] for parts in ours for depth in range(1, len(parts))}
    waiting: list[Parts] = [(next(iter(ours))[0],)] if ours else []
    while waiting:
        here = waiting.pop()
        with os.scandir(base.joinpath(*here)) as entries:
            for entry in entries:
                parts = (*here, entry.name)
                if parts in ours:
                    continue
                if parts not in folders or not entry.is_dir(follow_symlinks=False):
                    return False
                if entry.stat(follow_symlinks=False).st_dev != device:
                    return False
                waiting.append(parts)
    return bool(ours)


def _same_until(source: int, target: int, at: int, end: int) -> int:
    """Up to where the two are the same; holes are zeros. Raises OSError."""
    length = min(_SLICE, max(1, end - at))
    mine, theirs = memoryview(bytearray(length)), memoryview(bytearray(length))
    while at < end:
        at = min(end, max(at, min(_next_data(source, at, end), _next_data(target, at, end))))
        most = min(length, end - at)
        if not most:
            break
        # What is cut off in the middle of a block reads as zeros behind that.
        count = min(read_at(source, mine[:most], at), read_at(target, theirs[:most], at))
        if count <= 0:
            break
        if bytes(mine[:count]) != bytes(theirs[:count]):  # views are compared byte by byte
            return at + next(i for i in range(count) if mine[i] != theirs[i])
        at += count
    return at


def _next_data(file: int, at: int, end: int) -> int:
    """Where the next bytes are that are no hole, or `end`."""
    if _SEEK_DATA is None:
        return at
    try:
        return os.lseek(file, at, _SEEK_DATA)
    except OSError as exc:
        return end if exc.errno == errno.ENXIO else at  # no data up to the end of the file


def _copy_range(source: int, target: int, at: int, end: int) -> None:
    """Holes are stepped over. Raises OSError."""
    buffer = memoryview(bytearray(min(_SLICE, max(1, end - at))))
    while at < end:
        at = max(at, _next_data(source, at, end))
        count = read_at(source, buffer[: max(0, min(len(buffer), end - at))], at)
        if count <= 0:
            return
        done = 0
        while done < count:
            done += os.pwrite(target, buffer[done:count], at + done)
        at += count
