"""Hashing, reading and writing content off the event loop.

The rule: a piece reaches the content's files only after its SHA-1 matched, and counts as saved only
after the write returned. A piece too large for the memory waits for that in the storage's scratch
space. Threads are never abandoned: a cancelled call ends when its thread has, so a visit to one is
short, however large a piece is.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import ParamSpec, TypeVar

import trio

from dht_torrent.config import DiskConfig
from dht_torrent.errors import StorageError
from dht_torrent.geometry import Geometry
from dht_torrent.storage import Storage
from dht_torrent.storage.protocol import Data, Scratch
from dht_torrent.syscalls import cores
from dht_torrent.torrent.requests import Run, side_by_side
from dht_torrent.torrent.smart_ban import digests_of

_P = ParamSpec("_P")
_T = TypeVar("_T")

_HOP_BYTES = 32 << 20
"""Content read, hashed or written in one visit to a thread: 20-60 ms of SHA-1, so cancelling is
quick and the visit's own cost (0.1 ms) does not show."""
_SLICE = 2 << 20
"""Read at once when checking. Threads meet at the GIL between two reads: slices of 64 KiB gave
half the speed of these."""
_CALL_BUFFERS = 512
"""Adjacent blocks are read in one go up to this; systems take 1024 buffers a call (IOV_MAX)."""
_LOOK_AHEAD = 1 << 30
"""How far ahead a check looks for data behind a hole in one visit."""


class Disk:
    """The worker threads one node may use for content, shared by all its torrents."""

    def __init__(self, config: DiskConfig) -> None:
        self.threads = 1 if config.inline else config.threads or cores()
        self.inline = config.inline
        self._limiter = trio.CapacityLimiter(self.threads)

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """`work(*args)` in a worker thread, or right here when the disk is inline.

        Cancellation is seen before the work begins, never in its middle.
        """
        if self.inline:
            await trio.lowlevel.checkpoint()
            return work(*args, **kwargs)
        return await trio.to_thread.run_sync(
            lambda: work(*args, **kwargs), limiter=self._limiter, abandon_on_cancel=False
        )


ReadPart = Callable[[int, memoryview], bool]
"""Fills a buffer with what lies in some place from this byte on; False if it cannot."""


class _Gone(Exception):  # noqa: N818 - an outcome, which does not leave this module
    """What was to be read is not there any more."""


@dataclass(frozen=True, slots=True)
class SaveResult:
    """What became of the pieces given to `TorrentDisk.save`. One that is in neither list matched
    its hash but could not be written, because of `error`."""

    saved: list[int]
    bad: list[int]
    error: StorageError | None
    digests: dict[int, bytes] = field(default_factory=dict)
    """The SHA-1 of each block, of bad pieces and of those in doubt."""


@dataclass(slots=True)
class ReuseResult:
    """What became of the pieces given to `TorrentDisk.reuse`: they are in one of the lists, or were
    not looked for any more, because of `error`."""

    found: list[tuple[int, int]] = field(default_factory=list)
    """Each with the number of the place it was in. They matched their hash and were written."""
    missed: list[int] = field(default_factory=list)
    error: StorageError | None = None


class TorrentDisk:
    """One torrent's content, verified. `hashes` are the SHA-1s of the pieces, 20 bytes each."""

    def __init__(self, disk: Disk, storage: Storage, geometry: Geometry, hashes: bytes) -> None:
        self.disk = disk
        self.storage = storage
        self._geometry = geometry
        self._hashes = hashes
        # One file takes one writer at a time. Left to the kernel, the second one spins on the
        # inode and burns the core that the network needs; here it sleeps.
        self._writing = threading.Lock()
        self._scratch: Scratch | None = None

    async def save(
        self,
        pieces: Sequence[tuple[int, Data]],
        doubted: Collection[int] = (),
    ) -> SaveResult:
        """Verify whole pieces, then write the good ones at once, all in one thread. Does not sync.

        The buffers must stay unchanged until this returns. After the first failed write nothing
        more is written. Calls may overlap, for different pieces.
        """
        return await self.disk.run(self._save, pieces, doubted)

    def _save(
        self,
        pieces: Sequence[tuple[int, Data]],
        doubted: Collection[int],
    ) -> SaveResult:
        good: list[tuple[int, Data]] = []
        bad: list[int] = []
        digests: dict[int, bytes] = {}
        for index, data in pieces:
            right = hashlib.sha1(data).digest() == self._hash(index)
            if not right or index in doubted:
                digests[index] = digests_of(data)
            if right:
                good.append((index, data))
            else:
                bad.append(index)
        length = self._geometry.piece_length
        # Pieces that share files follow each other: see `Storage.write_many`.
        ordered = sorted(good, key=itemgetter(0))
        count, error = 0, None
        if ordered:
            with self._writing:
                count, error = self.storage.write_many(
                    [(index * length, data) for index, data in ordered]
                )
        written = {index for index, _ in ordered[:count]}
        saved = [index for index, _ in good if index in written]
        return SaveResult(saved, bad, error, digests)

    # -- what lies elsewhere on this disk -------------------------------------------------------

    async def reuse(
        self,
        pieces: Sequence[tuple[int, Sequence[ReadPart]]],
        buffer: memoryview,
    ) -> ReuseResult:
        """Look for each piece in the places from which its functions `read(begin, buffer)`, verify
        it, and write it if it is there. What is verified is what is written, whatever happens to
        its source meanwhile. Calls may overlap, for different pieces, with a buffer each; a piece
        that is larger than the buffer comes alone."""
        index, places = pieces[0]
        if self._geometry.piece_size(index) > len(buffer):
            return await self._reuse_large(index, places)
        return await self.disk.run(self._reuse, pieces, buffer)

    def _reuse(
        self, pieces: Sequence[tuple[int, Sequence[ReadPart]]], buffer: memoryview
    ) -> ReuseResult:
        result = ReuseResult()
        for index, places in pieces:
            data = buffer[: self._geometry.piece_size(index)]
            for number, read in enumerate(places):
                if not read(0, data) or hashlib.sha1(data).digest() != self._hash(index):
                    continue
                try:
                    with self._writing:
                        self.storage.write(index * self._geometry.piece_length, data)
                except StorageError as error:
                    result.error = error
                    return result
                result.found.append((index, number))
                break
            else:
                result.missed.append(index)
        return result

    async def _reuse_large(self, index: int, places: Sequence[ReadPart]) -> ReuseResult:
        """By way of scratch space of its own, as what comes from peers: what is verified there
        cannot change any more."""
        size = self._geometry.piece_size(index)
        for number, place in enumerate(places):

            def read(at: int, buffer: memoryview, place: ReadPart = place) -> None:
                if not place(at, buffer):
                    raise _Gone

            try:
                if await self._sha1(read, size) != self._hash(index):
                    continue
                if await self._copy_over_scratch(index, read, size):
                    return ReuseResult([(index, number)])
            except _Gone:
                continue
            except StorageError as error:
                return ReuseResult(error=error)
        return ReuseResult(missed=[index])

    async def _copy_over_scratch(
        self, index: int, read: Callable[[int, memoryview], None], size: int
    ) -> bool:
        """False if it is another by now. Raises StorageError."""
        scratch = await self.disk.run(self.storage.scratch)
        sha1 = hashlib.sha1()

        def keep(at: int, view: memoryview) -> None:
            sha1.update(view)
            scratch.write(at, view)

        try:
            await self._in_steps(read, size, keep)
            if sha1.digest() != self._hash(index):
                return False
            await self._in_steps(scratch.read_into, size, partial(self._copy, index))
        finally:
            with trio.CancelScope(shield=True):  # a thread's work, and it is never abandoned
                await self.disk.run(scratch.close)
        return True

    # -- pieces too large for the memory --------------------------------------------------------

    async def spill(self, parts: Sequence[tuple[int, int, memoryview]]) -> None:
        """Put parts of pieces, as (slot, begin, bytes), into the scratch space, unverified. The
        bytes must stay unchanged until this returns. Raises StorageError."""
        await self.disk.run(self._spill, parts)

    def _spill(self, parts: Sequence[tuple[int, int, memoryview]]) -> None:
        with self._writing:
            if self._scratch is None:
                self._scratch = self.storage.scratch()
            for slot, begin, data in parts:
                self._scratch.write(slot * self._geometry.piece_length + begin, data)

    async def save_spilled(self, index: int, slot: int, *, doubted: bool = False) -> SaveResult:
        """As `save`, for a piece that lies in the scratch space: verify it there, then copy it."""
        scratch = self._scratch
        assert scratch is not None
        size, start = self._geometry.piece_size(index), slot * self._geometry.piece_length
        digests: dict[int, bytes] = {}

        def read(at: int, buffer: memoryview) -> None:
            scratch.read_into(start + at, buffer)

        try:
            good = await self._sha1(read, size) == self._hash(index)
            if doubted or not good:
                found: list[bytes] = []
                await self._in_steps(read, size, lambda _, view: found.append(digests_of(view)))
                digests[index] = b"".join(found)
            if not good:
                return SaveResult([], [index], None, digests)
            await self._in_steps(read, size, partial(self._copy, index))
        except StorageError as error:
            return SaveResult([], [], error, digests)
        return SaveResult([index], [], None, digests)

    def _copy(self, index: int, at: int, data: memoryview) -> None:
        with self._writing:
            self.storage.write(index * self._geometry.piece_length + at, data)

    async def _sha1(self, read: Callable[[int, memoryview], None], size: int) -> bytes:
        """Of `size` bytes, which `read(at, buffer)` reads."""
        sha1 = hashlib.sha1()
        await self._in_steps(read, size, lambda _, view: sha1.update(view))
        return sha1.digest()

    async def _in_steps(
        self,
        read: Callable[[int, memoryview], None],
        size: int,
        work: Callable[[int, memoryview], None],
    ) -> None:
        """Call `work(at, data)` for a slice after the other, in visits of bounded length."""
        buffer = memoryview(bytearray(min(size, _SLICE)))

        def visit(start: int, stop: int) -> None:
            for at in range(start, stop, _SLICE):
                view = buffer[: min(_SLICE, stop - at)]
                read(at, view)
                work(at, view)

        for start in range(0, size, _HOP_BYTES):
            await self.disk.run(visit, start, min(start + _HOP_BYTES, size))

    async def drop_scratch(self) -> None:
        """Nothing is in the scratch space that is still needed, and nobody uses it."""
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            await self.disk.run(scratch.close)

    async def read(self, runs: Sequence[Run], into: Sequence[memoryview]) -> None:
        """Fill each buffer with a block. The runs say which, one after the other, and have been
        checked against the geometry.

        What the system has cached is read at once, without a checkpoint; the rest in one thread.
        Raises StorageError if any of them cannot be read.
        """
        parts = side_by_side(runs, self._geometry.piece_length, into, _CALL_BUFFERS)
        if not self.disk.inline:
            try_read_into = self.storage.try_read_into
            parts = [part for part in parts if not try_read_into(part[0], *part[1])]
        if parts:
            await self.disk.run(self._read_parts, parts)

    def _read_parts(self, parts: Sequence[tuple[int, Sequence[memoryview]]]) -> None:
        for offset, buffers in parts:
            self.storage.read_into(offset, *buffers)

    async def check(
        self,
        wanted: Iterable[int] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> set[int]:
        """The pieces, of all or of those `wanted`, that are on disk and match their hash.

        Uses all the disk's threads. Trouble with a file only makes its pieces missing. `progress`
        is called with pieces looked at, and pieces to look at, in the caller's thread. Raises
        StorageError when there are no descriptors to open files with: that tells nothing of them.
        """
        count = self._geometry.piece_count
        indices: Sequence[int] = range(count) if wanted is None else sorted(set(wanted))
        search = _Search(indices, self._geometry.piece_length)
        verified: set[int] = set()
        looked = 0
        trouble: StorageError | None = None

        async def worker() -> None:
            nonlocal looked, trouble
            buffer = bytearray(_SLICE)
            while part := search.take():
                try:
                    if self._geometry.piece_length > _HOP_BYTES:
                        good, next_piece = await self._check_large(part[0], zeros), 0
                    else:
                        good, next_piece = await self.disk.run(
                            self._check_part, part, zeros, buffer
                        )
                except StorageError as error:
                    trouble = error  # raised below, or the nursery would wrap it in a group
                    nursery.cancel_scope.cancel()
                    return
                verified.update(good)
                looked += len(part) + search.skip_to(next_piece)
                if progress is not None:
                    progress(looked, len(indices))

        zeros = await self._zero_hashes()
        async with trio.open_nursery() as nursery:
            for _ in range(self.disk.threads):
                nursery.start_soon(worker)
        if trouble is not None:
            raise trouble
        return verified

    def _check_part(
        self, part: Sequence[int], zeros: frozenset[bytes], buffer: bytearray
    ) -> tuple[list[int], int]:
        """The good ones in `part`, and a piece before which nothing else can be good."""
        verified: list[int] = []
        piece_length, total = self._geometry.piece_length, self._geometry.total
        data = stop = -1  # where the next data begins and ends, as far as is known
        run: list[int] = []  # pieces side by side that one read can take
        for index in part:
            start = index * piece_length
            if stop <= start:
                data, stop = self.storage.next_data(start, min(start + _LOOK_AHEAD, total))
            # All holes is all zeros: seldom what a piece is, and not worth reading otherwise.
            end = start + self._geometry.piece_size(index)
            if data >= end and self._hash(index) not in zeros:
                continue
            if run and (run[-1] != index - 1 or (len(run) + 1) * piece_length > len(buffer)):
                verified += self._matching(run, memoryview(buffer))
                run = []
            run.append(index)
        verified += self._matching(run, memoryview(buffer))
        # A piece of zeros can hide in any hole: then nothing beyond this part is stepped over.
        return verified, 0 if zeros else max(data, 0) // piece_length

    def _matching(self, run: list[int], buffer: memoryview) -> list[int]:
        if len(run) > 1:
            length = self._geometry.piece_length
            view = buffer[: length * (len(run) - 1) + self._geometry.piece_size(run[-1])]
            with _troubles_of_files():  # then see which of them it is
                self.storage.read_into(run[0] * length, view)
                return [
                    index
                    for number, index in enumerate(run)
                    if hashlib.sha1(view[number * length : (number + 1) * length]).digest()
                    == self._hash(index)
                ]
        return [index for index in run if self._matches(index, buffer)]

    def _matches(self, index: int, buffer: memoryview) -> bool:
        sha1 = hashlib.sha1()
        start = index * self._geometry.piece_length
        end = start + self._geometry.piece_size(index)
        with _troubles_of_files():
            for at in range(start, end, len(buffer)):
                view = buffer[: min(len(buffer), end - at)]
                self.storage.read_into(at, view)
                sha1.update(view)
            return sha1.digest() == self._hash(index)
        return False

    async def _check_large(self, index: int, zeros: frozenset[bytes]) -> list[int]:
        """As `_check_part`, for one piece that takes more than a visit."""
        size, start = self._geometry.piece_size(index), index * self._geometry.piece_length
        data, _ = await self.disk.run(self.storage.next_data, start, start + size)
        if data >= start + size and self._hash(index) not in zeros:
            return []

        def read(at: int, buffer: memoryview) -> None:
            self.storage.read_into(start + at, buffer)

        with _troubles_of_files():
            return [index] if await self._sha1(read, size) == self._hash(index) else []
        return []

    async def _zero_hashes(self) -> frozenset[bytes]:
        """Which of this torrent's hashes are those of a whole piece of zeros."""
        last = self._geometry.piece_count - 1
        sizes = {self._geometry.piece_size(index) for index in (0, last)} if last >= 0 else set()
        hashes = {await self._sha1(_no_read, size) for size in sorted(sizes)}
        return frozenset(
            self._hashes[at : at + 20]
            for at in range(0, len(self._hashes), 20)
            if self._hashes[at : at + 20] in hashes
        )

    def _hash(self, index: int) -> bytes:
        return self._hashes[20 * index : 20 * index + 20]


@contextlib.contextmanager
def _troubles_of_files() -> Iterator[None]:
    """Errors that tell something of a file end the block, and nothing else."""
    try:
        yield
    except StorageError as error:
        if error.lacks_descriptors:
            raise


class _Search:
    """Hands out what is to be checked, a visit's worth at a time."""

    def __init__(self, indices: Sequence[int], piece_length: int) -> None:
        self._indices = indices
        self._step = max(1, _HOP_BYTES // piece_length)
        self._position = 0

    def take(self) -> Sequence[int]:
        """The next part; empty at the end."""
        part = self._indices[self._position : self._position + self._step]
        self._position += len(part)
        return part

    def skip_to(self, piece: int) -> int:
        """Leave out what is before `piece`. Returns how many pieces that was."""
        position = bisect.bisect_left(self._indices, piece)
        skipped = max(0, position - self._position)
        self._position += skipped
        return skipped


def _no_read(at: int, buffer: memoryview) -> None:
    """What is in a new buffer is what is wanted: zeros."""
