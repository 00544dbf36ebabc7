"""Reading a file while it loads, in virtual time."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dht_torrent import Torrent
from dht_torrent.config import DiskConfig
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import HostPort
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage import FileStorage, Storage
from dht_torrent.torrent.picker import Picker
from dht_torrent.trace import PieceDone
from tests.helpers.engine import KIB, LEECH, PORT, SEED, World, sample
from tests.helpers.storages import hashed

MIB = 1 << 20
FIFTY = 50e6 / 8
"""Bytes a second of a good line."""
SEEDS = [f"10.0.1.{number}" for number in range(1, 6)]


def order(world: World) -> list[int]:
    """The pieces in the order in which they came."""
    return [done.index for done in world.records.of(PieceDone)]


def picker_of(torrent: Torrent) -> Picker:
    stage = behind(torrent).core.stage
    return stage.swarm.picker  # type: ignore[union-attr]


async def read_all(torrent: Torrent, start: int = 0, stop: int = 1 << 62) -> bytes:
    data = b""
    with await torrent.open(0) as reader:
        while start < stop and (part := await reader.read(start, stop - start)):
            data += part
            start += len(part)
    return data


async def test_a_file_is_read_while_it_loads(autojump_clock: MockClock) -> None:
    world, one = World(rate=256 * KIB, latency=0.02), sample(2 * MIB)
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(SEED))
        while torrent.metainfo is None:
            await trio.sleep(0.1)
        began = trio.current_time()
        with await torrent.open(0) as reader:
            assert reader.size == 2 * MIB
            data = await reader.read(0)
            assert trio.current_time() - began < 2
            while part := await reader.read(len(data)):
                data += part
        assert data == one.data
        assert 7 < trio.current_time() - began < 11, "no faster than the line, and hardly slower"


async def test_what_is_read_is_asked_for_first_wherever_that_is(autojump_clock: MockClock) -> None:
    world, one = World(rate=256 * KIB, latency=0.02), sample(4 * MIB)
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(SEED))
        await trio.sleep(2)
        before = set(order(world))
        middle = 60 * 32 * KIB + 5
        assert (
            await read_all(torrent, middle, middle + 100 * KIB)
            == one.data[middle : middle + 100 * KIB]
        )
        # What was on its way could not be called back.
        after = [index for index in order(world) if index not in before]
        assert {60, 61, 62, 63} - before <= set(after[: 16 + 4]), after
        await torrent.completed()
        assert picker_of(torrent).urgent == ()


async def test_nothing_is_hurried_when_nobody_reads_any_more(autojump_clock: MockClock) -> None:
    world, one = World(rate=64 * KIB), sample(4 * MIB)
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(SEED))
        await trio.sleep(2)
        with await torrent.open(0) as reader:
            with trio.move_on_after(0.5):
                await reader.read(100 * 32 * KIB)
            assert picker_of(torrent).urgent
        assert not picker_of(torrent).urgent
        reader.close()


async def test_several_readers_are_all_served(autojump_clock: MockClock) -> None:
    world, one = World(rate=256 * KIB, latency=0.02), sample(4 * MIB)
    took = []
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(SEED))
        await trio.sleep(1)
        began = trio.current_time()

        async def read(start: int) -> None:
            stop = start + 64 * KIB
            assert await read_all(torrent, start, stop) == one.data[start:stop]
            took.append(trio.current_time() - began)

        async with trio.open_nursery() as nursery:
            for start in (MIB, 2 * MIB, 3 * MIB + 7):
                nursery.start_soon(read, start)
    assert max(took) < 3


async def test_many_slow_peers_work_on_one_piece(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.02), sample(8 * MIB, MIB)
    for ip in SEEDS:
        world.storage(ip, one.metainfo).write(0, one.data)
        world.net.host(ip).uplink.rate = 100 * KIB
    async with trio.open_nursery() as nursery:
        for ip in SEEDS:
            nursery.start_soon(run_seed, world, ip, one.metainfo)
        await trio.sleep(1)
        async with world.node(LEECH) as node:
            torrent = await node.get(one.metainfo)
            torrent.add_peers([HostPort(ip, PORT) for ip in SEEDS])
            while len(torrent.peers()) < len(SEEDS):
                await trio.sleep(0.1)
            began = trio.current_time()
            assert await read_all(torrent, 5 * MIB, 5 * MIB + 1) == one.data[5 * MIB : 5 * MIB + 1]
            assert trio.current_time() - began < 5, "one alone takes ten seconds"
        nursery.cancel_scope.cancel()


async def run_seed(world: World, ip: str, metainfo: Metainfo) -> None:
    async with world.node(ip) as node:
        await (await node.get(metainfo)).completed()
        await trio.sleep_forever()


async def test_a_piece_that_is_late_is_asked_of_another(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.02), sample(4 * MIB, 256 * KIB)
    slow, quick = SEEDS[:2]
    for ip in (slow, quick):
        world.storage(ip, one.metainfo).write(0, one.data)
    world.net.host(slow).uplink.rate = 4 * KIB
    world.net.host(quick).uplink.rate = 300 * KIB
    async with trio.open_nursery() as nursery:
        for ip in (slow, quick):
            nursery.start_soon(run_seed, world, ip, one.metainfo)
        await trio.sleep(1)
        async with world.node(LEECH) as node:
            torrent = await node.get(one.metainfo)
            torrent.add_peers([HostPort(slow, PORT)])
            await trio.sleep(2)
            stuck = next(iter(picker_of(torrent)._assembly.open))
            torrent.add_peers([HostPort(quick, PORT)])
            await trio.sleep(1)
            began = trio.current_time()
            start = stuck * 256 * KIB
            stop = start + 256 * KIB
            assert await read_all(torrent, start, stop) == one.data[start:stop]
            assert trio.current_time() - began < 8, "the slow one alone takes a minute"
        nursery.cancel_scope.cancel()


async def test_a_file_that_was_not_wanted_is_wanted_by_being_read(
    autojump_clock: MockClock,
) -> None:
    data = random.Random(3).randbytes(256 * KIB)
    info = hashed(data, [64 * KIB] * 4, 32 * KIB).info
    metainfo = from_info(info)
    world = World()
    world.storage(SEED, metainfo).write(0, data)
    async with world.node(SEED) as seed, world.node(LEECH) as node:
        await (await seed.get(metainfo)).completed()
        torrent = await node.get(metainfo, select=[(0, 0)])
        torrent.add_peers([HostPort(SEED, PORT)])
        await torrent.completed()
        with await torrent.open(2) as reader:
            assert await reader.read(0) == data[128 * KIB : 192 * KIB][: 64 * KIB]
        assert [file.selected for file in torrent.files()] == [True, False, True, False]


@pytest.mark.parametrize("file", [-1, 1, 10**9])
async def test_there_is_no_such_file(file: int, autojump_clock: MockClock) -> None:
    one = sample()
    async with World().node(LEECH) as node:
        torrent = await node.get(one.metainfo)
        with pytest.raises(InputError, match="there is no file"):
            await torrent.open(file)


async def test_files_that_are_not_known_cannot_be_read(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get(sample().magnet())
        with pytest.raises(InputError, match="not known yet"):
            await torrent.open(0)


@pytest.mark.parametrize("what", ["removed", "paused", "failed"])
async def test_who_waits_for_what_will_not_come_is_told(
    what: str, autojump_clock: MockClock
) -> None:
    async with World().node(LEECH) as node, trio.open_nursery() as nursery:
        torrent = await node.get(sample().metainfo)
        told: list[StorageError] = []

        async def wait() -> None:
            with await torrent.open(0) as reader, pytest.raises(StorageError) as error:
                await reader.read(0)
            told.append(error.value)

        nursery.start_soon(wait)
        await trio.sleep(3)
        if what == "removed":
            await torrent.remove()
        elif what == "paused":
            await torrent.pause()
        else:
            behind(torrent).core.fail(StorageError("the disk is full"))
        await trio.sleep(5)
        await wait_all_tasks_blocked()
        (error,) = told
        assert {"failed": "disk is full"}.get(what, what) in str(error)


async def test_what_is_here_is_read_although_the_torrent_is_paused(
    autojump_clock: MockClock,
) -> None:
    one = sample()
    async with World().seed(one) as torrent:
        await torrent.pause()
        await trio.sleep(1)
        assert await read_all(torrent) == one.data


async def test_a_file_that_changed_on_the_disk_stops_the_torrent_and_the_reader(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        storage = world.storage(SEED, one.metainfo)

        def broken(*args: object) -> None:
            raise StorageError("input/output error")

        storage.read_into = broken  # type: ignore[method-assign, assignment]
        with await torrent.open(0) as reader, pytest.raises(StorageError, match="input/output"):
            await reader.read(0)
        await trio.sleep(1)
        assert torrent.state == "error"


# -- a film ---------------------------------------------------------------------------------------

PIECE = 4 * MIB


def zeros(size: int) -> Metainfo:
    digest = hashlib.sha1(bytes(PIECE)).digest()
    pieces = digest * (size // PIECE)
    return from_info(
        b"d6:lengthi%de4:name4:film12:piece lengthi%de6:pieces%d:%be"
        % (size, PIECE, len(pieces), pieces)
    )


@pytest.mark.parametrize(
    ("seeds", "size", "most"), [(SEEDS[:1], 1024 * MIB, 2.0), (SEEDS, 256 * MIB, 3.0)]
)
async def test_the_middle_of_a_film_plays_at_once(
    seeds: Sequence[str], size: int, most: float, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """At 50 Mbit/s, with pieces of 4 MiB, of one peer or of five. What each of these had on its way
    comes first, at a fifth of the speed."""
    world, film = World(latency=0.02), zeros(size)
    world.net.host(LEECH).downlink.rate = FIFTY
    for ip in seeds:
        world.net.host(ip).uplink.rate = FIFTY / len(seeds)
        (tmp_path / ip).mkdir()
        with (tmp_path / ip / "film").open("wb") as file:
            file.truncate(size)

    def on_disk(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        return FileStorage(path, metainfo, DiskConfig())

    async def seed(ip: str) -> None:
        async with world.node(ip, open_storage=on_disk) as node:
            await (await node.get(film, output=tmp_path / ip)).completed()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for ip in seeds:
            nursery.start_soon(seed, ip)
        await trio.sleep(5)
        async with world.node(LEECH, open_storage=on_disk) as node:
            torrent = await node.get(film, output=tmp_path / "got")
            torrent.add_peers([HostPort(ip, PORT) for ip in seeds])
            await trio.sleep(4)
            assert torrent.progress > 0
            with await torrent.open(0) as reader:
                for at in (0, size // 2 + 12_345, size // 4):
                    began = trio.current_time()
                    data = await reader.read(at)
                    assert data == bytes(len(data))
                    assert trio.current_time() - began < most, at
        nursery.cancel_scope.cancel()
