"""Disk jobs are done in their turn, many small ones in one visit, and a spilled piece by itself."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence

import trio
import trio.lowlevel

from dht_torrent.config import DiskConfig
from dht_torrent.engine.torrent.disk import Disk, TorrentDisk
from dht_torrent.engine.torrent.saving import Saved, Saving
from dht_torrent.geometry import BLOCK
from dht_torrent.storage import MemoryStorage
from dht_torrent.torrent.pieces import Chunk, OpenPiece, Spill
from tests.helpers.storages import hashed

DATA = random.Random(4).randbytes(4 * 2 * BLOCK)
META = hashed(DATA, [len(DATA)], piece_length=2 * BLOCK)


def data_of(index: int) -> bytes:
    return DATA[index * 2 * BLOCK : (index + 1) * 2 * BLOCK]


def chunk_of(index: int) -> Chunk:
    chunk = Chunk(bytearray(2 * BLOCK))
    chunk.put(BLOCK, data_of(index)[BLOCK:])
    chunk.put(0, data_of(index)[:BLOCK])
    return chunk


async def test_jobs_that_wait_together_are_all_done_and_the_scratch_space_goes_at_the_end() -> None:
    storage = MemoryStorage(META.geometry, space=1 << 20)
    disk = TorrentDisk(Disk(DiskConfig(inline=True)), storage, META.geometry, META.pieces)
    written: list[list[int]] = []

    @contextlib.contextmanager
    def writing(indices: Sequence[int]) -> Iterator[None]:
        written.append(list(indices))
        yield

    saving = Saving(disk, writing, lambda: True)
    spilled = [OpenPiece(index, 2 * BLOCK, bytearray(), Spill(index)) for index in (0, 1)]
    small = [OpenPiece(index, 2 * BLOCK, bytearray(data_of(index))) for index in (2, 3)]
    told: list[Saved] = []

    def settle(saved: Saved) -> None:
        told.append(saved)
        if len(told) == 1:  # the chunks are there: now the pieces, next to each other
            for piece in spilled:
                saving.add(piece, doubted=piece.index == 1)
            for piece in small:
                saving.add(piece)

    for piece in spilled:
        saving.add(piece, chunk_of(piece.index))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(saving.run, settle)
            while sum(len(saved.saved) for saved in told) < 4:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert [piece for piece, _ in told[0].stored] == spilled
    assert written == [[0], [1], [2, 3]]
    assert {index for saved in told for index in saved.digests} == {1}
    assert storage.read(0, len(DATA)) == DATA
    assert storage.space == (1 << 20) - len(DATA)  # nothing but the content is left
