"""Few files of a content stay open: the longest unused closes first, and none that is in use."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


@dataclass(slots=True, eq=False)
class OpenFile:
    """A descriptor in the pool. It closes when nobody uses it and the pool has dropped it."""

    fd: int
    users: int = 0
    pooled: bool = True


class Descriptors:
    """Descriptors of numbered files, `limit` at the most save for those in use. For any thread."""

    def __init__(self, limit: int, open_file: Callable[[int, bool], int]) -> None:
        """`open_file` takes a file's number, and whether it is to be written."""
        self._limit = limit
        self._open_file = open_file
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[int, bool], OpenFile] = OrderedDict()

    @contextlib.contextmanager
    def borrowing(self, index: int, *, write: bool = False) -> Iterator[int]:
        """A descriptor that stays open inside the block. Raises what `open_file` raises."""
        file = self.take(index, write=write) or self._add(index, write=write)
        try:
            yield file.fd
        finally:
            self.give_back(file)

    def take(self, index: int, *, write: bool) -> OpenFile | None:
        """One that is open already, if any; it must be given back."""
        with self._lock:
            for key in ((index, True),) if write else ((index, True), (index, False)):
                file = self._open.get(key)
                if file is not None:
                    file.users += 1
                    self._open.move_to_end(key)
                    return file
        return None

    def give_back(self, file: OpenFile) -> None:
        with self._lock:
            file.users -= 1
            unused = self._surplus()
            if file.users == 0 and not file.pooled and file not in unused:
                unused.append(file)
        for old in unused:
            os.close(old.fd)

    def opened(self) -> list[tuple[int, int]]:
        """Number and descriptor of each open file. Another thread may close any of them."""
        with self._lock:
            return [(index, file.fd) for (index, _), file in self._open.items()]

    def drop(self, index: int) -> None:
        """Whoever asks next gets a newly opened one."""
        with self._lock:
            files = [self._open.pop((index, write), None) for write in (False, True)]
            unused = [file for file in files if file is not None and file.users == 0]
            for file in files:
                if file is not None:
                    file.pooled = False
        for old in unused:
            os.close(old.fd)

    def close(self) -> None:
        """Drop all."""
        with self._lock:
            unused = [file for file in self._open.values() if file.users == 0]
            for file in self._open.values():
                file.pooled = False
            self._open.clear()
        for file in unused:
            os.close(file.fd)

    def _add(self, index: int, *, write: bool) -> OpenFile:
        try:
            fd = self._open_file(index, write)
        except OSError as exc:
            if exc.errno not in NO_DESCRIPTORS:
                raise
            self.close()  # others need descriptors more than this pool does
            fd = self._open_file(index, write)
        file = OpenFile(fd, users=1)
        with self._lock:
            if (index, write) in self._open:  # another thread was first: use ours this once
                file.pooled = False
            else:
                self._open[index, write] = file
            unused = self._surplus()
        for old in unused:
            os.close(old.fd)
        return file

    def _surplus(self) -> list[OpenFile]:
        """Drop the longest unused beyond the limit, and return them. Call with the lock held."""
        unused: list[OpenFile] = []
        if len(self._open) > self._limit:
            for key in [key for key, file in self._open.items() if file.users == 0]:
                if len(self._open) <= self._limit:
                    break
                file = self._open.pop(key)
                file.pooled = False
                unused.append(file)
        return unused
