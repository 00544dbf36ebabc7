"""Sketches of content on this disk: made while it is hashed, or by reading the same parts of it
later. The rule: both give the same. Blocking, and for threads.

Small files are read as a whole, and a sixteenth of large ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dht_torrent.errors import InputError
from dht_torrent.search import chunks
from dht_torrent.search.chunks import Chunker, joined
from dht_torrent.search.similar import Traits, file_id, samples, with_id
from dht_torrent.search.sketch import content_sketch
from dht_torrent.storage.hashing import list_sources
from dht_torrent.syscalls import read_at

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Sketched:
    """What the bytes of a torrent say."""

    content: bytes | None
    """None: too little of it, or there is no NumPy."""
    file_ids: tuple[bytes, ...]


class Sketching:
    """A `storage.hashing.Sampler`. Raises InputError when there is no NumPy."""

    def __init__(self) -> None:
        if not chunks.is_available():
            raise InputError(chunks.NEEDS_NUMPY)
        self._chunkers: list[Chunker] = []

    def regions(self, first: int, end: int) -> Iterable[tuple[int, int]]:
        """See `Sampler.regions`."""
        return chunks.regions(first, end)

    def taker(self) -> Callable[[int, memoryview], None]:
        """See `Sampler.taker`."""
        chunker = Chunker()
        self._chunkers.append(chunker)
        return chunker.take

    def content(self) -> bytes | None:
        """The sketch of what was seen, when all threads have ended. It is small; this is not."""
        return content_sketch(joined([one.minima() for one in self._chunkers]))


def sketching() -> Sketching | None:
    """None when there is no NumPy."""
    return Sketching() if chunks.is_available() else None


def sketch_files(
    files: Sequence[tuple[Path, int]], cancelled: Callable[[], bool] = lambda: False
) -> Sketched:
    """Of files and their sizes. `cancelled` is asked often. Raises InputError for what cannot be
    read, or is not as long as was said."""
    made = sketching()
    if made is not None:
        take = made.taker()
        for path, size in files:
            places = [(at, min(length, size - at)) for at, length in made.regions(0, size)]
            for (at, _), part in zip(places, _parts(path, size, places), strict=True):
                if cancelled():
                    raise InputError("cancelled")
                take(at, memoryview(part))
    return Sketched(made.content() if made is not None else None, file_ids(files))


def file_ids(files: Sequence[tuple[Path, int]]) -> tuple[bytes, ...]:
    """The ids of the largest of these. Raises as `sketch_files`."""
    ids = []
    for place in with_id([size for _, size in files]):
        path, size = files[place]
        ids.append(file_id(size, _parts(path, size, samples(size))))
    return tuple(dict.fromkeys(ids))


def traits_of(root: Path, cancelled: Callable[[], bool] = lambda: False) -> Traits:
    """Those of a file or folder, as they would be if it were shared. Raises InputError."""
    sources = list_sources(root)
    made = sketch_files([(one.location, one.length) for one in sources], cancelled)
    name = root.name if root.name not in ("", "..") else root.resolve().name
    listed = [(one.path, one.length) for one in sources]
    return Traits.of(name, listed, made.content, made.file_ids)


def _parts(path: Path, size: int, places: Sequence[tuple[int, int]]) -> Iterable[bytes]:
    """What is in a file at these places, one by one."""
    try:
        descriptor = os.open(path, _FLAGS)
        try:
            if os.fstat(descriptor).st_size != size:
                raise InputError(f"{path} has not the size that it had")
            for at, length in places:
                part = bytearray(length)
                done = 0
                while done < length and (
                    count := read_at(descriptor, memoryview(part)[done:], at + done)
                ):
                    done += count
                if done < length:
                    raise InputError(f"{path} became shorter while it was read")
                yield bytes(part)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
