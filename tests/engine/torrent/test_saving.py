"""Disk jobs are done in their turn, many small ones in one visit, and a spilled piece by itself."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import trio
import trio.lowlevel
import trio.testing
from trio.testing import MockClock

from dht_torrent.config import DiskConfig, TorrentConfig
from dht_torrent.engine.chores import Chores
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

    chores = Chores()
    saving = Saving(disk, writing, lambda: True, lambda: False, settle, TorrentConfig(), chores)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(chores.run)
            for piece in spilled:
                saving.add(piece, chunk_of(piece.index))
            while sum(len(saved.saved) for saved in told) < 4:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await saving.close()
    assert [piece for piece, _ in told[0].stored] == spilled
    assert written == [[0], [1], [2, 3]]
    assert {index for saved in told for index in saved.digests} == {1}
    assert storage.read(0, len(DATA)) == DATA
    assert storage.space == (1 << 20) - len(DATA)  # nothing but the content is left


# -- company ---------------------------------------------------------------------------------------

SIZE = 2 * BLOCK
CONFIG = TorrentConfig(save_batch=3 * SIZE, save_pause=0.5)


class Visits:
    """What was saved together, and when."""

    def __init__(self, config: TorrentConfig, more: Callable[[], bool]) -> None:
        self.made: list[tuple[float, list[int]]] = []
        storage = MemoryStorage(META.geometry)
        disk = TorrentDisk(Disk(DiskConfig(inline=True)), storage, META.geometry, META.pieces)
        self.chores = Chores()
        self.saving = Saving(
            disk, self._writing, lambda: False, more, lambda saved: None, config, self.chores
        )

    @contextlib.contextmanager
    def _writing(self, indices: Sequence[int]) -> Iterator[None]:
        self.made.append((trio.current_time(), list(indices)))
        yield

    def add(self, *indices: int) -> None:
        for index in indices:
            self.saving.add(OpenPiece(index, SIZE, bytearray(data_of(index))))


@contextlib.asynccontextmanager
async def visits(
    more: Callable[[], bool] = lambda: True, config: TorrentConfig = CONFIG
) -> AsyncIterator[Visits]:
    made = Visits(config, more)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.chores.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_a_piece_waits_for_company_but_no_longer_than_the_pause(
    autojump_clock: MockClock,
) -> None:
    async with visits() as seen:
        began = trio.current_time()
        for index, at in ((0, 0.0), (1, 0.2), (2, 0.4), (3, 1.25)):
            await trio.sleep_until(began + at)
            seen.add(index)
        await trio.sleep(2)
        # The first one at once; and the last one, for the pause was over.
        assert seen.made == [(began, [0]), (began + 0.5, [1, 2]), (began + 1.25, [3])]


async def test_pieces_are_saved_at_once_when_they_are_enough(autojump_clock: MockClock) -> None:
    async with visits(config=TorrentConfig(save_batch=2 * SIZE, save_pause=0.5)) as seen:
        began = trio.current_time()
        seen.add(0)
        await trio.sleep(0.125)
        seen.add(1)
        await trio.sleep(0.125)
        seen.add(2)
        await trio.sleep(0.125)
        seen.add(3)
        await trio.sleep(2)
        assert seen.made == [(began, [0]), (began + 0.25, [1, 2]), (began + 0.75, [3])]


async def test_the_last_pieces_do_not_wait(autojump_clock: MockClock) -> None:
    more = [True]
    async with visits(lambda: more[0]) as seen:
        began = trio.current_time()
        seen.add(0)
        await trio.sleep(0.125)
        seen.add(1)
        await trio.sleep(0.125)
        more[0] = False
        seen.add(2)
        await trio.sleep(0.125)
        seen.add(3)
        await trio.sleep(0.125)
        assert seen.made == [(began, [0]), (began + 0.25, [1, 2]), (began + 0.375, [3])]


async def test_no_more_waits_than_a_quarter_of_the_memory_holds(autojump_clock: MockClock) -> None:
    config = TorrentConfig(save_batch=1 << 30, save_pause=0.5, max_open_bytes=8 * SIZE)
    async with visits(config=config) as seen:
        began = trio.current_time()
        for index in (0, 1, 2):
            seen.add(index)
            await trio.sleep(0.125)
        assert seen.made == [(began, [0]), (began + 0.25, [1, 2])]


async def test_blocks_of_spilled_pieces_do_not_wait(autojump_clock: MockClock) -> None:
    told: list[Saved] = []
    storage = MemoryStorage(META.geometry)
    disk = TorrentDisk(Disk(DiskConfig(inline=True)), storage, META.geometry, META.pieces)
    chores = Chores()
    saving = Saving(
        disk,
        lambda _: contextlib.nullcontext(),
        lambda: True,
        lambda: True,
        told.append,
        CONFIG,
        chores,
    )
    piece = OpenPiece(0, SIZE, bytearray(), Spill(0))
    async with trio.open_nursery() as nursery:
        await nursery.start(chores.run)
        saving.add(piece, chunk_of(0))
        await trio.sleep(0.1)
        saving.add(piece)
        await trio.sleep(0.1)
        assert [len(saved.stored) for saved in told] == [1, 0]
        assert told[1].saved == [piece]
        nursery.cancel_scope.cancel()
