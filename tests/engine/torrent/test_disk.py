"""Nothing unverified reaches the disk, nothing unwritten counts as saved; checks find the rest."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.config import DiskConfig
from dht_torrent.engine.torrent import disk as disk_module
from dht_torrent.engine.torrent.disk import Disk, TorrentDisk
from dht_torrent.errors import StorageError
from dht_torrent.geometry import BLOCK
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage import FileStorage, MemoryStorage, Storage
from dht_torrent.storage.owners import NEW
from dht_torrent.storage.protocol import Data
from dht_torrent.torrent.requests import Run, single_requests
from dht_torrent.torrent.smart_ban import digests_of
from tests.helpers.examples import examples
from tests.helpers.storages import PIECE, hashed

CONTENT = random.Random(3).randbytes(5 * PIECE + 100)
SIZES = (10, 2 * PIECE, len(CONTENT) - 2 * PIECE - 10)
ALL = set(range(6))


META = hashed(CONTENT, SIZES)


def piece(index: int, content: bytes = CONTENT) -> bytes:
    return content[index * PIECE : (index + 1) * PIECE]


def in_memory(storage: MemoryStorage | None = None, *, inline: bool = False) -> TorrentDisk:
    storage = storage or MemoryStorage(META.geometry)
    return TorrentDisk(Disk(DiskConfig(inline=inline)), storage, META.geometry, META.pieces)


def on_disk(root: Path, meta: Metainfo = META, *, inline: bool = False) -> TorrentDisk:
    config = DiskConfig(inline=inline)
    storage: Storage = FileStorage(root, meta, config)
    return TorrentDisk(Disk(config), storage, meta.geometry, meta.pieces)


async def read(disk: TorrentDisk, blocks: Sequence[tuple[int, int, int]]) -> list[bytearray]:
    buffers = [bytearray(length) for _, _, length in blocks]
    runs = [Run(*block, 1) for block in blocks]
    await disk.read(runs, [memoryview(buffer) for buffer in buffers])
    return buffers


@pytest.mark.parametrize("inline", [False, True])
async def test_good_pieces_are_saved_and_read_back(tmp_path: Path, inline: bool) -> None:
    disk = on_disk(tmp_path, inline=inline)
    result = await disk.save([(index, bytearray(piece(index))) for index in (5, 0, 3, 1, 4, 2)])
    assert (result.saved, result.bad, result.error) == ([5, 0, 3, 1, 4, 2], [], None)
    blocks = [(0, 0, 100), (0, 100, PIECE - 100), (1, 0, PIECE), (5, 90, 10), (3, 7, 9), (3, 0, 7)]
    assert await read(disk, blocks) == [piece(i)[at : at + size] for i, at, size in blocks]
    assert await disk.check() == ALL
    disk.storage.close()


class Calls(MemoryStorage):
    """Notes the buffers of each read."""

    def __init__(self) -> None:
        super().__init__(META.geometry)
        self.calls: list[tuple[int, int]] = []

    def try_read_into(self, offset: int, *buffers: memoryview) -> bool:
        self.calls.append((offset, len(buffers)))
        return super().try_read_into(offset, *buffers)


async def test_what_lies_side_by_side_is_read_in_one_call() -> None:
    storage = Calls()
    storage.write(0, CONTENT)
    half = PIECE // 2
    runs = [Run(0, half, half, 1), Run(1, 0, half, 2), Run(2, 0, 100, 3), Run(4, 0, half, 2)]
    blocks = list(single_requests(runs))
    buffers = [bytearray(length) for _, _, length in blocks]
    await in_memory(storage).read(runs, [memoryview(buffer) for buffer in buffers])
    assert buffers == [piece(index)[at : at + size] for index, at, size in blocks]
    assert storage.calls == [(half, 6), (4 * PIECE, 2)]


async def test_no_read_has_more_buffers_than_a_call_takes() -> None:
    storage = Calls()
    storage.write(0, CONTENT)
    runs = [Run(0, 5, 7, 1100), Run(0, 5 + 7700, 3, 30)]
    blocks = list(single_requests(runs))
    buffers = [bytearray(length) for _, _, length in blocks]
    await in_memory(storage).read(runs, [memoryview(buffer) for buffer in buffers])
    assert buffers == [CONTENT[at : at + size] for _, at, size in blocks]
    assert storage.calls == [(5, 512), (5 + 512 * 7, 512), (5 + 1024 * 7, 106)]


async def test_a_bad_piece_never_touches_the_disk() -> None:
    disk = in_memory()
    flipped = bytearray(piece(1))
    flipped[77] ^= 1
    short = piece(2)[:-1]
    result = await disk.save([(0, piece(0)), (1, flipped), (2, short), (3, piece(3)), (9, b"x")])
    assert (result.saved, result.bad) == ([0, 3], [1, 2, 9])
    assert await disk.check() == {0, 3}
    assert disk.storage.read(2 * PIECE + 10, PIECE - 10) == bytes(PIECE - 10)


@pytest.mark.parametrize("wanted", [None, [2]])
async def test_a_check_without_descriptors_says_so_and_finds_no_piece_missing(
    wanted: list[int] | None,
) -> None:
    class Starved(MemoryStorage):
        def read(self, offset: int, length: int) -> bytes:
            raise StorageError("Too many open files") from OSError(errno.EMFILE, "none left")

    storage = Starved(META.geometry)
    storage.write(0, CONTENT)
    with pytest.raises(StorageError, match="Too many open files"):
        await in_memory(storage).check(wanted)


async def test_a_disk_that_fills_at_any_byte_never_makes_a_false_piece() -> None:
    for space in range(0, len(CONTENT), 1531):
        storage = MemoryStorage(META.geometry, space=space)
        disk = in_memory(storage, inline=True)
        result = await disk.save([(index, piece(index)) for index in range(6)])
        assert result.error is not None
        assert result.error.disk_full
        assert result.saved == list(range(space // PIECE))
        assert result.bad == []
        assert await disk.check() == set(result.saved)
        storage.space = None
        left = [index for index in range(6) if index not in result.saved]
        assert (await disk.save([(index, piece(index)) for index in left])).saved == left
        assert await disk.check() == ALL


async def test_pieces_are_hashed_first_and_then_written_at_once_in_their_order() -> None:
    batches: list[list[int]] = []

    class Noting(MemoryStorage):
        def write_many(self, parts: Sequence[tuple[int, Data]]) -> tuple[int, StorageError | None]:
            batches.append([offset // PIECE for offset, _ in parts])
            return super().write_many(parts)

    disk = in_memory(Noting(META.geometry, fail_at=3), inline=True)
    given = [(4, piece(4)), (1, piece(1)), (3, piece(0)), (0, piece(0)), (5, piece(5))]
    result = await disk.save(given)
    assert batches == [[0, 1, 4, 5]]
    assert (result.saved, result.bad) == ([1, 0], [3])  # in the order in which they were given
    assert isinstance(result.error, StorageError)
    result = await disk.save([(2, piece(0)), (3, piece(1))])
    assert (result.saved, result.bad, result.error) == ([], [2, 3], None)
    assert len(batches) == 1  # nothing good: nothing to write


async def test_a_failure_at_any_call_claims_only_what_is_there() -> None:
    for call in range(1, 7):
        disk = in_memory(MemoryStorage(META.geometry, fail_at=call), inline=True)
        result = await disk.save([(index, piece(index)) for index in range(6)])
        assert isinstance(result.error, StorageError)
        assert set(result.saved) == await disk.check() == set(range(call - 1))


async def test_bad_pieces_are_still_found_when_nothing_can_be_written() -> None:
    disk = in_memory(MemoryStorage(META.geometry, space=0))
    result = await disk.save([(0, piece(0)), (1, piece(2))])
    assert (result.saved, result.bad) == ([], [1])
    assert result.error is not None


async def test_reading_what_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    disk = on_disk(tmp_path)
    with pytest.raises(StorageError):
        await read(disk, [(0, 0, 10)])
    await disk.save([(0, piece(0))])
    with pytest.raises(StorageError):
        await read(disk, [(0, 0, 10), (5, 0, 10)])
    disk.storage.close()


async def test_adjacent_blocks_are_one_read() -> None:
    calls: list[tuple[int, int]] = []

    class Counting(MemoryStorage):
        def try_read_into(self, offset: int, *buffers: memoryview) -> bool:
            calls.append((offset, sum(map(len, buffers))))
            return super().try_read_into(offset, *buffers)

    disk = in_memory(Counting(META.geometry))
    await disk.save([(index, piece(index)) for index in range(6)])
    blocks = [(0, 0, PIECE), (1, 0, PIECE), (2, 0, 50), (2, 50, 50), (4, 0, 10)]
    found = await read(disk, blocks)
    assert calls == [(0, 2 * PIECE + 100), (4 * PIECE, 10)]
    assert found == [piece(i)[at : at + size] for i, at, size in blocks]


@pytest.mark.parametrize("inline", [False, True])
async def test_even_work_done_at_once_is_a_checkpoint(inline: bool) -> None:
    disk = in_memory(inline=inline)
    await disk.save([(0, piece(0))])
    with trio.testing.assert_checkpoints():
        await disk.save([])
    with trio.testing.assert_checkpoints():
        await disk.check([])


@pytest.mark.parametrize("inline", [False, True])
async def test_what_is_cancelled_before_it_began_does_nothing(inline: bool) -> None:
    disk = in_memory(inline=inline)
    with trio.CancelScope() as scope:
        scope.cancel()
        await disk.save([(0, piece(0))])
    assert scope.cancelled_caught
    assert disk.storage.stamps() == (None,) * 3


async def test_a_save_that_began_is_not_abandoned_by_cancelling() -> None:
    began, go_on = threading.Event(), threading.Event()

    class Slow(MemoryStorage):
        def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
            began.set()
            assert go_on.wait(5)
            super().write(offset, data)

    disk = in_memory(Slow(META.geometry))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def cancel_in_the_middle() -> None:
                await trio.to_thread.run_sync(began.wait)
                nursery.cancel_scope.cancel()
                go_on.set()

            nursery.start_soon(cancel_in_the_middle)
            result = await disk.save([(0, piece(0))])
    assert result.saved == [0]
    assert await disk.check() == {0}


# -- checking ------------------------------------------------------------------------------------


@settings(max_examples=examples(30), deadline=None)
@given(st.sets(st.integers(0, 5)), st.none() | st.sets(st.integers(0, 5)))
def test_a_check_finds_exactly_what_was_saved(have: set[int], wanted: set[int] | None) -> None:
    async def main() -> set[int]:
        disk = in_memory(inline=True)
        await disk.save([(index, piece(index)) for index in sorted(have)])
        return await disk.check(wanted)

    assert trio.run(main) == (have if wanted is None else have & wanted)


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (lambda path: (path / "0").unlink(), ALL - {0}),
        (lambda path: os.truncate(path / "1", PIECE), {0, 3, 4, 5}),
        (lambda path: os.truncate(path / "2", 3 * PIECE - 10), ALL - {5}),
        (lambda path: _flip(path / "2", PIECE), ALL - {3}),
        (lambda path: (path / "2").write_bytes(b""), {0, 1}),
        (lambda path: _append(path / "2"), ALL - {5}),
    ],
)
async def test_a_check_finds_what_changed_behind_our_back(
    tmp_path: Path, damage: object, left: set[int]
) -> None:
    assert callable(damage)
    disk = on_disk(tmp_path)
    await disk.save([(index, piece(index)) for index in range(6)])
    damage(tmp_path / "album")
    disk.storage.stamps()
    assert await disk.check() == left
    if not (tmp_path / "album" / "0").exists():
        disk.storage.access[0] = NEW  # as `Content` says when it is to be made again
    missing = [(index, piece(index)) for index in sorted(ALL - left)]
    assert (await disk.save(missing)).error is None
    assert await disk.check() == ALL
    assert [stamp and stamp.size for stamp in disk.storage.stamps()] == list(SIZES)
    disk.storage.close()


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"junk")


async def test_progress_counts_every_piece_once() -> None:
    disk = in_memory()
    await disk.save([(2, piece(2))])
    seen: list[tuple[int, int]] = []
    await disk.check(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6)
    assert seen == sorted(seen)


class _Watched(FileStorage):
    """Counts the bytes that are really read."""

    bytes_read = 0

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        self.bytes_read += sum(map(len, buffers))
        super().read_into(offset, *buffers)


async def test_holes_are_not_read(tmp_path: Path) -> None:
    pieces = 4096
    info: dict[bytes, bencode.Value] = {
        b"length": pieces * PIECE,
        b"name": b"sparse",
        b"piece length": PIECE,
        b"pieces": bytes(20 * (pieces - 8)) + hashlib.sha1(piece(0)).digest() * 8,
    }
    meta = from_info(bencode.encode(info))
    config = DiskConfig(threads=2)
    storage = _Watched(tmp_path, meta, config)
    disk = TorrentDisk(Disk(config), storage, meta.geometry, meta.pieces)
    await disk.save([(pieces - 2, piece(0))])
    seen: list[int] = []
    assert await disk.check(progress=lambda done, _: seen.append(done)) == {pieces - 2}
    assert storage.bytes_read == PIECE
    assert seen[-1] == pieces
    storage.close()


async def test_a_piece_of_zeros_is_found_in_a_hole_but_not_beyond_the_end(tmp_path: Path) -> None:
    content = bytes(6 * PIECE)
    meta = hashed(content, (len(content),))
    disk = on_disk(tmp_path, meta)
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "0").touch()
    os.truncate(tmp_path / "album" / "0", 4 * PIECE + 5)
    assert await disk.check() == {0, 1, 2, 3}
    disk.storage.close()


async def test_a_check_can_be_cancelled() -> None:
    with trio.CancelScope() as scope:
        await in_memory(inline=True).check(progress=lambda *_: scope.cancel())
    assert scope.cancel_called


async def test_the_threads_of_a_node_are_shared_and_bounded() -> None:
    running: list[int] = []
    most = [0]
    lock = threading.Lock()
    both = threading.Barrier(2)

    class Counted(MemoryStorage):
        def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
            with lock:
                running.append(offset)
                most[0] = max(most[0], len(running))
            both.wait(5)  # two saves really are under way at once
            with lock:
                running.remove(offset)

    node = Disk(DiskConfig(threads=2))
    disks = [
        TorrentDisk(node, Counted(META.geometry), META.geometry, META.pieces) for _ in range(6)
    ]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for disk in disks:
                nursery.start_soon(disk.save, [(0, piece(0))])
    assert most == [2]


async def test_one_torrent_has_one_writer_at_a_time() -> None:
    writers: list[int] = []
    most = [0]

    class Counted(MemoryStorage):
        def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
            writers.append(offset)
            most[0] = max(most[0], len(writers))
            super().write(offset, data)
            writers.remove(offset)

    disk = TorrentDisk(
        Disk(DiskConfig(threads=4)), Counted(META.geometry), META.geometry, META.pieces
    )
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for index in range(META.geometry.piece_count):
                nursery.start_soon(disk.save, [(index, piece(index))])
    assert most == [1]


# -- pieces too large for the memory ------------------------------------------------------------


async def spilled(disk: TorrentDisk, index: int, slot: int, data: bytes) -> None:
    """Its end first."""
    half = len(data) // 2
    await disk.spill([(slot, half, memoryview(data)[half:]), (slot, 0, memoryview(data)[:half])])


@pytest.mark.parametrize("inline", [False, True])
async def test_a_spilled_piece_is_not_part_of_the_content_before_it_is_verified(
    tmp_path: Path, inline: bool
) -> None:
    disk = on_disk(tmp_path, inline=inline)
    for slot, index in ((0, 4), (1, 5)):
        await spilled(disk, index, slot, piece(index))
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - the scratch space has no name
    assert await disk.check() == set()
    result = await disk.save_spilled(5, 1)
    assert (result.saved, result.bad, result.error, result.digests) == ([5], [], None, {})
    assert await disk.check() == {5}
    assert (await disk.save_spilled(4, 0)).saved == [4]
    assert await disk.check() == {4, 5}
    await disk.drop_scratch()
    disk.storage.close()


async def test_a_broken_spilled_piece_is_told_block_by_block_and_not_written(
    tmp_path: Path,
) -> None:
    big = random.Random(5).randbytes(3 * BLOCK + 10)
    meta = hashed(big, [len(big)], piece_length=4 * BLOCK)
    disk = on_disk(tmp_path, meta)
    wrong = bytearray(big)
    wrong[BLOCK] ^= 1
    await spilled(disk, 0, 1, bytes(wrong))
    result = await disk.save_spilled(0, 1)
    assert (result.saved, result.bad, result.error) == ([], [0], None)
    assert result.digests == {0: digests_of(wrong)}
    assert disk.storage.stamps() == (None,)
    await spilled(disk, 0, 1, big)
    assert (await disk.save_spilled(0, 1, doubted=True)).digests == {0: digests_of(big)}
    assert await disk.check() == {0}
    await disk.drop_scratch()
    disk.storage.close()


async def test_a_large_piece_is_hashed_checked_and_copied_in_many_short_visits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "_SLICE", BLOCK)
    monkeypatch.setattr(disk_module, "_HOP_BYTES", 2 * BLOCK)
    big = random.Random(5).randbytes(9 * BLOCK + 10) + bytes(7 * BLOCK - 10)
    big += bytes(16 * BLOCK) + big[: 3 * BLOCK + 1]
    meta = hashed(big, [len(big)], piece_length=16 * BLOCK)
    disk = on_disk(tmp_path, meta)
    visits: list[str] = []
    run = disk.disk.run

    async def counted(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        visits.append(work.__name__)
        return await run(work, *args, **kwargs)

    monkeypatch.setattr(disk.disk, "run", counted)
    for index in (0, 2):
        await spilled(disk, index, 0, big[index * 16 * BLOCK :][: 16 * BLOCK])
        assert (await disk.save_spilled(index, 0)).saved == [index]
    assert visits.count("visit") == 2 * (8 + 2)
    visits.clear()
    assert await disk.check() == {0, 1, 2}  # the one in the middle is a hole, and all zeros
    assert visits.count("visit") == (8 + 2) + (8 + 8 + 2)  # of zeros; of what is there
    disk.storage.write(15 * BLOCK, b"x")
    assert await disk.check() == {1, 2}
    await disk.drop_scratch()
    disk.storage.close()


async def test_a_large_piece_that_is_cancelled_ends_with_the_visit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "_SLICE", BLOCK)
    monkeypatch.setattr(disk_module, "_HOP_BYTES", BLOCK)
    big = random.Random(5).randbytes(8 * BLOCK)
    disk = on_disk(tmp_path, hashed(big, [len(big)], piece_length=len(big)))
    await spilled(disk, 0, 0, big)
    read, reads = disk._scratch.read_into, 0  # type: ignore[union-attr]

    def slow(offset: int, buffer: memoryview) -> None:
        nonlocal reads
        reads += 1
        trio.from_thread.run_sync(scope.cancel)
        read(offset, buffer)

    monkeypatch.setattr(disk._scratch, "read_into", slow)
    with trio.CancelScope() as scope:
        await disk.save_spilled(0, 0)
    assert scope.cancelled_caught
    assert reads == 1
    await disk.drop_scratch()
    disk.storage.close()


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4, 5])
async def test_trouble_with_the_scratch_space_is_told(fail_at: int) -> None:
    storage = MemoryStorage(META.geometry)
    disk = in_memory(storage, inline=True)
    storage.fail_at = fail_at  # two writes there, two reads, and one write of the content
    try:
        await spilled(disk, 0, 0, piece(0))
    except StorageError:
        assert fail_at <= 2
        return
    result = await disk.save_spilled(0, 0)
    assert (result.saved, result.bad) == ([], [])
    assert result.error is not None


async def test_scratch_space_that_is_dropped_is_given_back() -> None:
    storage = MemoryStorage(META.geometry, space=3 * PIECE)
    disk = in_memory(storage, inline=True)
    await spilled(disk, 0, 1, piece(0))
    assert storage.space == PIECE
    with pytest.raises(StorageError) as caught:
        await spilled(disk, 0, 4, piece(0))
    assert caught.value.disk_full
    await disk.drop_scratch()
    assert storage.space == 3 * PIECE
    await disk.drop_scratch()


async def test_digests_are_told_of_bad_pieces_and_of_those_in_doubt() -> None:
    disk = in_memory(inline=True)
    result = await disk.save([(0, piece(0)), (1, piece(2)), (2, piece(2))], {2})
    assert result.digests == {1: digests_of(piece(2)), 2: digests_of(piece(2))}
    assert (result.saved, result.bad) == ([0, 2], [1])
