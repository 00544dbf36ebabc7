"""Nothing unverified reaches the disk, nothing unwritten counts as saved; checks find the rest."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.config import DiskConfig
from dht_torrent.engine.torrent.disk import Disk, TorrentDisk
from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage import FileStorage, MemoryStorage, Storage
from dht_torrent.storage.owners import NEW
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
    await disk.read(blocks, [memoryview(buffer) for buffer in buffers])
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
    with trio.fail_after(5):
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


@settings(max_examples=30, deadline=None)
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

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.bytes_read += len(buffer)
        super().read_into(offset, buffer)


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
    with trio.fail_after(5):
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
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for index in range(META.geometry.piece_count):
                nursery.start_soon(disk.save, [(index, piece(index))])
    assert most == [1]
