"""A whole node: what it takes from outside, what it leaves behind, and whose faults end it."""

from __future__ import annotations

import gc
import random
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Config, MagnetError, MetainfoError, open_node
from dht_torrent.bounds import MAX_TORRENT
from dht_torrent.config import DiskConfig
from dht_torrent.engine.state import StateDir
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.network import FakeNetwork
from tests.helpers.content import make_file, make_tree
from tests.helpers.engine import (
    HAND,
    KIB,
    LEECH,
    SEED,
    HandSeed,
    World,
    dial,
    entered,
    listening,
    sample,
)
from tests.helpers.nodes import all_completed, local_config


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def on_fake(folder: Path, ip: str = SEED) -> Config:
    return Config(
        bootstrap=(),
        listen=f"{ip}:6881",
        state_dir=folder / "state",
        download_dir=folder / "got",
        disk=DiskConfig(inline=True),
    )


# -- sources --------------------------------------------------------------------------------------


async def test_a_torrent_may_be_given_in_many_ways(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one = sample()
    file = tmp_path / "film.torrent"
    file.write_bytes(one.metainfo.to_torrent())
    async with World().node(LEECH) as node:
        first = await node.get(one.magnet())
        link = one.metainfo.magnet()
        for text in (first.id, str(link), str(file)):
            assert await node.get(text) is first
        assert await node.get(link) is first
        assert await node.get(one.metainfo) is first
        assert await node.get(file) is first
        assert list(node.torrents) == [one.metainfo.info_hash]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("magnet:?xt=urn:btih:nonsense", MagnetError),
        ("/no/such/file.torrent", InputError),
        ("f" * 39, InputError),
    ],
)
async def test_what_cannot_be_used_is_refused_and_leaves_nothing(
    source: str, error: type[Exception], autojump_clock: MockClock
) -> None:
    async with World().node(LEECH) as node:
        with pytest.raises(error):
            await node.get(source)
        assert not node.torrents


async def test_a_broken_torrent_file_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    file = tmp_path / "broken.torrent"
    file.write_bytes(b"d4:infod4:name1:xee")
    async with World().node(LEECH) as node:
        with pytest.raises(MetainfoError):
            await node.get(file)
        file.write_bytes(bytes(MAX_TORRENT + 1))
        with pytest.raises(InputError, match="may have 31 MiB"):
            await node.get(file)


async def test_a_torrent_is_found_by_the_start_of_its_id(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get(sample().metainfo)
        assert node.find(torrent.id) is node.find(torrent.id[:4].upper()) is torrent
        for wrong, says in [
            ("", "at least 4"),
            (torrent.id[:3], "at least 4"),
            ("zzzz", "no such"),
        ]:
            with pytest.raises(InputError, match=says):
                node.find(wrong)


async def test_a_torrent_given_paused_does_nothing_until_it_is_told(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with listening(world, HAND, HandSeed(one)) as hands, world.node(LEECH) as node:
        torrent = await node.get(one.magnet(HAND), paused=True)
        await trio.sleep(100)
        assert torrent.state == "paused"
        assert hands == []
        await torrent.resume()
        with trio.fail_after(10):
            await torrent.completed()


async def test_two_who_remove_the_same_torrent_both_succeed(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get(sample().metainfo)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.remove, torrent)
            nursery.start_soon(node.remove, torrent)
        assert not node.torrents


# -- sharing --------------------------------------------------------------------------------------


async def test_shared_content_is_still_shared_after_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net = FakeNetwork(random.Random(1))
    film = make_file(tmp_path / "film.bin", 300 * KIB)
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        torrent = await node.share(film, piece_length=32 * KIB)
        with trio.fail_after(5):
            assert await torrent.completed() == film
        assert await node.share(film, piece_length=32 * KIB) is torrent
        known = torrent.id
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        torrent = node.find(known)
        with trio.fail_after(5):
            assert await torrent.completed() == film
        await node.remove(torrent, delete_data=True)
        assert film.stat().st_size == 300 * KIB  # it is the user's own


async def test_shared_content_that_changed_over_a_restart_is_not_shared_until_done_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net = FakeNetwork(random.Random(1))
    film = make_file(tmp_path / "film.bin", 300 * KIB)
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        before = await node.share(film, piece_length=32 * KIB)
        await before.completed()
    good = film.read_bytes()
    film.write_bytes(b"?" + good[1:])
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        torrent = node.find(before.id)
        with pytest.raises(StorageError, match="1 of 10 pieces no longer match"):
            await torrent.completed()
        assert film.read_bytes() == b"?" + good[1:]
        now = await node.share(film, piece_length=32 * KIB)
        await now.completed()
        assert now.id != before.id
        film.write_bytes(good)
        again = await node.share(film, piece_length=32 * KIB)
        with trio.fail_after(5):
            await again.completed()
        assert again.id == before.id
        assert again is torrent


def two_files(folder: Path) -> Path:
    return make_tree(folder / "pair", {"a.bin": 160 * KIB, "b.bin": 160 * KIB})


async def test_of_a_version_that_was_superseded_what_is_left_is_served(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net = FakeNetwork(random.Random(1), latency=0.01)
    pair = two_files(tmp_path)
    good = (pair / "b.bin").read_bytes()
    async with (
        open_node(on_fake(tmp_path / "1"), network=net.host(SEED)) as node,
        open_node(on_fake(tmp_path / "2", LEECH), network=net.host(LEECH)) as leech,
    ):
        old = await node.share(pair, piece_length=32 * KIB)
        make_file(pair / "b.bin", 160 * KIB, seed=9)
        new = await node.share(pair, piece_length=32 * KIB)
        assert new is not old
        await old.supersede()
        await entered(old, "seeding")
        assert old.superseded
        assert (old.progress, new.progress) == (0.5, 1.0)
        there = str(replace(old.magnet, peers=(HostPort(SEED, 6881),)))
        got = await leech.get(there)
        with trio.fail_after(30):
            while got.progress < 0.5:
                await trio.sleep(0.1)
        await trio.sleep(300)
        assert (got.state, got.progress, got.wasted) == ("downloading", 0.5, 0)
        assert (await node.get(there)).progress == 0.5  # and it fetches nothing
        # More of it goes, behind our back; and all of it.
        make_file(pair / "a.bin", 160 * KIB, seed=9)
        await trio.sleep(70)
        assert (old.state, old.progress) == ("seeding", 0.0)
        assert new.state == "error"
        (pair / "a.bin").unlink()
        await trio.sleep(70)
        assert old.state == "seeding"
        # What it was comes back in part, and it is what it was when it is shared again.
        (pair / "b.bin").write_bytes(good)
        await trio.sleep(70)
        assert (old.state, old.progress) == ("seeding", 0.5)
        two_files(tmp_path)
        again = await node.share(pair, piece_length=32 * KIB)
        assert again is old
        assert not old.superseded
        with trio.fail_after(30):
            await got.completed()


async def test_a_version_is_still_superseded_after_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net = FakeNetwork(random.Random(1))
    pair = two_files(tmp_path)
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        old = await node.share(pair, piece_length=32 * KIB)
        await old.supersede()
        known = old.id
    make_file(pair / "b.bin", 160 * KIB, seed=9)
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        old = node.find(known)
        await entered(old, "seeding")
        assert (old.superseded, old.progress, old.summary().superseded) == (True, 0.5, True)


async def test_what_was_fetched_is_not_superseded(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get(sample().metainfo)
        with pytest.raises(InputError, match="was fetched"):
            await torrent.supersede()
        assert not torrent.superseded


@pytest.mark.parametrize("what", ["missing", "empty"])
async def test_what_cannot_be_shared_is_said_in_one_line(
    what: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / what
    if what == "empty":
        path.write_bytes(b"")
    async with World().node(SEED) as node:
        with pytest.raises(InputError) as caught:
            await node.share(path)
        assert "\n" not in str(caught.value)


# -- state ----------------------------------------------------------------------------------------


async def test_a_state_dir_belongs_to_one_node(tmp_path: Path, autojump_clock: MockClock) -> None:
    net = FakeNetwork(random.Random(1))
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as first:
        with pytest.raises(InputError):
            async with open_node(on_fake(tmp_path, LEECH), network=net.host(LEECH)):
                raise AssertionError("two nodes on one state dir")
        assert (await first.get(sample().metainfo)).name == "film.bin"
    async with open_node(on_fake(tmp_path, LEECH), network=net.host(LEECH)) as second:
        assert len(second.torrents) == 1


async def test_a_port_belongs_to_one_node(tmp_path: Path, autojump_clock: MockClock) -> None:
    net = FakeNetwork(random.Random(1))
    async with open_node(on_fake(tmp_path / "a"), network=net.host(SEED)):
        with pytest.raises(InputError, match="cannot listen on"):
            async with open_node(on_fake(tmp_path / "b"), network=net.host(SEED)):
                raise AssertionError("two nodes on one port")
    # Everything was given back: the port, and the state dir of the node that failed.
    async with open_node(on_fake(tmp_path / "b"), network=net.host(SEED)) as node:
        assert node.address.port == 6881


async def test_a_corrupt_resume_record_is_set_aside_with_a_warning(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net = FakeNetwork(random.Random(1))
    samples = [sample(seed=1), sample(seed=2)]
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        for one in samples:
            await node.get(one.metainfo)
    victim = samples[0].metainfo.info_hash
    (path,) = (tmp_path / "state").rglob(f"{victim.hex()}*")
    path.write_bytes(path.read_bytes()[:-20] + bytes(20))
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        assert list(node.torrents) == [samples[1].metainfo.info_hash]
        assert len(node.status().warnings) == 1
        assert victim.hex() in node.status().warnings[0]


async def test_the_id_and_the_bans_survive_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    net = FakeNetwork(random.Random(1))
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        torrent = await node.get(sample().metainfo)
        behind(torrent).core.connections.candidates.ban(Address("5.5.5.5", 1), trio.current_time())
        known = node.node_id
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        assert node.node_id == known
        (torrent,) = node.torrents.values()
        assert behind(torrent).core.connections.candidates.is_banned(
            Address("5.5.5.5", 1), trio.current_time()
        )


async def test_a_full_state_dir_stops_nothing(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("no space left", disk_full=True)

    monkeypatch.setattr(StateDir, "save", full)
    monkeypatch.setattr(StateDir, "save_dht", full)
    net = FakeNetwork(random.Random(1))
    async with open_node(on_fake(tmp_path), network=net.host(SEED)) as node:
        torrent = await node.get(sample().metainfo)
        await trio.sleep(3600)
        assert torrent.state == "downloading"


# -- whose fault ----------------------------------------------------------------------------------


async def test_no_remote_can_end_a_node(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    dice = random.Random(9)
    async with world.seed(one) as torrent:
        for number in range(60):
            hand = await dial(world, SEED, f"10.0.4.{number}")
            if number % 3:
                await hand.hello(torrent.info_hash, b"noise %d" % number, extended=True)
            noise = dice.randbytes(dice.randrange(1, 400))
            if number % 3 == 2:
                noise = len(noise).to_bytes(4, "big") + bytes([dice.randrange(22)]) + noise[1:]
            await hand.raw(noise)
            if number % 2:
                hand.stream.close()
        await trio.sleep(200)
        assert behind(torrent).core.connections.peers == {}
        async with world.node(LEECH) as node:
            with trio.fail_after(10):
                await (await node.get(one.magnet(SEED))).completed()


async def test_a_cable_pulled_in_the_middle_ends_connections_and_nothing_else(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with listening(world, HAND, HandSeed(one, pause=0.2)), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(HAND))
        await trio.sleep(2)
        world.net.host(LEECH).go_down()
        await trio.sleep(1)
        assert behind(torrent).core.connections.peers == {}
        await trio.sleep(300)
        world.net.host(LEECH).come_up()
        with trio.fail_after(600):
            await torrent.completed()


async def test_an_error_of_one_torrent_does_not_affect_the_others(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with listening(world, HAND, HandSeed(one)), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(HAND))
        other = await node.get(sample(seed=2).magnet())
        world.storage(LEECH, one.metainfo).fail_at = 1
        await entered(torrent, "error")
        await trio.sleep(10)
        assert other.state == "metadata"


# -- nothing is left ------------------------------------------------------------------------------


async def test_after_a_node_has_gone_nothing_of_it_is_left(tmp_path: Path) -> None:
    """On the real network, with real threads and files."""
    gc.collect()
    film = make_file(tmp_path / "film.bin", 2000 * KIB)
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def once(number: int) -> None:
        base = tmp_path / str(number)
        config = replace(local_config(base / "a"), state_dir=base / "state")
        async with (
            open_node(config) as one,
            open_node(local_config(base / "b", [one])) as other,
        ):
            shared = await one.share(film)
            with trio.fail_after(20):
                await all_completed([await other.get(str(shared.magnet) + peer(one.address))])
            await other.get(sample(seed=number).magnet())

    def peer(address: Address) -> str:
        return f"&x.pe={address.host}:{address.port}"

    await once(0)  # what is opened once and for all, as threads and the event loop's own
    before = open_descriptors()
    for number in range(1, 4):
        await once(number)
    gc.collect()
    assert open_descriptors() <= before
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_what_the_caller_raises_inside_comes_out_as_it_was() -> None:
    with pytest.raises(InputError, match="mine"):
        async with open_node(Config(bootstrap=[], listen="127.0.0.1:0")):
            raise InputError("mine")
