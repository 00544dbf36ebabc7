"""However many files and threads, few descriptors stay open, and none closes under a user."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dht_torrent.config import DiskConfig
from dht_torrent.errors import StorageError
from dht_torrent.storage import FileStorage
from dht_torrent.storage.descriptors import Descriptors, Files
from tests.helpers.scarce import few_left
from tests.helpers.storages import ALBUM, CONTENT, opened, torrent


def descriptors(root: Path) -> list[str]:
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
    assert len(descriptors(tmp_path)) == 3
    storage.close()
    assert descriptors(tmp_path) == []


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
    assert len(descriptors(tmp_path)) <= 2
    storage.close()
    assert descriptors(tmp_path) == []


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
    assert descriptors(tmp_path) == [str(tmp_path / "album" / "f")]
    storage.close()


def reading(*paths: Path) -> Callable[[int, bool], int]:
    """Opens the files by their numbers."""
    return lambda index, write: os.open(paths[index], os.O_RDONLY | os.O_CLOEXEC)


def numbered(root: Path, count: int) -> list[Path]:
    paths = [root / str(number) for number in range(count)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def use(files: Files, *indices: int) -> None:
    for index in indices:
        with files.borrowing(index):
            pass


def names(root: Path) -> list[str]:
    return sorted(Path(target).name for target in descriptors(root))


def test_a_descriptor_that_is_dropped_stays_open_for_its_user(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    files = Descriptors(2).files(reading(path))
    with files.borrowing(0) as fd:
        path.unlink()
        path.write_bytes(b"new")
        files.drop(0)
        assert os.read(fd, 3) == b"old"
        with files.borrowing(0) as another:
            assert os.read(another, 3) == b"new"
    assert descriptors(tmp_path) == [str(path)]
    files.close()
    assert descriptors(tmp_path) == []


def test_the_least_recently_used_file_closes_whosever_it_is(tmp_path: Path) -> None:
    paths = numbered(tmp_path, 4)
    pool = Descriptors(3)
    one, other = pool.files(reading(*paths[:2])), pool.files(reading(*paths[2:]))
    use(one, 0, 1)
    use(other, 0)
    use(one, 0)  # so that file 1 is the one not used for longest
    use(other, 1)
    assert names(tmp_path) == ["0", "2", "3"]
    assert len(pool) == 3
    one.close()
    assert names(tmp_path) == ["2", "3"]  # what others have open is theirs
    other.close()
    assert len(pool) == 0


def test_relief_closes_one_file_and_none_in_use(tmp_path: Path) -> None:
    pool = Descriptors(9)
    files = pool.files(reading(*numbered(tmp_path, 3)))
    use(files, 0, 1, 2)
    with files.borrowing(0) as fd:
        assert pool.relieve()
        assert names(tmp_path) == ["0", "2"]
        assert pool.relieve()
        assert not pool.relieve()
        assert os.read(fd, 1) == b"0"
    assert pool.relieve()
    assert names(tmp_path) == []


def test_a_file_closes_when_it_was_not_used_between_two_sweeps(tmp_path: Path) -> None:
    pool = Descriptors(9)
    files = pool.files(reading(*numbered(tmp_path, 3)))
    use(files, 0, 1, 2)
    pool.sweep()
    assert len(pool) == 3
    use(files, 1)
    with files.borrowing(2):
        pool.sweep()
        assert names(tmp_path) == ["1", "2"]
    pool.sweep()
    assert names(tmp_path) == ["2"]  # it was in use since the one before
    pool.sweep()
    assert names(tmp_path) == []


def test_a_few_descriptors_are_kept_free_by_closing_files(tmp_path: Path) -> None:
    pool = Descriptors(99)
    files = pool.files(reading(*numbered(tmp_path, 20)))
    use(files, *range(20))
    with few_left(3):
        pool.keep_spare(8)
        assert 14 <= len(pool) <= 16
        spare = [os.dup(0) for _ in range(8)]  # whoever cannot ask for relief
        pool.keep_spare(8)
        assert len(pool) <= 8
        for fd in spare:
            os.close(fd)
    files.close()


def test_a_pool_with_nothing_to_close_leaves_things_as_they_are() -> None:
    with few_left(1):
        Descriptors(9).keep_spare(8)


def test_every_operation_on_a_file_works_when_descriptors_run_out(tmp_path: Path) -> None:
    meta = torrent(*((f"d{n}/{n}", 300) for n in range(30)), ("empty", 0))
    content = random.Random(3).randbytes(meta.geometry.total)
    pool = Descriptors(99)
    idle = pool.files(reading(*numbered(tmp_path, 30)))

    def exhausted() -> AbstractContextManager[None]:
        use(idle, *range(30))
        return few_left(0)

    storage = FileStorage(tmp_path / "got", meta, DiskConfig(), descriptors=pool)
    with exhausted():
        storage.create()
    with exhausted():
        storage.write(0, content)
    with exhausted():
        storage.sync()
    with exhausted():
        assert storage.read(0, len(content)) == content
    storage.close()
    with exhausted():
        assert storage.next_data(0, 300) == (0, 300)
    with exhausted():
        assert all(stamp is not None for stamp in storage.stamps())
    with exhausted():
        storage.delete(range(len(storage.access)))
    assert not (tmp_path / "got" / "album").exists()
    idle.close()


def test_trouble_is_a_storage_error_when_no_descriptor_can_be_spared(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.write(0, CONTENT)
    storage.close()
    calls: list[Callable[[], object]] = [
        lambda: storage.create(0),
        lambda: storage.write(0, CONTENT),
        lambda: storage.read(0, 10),
        lambda: storage.next_data(0, 10),
        storage.stamps,
        lambda: storage.blank(1, 0, 10),
        storage.survey,
        lambda: storage.delete(range(5)),
    ]
    for call in calls:
        with few_left(0), pytest.raises(StorageError, match="Too many open files") as caught:
            call()
        assert caught.value.lacks_descriptors
        assert caught.value.passing  # so that the torrent tries again
    assert storage.read(0, len(CONTENT)) == CONTENT
    storage.close()
