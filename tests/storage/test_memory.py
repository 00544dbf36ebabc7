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
