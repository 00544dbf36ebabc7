"""What was written and need not be on the disk yet. The rule: a file that was written since it was
flushed is flushed again before anybody relies on it; and much of that is begun before, so that it
takes little time then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from dht_torrent.syscalls import begin_flush


class Unflushed:
    """The files of one content that were, by number. For threads."""

    def __init__(self, begin_after: int) -> None:
        """`begin_after` is `DiskConfig.begin_flush`."""
        self._begin_after = begin_after
        self._lock = threading.Lock()
        self._files: set[int] = set()
        self._waiting: dict[int, int] = {}
        """Bytes of each that the system has not been asked to put on the disk."""

    def note(self, fd: int, number: int, length: int) -> None:
        """After a write: a sync that begins now includes it."""
        with self._lock:
            self._files.add(number)
            waiting = self._waiting.pop(number, 0) + length
            if not self._begin_after or waiting < self._begin_after:
                self._waiting[number] = waiting
                return
        begin_flush(fd)

    def sync(self, flush: Callable[[int], None]) -> None:
        """`flush` each. What it raises ends that; the files that were not flushed remain."""
        with self._lock:
            files, self._files = self._files, set()
            self._waiting.clear()
        try:
            for number in sorted(files):
                flush(number)
                files.discard(number)
        except BaseException:
            with self._lock:
                self._files |= files
            raise
