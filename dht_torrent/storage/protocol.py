"""What the engine asks of a storage; `files` and `memory` are its two kinds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol


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
