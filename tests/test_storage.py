"""Content on the disk: every byte in its place, and nothing outside its folder touched."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.config import DiskConfig
from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage import FileStorage, MemoryStorage, Storage

PIECE = 16384


def torrent(*files: tuple[str, int], pads: Sequence[int] = (), name: str = "album") -> Metainfo:
    """A torrent of these (path, length) files; `pads` says which of them are padding."""
    entries: list[bencode.Value] = []
    for number, (path, length) in enumerate(files):
        parts: list[bencode.Value] = [part.encode() for part in path.split("/")]
        entry: dict[bytes, bencode.Value] = {b"length": length, b"path": parts}
        if number in pads:
            entry[b"attr"] = b"p"
        entries.append(entry)
    total = sum(length for _, length in files)
    return _from_info({b"files": entries}, total, name)


def single(length: int, name: str = "film.bin") -> Metainfo:
    return _from_info({b"length": length}, length, name)


def _from_info(fields: dict[bytes, bencode.Value], total: int, name: str) -> Metainfo:
    info: dict[bytes, bencode.Value] = {
        **fields,
        b"name": name.encode(),
        b"piece length": PIECE,
        b"pieces": bytes(20) * -(-total // PIECE),
    }
    return from_info(bencode.encode(info))


def opened(root: Path, meta: Metainfo, *, open_files: int = 4) -> FileStorage:
    return FileStorage(root, meta, DiskConfig(open_files=open_files))


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


ALBUM = torrent(("a", 10), ("b/c", 20000), ("b/empty", 0), ("b/d/e", 5), ("f", 40000))
CONTENT = random.Random(7).randbytes(ALBUM.geometry.total)


def quickly(storage: Storage, offset: int, length: int) -> bytes | None:
    """What `try_read_into` reads into two buffers."""
    buffers = [bytearray(length // 3), bytearray(length - length // 3)]
    done = storage.try_read_into(offset, *[memoryview(buffer) for buffer in buffers])
    return b"".join(buffers) if done else None


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
    storage.delete()
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


def test_files_hold_exactly_their_part(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.create()
    storage.write(0, CONTENT)
    storage.sync()
    storage.close()
    assert storage.path == tmp_path / "album"
    assert tree(tmp_path) == {
        "album/a": CONTENT[:10],
        "album/b/c": CONTENT[10:20010],
        "album/b/empty": b"",
        "album/b/d/e": CONTENT[20010:20015],
        "album/f": CONTENT[20015:],
    }


def test_a_single_file_lies_in_the_root_under_its_name(tmp_path: Path) -> None:
    storage = opened(tmp_path / "new" / "folder", single(100))
    storage.create()
    storage.write(0, b"x" * 100)
    storage.close()
    assert tree(tmp_path) == {"new/folder/film.bin": b"x" * 100}


def test_content_can_be_used_where_it_is_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "holiday.mp4").write_bytes(b"y" * 100)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "holiday.mp4")
    for path in (tmp_path / "real" / "holiday.mp4", tmp_path / "link"):
        storage = FileStorage(tmp_path, single(100), DiskConfig(), content=path, writable=False)
        assert storage.read(0, 100) == b"y" * 100
        assert storage.path == tmp_path / "real" / "holiday.mp4"
        storage.close()


def test_a_shared_folder_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    storage = FileStorage(tmp_path, ALBUM, DiskConfig(), content=tmp_path / "mine", writable=False)
    with pytest.raises(StorageError, match="not written"):
        storage.write(0, b"x")
    with pytest.raises(StorageError, match="not written"):
        storage.create()
    assert tree(tmp_path) == {}


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
        assert sorted(tree(tmp_path)) == ["album/a", "album/b"]


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


def test_a_file_that_is_too_long_does_not_give_its_end_until_that_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "film.bin").write_bytes(b"x" * 120)
    storage = opened(tmp_path, single(100))
    assert storage.read(0, 99) == b"x" * 99
    with pytest.raises(StorageError, match="longer"):
        storage.read(50, 50)
    assert quickly(storage, 50, 50) is None
    storage.write(50, b"y" * 50)
    assert tree(tmp_path) == {"film.bin": b"x" * 50 + b"y" * 50}
    storage.close()


# -- hostile folders -----------------------------------------------------------------------------


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder outside the download, which must look the same afterwards."""
    folder = tmp_path / "victim"
    (folder / "d").mkdir(parents=True)
    for name in ("c", "d/e", "f"):
        (folder / name).write_bytes(b"precious")
    before = tree(folder)
    yield folder
    assert tree(folder) == before


@pytest.mark.parametrize("planted", ["album", "album/b", "album/b/d", "album/b/c", "album/f"])
def test_a_planted_link_is_never_followed(tmp_path: Path, victim: Path, planted: str) -> None:
    root = tmp_path / "downloads"
    link = root / planted
    link.parent.mkdir(parents=True)
    targets = {"album/b/c": victim / "c", "album/f": victim / "f", "album/b/d": victim / "d"}
    link.symlink_to(targets.get(planted, victim))
    storage = opened(root, ALBUM)
    with pytest.raises(StorageError):
        storage.write(0, CONTENT)
    with pytest.raises(StorageError):
        storage.read(0, len(CONTENT))
    storage.stamps()
    storage.delete()
    assert link.is_symlink()


def test_a_dangling_link_makes_no_file(tmp_path: Path) -> None:
    root = tmp_path / "downloads"
    root.mkdir()
    (root / "film.bin").symlink_to(tmp_path / "elsewhere")
    storage = opened(root, single(10))
    with pytest.raises(StorageError, match="link"):
        storage.write(0, b"x" * 10)
    assert storage.stamps() == (None,)
    assert not (tmp_path / "elsewhere").exists()


def test_the_download_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    (tmp_path / "downloads").symlink_to(tmp_path / "big disk")
    storage = opened(tmp_path / "downloads", single(10))
    storage.write(0, b"x" * 10)
    storage.close()
    assert tree(tmp_path / "big disk") == {"film.bin": b"x" * 10}


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_only_regular_files_count(tmp_path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(tmp_path / "film.bin")
    else:
        (tmp_path / "film.bin").mkdir()
    storage = opened(tmp_path, single(10))
    with pytest.raises(StorageError):
        storage.write(0, b"x" * 10)
    with pytest.raises(StorageError):
        storage.read(0, 10)
    assert storage.stamps() == (None,)
    storage.delete()
    assert (tmp_path / "film.bin").exists()


# -- trouble -------------------------------------------------------------------------------------


def test_content_that_cannot_fit_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 10 * 4096
    fields = (4096, 4096, 10, 10, 10, 0, 0, 0, 0, 255)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    storage = opened(tmp_path, ALBUM)
    with pytest.raises(StorageError, match=f"60015 bytes are needed and {free} are free") as caught:
        storage.create()
    assert caught.value.disk_full
    assert list(tmp_path.iterdir()) == []
    storage.create(needed=1000)
    storage.write(20015, CONTENT[20015:])
    storage.create()  # what is there already needs no more space
    storage.close()


@pytest.mark.parametrize(
    ("code", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)]
)
def test_a_failing_write_names_the_file_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, full: bool
) -> None:
    def fails(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwrite", fails)
    storage = opened(tmp_path, ALBUM)
    with pytest.raises(StorageError) as caught:
        storage.write(15, b"x")
    assert str(caught.value) == f"{tmp_path}/album/b/c: {os.strerror(code)}"
    assert caught.value.disk_full is full
    storage.close()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:7], at))
    storage = opened(tmp_path, single(100))
    storage.write(0, CONTENT[:100])
    assert storage.read(0, 100) == CONTENT[:100]
    storage.close()


def test_a_write_to_a_deleted_file_is_not_believed(tmp_path: Path) -> None:
    storage = opened(tmp_path, single(100))
    storage.write(0, b"x" * 50)
    (tmp_path / "film.bin").unlink()
    with pytest.raises(StorageError, match="deleted"):
        storage.write(50, b"x" * 50)
    storage.write(0, b"x" * 100)
    assert storage.read(0, 100) == b"x" * 100
    storage.close()


def test_a_failed_sync_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = opened(tmp_path, single(100))
    storage.write(0, b"x" * 100)
    synced: list[int] = []

    def fails_once(fd: int) -> None:
        synced.append(fd)
        if len(synced) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("dht_torrent.storage._fdatasync", fails_once)
    with pytest.raises(StorageError, match="Input/output"):
        storage.sync()
    storage.sync()
    storage.sync()
    assert len(synced) == 2
    storage.close()


def test_a_deleted_file_does_not_stop_the_others_from_syncing(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.write(0, CONTENT)
    (tmp_path / "album" / "a").unlink()
    storage.stamps()
    storage.sync()
    assert storage.stamps()[0] is None
    storage.close()


# -- stamps, holes, delete -----------------------------------------------------------------------


def test_stamps_tell_of_changes_behind_our_back(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    assert storage.stamps() == (None,) * 5
    storage.create()
    storage.write(0, CONTENT)
    before = storage.stamps()
    assert [stamp and stamp.size for stamp in before] == [10, 20000, 0, 5, 40000]
    (tmp_path / "album" / "a").unlink()
    os.truncate(tmp_path / "album" / "b" / "c", 100)
    os.utime(tmp_path / "album" / "f", ns=(1, 1))
    after = storage.stamps()
    assert [old == new for old, new in zip(before, after, strict=True)] == [
        False,
        False,
        True,
        True,
        False,
    ]
    with pytest.raises(StorageError):  # stamps() found the descriptor stale, and dropped it
        storage.read(0, 10)
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


def test_delete_takes_our_files_and_empty_folders_only(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.create()
    storage.write(0, CONTENT)
    (tmp_path / "album" / "b" / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    storage.delete()
    assert tree(tmp_path) == {"album/b/notes.txt": b"mine"}
    assert not (tmp_path / "album" / "b" / "d").exists()
    (tmp_path / "album" / "b" / "notes.txt").unlink()
    storage.delete()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


# -- descriptors ---------------------------------------------------------------------------------


def _descriptors(root: Path) -> list[str]:
    found: list[str] = []
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(f"{root}/"):
            found.append(target)
    return found


def test_few_descriptors_are_kept_however_many_files(tmp_path: Path) -> None:
    meta = torrent(*((f"d{n % 7}/{n}", 300) for n in range(100)))
    content = random.Random(1).randbytes(meta.geometry.total)
    storage = opened(tmp_path, meta, open_files=3)
    storage.write(0, content)
    assert storage.read(0, len(content)) == content
    assert len(_descriptors(tmp_path)) == 3
    storage.close()
    assert _descriptors(tmp_path) == []


def test_threads_share_the_pool_and_no_descriptor_closes_under_one(tmp_path: Path) -> None:
    meta = torrent(*((f"{n}", 1000) for n in range(50)))
    content = random.Random(2).randbytes(meta.geometry.total)
    storage = opened(tmp_path, meta, open_files=2)
    start = threading.Barrier(4)

    def work(part: int) -> None:
        start.wait()
        for at in range(part * 250, len(content), 1000):
            storage.write(at, content[at : at + 250])
            assert storage.read(at, 250) == content[at : at + 250]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert storage.read(0, len(content)) == content
    assert len(_descriptors(tmp_path)) <= 2
    storage.close()
    assert _descriptors(tmp_path) == []


def test_running_out_of_descriptors_empties_the_pool_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.write(0, CONTENT[:10])
    whole = os.open
    left = [1]

    def scarce(
        path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        if path == "f" and left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return whole(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", scarce)
    storage.write(20015, b"x")
    assert _descriptors(tmp_path) == [str(tmp_path / "album" / "f")]
    storage.close()


# -- the lab's storage ---------------------------------------------------------------------------


def test_memory_runs_full_like_a_disk() -> None:
    storage = MemoryStorage(single(100).geometry, space=60)
    with pytest.raises(StorageError) as caught:
        storage.create()
    assert caught.value.disk_full
    storage.write(0, b"x" * 40)
    with pytest.raises(StorageError) as caught:
        storage.write(40, b"y" * 40)
    assert caught.value.disk_full
    assert storage.read(0, 60) == b"x" * 40 + b"y" * 20
    storage.space = None
    storage.write(40, b"y" * 60)
    assert storage.read(40, 60) == b"y" * 60


def test_memory_fails_the_call_it_is_told_to() -> None:
    storage = MemoryStorage(single(100).geometry, fail_at=2)
    storage.write(0, b"x")
    with pytest.raises(StorageError, match="injected"):
        storage.read(0, 1)
    assert storage.read(0, 1) == b"x"
