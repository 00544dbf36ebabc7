"""The lab's storage fails as a disk does, when it is told to."""

from __future__ import annotations

import pytest

from dht_torrent.errors import StorageError
from dht_torrent.storage import MemoryStorage
from tests.helpers.storages import single


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


def test_scratch_takes_space_and_faults_of_the_memory_and_gives_the_space_back() -> None:
    storage = MemoryStorage(single(100).geometry, space=60)
    scratch = storage.scratch()
    scratch.write(10, memoryview(b"x" * 30))
    assert storage.space == 20
    scratch.write(0, memoryview(b"y" * 40))
    assert storage.space == 20
    with pytest.raises(StorageError) as caught:
        scratch.write(40, memoryview(b"z" * 21))
    assert caught.value.disk_full
    storage.fail_at = 2
    scratch.write(40, memoryview(b"z" * 20))
    with pytest.raises(StorageError, match="injected"):
        scratch.read_into(0, memoryview(bytearray(1)))
    assert storage.fail_at is None
    scratch.close()
    scratch.close()
    assert storage.space == 60
    storage.fail_at = 1
    with pytest.raises(StorageError, match="this sync fails"):
        storage.sync()
    storage.sync()


def test_memory_fills_to_the_last_byte() -> None:
    storage = MemoryStorage(single(100).geometry, space=100)
    storage.create()
    storage.create(100)
    with pytest.raises(StorageError, match="101 bytes are needed and 100 are free"):
        storage.create(101)
    storage.write(0, b"x" * 100)
    assert storage.space == 0
