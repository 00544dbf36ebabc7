"""Labels, limits of seeding, turns and what is counted, on a fake network in virtual time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from dht_torrent import Config, Node, Torrent, open_node
from dht_torrent.config import DiskConfig
from dht_torrent.config.seeding import SeedingLimits
from dht_torrent.engine.torrent import space_guard
from dht_torrent.engine.torrent.keeping import Times, decode_times, encode_times
from dht_torrent.engine.torrent.statistics import Statistics, decode_statistics
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import HostPort, InfoHash
from dht_torrent.lab.net.network import FakeNetwork
from tests.engine.torrent.test_ownership import Place, completes, film, link
from tests.helpers.engine import LEECH, PORT, SEED, World, sample

LOOK = 5.0
"""Seconds between two looks (`Config.keeping_interval`)."""


async def states(*torrents: Torrent) -> list[str]:
    await trio.sleep(LOOK + 1)
    return [torrent.state for torrent in torrents]


# -- shared enough --------------------------------------------------------------------------------


async def fetched(world: World, torrent: Torrent) -> None:
    """By another node, once."""
    async with world.node(LEECH) as node:
        copy = await node.get(torrent.magnet)
        copy.add_peers([HostPort(SEED, PORT)])
        with trio.fail_after(60):
            await copy.completed()


async def test_a_torrent_is_paused_when_it_was_sent_as_often_as_wanted(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.seed(one, seed_ratio=1.0) as torrent:
        assert await states(torrent) == ["seeding"]
        await fetched(world, torrent)
        assert torrent.ratio >= 1.0
        assert await states(torrent) == ["paused"]
        assert torrent.history.shared_enough == "ratio"
        await torrent.resume()
        assert await states(torrent) == ["seeding"]
        assert torrent.history.shared_enough is None
        assert torrent.seeding_limits == SeedingLimits("none", "node")


async def test_limits_of_its_own_go_before_those_of_the_node(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one, seed_ratio=1.0) as torrent:
        await torrent.set_seeding_limits(SeedingLimits(ratio="none"))
        await fetched(world, torrent)
        assert await states(torrent) == ["seeding"]
        await torrent.set_seeding_limits(SeedingLimits(ratio=0.5))
        assert await states(torrent) == ["paused"]


async def test_a_seed_that_nobody_asks_ends_after_so_long_and_a_download_never_does(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with (
        world.seed(one, seed_idle=600.0) as torrent,
        world.node(LEECH, seed_idle=1.0) as node,
    ):
        alone = await node.get("ab" * 20)
        await trio.sleep(590)
        assert await states(torrent, alone) == ["seeding", "metadata"]
        await trio.sleep(20)
        assert await states(torrent) == ["paused"]
        assert torrent.history.shared_enough == "idle"
        await torrent.resume()
        await trio.sleep(500)
        assert await states(torrent) == ["seeding"]  # it has as long again
        await trio.sleep(120)
        assert await states(torrent) == ["paused"]


async def test_what_was_shared_enough_may_be_removed_instead(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.node(SEED, seed_idle=60.0, after_seeding="remove") as node:
        world.storage(SEED, one.metainfo).write(0, one.data)
        torrent = await node.get(one.metainfo)
        await torrent.completed()
        await trio.sleep(70)
        assert not node.torrents


# -- turns ----------------------------------------------------------------------------------------


async def three(node: Node) -> list[Torrent]:
    return [await node.get(f"{number:040x}") for number in (1, 2, 3)]


async def test_only_so_many_are_fetched_at_a_time_and_the_next_follows(
    autojump_clock: MockClock,
) -> None:
    async with World().node(LEECH, active_downloads=1) as node:
        first, second, third = await three(node)
        assert await states(first, second, third) == ["metadata", "queued", "queued"]
        assert second.why == "waits for its turn in the queue"
        await first.pause()
        assert await states(first, second, third) == ["paused", "metadata", "queued"]
        await first.resume()
        assert await states(first, second, third) == ["metadata", "queued", "queued"]
        await second.pause()  # also while it waits
        await node.remove(first)
        assert await states(second, third) == ["paused", "metadata"]


async def test_a_place_in_the_queue_can_be_changed(autojump_clock: MockClock) -> None:
    async with World().node(LEECH, active_downloads=1) as node:
        torrents = await three(node)
        first, _, third = torrents

        def order() -> list[int]:
            places = node.queue_positions()
            return [places[torrent.info_hash] for torrent in torrents]

        assert order() == [0, 1, 2]
        await node.move_in_queue(third, 0)
        assert order() == [1, 2, 0]
        assert await states(*torrents) == ["queued", "queued", "metadata"]
        await node.move_in_queue(third, 1)
        assert order() == [0, 2, 1]
        await node.move_in_queue(first, 99)
        assert order() == [2, 1, 0]
        with pytest.raises(InputError, match="begin with 0"):
            await node.move_in_queue(first, -1)


async def test_a_download_that_stands_still_takes_no_turn(autojump_clock: MockClock) -> None:
    async with World().node(LEECH, active_downloads=1, stalled_after=100.0) as node:
        torrents = await three(node)
        await trio.sleep(120)
        assert [torrent.state for torrent in torrents] == ["metadata", "metadata", "queued"]


async def test_the_rules_can_be_changed_while_it_runs(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        torrents = await three(node)
        assert await states(*torrents) == ["metadata"] * 3
        node.rules.active_downloads = 2
        assert await states(*torrents) == ["metadata", "metadata", "queued"]
        node.rules.active_downloads = None
        assert await states(*torrents) == ["metadata"] * 3


# -- labels, and what is counted ------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["", "  ", "a,b", "x" * 201, "a\nb"])
async def test_what_is_no_label_is_refused_and_the_others_stay(
    wrong: str, autojump_clock: MockClock
) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get("ab" * 20)
        await torrent.set_labels(["films", " to see ", "films"])
        assert torrent.summary().labels == ("films", "to see")
        with pytest.raises(InputError, match="a label has"):
            await torrent.set_labels(["new", wrong])
        assert torrent.labels == ("films", "to see")
        with pytest.raises(InputError, match="at most 64 labels"):
            await torrent.set_labels([str(number) for number in range(65)])


async def test_it_is_counted_how_long_a_torrent_was_at_work(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        assert torrent.history.completed_at is not None
        await trio.sleep(100)
        await torrent.pause()
        await trio.sleep(100)
        await torrent.resume()
        await trio.sleep(50)
        assert 140 <= torrent.history.seconds_seeding <= 155
        assert torrent.history.seconds_downloading <= LOOK
        assert torrent.history.active_at is None
        await fetched(world, torrent)
        await trio.sleep(LOOK + 1)
        assert torrent.history.active_at is not None


async def test_all_of_it_survives_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    net = FakeNetwork(random.Random(1))
    config = Config(
        bootstrap=(),
        listen=f"{LEECH}:6881",
        state_dir=tmp_path / "state",
        download_dir=tmp_path,
        disk=DiskConfig(inline=True),
        fail_fast=True,
    )
    async with open_node(config, network=net.host(LEECH)) as node:
        torrents = await three(node)
        await torrents[0].set_labels(["films"])
        await torrents[0].set_seeding_limits(SeedingLimits(1.5, "none"))
        await node.move_in_queue(torrents[2], 0)
        await trio.sleep(102)
        before = torrents[0].history
    async with open_node(config, network=net.host(LEECH)) as node:
        again = [node.find(torrent.id) for torrent in torrents]
        assert again[0].labels == ("films",)
        assert again[0].seeding_limits == SeedingLimits(1.5, "none")
        assert [node.queue_positions()[one.info_hash] for one in again] == [1, 2, 0]
        assert again[0].history.added_at == before.added_at
        assert again[0].history.seconds_downloading == before.seconds_downloading == 100


hashes = st.binary(min_size=20, max_size=20).map(InfoHash)
counts = st.integers(0, 2**40).map(float)


@given(
    st.dictionaries(
        hashes,
        st.builds(Times, st.none() | st.integers(1, 2**40).map(float), counts, counts),
        max_size=4,
    )
)
def test_times_decode_to_what_was_encoded(times: dict[InfoHash, Times]) -> None:
    assert decode_times(encode_times(times)) == times


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"le",
        b"d3:abcli1ei1ei1eee",
        b"d20:" + b"x" * 20 + b"li1ei1eee",
        b"d20:" + b"x" * 20 + b"li-1ei1ei1eee",
        b"d20:" + b"x" * 20 + b"li1ei1ei99999999999999999eee",
    ],
)
def test_times_that_cannot_be_are_refused_in_a_line(broken: bytes) -> None:
    with pytest.raises(StorageError, match="not a record of times"):
        decode_times(broken)


# -- room on the disk -----------------------------------------------------------------------------


async def test_downloads_stand_still_before_their_disk_is_full_and_go_on(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room: int | None = 5000
    monkeypatch.setattr(space_guard, "free_space", lambda _: room)
    one, other, place = film(name="a.bin"), film(name="b.bin", seed=2), Place(tmp_path)
    async with place.node(one, min_free=1000) as node:
        done = await node.get(link(one))
        await completes(done)
        torrent = await node.get(other.metainfo)
        assert await states(torrent) == ["downloading"]
        for room in (1000, 999, 1249):
            assert await states(torrent, done) == [
                "downloading" if room == 1000 else "paused",
                "seeding",
            ]
        why = str(torrent.why)
        assert str(place.got) in why
        assert "999 bytes are free, and 1000 are to stay so" in why
        assert torrent.warning == why
        assert not torrent.paused
        await torrent.resume()
        assert await states(torrent) == ["paused"]
        room = 1250
        assert await states(torrent) == ["downloading"]
        assert torrent.warning is None
        room = 0
        assert await states(torrent) == ["paused"]
        await torrent.pause()
        room = None  # nobody knows
        assert await states(torrent) == ["paused"]
        await torrent.resume()
        assert await states(torrent) == ["downloading"]
        room = 0
        node.rules.min_free = 0
        assert await states(torrent) == ["downloading"]


# -- statistics -----------------------------------------------------------------------------------


async def test_what_was_sent_and_received_is_counted_over_all_runs(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    size = len(one.data)
    async with world.seed(one):
        for run in (1, 2):
            async with world.node(LEECH, state_dir=tmp_path) as node:
                if run == 1:
                    torrent = await node.get(one.magnet(SEED))
                    await torrent.completed()
                    await trio.sleep(100)
                    assert node.statistics()[0].downloaded == size
                    await node.remove(torrent)  # what it did stays
                else:
                    await node.get("ab" * 20)
                now, ever = node.statistics()
                assert now.runs == 1
                assert now.downloaded == (size if run == 1 else 0)
                assert (ever.downloaded, ever.torrents_added, ever.runs) == (size, run, run)
                await trio.sleep(50)
        assert node.statistics()[1].seconds >= 150
    async with world.node(LEECH, state_dir=tmp_path) as node:
        now, ever = node.statistics()
        # A torrent that was here already is not added again.
        assert (now.torrents_added, ever.torrents_added, ever.runs) == (0, 2, 3)


numbers = st.integers(0, 2**62)


@given(st.builds(Statistics, numbers, numbers, numbers, numbers, numbers))
def test_statistics_decode_to_what_was_encoded(statistics: Statistics) -> None:
    assert decode_statistics(statistics.encode()) == statistics
    assert statistics.plus(statistics).uploaded <= 2**62


@pytest.mark.parametrize(
    "broken",
    [b"", b"i1e", b"le", b"li1ei2ei3ei4ee", b"li1ei2ei3ei4ei-5ee", b"li1ei2ei3ei4e1:5e",
     b"li1ei2ei3ei4ei9999999999999999999ee", b"l" * 100],
)  # fmt: skip
def test_what_are_no_statistics_is_refused_in_a_line(broken: bytes) -> None:
    with pytest.raises(StorageError, match="not statistics"):
        decode_statistics(broken)
