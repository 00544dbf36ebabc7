"""What peers sent goes to the disk here: whole pieces, verified first, and the blocks of pieces
that are too large for the memory.

The rule: a job is taken in its turn, and everything that came of it is told at once. A slow disk
makes the queue no longer than the memory for open pieces: what waits here counts as open. A visit
to the disk costs as much as hashing half a megabyte: so the first piece goes at once, and those
that come soon after it wait for company, but never long.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from dht_torrent.config import TorrentConfig
from dht_torrent.engine.chores import Chores
from dht_torrent.engine.torrent.disk import TorrentDisk
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import StorageError
from dht_torrent.torrent.pieces import Chunk, OpenPiece

SAVERS = 2
"""Disk jobs in flight: one hashes while the other writes."""
SAVE_BATCH = 8 << 20
"""Bytes of assembled pieces, or of blocks, that share one thread hop."""

Writing = Callable[[Sequence[int]], AbstractContextManager[None]]
"""Around the time in which these pieces may be written to the content."""


@dataclass(slots=True)
class Saved:
    """What became of some pieces and chunks."""

    saved: list[OpenPiece] = field(default_factory=list)
    """Verified and written."""
    bad: list[OpenPiece] = field(default_factory=list)
    """Their hashes did not match."""
    unsaved: list[OpenPiece] = field(default_factory=list)
    """Could not be read or written, because of `error`."""
    stored: list[tuple[OpenPiece, Chunk]] = field(default_factory=list)
    """Are on the disk, unverified."""
    unstored: list[tuple[OpenPiece, Chunk]] = field(default_factory=list)
    """Could not be written, because of `error`."""
    digests: dict[int, bytes] = field(default_factory=dict)
    """`digests_of` each bad piece, and of those in doubt."""
    error: StorageError | None = None


class _Job(NamedTuple):
    piece: OpenPiece
    chunk: Chunk | None
    """Blocks of the piece to be stored; None: it is complete."""
    doubted: bool

    @property
    def size(self) -> int:
        return self.piece.size if self.chunk is None else self.chunk.filled

    @property
    def kind(self) -> int:
        """Jobs of one kind may be done together, save for pieces that are spilled."""
        return 0 if self.chunk is not None else 1 if self.piece.spill is None else 2


class Saving:
    """The disk jobs of one active torrent."""

    def __init__(
        self,
        disk: TorrentDisk,
        writing: Writing,
        uses_scratch: Callable[[], bool],
        more_to_come: Callable[[], bool],
        settle: Callable[[Saved], None],
        config: TorrentConfig,
        chores: Chores,
    ) -> None:
        """`uses_scratch`: is any piece spilled? `more_to_come`: may a piece be complete soon?
        `settle` is told what became of what was added."""
        self._disk = disk
        self._writing = writing
        self._uses_scratch = uses_scratch
        self._more_to_come = more_to_come
        self._settle = settle
        self._chores = chores
        self._enough = min(config.save_batch, config.max_open_bytes // 4)
        self._pause = config.save_pause
        self._ready: deque[_Job] = deque()  # bounded by the memory for open pieces
        self._size = 0
        """Bytes of all that is ready."""
        self._waits_until = -math.inf
        """Until then what is ready waits for company: `save_pause` from the last visit on."""
        self._news = AutoResetEvent()
        """Something is ready and was not before, or enough is."""
        self._gathering = trio.Lock()
        self._savers = 0

    def add(self, piece: OpenPiece, chunk: Chunk | None = None, *, doubted: bool = False) -> None:
        """Store these blocks of the piece; or else it is complete: verify and save it. If it is
        `doubted`, the digests of its blocks are wanted even if it is right."""
        job = _Job(piece, chunk, doubted)
        first = not self._ready
        self._ready.append(job)
        self._size += job.size
        if first or self._is_due():
            self._news.set()
        if self._savers < SAVERS and self._chores.begin(self._save):
            self._savers += 1

    async def close(self) -> None:
        """Nothing is saved any more: call when the chores have ended."""
        self._ready.clear()
        self._size = 0
        with trio.CancelScope(shield=True):  # a thread's work, and it is never abandoned
            await self._disk.drop_scratch()

    async def _save(self) -> None:
        """Do what is added, while there may be more."""
        try:
            while True:
                async with self._gathering:  # one waits for company, while another is at the disk
                    if not await self._gather():
                        break
                    batch = self._batch()
                self._settle(await self._do(batch))
                if batch[0].piece.spill is not None and not self._uses_scratch():
                    await self._disk.drop_scratch()
        finally:
            self._savers -= 1
            self._news.set()  # the other one may go as well

    async def _gather(self) -> bool:
        """Return when there is something worth a visit to the disk; or with False, when there will
        not be soon."""
        while not self._ready:
            if not self._more_to_come():
                return False
            await self._news.wait()
        if not self._is_due() and trio.current_time() < self._waits_until:
            with trio.move_on_at(self._waits_until):
                while not self._is_due():
                    await self._news.wait()
        self._waits_until = trio.current_time() + self._pause
        return True

    def _is_due(self) -> bool:
        """Is there no reason to wait for more?"""
        return self._size >= self._enough or self._ready[0].kind != 1 or not self._more_to_come()

    def _batch(self) -> list[_Job]:
        """The next jobs that one visit to the disk does."""
        batch = [self._ready.popleft()]
        kind, size = batch[0].kind, batch[0].size
        while self._ready and kind < 2 and self._ready[0].kind == kind and size < SAVE_BATCH:
            batch.append(self._ready.popleft())
            size += batch[-1].size
        self._size -= size
        return batch

    async def _do(self, batch: list[_Job]) -> Saved:
        if batch[0].chunk is not None:
            return await self._store([(job.piece, job.chunk) for job in batch if job.chunk])
        doubted = {job.piece.index for job in batch if job.doubted}
        pieces = {job.piece.index: job.piece for job in batch}
        with self._writing(list(pieces)):
            spill = batch[0].piece.spill
            if spill is None:
                result = await self._disk.save(
                    [(index, piece.buffer) for index, piece in pieces.items()], doubted
                )
            else:
                (index,) = pieces
                result = await self._disk.save_spilled(index, spill.slot, doubted=bool(doubted))
        return Saved(
            bad=[pieces.pop(index) for index in result.bad],
            saved=[pieces.pop(index) for index in result.saved],
            unsaved=list(pieces.values()),
            digests=result.digests,
            error=result.error,
        )

    async def _store(self, chunks: list[tuple[OpenPiece, Chunk]]) -> Saved:
        parts = [
            (piece.spill.slot, begin, data)
            for piece, chunk in chunks
            if piece.spill is not None
            for begin, data in chunk.parts()
        ]
        try:
            await self._disk.spill(parts)
        except StorageError as error:
            return Saved(unstored=chunks, error=error)
        return Saved(stored=chunks)
