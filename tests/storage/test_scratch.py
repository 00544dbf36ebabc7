"""What is not verified has room on the disk, of which nothing is ever left."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import MemoryStorage, Storage
from dht_torrent.storage import folder as folder_module
from tests.helpers.storages import ALBUM, opened


@pytest.fixture(params=["files", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Metainfo], Storage]:
    if request.param == "files":
        return lambda meta: opened(tmp_path, meta)
    return lambda meta: MemoryStorage(meta.geometry)


def test_what_is_written_anywhere_reads_back(
    make: Callable[[Metainfo], Storage], tmp_path: Path
) -> None:
    storage = make(ALBUM)
    storage.create()
    before = sorted(tmp_path.rglob("*"))
    one, other = storage.scratch(), storage.scratch()
    one.write(1000, memoryview(b"second"))
    one.write(10, memoryview(b"first"))
    other.write(10, memoryview(b"other"))
    for scratch, at, data in ((one, 1000, b"second"), (one, 10, b"first"), (other, 10, b"other")):
        buffer = bytearray(len(data))
        scratch.read_into(at, memoryview(buffer))
        assert buffer == data
    with pytest.raises(StorageError, match="lost its end"):
        one.read_into(1000, memoryview(bytearray(7)))
    assert sorted(tmp_path.rglob("*")) == before
    assert storage.stamps() == make(ALBUM).stamps() or isinstance(storage, MemoryStorage)
    one.close()
    one.close()
    other.close()


@pytest.mark.parametrize("refusal", [None, errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL])
def test_a_file_system_without_unnamed_files_gets_one_whose_name_is_gone(
    refusal: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unnamed = getattr(os, "O_TMPFILE", 0)
    real = os.open

    def refusing(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if refusal is not None and unnamed and flags & unnamed == unnamed:
            raise OSError(refusal, "no unnamed files here")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    if refusal is None:
        monkeypatch.setattr(folder_module, "_UNNAMED", None)
    in_the_way = tmp_path / f".{os.getpid()}-7.part"
    in_the_way.write_bytes(b"precious")
    monkeypatch.setattr(folder_module, "_numbers", iter([7, 8]))
    scratch = opened(tmp_path, ALBUM).scratch()
    assert list(tmp_path.iterdir()) == [in_the_way]
    assert in_the_way.read_bytes() == b"precious"
    scratch.write(5, memoryview(b"data"))
    buffer = bytearray(4)
    scratch.read_into(5, memoryview(buffer))
    assert buffer == b"data"
    scratch.close()


def test_trouble_of_the_system_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = opened(tmp_path, ALBUM).scratch()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(StorageError) as caught:
            scratch.write(0, memoryview(b"data"))
    assert caught.value.disk_full
    scratch.close()
    with pytest.raises(StorageError):
        scratch.write(0, memoryview(b"data"))
    with pytest.raises(StorageError) as caught:
        opened(tmp_path / "gone", ALBUM).scratch()
    assert caught.value.missing


def test_without_a_descriptor_the_least_used_file_makes_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.write(0, b"x" * 10)
    real = os.open
    refused: list[object] = []

    def scarce(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if not refused:
            refused.append(path)
            raise OSError(errno.EMFILE, "too many open files")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", scarce)
    scratch = storage.scratch()
    assert refused
    assert len(storage._pool) == 0
    scratch.write(0, memoryview(b"data"))
    scratch.close()
