"""A file that is followed, and another one instead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dht_torrent.config import DiskConfig
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.watched_file import WatchedFile
from dht_torrent.errors import InputError


class SlowDisk:
    """Reads at once, and tells what it read when it may."""

    def __init__(self) -> None:
        self.may_tell = trio.Event()

    async def run(self, work: Callable[..., Any], *args: object) -> Any:
        found = work(*args)
        await self.may_tell.wait()
        return found


async def test_what_was_being_read_when_another_file_took_its_place_is_dropped(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    disk = SlowDisk()
    file = WatchedFile(old, cast("Disk", disk), 10.0, what="it", parse=bytes, most=100)
    taken: list[bytes] = []

    async def take(found: bytes) -> None:
        taken.append(found)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.watch, take)
        await trio.sleep(11)
        file.follow(new)
        disk.may_tell.set()
        await wait_all_tasks_blocked()
        assert taken == [b"new"]
        new.write_bytes(b"newer")
        await trio.sleep(11)
        assert taken == [b"new", b"newer"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "pipe in its place"])
async def test_what_is_not_a_file_is_refused_and_holds_nobody_up(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "list"
    disk = Disk(DiskConfig(inline=True))  # a read that waits would never end here
    file = WatchedFile(path, disk, 10.0, what="it", parse=bytes, most=100)
    if kind == "pipe in its place":
        path.write_bytes(b"before")
        assert await file.load() == b"before"
        path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    with pytest.raises(InputError, match=r"not a file|Is a directory"):
        await file.load()
