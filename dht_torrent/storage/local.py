"""Files of this disk that may hold what a torrent lacks: found below a path, and read.

The rule: nothing is ever written here, and nothing but regular files is opened. What cannot be read
is passed over, and told in a line: whoever asks can do without it. Blocking on purpose.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from dht_torrent.geometry import PAD, Span
from dht_torrent.relief import Relief, no_relief, relieved
from dht_torrent.storage.descriptors import Descriptors
from dht_torrent.syscalls import read_at

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class LocalFile(NamedTuple):
    """A regular file, as it was when it was found."""

    location: str
    """Without symbolic links."""
    path: tuple[str, ...]
    """Below what was searched; the name alone if that is the file."""
    length: int


@dataclass(slots=True)
class LocalFiles:
    """What was found."""

    files: list[LocalFile] = field(default_factory=list)
    trouble: str | None = None
    """The first thing that could not be used although it was looked for, in a line."""

    def note(self, trouble: str) -> None:
        self.trouble = self.trouble or trouble


def find_files(
    source: str,
    most: int,
    *,
    apart: str = "",
    stop: Callable[[], bool] = lambda: False,
    relief: Relief = no_relief,
) -> LocalFiles:
    """The file `source`, or the files with content below that folder, in the order of their paths
    as far as possible; no more than `most` entries are looked at, and none any more once `stop`
    says so. Raises nothing.

    A link is followed only to a file inside the folder. What lies at `apart`, a path without
    links, or below it is left out.
    """
    found = LocalFiles()
    root = os.path.realpath(source)
    try:
        info = os.stat(root)  # noqa: PTH116 - a text, to be compared; so are all paths here
        if stat.S_ISREG(info.st_mode):
            if not _is_under(root, apart):
                found.files.append(LocalFile(root, (os.path.basename(source),), info.st_size))  # noqa: PTH119
        elif not stat.S_ISDIR(info.st_mode):
            found.note(f"{source} is neither a file nor a folder")
        else:
            _walk(root, most, apart, stop, relief, found)
    except OSError as exc:
        found.note(f"{source}: {exc.strerror or exc}")
    return found


def _walk(
    root: str,
    most: int,
    apart: str,
    stop: Callable[[], bool],
    relief: Relief,
    found: LocalFiles,
) -> None:
    waiting: list[tuple[str, tuple[str, ...]]] = [(root, ())]
    seen = 0
    while waiting:
        folder, inside = waiting.pop()
        if stop():
            found.note(f"{root}: took too long to look through, the rest of it was left out")
            return
        try:
            with relieved(relief, os.scandir, folder) as listing:
                entries = sorted(
                    (entry for entry, _ in zip(listing, range(most - seen), strict=False)),
                    key=lambda entry: entry.name,
                )
        except OSError as exc:
            found.note(f"{folder}: {exc.strerror or exc}")
            continue
        seen += len(entries)
        below = []
        for entry in entries:
            path = (*inside, entry.name)
            if _is_under(entry.path, apart):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    below.append((entry.path, path))
                    continue
                location = entry.path
                if entry.is_symlink():
                    location = os.path.realpath(location)
                    if not _is_under(location, root) or _is_under(location, apart):
                        continue
                info = os.lstat(location)
            except OSError as exc:
                found.note(f"{entry.path}: {exc.strerror or exc}")
                continue
            if stat.S_ISREG(info.st_mode) and info.st_size:
                found.files.append(LocalFile(location, path, info.st_size))
        waiting += reversed(below)
        if seen >= most:
            found.note(f"{root}: holds more than {most} files, the rest was left out")
            return


def _is_under(path: str, top: str) -> bool:
    """Is it `top`, or inside of it? Nothing is under an empty `top`."""
    return bool(top) and (path == top or path.startswith(top.rstrip("/") + "/"))


class LocalReader:
    """Reads such files through the pool of open files. For any thread."""

    def __init__(self, files: Sequence[LocalFile], pool: Descriptors) -> None:
        self.trouble: str | None = None
        """The first file that could not be read, in a line."""
        self._files = files
        self._open = pool.files(partial(_open, files))

    def read(self, spans: Sequence[Span], begin: int, buffer: memoryview) -> bool:
        """Fill `buffer` with what these spans hold from byte `begin` on, taken end to end; `PAD`
        stands for zeros. False if any of it is not there any more, or cannot be read."""
        at, end = 0, begin + len(buffer)
        for span in spans:
            start, stop = max(begin, at), min(end, at + span.length)
            if start < stop:
                part = buffer[start - begin : stop - begin]
                if span.file == PAD:
                    part[:] = bytes(len(part))
                elif not self._fill(span.file, span.offset + start - at, part):
                    return False
            at += span.length
        return at >= end

    def _fill(self, number: int, offset: int, buffer: memoryview) -> bool:
        try:
            with self._open.borrowing(number) as fd:
                done = 0
                while done < len(buffer):
                    count = read_at(fd, buffer[done:], offset + done)
                    if not count:
                        raise OSError(0, "has become shorter")  # noqa: TRY301 - told in one place
                    done += count
        except OSError as exc:
            location = self._files[number].location
            self.trouble = self.trouble or f"{location}: {exc.strerror or exc}"
            return False
        return True

    def close(self) -> None:
        """Give back all descriptors."""
        self._open.close()


def _open(files: Sequence[LocalFile], number: int, write: bool) -> int:
    assert not write
    fd = os.open(files[number].location, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "is not a regular file any more")  # noqa: TRY301 - the fd is closed
    except BaseException:
        os.close(fd)
        raise
    return fd
