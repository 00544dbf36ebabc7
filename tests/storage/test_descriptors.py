"""However many files and threads, few descriptors stay open, and none closes under a user."""

from __future__ import annotations

import errno
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dht_torrent.storage.descriptors import Descriptors
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


def test_a_descriptor_that_is_dropped_stays_open_for_who_uses_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    pool = Descriptors(2, lambda index, write: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    with pool.borrowing(0) as fd:
        path.unlink()
        path.write_bytes(b"new")
        pool.drop(0)
        assert os.read(fd, 3) == b"old"
        with pool.borrowing(0) as another:
            assert os.read(another, 3) == b"new"
    assert descriptors(tmp_path) == [str(path)]
    pool.close()
    assert descriptors(tmp_path) == []
