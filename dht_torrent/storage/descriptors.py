"""The files that the torrents of a node keep open are one pool: whatever file was not used for the
longest time closes first, whosever it is, and none that is in use.

A pool gives way. When a descriptor is lacking, `relieve` closes the least recently used file;
what was not used between two calls of `sweep` is closed by the second.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dht_torrent.relief import relieved


@dataclass(slots=True, eq=False)
class OpenFile:
    """A descriptor in the pool. It closes when it is not in use and the pool has dropped it."""

    fd: int
    owner: Files
    index: int
    write: bool
    users: int = 0
    pooled: bool = True
    idle: bool = False
    """It was not taken since the last sweep."""


class Descriptors:
    """Descriptors of all files, `limit` at the most save for those in use. For any thread."""

    def __init__(self, limit: int) -> None:
        self.limit = max(1, limit)
        self._lock = threading.Lock()
        self._open: OrderedDict[OpenFile, None] = OrderedDict()  # the least recently used first

    def __len__(self) -> int:
        """Files that are open."""
        return len(self._open)

    def files(self, open_file: Callable[[int, bool], int]) -> Files:
        """Numbered files of one owner. `open_file` takes a file's number, and whether it is to be
        written; it may be called again when it raised for lack of descriptors."""
        return Files(self, open_file)

    def relieve(self) -> bool:
        """Close the least recently used file. False if all that are open are in use."""
        with self._lock:
            old = next((file for file in self._open if not file.users), None)
            if old is None:
                return False
            self._forget(old)
        _close(old)
        return True

    def sweep(self) -> None:
        """Close what was not used since the last sweep."""
        with self._lock:
            unused = [file for file in self._open if file.idle and not file.users]
            for file in unused:
                self._forget(file)
            for file in self._open:
                file.idle = not file.users
        for file in unused:
            _close(file)

    def keep_spare(self, count: int) -> None:
        """Close files until `count` more descriptors could be opened by a caller that cannot ask
        for relief: a library, or the program around us."""
        spare: list[int] = []
        try:
            while len(spare) < count:
                spare += relieved(self.relieve, os.pipe)
        except OSError:
            pass  # there are none left, and we have none to give
        finally:
            for fd in spare:
                os.close(fd)

    # -- for `Files` -----------------------------------------------------------------------------

    def take(self, owner: Files, index: int, *, write: bool) -> OpenFile | None:
        with self._lock:
            for mode in (True,) if write else (True, False):
                file = owner.open.get((index, mode))
                if file is not None:
                    file.users += 1
                    file.idle = False
                    self._open.move_to_end(file)
                    return file
        return None

    def add(self, file: OpenFile) -> None:
        """It has a user from the beginning."""
        file.users += 1
        with self._lock:
            if (file.index, file.write) in file.owner.open:
                file.pooled = False  # another thread was first: use ours this once
            else:
                file.owner.open[file.index, file.write] = file
                self._open[file] = None
            unused = self._surplus()
        for old in unused:
            _close(old)

    def give_back(self, file: OpenFile) -> None:
        with self._lock:
            file.users -= 1
            unused = self._surplus()
            if not file.users and not file.pooled and file not in unused:
                unused.append(file)
        for old in unused:
            _close(old)

    def drop(self, owner: Files, index: int | None = None) -> None:
        """Of all files if `index` is None."""
        with self._lock:
            files = [file for file in owner.open.values() if index in (None, file.index)]
            for file in files:
                self._forget(file)
            unused = [file for file in files if not file.users]
        for file in unused:
            _close(file)

    def opened(self, owner: Files) -> list[tuple[int, int]]:
        with self._lock:
            return [(file.index, file.fd) for file in owner.open.values()]

    def _surplus(self) -> list[OpenFile]:
        """Drop the longest unused beyond the limit, and return them. Call with the lock held."""
        over = len(self._open) - self.limit
        unused: list[OpenFile] = []
        if over > 0:
            for file in self._open:
                if not file.users:
                    unused.append(file)
                    if len(unused) == over:
                        break
            for file in unused:
                self._forget(file)
        return unused

    def _forget(self, file: OpenFile) -> None:
        """Call with the lock held."""
        del self._open[file]
        del file.owner.open[file.index, file.write]
        file.pooled = False


class Files:
    """The numbered files of one owner in a pool."""

    def __init__(self, pool: Descriptors, open_file: Callable[[int, bool], int]) -> None:
        self.open: dict[tuple[int, bool], OpenFile] = {}
        """For the pool alone: by number, and whether they can be written."""
        self._pool = pool
        self._open_file = open_file

    @contextlib.contextmanager
    def borrowing(self, index: int, *, write: bool = False) -> Iterator[int]:
        """A descriptor that stays open inside the block. Raises what `open_file` raises."""
        file = self.borrow(index, write=write)
        try:
            yield file.fd
        finally:
            self.give_back(file)

    def borrow(
        self, index: int, *, write: bool, open_file: Callable[[int, bool], int] | None = None
    ) -> OpenFile:
        """One that must be given back; if none is open, by `open_file`, or else by the owner's.
        Raises what that raises."""
        file = self.take(index, write=write)
        if file is None:
            opener = open_file or self._open_file
            fd = relieved(self._pool.relieve, opener, index, write)
            file = OpenFile(fd, self, index, write)
            self._pool.add(file)
        return file

    def take(self, index: int, *, write: bool) -> OpenFile | None:
        """One that is open already, if any; it must be given back."""
        return self._pool.take(self, index, write=write)

    def give_back(self, file: OpenFile) -> None:
        self._pool.give_back(file)

    def opened(self) -> list[tuple[int, int]]:
        """Number and descriptor of each open file. Another thread may close any of them."""
        return self._pool.opened(self)

    def drop(self, index: int) -> None:
        """The next to ask gets a newly opened one."""
        self._pool.drop(self, index)

    def close(self) -> None:
        """Drop all."""
        self._pool.drop(self)


def _close(file: OpenFile) -> None:
    # What a network file system may say here of writes, `sync` has said before: nothing vouches for
    # what was not synced. And whose file it was is not in this call.
    with contextlib.suppress(OSError):
        os.close(file.fd)
