"""What holds of every storage: each byte in its place, pads zero, holes known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStorage, MemoryStorage, Storage
from tests.helpers.content import read_tree
from tests.helpers.storages import ALBUM, CONTENT, opened, quickly, single, torrent


def cuts(total: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """All of `total` bytes as (start, end) ranges, in any order."""
    points = st.lists(st.integers(1, total - 1), max_size=8, unique=True).map(sorted)
    ranges = points.map(lambda at: list(zip([0, *at], [*at, total], strict=True)))
    return ranges.flatmap(st.permutations)


@pytest.fixture(params=["files", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Metainfo], Storage]:
    if request.param == "files":
        return lambda meta: opened(tmp_path, meta)
    return lambda meta: MemoryStorage(meta.geometry)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=cuts(len(CONTENT)), data=st.data())
def test_any_range_reads_back_whatever_the_order_of_writing(
    make: Callable[[Metainfo], Storage], order: list[tuple[int, int]], data: st.DataObject
) -> None:
    storage = make(ALBUM)
    storage.delete(range(len(storage.access)))
    for start, end in order:
        storage.write(start, memoryview(CONTENT)[start:end])
    start = data.draw(st.integers(0, len(CONTENT)))
    end = data.draw(st.integers(start, len(CONTENT)))
    assert storage.read(start, end - start) == CONTENT[start:end]
    buffer = bytearray(end - start)
    storage.read_into(start, memoryview(buffer))
    assert buffer == CONTENT[start:end]
    quick = quickly(storage, start, end - start)
    assert quick is None or quick == CONTENT[start:end]
    storage.close()


def test_pad_files_read_as_zeros_and_are_never_written(
    make: Callable[[Metainfo], Storage], tmp_path: Path
) -> None:
    meta = torrent(("a", 10), (".pad/16374", 16374), ("b", 5), pads=[1])
    storage = make(meta)
    storage.create()
    storage.write(0, b"z" * meta.geometry.total)
    assert storage.read(0, meta.geometry.total) == b"z" * 10 + bytes(16374) + b"z" * 5
    quick = quickly(storage, 8, 8)
    assert quick is None or quick == b"zz" + bytes(6)
    storage.sync()
    assert storage.stamps()[1] is None
    storage.close()
    if isinstance(storage, FileStorage):
        assert sorted(read_tree(tmp_path)) == ["album/a", "album/b"]


def test_a_range_outside_the_torrent_is_our_bug(make: Callable[[Metainfo], Storage]) -> None:
    storage = make(single(100))
    for offset, length in ((-1, 2), (0, -1), (90, 11), (101, 0)):
        with pytest.raises(ValueError, match="inside"):
            storage.read(offset, length)
    with pytest.raises(ValueError, match="inside"):
        storage.write(99, b"xy")


def test_missing_and_short_files_cannot_be_read(make: Callable[[Metainfo], Storage]) -> None:
    storage = make(single(100))
    with pytest.raises(StorageError):
        storage.read(0, 1)
    assert quickly(storage, 0, 1) is None
    storage.write(0, b"x" * 50)
    assert storage.read(0, 50) == b"x" * 50
    with pytest.raises(StorageError, match="shorter"):
        storage.read(0, 51)
    assert quickly(storage, 0, 51) is None
    storage.close()


def test_holes_are_stepped_over(make: Callable[[Metainfo], Storage]) -> None:
    meta = torrent(("gone", 1 << 20), ("sparse", 8 << 20), ("last", 1 << 20))
    storage = make(meta)
    total = meta.geometry.total
    assert storage.next_data(0, total) == (total, total)
    at = (1 << 20) + (4 << 20)
    storage.write(at, b"x" * 4096)
    assert storage.next_data(at + 5, total) == (at + 5, at + 4096)
    assert storage.next_data(at + 4096, total) == (total, total)
    assert storage.next_data(0, 1000) == (1000, 1000)
    if isinstance(storage, FileStorage):
        assert storage.next_data(0, total) == (at, at + 4096)
        assert storage.next_data(0, at + 9) == (at, at + 9)
    storage.close()
