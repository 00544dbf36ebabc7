"""A full disk stops a torrent with a clear word, and the torrent goes on when there is room."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from dht_torrent import StorageError, open_node
from dht_torrent.config import TorrentConfig
from dht_torrent.storage import FileStorage
from tests.helpers.content import KIB, MIB, differences, make_file
from tests.helpers.nodes import announced, local_config, local_nodes
from tests.helpers.waiting import until


class FullDisk:
    """Writes succeed for `room` bytes, then fail as on a full disk."""

    def __init__(self, room: float) -> None:
        self.room = room
        self._write = os.pwrite

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        if self.room < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        return self._write(fd, data, offset)


async def test_a_full_disk_is_reported_and_the_download_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 4 * MIB)
    disk = FullDisk(room=2 * MIB)
    monkeypatch.setattr(os, "pwrite", disk.pwrite)
    with trio.fail_after(20):
        async with local_nodes(2, tmp_path / "nodes") as nodes:
            shared = await nodes[1].share(content, piece_length=64 * KIB)
            await announced(nodes)
            config = local_config(
                tmp_path / "got",
                [nodes[0]],
                torrent=TorrentConfig(disk_retry=0.2, local_reconnect_delay=0.1),
            )
            async with open_node(config) as node:
                got = await node.get(str(shared.magnet))
                with pytest.raises(StorageError, match=r"[Nn]o space left|full"):
                    await got.completed()
                assert got.summary().error is not None
                # The node and its other work are not touched by one torrent's trouble.
                assert node.status().torrents == 1
                disk.room = float("inf")
                await until(lambda: got.state == "seeding", "it goes on by itself")
                assert got.path is not None
                assert differences(content, got.path) == []
                assert got.summary().error is None
                # What was written before the disk was full is not fetched again.
                assert got.summary().downloaded < 4 * MIB + 2.5 * MIB


async def test_a_disk_that_loses_what_it_took_stops_the_torrent_until_it_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", MIB)
    config = local_config(
        tmp_path / "got",
        state_dir=tmp_path / "state",
        torrent=TorrentConfig(disk_retry=0.1, resume_interval=0.05),
    )
    broken = True
    sync = FileStorage.sync

    def sync_or_not(storage: FileStorage, files: Collection[int] | None = None) -> None:
        if broken and storage._writable:
            raise StorageError("film.bin: Input/output error", passing=True)
        sync(storage, files)

    monkeypatch.setattr(FileStorage, "sync", sync_or_not)
    async with open_node(local_config(tmp_path / "one")) as seed, open_node(config) as node:
        shared = await seed.share(content)
        torrent = await node.get(f"{shared.magnet}&x.pe=127.0.0.1:{seed.address.port}")
        await until(lambda: torrent.state == "error", "it stops")
        assert torrent.error == "film.bin: Input/output error"
        broken = False
        await until(lambda: torrent.state == "seeding", "it goes on by itself")
        assert torrent.path is not None
        assert differences(content, torrent.path) == []


async def test_what_the_disk_could_not_keep_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so once, and nothing else tells: neither the next flush nor the file's time."""
    content = make_file(tmp_path / "seed" / "film.bin", MIB)
    config = local_config(
        tmp_path / "got",
        state_dir=tmp_path / "state",
        torrent=TorrentConfig(disk_retry=0.1, resume_interval=0.05, local_reconnect_delay=0.1),
    )
    # As if the file had been written long ago, or it would not be flushed yet.
    later = SimpleNamespace(time_ns=lambda: time.time_ns() + 60 * 10**9)
    monkeypatch.setattr("dht_torrent.engine.torrent.changes.time", later)
    lost: list[int] = []
    flush = os.fsync

    def lose(fd: int) -> None:
        info = os.fstat(fd)
        if lost or info.st_size != MIB:
            flush(fd)
            return
        path = tmp_path / "got" / "film.bin"
        with path.open("r+b") as file:
            file.write(bytes(1000))
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
        lost.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("dht_torrent.syscalls._fdatasync", lose)
    with trio.fail_after(20):
        async with open_node(local_config(tmp_path / "one")) as seed, open_node(config) as node:
            shared = await seed.share(content)
            torrent = await node.get(f"{shared.magnet}&x.pe=127.0.0.1:{seed.address.port}")
            await until(lambda: torrent.state == "error", "it stops")
            assert lost
            await until(lambda: torrent.state == "seeding", "it goes on by itself")
            assert torrent.path is not None
            assert differences(content, torrent.path) == []
