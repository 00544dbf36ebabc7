"""How much memory pieces take that are being downloaded, for a whole node and for each torrent.

A piece lies in memory if there is room for it; else it is spilled to the disk, and takes memory for
its blocks alone that were asked for, or came and are not written yet. The rule: all pieces together
take no more than the node's bound, and each torrent may have a piece open all the same, so that it
gets on: one that takes no more than a chunk (`spill_batch`) beyond the bound.
"""

from __future__ import annotations

from enum import Enum

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.pieces import BufferPool, Chunk, Landing, OpenPiece, Spill

SLOTS = 2
"""Spilled pieces of a torrent at a time: one is assembled while the other is verified."""


class _Where(Enum):
    MEMORY = 1
    DISK = 2


class PieceMemory:
    """What all torrents of a node share."""

    def __init__(self, limit: int, spare: int) -> None:
        """At most `limit` bytes, of which `spare` may be buffers kept for the next pieces."""
        self.limit = limit
        self.used = 0
        """Bytes of open pieces."""
        self.spare = BufferPool(spare)

    def charge(self, change: int) -> None:
        """So many bytes more are used, or less."""
        self.used += change
        if change > 0:
            self.spare.shrink(self.limit - self.used)

    def give(self, buffer: bytearray, landing: Landing | None = None) -> None:
        """See `BufferPool.give`."""
        self.spare.give(buffer, landing)
        self.spare.shrink(self.limit - self.used)


class TorrentMemory:
    """The part of one torrent, and how its pieces come by it."""

    def __init__(self, node: PieceMemory, config: TorrentConfig) -> None:
        self.used = 0
        """Bytes of the node's memory that are this torrent's."""
        self._node = node
        self._most = config.max_open_bytes
        self._longest = config.max_piece_in_memory
        self._least = max(1, config.spill_batch // BLOCK)  # blocks
        self._batch = self._least * BLOCK
        self._pieces = 0
        self._slots = list(range(SLOTS))
        self._settling = 0  # pieces that are closed, and whose chunks are still being written

    @property
    def settling(self) -> bool:
        """Will there be room before long, though nothing else is done?"""
        return self._settling > 0

    @property
    def spills(self) -> bool:
        """Is any place in the scratch space taken?"""
        return len(self._slots) < SLOTS

    def fits(self, size: int) -> bool:
        """May a piece of this size be opened now?"""
        return self._where(size) is not None

    def _where(self, size: int) -> _Where | None:
        free = self._node.limit - self._node.used
        # Two pieces whatever their size: one assembles while the other is written.
        welcome = self._pieces < SLOTS or self.used + size <= self._most
        if size <= self._longest and welcome and size <= free:
            return _Where.MEMORY
        # One piece all the same, once what was closed has left memory as well.
        first = not self._pieces and not self._settling
        if first and size <= min(self._batch, self._longest):
            return _Where.MEMORY
        if self._slots and (first or (size > self._longest and self._batch <= free)):
            return _Where.DISK
        return None

    def open(self, index: int, size: int) -> OpenPiece:
        """Open a piece, which must fit."""
        where = self._where(size)
        assert where is not None
        self._pieces += 1
        if where is _Where.MEMORY:
            self._charge(size)
            storage, landing = self._node.spare.take_landing(size)
            return OpenPiece(index, size, storage, landing=landing)
        self._charge(self._batch)
        return OpenPiece(index, size, bytearray(), Spill(self._slots.pop()))

    def close(self, piece: OpenPiece) -> None:
        """The piece is done with. No thread may read its buffer any more, save for chunks."""
        self._pieces -= 1
        spill = piece.spill
        if spill is None:
            self._charge(-piece.size)
            self._node.give(*piece.leave_storage())
            return
        before = self._cost(spill)
        spill.closed = True
        chunk, spill.chunk = spill.chunk, None
        if chunk is not None:
            self._node.give(chunk.buffer)
        self._charge(self._cost(spill) - before)
        if spill.chunks_away:
            self._settling += 1
        else:
            self._slots.append(spill.slot)

    def release(self) -> None:
        """Nothing of this torrent is used any more, chunks included."""
        self._charge(-self.used)

    # -- blocks of spilled pieces ---------------------------------------------------------------

    def grant(self, spill: Spill, count: int) -> int:
        """How many blocks, of `count`, may be asked for now. They count from now on."""
        room = max(0, min(self._most - self.used, self._node.limit - self._node.used))
        count = min(count, max(self._least, spill.held) - spill.held + room // BLOCK)
        self._hold(spill, spill.held + count)
        return count

    def waive(self, spill: Spill) -> None:
        """A block is not asked for any more."""
        self._hold(spill, spill.held - 1)

    def put(self, spill: Spill, begin: int, data: bytes | memoryview) -> Chunk | None:
        """A block came, which was granted. Returns a chunk for the disk when one is full."""
        chunk = spill.chunk
        if chunk is None:
            chunk = spill.chunk = Chunk(self._node.spare.take(self._batch))
        chunk.put(begin, data)
        return self.flush(spill) if chunk.full else None

    def flush(self, spill: Spill) -> Chunk | None:
        """What came and was not given to the disk yet, if anything."""
        chunk, spill.chunk = spill.chunk, None
        if chunk is not None:
            spill.away += chunk.blocks
            spill.chunks_away += 1
        return chunk

    def landed(self, spill: Spill, chunk: Chunk) -> None:
        """The disk is done with the chunk, for good or ill."""
        before = self._cost(spill)
        spill.away -= chunk.blocks
        spill.held -= chunk.blocks
        spill.chunks_away -= 1
        self._charge(self._cost(spill) - before)
        self._node.give(chunk.buffer)
        if spill.closed and not spill.chunks_away:
            self._settling -= 1
            self._slots.append(spill.slot)

    def _hold(self, spill: Spill, held: int) -> None:
        before = self._cost(spill)
        spill.held = held
        self._charge(self._cost(spill) - before)

    def _cost(self, spill: Spill) -> int:
        return BLOCK * (spill.away if spill.closed else max(self._least, spill.held))

    def _charge(self, change: int) -> None:
        self.used += change
        self._node.charge(change)
