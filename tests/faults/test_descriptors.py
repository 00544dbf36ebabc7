"""More files than may be open, and more connections than there are descriptors: nothing ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from dht_torrent import open_node
from dht_torrent.config import Config, DiskConfig, TorrentConfig
from dht_torrent.daemon.client import connect
from dht_torrent.engine.net.protocols import Stream
from dht_torrent.engine.net.sockets import RealNetwork
from dht_torrent.ids import Address
from dht_torrent.storage import Descriptors, FileStorage
from tests.helpers.content import KIB, differences, make_file
from tests.helpers.nodes import local_config
from tests.helpers.scarce import few_left
from tests.helpers.waiting import until

SCRIPT = Path(__file__).with_name("crowded_process.py")
TORRENTS = int(os.environ.get("TORRENTS", "100"))
FILES = 50
LIMIT = int(os.environ.get("LIMIT", "128"))


@contextmanager
def crowded(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(TORRENTS), str(FILES), str(LIMIT)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def line(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    text = process.stdout.readline()
    assert text, f"it ended with {process.wait()}"
    return json.loads(text)


async def fetch(magnet: str, port: int, folder: Path) -> Path:
    async with open_node(local_config(folder)) as node:
        torrent = await node.get(f"{magnet}&x.pe=127.0.0.1:{port}")
        return await torrent.completed()


async def test_a_hundred_torrents_of_fifty_files_share_128_descriptors(tmp_path: Path) -> None:
    with trio.fail_after(50 + TORRENTS / 5), crowded(tmp_path) as process:
        ready = line(process)
        assert ready["seeding"] == TORRENTS
        assert any("instead of 200" in warning for warning in ready["warnings"])
        for number in (0, TORRENTS // 2, TORRENTS - 1):
            got = await fetch(ready["magnets"][number], ready["port"], tmp_path / f"{number}")
            assert differences(tmp_path / f"share-{number}", got) == []
        with ExitStack() as open_sockets:  # more strangers than there are descriptors
            for _ in range(LIMIT + 20):
                stranger = open_sockets.enter_context(socket.socket())
                stranger.setblocking(False)
                stranger.connect_ex(("127.0.0.1", ready["port"]))
            with connect(tmp_path / "state") as client:
                assert client.status()["torrents"] == TORRENTS
        with connect(tmp_path / "state") as client:
            assert all(torrent["state"] == "seeding" for torrent in client.torrents())
            client.stop()
        ended = line(process)
        assert ended["most"] <= LIMIT
        assert ended["failed"] == 0
        assert process.wait() == 0


async def test_a_torrent_without_descriptors_goes_on_by_itself_when_there_are_some(
    tmp_path: Path,
) -> None:
    content = make_file(tmp_path / "film.bin", 300 * KIB)
    config = local_config(
        tmp_path / "node", torrent=TorrentConfig(disk_retry=0.1, file_check_interval=0.05)
    )
    async with open_node(config) as node:
        shared = await node.share(content)
        await until(lambda: shared.state == "seeding", "it seeds")
        with few_left(0):
            await until(lambda: shared.state == "error", "the look at its files fails")
            assert "Too many open files" in str(shared.error)
            await shared.pause()  # the files cannot be looked at now either
            await shared.resume()
            await trio.sleep(0.3)
            await shared.recheck()
            await until(lambda: shared.state == "error", "the recheck fails")
            await trio.sleep(0.3)  # time for a retry or two
            assert shared.state in ("error", "checking")
        await until(lambda: shared.state == "seeding", "it seeds again")
        assert shared.progress == 1.0


async def test_a_recheck_without_descriptors_does_not_take_pieces_for_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_file(tmp_path / "film.bin", 300 * KIB)
    config = local_config(tmp_path / "node", torrent=TorrentConfig(disk_retry=0.1))
    async with open_node(config) as node:
        shared = await node.share(content)
        await until(lambda: shared.state == "seeding", "it seeds")
        real = FileStorage.survey
        held: list[Any] = []

        def then_none_left(storage: FileStorage) -> Any:
            found = real(storage)
            if not held:
                held.append(few_left(0))
                held[0].__enter__()
            return found

        monkeypatch.setattr(FileStorage, "survey", then_none_left)
        await shared.recheck()
        await until(lambda: shared.state == "error", "the recheck fails")
        held[0].__exit__(None, None, None)
        assert "Too many open files" in str(shared.error)
        await until(lambda: shared.state == "seeding", "all pieces are found again")


async def test_idle_files_are_closed(tmp_path: Path) -> None:
    content = make_file(tmp_path / "film.bin", 100 * KIB)
    disk = DiskConfig(idle_file_time=0.1)
    async with open_node(local_config(tmp_path / "node", disk=disk)) as node:
        shared = await node.share(content)
        await fetch(str(shared.magnet), node.address.port, tmp_path / "got")

        def is_open() -> bool:
            return any(
                os.path.realpath(fd) == str(content) for fd in Path("/proc/self/fd").iterdir()
            )

        assert is_open()
        await until(lambda: not is_open(), "the file is closed")


async def test_a_node_keeps_within_the_limit_it_finds(tmp_path: Path) -> None:
    with few_left(100):
        async with open_node(local_config(tmp_path)) as node:
            assert node.config.max_connections < 50
            assert node.config.disk.open_files < 50
            assert [w for w in node.status().warnings if "ulimit -n" in w]
    async with open_node(Config(bootstrap=[], listen="127.0.0.1:0")) as node:
        assert node.config.max_connections == 200
        assert not node.status().warnings


class Idle:
    """A pool whose files nobody uses."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self.pool = Descriptors(count)
        files = self.pool.files(
            lambda index, write: os.open(folder / str(index), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        )
        for index in range(count):
            with files.borrowing(index):
                pass


async def test_a_connection_is_worth_more_than_a_file_not_in_use(tmp_path: Path) -> None:
    idle = Idle(tmp_path / "idle", 5)
    network = RealNetwork(idle.pool.relieve)
    listener = await network.listen(Address("127.0.0.1", 0))
    with trio.fail_after(20):
        with few_left(0):
            ours = await network.connect(listener.address)
            theirs = await listener.accept()
        assert len(idle.pool) == 3
    for thing in (ours, theirs, listener):
        thing.close()


async def test_a_dial_without_a_descriptor_waits_for_one(tmp_path: Path) -> None:
    network = RealNetwork()
    listener = await network.listen(Address("127.0.0.1", 0))
    dialled: list[Stream] = []

    async def dial() -> None:
        dialled.append(await network.connect(listener.address))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            with few_left(0):
                nursery.start_soon(dial)
                await trio.sleep(0.3)
                assert not dialled
    dialled[0].close()
    listener.close()


async def test_state_is_saved_and_folders_are_shared_when_descriptors_run_out(
    tmp_path: Path,
) -> None:
    for folder in ("one", "two/deep/er"):
        make_file(tmp_path / "share" / folder / "film.bin", 100 * KIB)
    config = local_config(tmp_path / "node", state_dir=tmp_path / "state")
    async with open_node(config) as node:
        for index in range(12):
            make_file(tmp_path / "other" / f"{index}.bin", 10 * KIB, seed=index)
        other = await node.share(tmp_path / "other")
        # Its files are open and idle from now on, and all that there is to be closed.
        await fetch(str(other.magnet), node.address.port, tmp_path / "got")
        with few_left(0), trio.fail_after(20):
            shared = await node.share(tmp_path / "share")
            await until(lambda: shared.state == "seeding", "it seeds")
            record = tmp_path / "state" / "torrents" / f"{shared.id}.resume"
            await until(record.exists, "its record is written")
            assert shared.error is None
