"""What was written and need not be on the disk yet. The rule: a file that was written since it was
flushed, by us or by whoever was before us, is flushed again before anybody relies on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from dht_torrent.errors import StorageError


class Unflushed:
    """The files of one content that were, by number. For threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: set[int] = set()

    def note(self, *numbers: int) -> None:
        """After a write: a sync that begins now includes them."""
        with self._lock:
            self._files.update(numbers)

    def sync(self, flush: Callable[[int], None], wanted: Collection[int] | None = None) -> None:
        """`flush` each of those wanted; None is all. What it raises ends that; the files that were
        not flushed remain."""
        with self._lock:
            due = self._files if wanted is None else self._files.intersection(wanted)
            self._files = self._files - due
        left = set(due)
        try:
            for number in sorted(due):
                flush(number)
                left.discard(number)
        except BaseException as error:
            with self._lock:
                self._files |= left
            if isinstance(error, StorageError) and not error.lacks_descriptors:
                error.unflushed = number
            raise
