"""What the engine asks of a storage; `files` and `memory` are its two kinds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from dht_torrent.errors import StorageError
from dht_torrent.storage.moving import Layout
from dht_torrent.storage.owners import Place

Data = bytes | bytearray | memoryview


class FileStamp(NamedTuple):
    """What a file looked like: if it differs later, the content may have changed."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ContentSurvey:
    """What lies where the content belongs, before anything is written."""

    stamps: tuple[FileStamp | None, ...]
    """As `Storage.stamps`."""
    odd: frozenset[int] = frozenset()
    """Files in whose place is something that is not a regular file."""
    place: Place | None = None
    """Where it is; None when no other program can get there."""
    mount: str | None = None
    """Where the file system it lies in is mounted; None when that means nothing."""


class Scratch(Protocol):
    """Room for bytes that are not verified yet, beside the content. What was never written reads as
    zeros, or not at all."""

    def write(self, offset: int, data: memoryview) -> None:
        """Raises StorageError."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of `buffer`. Raises StorageError."""
        ...

    def close(self) -> None:
        """Give up all of it."""
        ...


class Storage(Protocol):
    """The content of one torrent. Offsets run through all files, as pieces do.

    Pad files (BEP 47) read as zeros and are never written. A range outside the torrent is
    ValueError: callers check what peers ask.
    """

    access: bytearray
    """For each file how it may be written, in the words of `owners`: at first all are `NEW`, so
    that nothing which is there already can be written over. A file that is made becomes `OWN`."""

    @property
    def path(self) -> Path:
        """The file or folder that is the content."""
        ...

    @property
    def layout(self) -> Layout | None:
        """Which files these are; None where they are none, and cannot be moved."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Raises StorageError if a file is missing, or is not as long as it should be here."""
        ...

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill `buffers`, one after the other. Raises as `read`; they may then be filled in
        part."""
        ...

    def try_read_into(self, offset: int, *buffers: memoryview) -> bool:
        """Fill `buffers`, one after the other. False instead of waiting for a disk, and for any
        trouble; they may then be filled in part."""
        ...

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Creates files and folders as needed, and writes to each file as its `access` allows.
        Raises StorageError; a part may then be written."""
        ...

    def write_many(
        self, parts: Sequence[tuple[int, bytes | bytearray | memoryview]]
    ) -> tuple[int, StorageError | None]:
        """`write` each (offset, data) in its turn until one fails. Returns how many may be relied
        on, from the first, and why there are no more; of later ones a part may be written. Costs
        least where parts follow each other: what is done once a file is then done once a batch."""
        ...

    def note_unflushed(self, files: Collection[int]) -> None:
        """What is in these files may not be on the disk yet, though we did not write it: `sync` is
        to put it there."""
        ...

    def sync(self, files: Collection[int] | None = None) -> None:
        """Push to the disk what writes that have returned put into these files; None is all. Raises
        StorageError."""
        ...

    def stamps(self) -> tuple[FileStamp | None, ...]:
        """One for each file; None for one that is absent or no regular file, and for pad files."""
        ...

    def survey(self) -> ContentSurvey:
        """Look at everything there. Raises StorageError."""
        ...

    def place(self) -> Place | None:
        """`ContentSurvey.place`, without a look at the files."""
        ...

    def present(self, numbers: Sequence[int]) -> bool:
        """Are all these files there? Ends with the first that is not."""
        ...

    def mounted_at(self) -> str | None:
        """`ContentSurvey.mount`, and nothing else."""
        ...

    def blank(self, number: int, start: int, stop: int) -> bool:
        """Has a file nothing but holes and zeros there? True beyond its end, and when absent.
        Raises StorageError."""
        ...

    def next_data(self, offset: int, end: int) -> tuple[int, int]:
        """The first run of bytes in [offset, end) where something may have been written, as its
        start and end; (end, end) if there is none.

        What it steps over is absent, or a hole that reads as zeros.
        """
        ...

    def create(self, needed: int | None = None) -> None:
        """Make the content's folder and its empty files, so that a download can begin. Only here
        may the folder be made that the content goes into.

        `needed` is how many bytes are still to be written; None means all that is not there yet.
        Raises StorageError, with `disk_full` when that many are not free.
        """
        ...

    def scratch(self) -> Scratch:
        """New room on the disk that `create` prepared. It is gone when it is closed, or when the
        process ends in whatever way. Raises StorageError."""
        ...

    def delete(self, numbers: Iterable[int]) -> None:
        """Remove these files and the folders this leaves empty. Nothing else goes."""
        ...

    def close(self) -> None:
        """Give back all descriptors. Later calls open them again."""
        ...
