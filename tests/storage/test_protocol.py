"""What holds of every storage: each byte in its place, pads zero, holes known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStorage, MemoryStorage, Storage
from dht_torrent.storage.owners import CLOSED, FILL, KEEP, NEW, OWN
from dht_torrent.storage.protocol import Data
from tests.helpers.content import read_tree
from tests.helpers.examples import examples
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


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_what_is_written_is_the_torrents_own_and_may_be_written_again(
    make: Callable[[Metainfo], Storage],
) -> None:
    storage = make(ALBUM)
    storage.create()
    assert list(storage.access) == [NEW, NEW, OWN, NEW, NEW]  # the empty file has been made
    assert [stamp is not None for stamp in storage.stamps()] == [False, False, True, False, False]
    storage.write(5, b"x" * 10)
    assert list(storage.access) == [OWN, OWN, OWN, NEW, NEW]
    storage.write(0, b"y" * 10)
    assert storage.read(0, 15) == b"y" * 10 + b"x" * 5
    storage.close()


@pytest.mark.parametrize(
    ("access", "data", "refused"),
    [
        (KEEP, b"held", False),
        (KEEP, b"diff", True),
        (FILL, b"held", False),
        (FILL, b"diff", True),
        (OWN, b"diff", False),
        (CLOSED, b"held", True),
    ],
)
def test_a_file_that_was_there_is_written_only_as_its_owner_allows(
    make: Callable[[Metainfo], Storage], access: int, data: bytes, refused: bool
) -> None:
    storage = make(single(100))
    storage.write(0, b"held" + bytes(4) + b"tail")
    storage.access[0] = access
    if refused:
        with pytest.raises(StorageError):
            storage.write(0, data)
        assert storage.read(0, 12) == b"held" + bytes(4) + b"tail"
    else:
        storage.write(0, data)
        assert storage.read(0, 4) == data
    if access == FILL:
        storage.write(4, b"fill")
        storage.write(8, b"tailmore")  # beyond the end, too
        assert storage.read(0, 16) == b"heldfilltailmore"
    storage.close()


def test_a_file_is_blank_where_it_has_only_zeros(make: Callable[[Metainfo], Storage]) -> None:
    meta = torrent(("first", 50), ("second", 100), ("third", 50))
    storage = make(meta)
    assert storage.blank(1, 0, 100)
    storage.write(0, b"x" * 50)
    storage.write(60, b"y")
    storage.write(150, b"z" * 50)
    assert storage.blank(1, 0, 10)
    assert not storage.blank(1, 0, 11)
    assert not storage.blank(1, 10, 11)
    assert storage.blank(1, 11, 100)
    assert not storage.blank(2, 0, 1)
    storage.close()


def test_files_are_present_when_all_of_them_are(make: Callable[[Metainfo], Storage]) -> None:
    storage = make(ALBUM)
    storage.write(0, b"x" * 10)
    storage.write(20010, b"x" * 5)
    assert storage.present([0, 3])
    assert storage.present([])
    assert not storage.present([0, 1])
    assert not storage.present([4])
    survey = storage.survey()
    assert survey.stamps == storage.stamps()
    assert survey.odd == frozenset()
    storage.close()


def test_deleted_files_are_gone_and_may_be_made_anew(
    make: Callable[[Metainfo], Storage],
) -> None:
    storage = make(ALBUM)
    storage.create()
    storage.write(0, CONTENT)
    storage.delete([0, 3])
    assert [stamp is not None for stamp in storage.stamps()] == [False, True, True, False, True]
    assert list(storage.access) == [NEW, OWN, OWN, NEW, OWN]
    assert storage.read(10, 20000) == CONTENT[10:20010]
    with pytest.raises(StorageError):
        storage.read(0, 10)
    storage.write(3, b"abc")
    assert storage.read(3, 3) == b"abc"
    assert storage.read(0, 3) == bytes(3)  # nothing of what was there before
    storage.close()


def test_a_change_of_a_file_changes_its_stamp_and_no_other(
    make: Callable[[Metainfo], Storage],
) -> None:
    storage = make(ALBUM)
    storage.write(0, CONTENT)
    before = storage.stamps()
    assert storage.stamps() == before
    storage.write(20015, CONTENT[20015:20025] + b"changed")
    after = storage.stamps()
    assert [one == other for one, other in zip(before, after, strict=True)][:4] == [True] * 4
    assert before[4] != after[4]
    storage.close()


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_many_buffers_are_filled_one_after_the_other(
    make: Callable[[Metainfo], Storage], data: st.DataObject
) -> None:
    meta = torrent(("a", 10), (".pad/6", 6), ("b/c", 30000), ("b/d", 1), ("e", 9), pads=[1])
    storage = make(meta)
    storage.delete(range(5))
    whole = CONTENT[:10] + bytes(6) + CONTENT[16 : meta.geometry.total]
    held = data.draw(st.integers(0, meta.geometry.total))
    storage.write(0, whole[:held])
    start = data.draw(st.integers(0, meta.geometry.total))
    lengths = data.draw(st.lists(st.integers(0, 40) | st.just(16384), max_size=60))
    buffers: list[bytearray] = []
    stop = start
    for length in lengths:
        length = min(length, meta.geometry.total - stop)
        buffers.append(bytearray(b"\xff" * length))
        stop += length
    views = [memoryview(buffer) for buffer in buffers]
    there = all(
        file.pad or min(stop, file.offset + file.length) <= held
        for file in meta.geometry.files
        if max(start, file.offset) < min(stop, file.offset + file.length)
    )
    if there:
        storage.read_into(start, *views)
        assert b"".join(buffers) == whole[start:stop]
        again = [memoryview(bytearray(len(view))) for view in views]
        if storage.try_read_into(start, *again):
            assert b"".join(again) == whole[start:stop]
        elif isinstance(storage, MemoryStorage):
            raise AssertionError("memory never waits")
    else:
        with pytest.raises(StorageError):
            storage.read_into(start, *views)
        assert not storage.try_read_into(start, *views)
    storage.close()


def test_pads_are_zeros_in_a_buffer_that_held_something_else(
    make: Callable[[Metainfo], Storage],
) -> None:
    meta = torrent(("a", 10), (".pad/6", 6), ("b", 5), pads=[1])
    storage = make(meta)
    storage.write(0, b"z" * 21)
    for offset, length in ((0, 21), (10, 6), (12, 3), (9, 8)):
        buffer = bytearray(b"\xff" * length)
        storage.read_into(offset, memoryview(buffer))
        assert buffer == (b"z" * 10 + bytes(6) + b"z" * 5)[offset : offset + length]
        other = bytearray(b"\xff" * length)
        if storage.try_read_into(offset, memoryview(other)):
            assert other == buffer
    storage.close()


# -- batches ---------------------------------------------------------------------------------------


def one_by_one(
    storage: Storage, parts: Sequence[tuple[int, Data]]
) -> tuple[int, StorageError | None]:
    """What `write_many` promises to be the same as."""
    for number, (offset, data) in enumerate(parts):
        try:
            storage.write(offset, data)
        except StorageError as error:
            return number, error
    return len(parts), None


def batches() -> st.SearchStrategy[list[tuple[int, bytes]]]:
    """Ranges of the content, some of them as they are there and some not, in any order."""
    total = len(CONTENT)

    def part(ends: tuple[int, int], right: bool) -> tuple[int, bytes]:
        start, end = min(ends), max(ends)
        return start, CONTENT[start:end] if right else bytes(reversed(CONTENT[start:end]))

    edges = [0, 9, 10, 11, 5000, 20009, 20010, 20014, 20015, 20016, 40000, total - 1, total]
    ends = st.tuples(st.sampled_from(edges), st.sampled_from(edges))
    return st.lists(st.builds(part, ends, st.booleans()), max_size=6)


_numbers = itertools.count()


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=batches(),
    before=batches(),
    access=st.lists(st.sampled_from([NEW, KEEP, FILL, OWN, CLOSED]), min_size=5, max_size=5),
    extra=st.booleans(),
    fault=st.none() | st.integers(1, 6),
)
@pytest.mark.parametrize("kind", ["files", "memory"])
def test_a_batch_does_what_its_writes_do_one_by_one(
    kind: str,
    tmp_path: Path,
    parts: list[tuple[int, bytes]],
    before: list[tuple[int, bytes]],
    access: list[int],
    extra: bool,
    fault: int | None,
) -> None:
    def outcome(write: Callable[[Storage], tuple[int, StorageError | None]]) -> object:
        root = tmp_path / f"{next(_numbers)}"
        root.mkdir()
        storage: Storage
        if kind == "files":
            storage = opened(root, ALBUM, open_files=2)
        else:
            storage = MemoryStorage(ALBUM.geometry, space=fault and fault * 9999)
        one_by_one(storage, before)
        there = [stamp is not None for stamp in storage.stamps()]
        for number, code in enumerate(access):
            if there[number]:
                storage.access[number] = code
        if kind == "files" and fault is not None and not there[min(fault, 5) - 1]:
            link = (root / "album").joinpath(*ALBUM.geometry.files[min(fault, 5) - 1].path)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(root)
        if kind == "files" and extra and there[1]:
            with (root / "album" / "b" / "c").open("ab") as file:
                file.write(b"longer")
        if isinstance(storage, MemoryStorage):
            storage.fail_at = fault
        done, error = write(storage)
        storage.close()
        told = error and (
            str(error).replace(str(root), ""),
            error.disk_full,
            error.missing,
            error.passing,
        )
        if isinstance(storage, MemoryStorage):
            storage.fail_at = None
            held = [
                stamp and storage.read(file.offset, stamp.size)
                for file, stamp in zip(ALBUM.geometry.files, storage.stamps(), strict=True)
            ]
            return done, told, held, storage.space, bytes(storage.access)
        files = read_tree(root)
        return done, told, files, bytes(storage.access)

    assert outcome(lambda storage: storage.write_many(parts)) == outcome(
        lambda storage: one_by_one(storage, parts)
    )


def test_an_empty_batch_changes_nothing(make: Callable[[Metainfo], Storage]) -> None:
    storage = make(ALBUM)
    assert storage.write_many([]) == (0, None)
    assert storage.stamps() == (None,) * 5
