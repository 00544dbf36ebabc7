"""A call that is not there is done without; a true error is raised."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dht_torrent import syscalls
from dht_torrent.syscalls import (
    UNSUPPORTED,
    cores,
    flush,
    flush_folder,
    free_space,
    is_in_memory,
    read_at,
    read_many_at,
    rename_new,
)

REFUSALS = pytest.mark.parametrize("code", sorted(UNSUPPORTED))
FAULTS = pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])


def failing(code: int, calls: list[int] | None = None) -> Callable[..., NoReturn]:
    def fails(*_: object) -> NoReturn:
        if calls is not None:
            calls.append(code)
        raise OSError(code, os.strerror(code))

    return fails


@contextmanager
def opened(path: Path, content: bytes) -> Iterator[int]:
    path.write_bytes(content)
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def filled(fd: int, length: int, offset: int) -> tuple[int, bytes]:
    buffer = bytearray(length)
    return read_at(fd, memoryview(buffer), offset), bytes(buffer)


@pytest.mark.parametrize("code", [0, None, *sorted(UNSUPPORTED)])
def test_reading_is_the_same_with_and_without_preadv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    if code != 0:  # as it is; None is a system that does not have it
        monkeypatch.setattr(syscalls, "_preadv", code and failing(code))
    with opened(tmp_path / "a", b"0123456789") as fd:
        assert filled(fd, 4, 2) == (4, b"2345")
        assert filled(fd, 4, 8) == (2, b"89\0\0")
        assert filled(fd, 4, 10) == (0, bytes(4))
        buffers = [bytearray(size) for size in (3, 0, 4, 5)]
        assert read_many_at(fd, [memoryview(buffer) for buffer in buffers], 1) == 9
        assert buffers == [b"123", b"", b"4567", b"89\0\0\0"]


def test_a_read_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "_preadv", failing(errno.EIO))
    with opened(tmp_path / "a", b"x") as fd, pytest.raises(OSError, match="Input/output"):
        filled(fd, 1, 0)


@REFUSALS
def test_a_file_is_synced_by_the_next_best_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(syscalls, "_fdatasync", failing(code))
    monkeypatch.setattr(os, "fsync", synced.append)
    with opened(tmp_path / "a", b"x") as fd:
        flush(fd)
        assert synced == [fd]
        monkeypatch.setattr(os, "fsync", failing(code))
        flush(fd)


def test_a_file_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(syscalls, "_fdatasync", synced.append)
    monkeypatch.setattr(os, "fsync", synced.append)
    with opened(tmp_path / "a", b"x") as fd:
        flush(fd)
        assert synced == [fd]


@FAULTS
def test_a_file_that_cannot_be_synced_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(syscalls, "_fdatasync", failing(code, calls))
    monkeypatch.setattr(os, "fsync", calls.append)
    with opened(tmp_path / "a", b"x") as fd, pytest.raises(OSError, match=os.strerror(code)):
        flush(fd)
    assert calls == [code]  # a second sync would not know of the loss


@pytest.mark.parametrize("code", [*sorted(UNSUPPORTED), errno.EBADF])
def test_a_folder_that_is_not_synced_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", failing(code, calls))
    flush_folder(tmp_path)
    assert calls == [code]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EISDIR])
def test_a_folder_that_cannot_be_opened_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "open", failing(code))
    flush_folder(tmp_path)


@FAULTS
def test_a_folder_that_fails_to_sync_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(OSError, match=os.strerror(code)):
        flush_folder(tmp_path)


@REFUSALS
def test_free_space_may_be_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    found = free_space(tmp_path)
    assert found is not None
    assert found > 0
    with pytest.raises(FileNotFoundError):
        free_space(tmp_path / "absent")
    monkeypatch.setattr(os, "statvfs", failing(code))
    assert free_space(tmp_path) is None


@pytest.mark.parametrize(("blocks", "free"), [(0, None), (10, 0)])
def test_a_file_system_without_a_size_is_not_a_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, free: int | None
) -> None:
    told = os.statvfs_result((4096, 4096, blocks, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: told)
    assert free_space(tmp_path) == free


def test_cores_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def affinity(call: Any) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", call, raising=False)

    affinity(lambda _: {2, 5, 7})
    assert cores() == 3
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    affinity(failing(errno.EPERM))
    assert cores() == 16
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == 16
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


MOUNTS = b"""\
22 27 0:21 / /proc rw,relatime - proc proc rw
25 24 0:23 / /dev/shm rw,relatime shared:1 - tmpfs tmpfs rw,size=24684084k
26 24 0:24 / /odd\\040-\\040tmpfs rw - ext4 /dev/sda rw
27 24 254:1 / /ram rw - ramfs none rw
broken
28 24 0:99"""


@pytest.mark.parametrize(
    ("major", "minor", "memory"),
    [(0, 21, False), (0, 23, True), (0, 24, False), (254, 1, True), (0, 99, False), (7, 7, False)],
)
def test_file_systems_in_memory_are_told_by_the_mounts(
    monkeypatch: pytest.MonkeyPatch, major: int, minor: int, memory: bool
) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda path: MOUNTS)
    assert is_in_memory(os.makedev(major, minor)) is memory


def test_without_a_list_of_mounts_no_file_system_is_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(path: Path) -> bytes:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", absent)
    assert not is_in_memory(os.makedev(0, 23))


@pytest.mark.parametrize("plain", [False, True])
def test_a_rename_never_replaces_anything(
    plain: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr(syscalls, "_renameat2", lambda: None)
    old, new, folder = tmp_path / "old", tmp_path / "new", tmp_path / "folder"
    old.write_text("mine")
    rename_new(old, new)
    assert (old.exists(), new.read_text()) == (False, "mine")
    for kind in ("file", "folder", "link"):
        taken = tmp_path / f"a {kind}"
        match kind:
            case "file":
                taken.write_text("theirs")
            case "folder":
                taken.mkdir()
            case _:
                taken.symlink_to(tmp_path / "nowhere")
        folder.mkdir(exist_ok=True)
        for source in (new, folder):
            with pytest.raises(FileExistsError):
                rename_new(source, taken)
        assert (new.read_text(), folder.is_dir()) == ("mine", True)
    with pytest.raises(FileNotFoundError):
        rename_new(old, tmp_path / "other")


@REFUSALS
def test_a_rename_is_looked_at_before_where_there_is_no_such_call(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "_renameat2", lambda: lambda *_: code)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("mine")
    rename_new(old, new)
    old.write_text("theirs")
    with pytest.raises(FileExistsError):
        rename_new(old, new)
    assert new.read_text() == "mine"


@FAULTS
def test_a_rename_that_fails_is_told_of(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "_renameat2", lambda: lambda *_: code)
    (tmp_path / "old").touch()
    with pytest.raises(OSError, match=re.escape(os.strerror(code))) as caught:
        rename_new(tmp_path / "old", tmp_path / "new")
    assert caught.value.errno == code
    assert not (tmp_path / "new").exists()
