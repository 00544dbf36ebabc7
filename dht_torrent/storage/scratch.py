"""Room on the disk for bytes that are not verified yet: a file without a name.

No unverified byte ever lies in the content's files; and however the process ends, nothing of this
is left, for the file is gone when its descriptor closes.
"""

from __future__ import annotations

import os
from pathlib import Path

from dht_torrent.errors import StorageError
from dht_torrent.storage.folder import fail
from dht_torrent.syscalls import read_at


class FileScratch:
    """A file that has a descriptor only. Calls may come from several threads at once, but none
    during or after `close`."""

    def __init__(self, fd: int, folder: Path) -> None:
        """`fd` is closed with this object; `folder`, for people, is where its bytes lie."""
        self._fd = fd
        self._folder = folder

    def write(self, offset: int, data: memoryview) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], offset + done)
        except OSError as exc:
            fail(self._folder, exc)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        done = 0
        try:
            while done < len(buffer):
                count = read_at(self._fd, buffer[done:], offset + done)
                if not count:
                    raise StorageError(f"{self._folder}: a piece has lost its end")
                done += count
        except OSError as exc:
            fail(self._folder, exc)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
