"""A limit holds over ten seconds, wherever it is set and whoever sends, and nothing else waits."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Config, InputError, Node, open_node
from dht_torrent.config import DiskConfig, PeerConfig
from dht_torrent.engine.torrent.rate_limits import MAX_RATE, Limits
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.geometry import BLOCK
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.storage import MemoryStorage
from dht_torrent.trace import PeerDropped
from tests.helpers.engine import (
    CHOKE,
    HAVE,
    HAVE_NONE,
    KIB,
    LEECH,
    PIECE,
    REQUEST,
    SEED,
    Sample,
    World,
    greeted,
    sample,
    unchoked,
)

MB = 1_000_000
RATE = 500_000
BIG = sample(64 * 1024 * KIB, 256 * KIB)
SMALL = sample(1024 * KIB, 32 * KIB)


@contextlib.asynccontextmanager
async def a_download(
    sample: Sample = BIG, seed_rate: int | None = None, leech_rate: int | None = None
) -> AsyncIterator[tuple[World, Torrent, Torrent, Node]]:
    """One seed and one leech on a link of 5 MB/s, a moment after the first block."""
    world = World(rate=5 * MB, latency=0.01)
    async with (
        world.seed(sample, limit_up=seed_rate) as seed,
        world.node(LEECH, limit_down=leech_rate) as node,
    ):
        got = await node.get(sample.magnet(SEED))
        with trio.fail_after(60):
            while not got.downloaded:
                await trio.sleep(0.1)
        yield world, seed, got, node


async def received(torrent: Torrent, seconds: float = 10.0) -> int:
    """Payload bytes that come in during this time."""
    before = torrent.downloaded
    await trio.sleep(seconds)
    return torrent.downloaded - before


def about(rate: float, seconds: float = 10.0) -> object:
    """Within 5 % or one block, less the headers of messages."""
    wanted = rate * seconds
    return pytest.approx(wanted, abs=max(wanted * 0.05, BLOCK))


async def test_without_a_limit_the_link_is_full(autojump_clock: MockClock) -> None:
    async with a_download() as (_, _, got, node):
        assert await received(got) == about(5 * MB)
        assert node.status().limit_down is None
        assert got.summary().limit_up is None


@pytest.mark.parametrize("rate", [16 * KIB, 100_000, RATE, 3 * MB])
async def test_a_node_sends_no_faster_than_its_limit(autojump_clock: MockClock, rate: int) -> None:
    async with a_download(seed_rate=rate) as (_, _, got, _):
        assert await received(got) == about(rate)


@pytest.mark.parametrize("rate", [16 * KIB, 100_000, RATE, 3 * MB])
async def test_a_node_receives_no_faster_than_its_limit(
    autojump_clock: MockClock, rate: int
) -> None:
    async with a_download(leech_rate=rate) as (_, _, got, _):
        await trio.sleep(5)  # what was on its way when the window was still open
        assert await received(got) == about(rate)


async def test_a_torrent_keeps_to_its_own_limits(autojump_clock: MockClock) -> None:
    async with a_download() as (_, seed, got, _):
        seed.set_limits(up=RATE)
        await trio.sleep(2)
        assert await received(got) == about(RATE)
        assert seed.summary().limit_up == RATE
        seed.set_limits(up=None)
        got.set_limits(down=RATE // 2)
        await trio.sleep(2)
        assert await received(got) == about(RATE // 2)
        assert got.summary().limit_down == RATE // 2


async def test_a_limit_changes_while_it_runs(autojump_clock: MockClock) -> None:
    async with a_download(seed_rate=100_000) as (_, _, got, node):
        assert await received(got) == about(100_000)
        node.set_limits(down=50_000)
        await trio.sleep(2)
        assert await received(got) == about(50_000)
        node.set_limits(down=80_000)
        await trio.sleep(2)
        assert await received(got) == about(80_000)
        node.set_limits(down=None)
        await trio.sleep(10)  # what waits in between goes first
        assert await received(got) == about(100_000)


async def test_a_peer_that_waits_goes_on_at_once_when_the_limit_goes(
    autojump_clock: MockClock,
) -> None:
    async with a_download(SMALL, leech_rate=1000) as (_, _, got, node):
        node.set_limits(down=None)
        with trio.fail_after(3):
            await got.completed()


async def test_a_limited_download_ends_with_nothing_lost(autojump_clock: MockClock) -> None:
    async with a_download(SMALL, leech_rate=64 * KIB) as (world, _, got, _):
        started = trio.current_time()
        with trio.fail_after(60):
            await got.completed()
        assert trio.current_time() - started == pytest.approx(16, rel=0.1)
        assert got.wasted == 0
        assert world.storage(LEECH, SMALL.metainfo).read(0, len(SMALL.data)) == SMALL.data


async def test_a_peer_that_waits_for_the_limit_is_neither_silent_nor_snubbed(
    autojump_clock: MockClock,
) -> None:
    impatient = PeerConfig(idle_timeout=2.0, message_timeout=2.0, snub_timeout=2.0)
    world = World()
    async with (
        world.seed(SMALL),
        world.node(LEECH, limit_down=2000, peer=impatient) as node,
    ):
        got = await node.get(SMALL.magnet(SEED))
        await trio.sleep(100)
        (peer,) = got.peers()
        assert "S" not in peer.flags
        assert got.downloaded == pytest.approx(200_000, abs=2 * BLOCK)
        assert got.wasted == 0
        assert not world.records.of(PeerDropped)


async def test_no_more_is_asked_for_than_three_seconds_bring(autojump_clock: MockClock) -> None:
    async with a_download() as (world, seed, got, _):
        got.set_limits(down=100_000)
        await trio.sleep(30)
        (peer,) = behind(seed).core.connections.peers.values()
        in_flight = len(peer.asked) * BLOCK
        assert in_flight <= 3 * 100_000 + BLOCK
        assert world.net.stats.stream_bytes <= got.downloaded + 4 * 100_000 + 256 * KIB


async def test_two_torrents_share_the_nodes_limit_however_many_peers_they_have(
    autojump_clock: MockClock,
) -> None:
    one, many = sample(8192 * KIB, 64 * KIB, seed=1), sample(8192 * KIB, 64 * KIB, seed=2)
    world, sources = World(latency=0.01), [f"10.0.1.{n}" for n in range(12)]
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(world.seed(one))
        for ip in sources:
            await stack.enter_async_context(world.seed(many, ip))
        node = await stack.enter_async_context(
            world.node(
                LEECH,
                limit_down=200_000,
                open_storage=lambda metainfo, path, shared: MemoryStorage(metainfo.geometry),
            )
        )
        first = await node.get(one.magnet(SEED))
        second = await node.get(many.magnet(*sources))
        await trio.sleep(5)
        before = first.downloaded, second.downloaded
        await trio.sleep(20)
        got = first.downloaded - before[0], second.downloaded - before[1]
        assert sum(got) == about(200_000, 20)
        assert got[0] == pytest.approx(got[1], rel=0.1)
        assert len(second.peers()) == len(sources)


async def test_what_is_not_a_block_never_waits(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(SMALL, limit_up=1000) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        for begin in (0, BLOCK):
            await hand.send(REQUEST, 0, begin, BLOCK)
        (peer,) = behind(torrent).core.connections.peers.values()
        await trio.sleep(1)
        started = trio.current_time()
        peer.choke(started)
        with trio.fail_after(0.5):
            await hand.expect(CHOKE)
        kinds = [kind for kind, _ in await hand.heard(20)]
        assert PIECE not in kinds  # the choke came before their turn


async def test_requests_are_heard_however_low_the_download_limit(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(SMALL, limit_down=100) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        started = trio.current_time()
        for piece in range(32):
            for begin in (0, BLOCK):
                await hand.send(REQUEST, piece, begin, BLOCK)
                await hand.expect(PIECE)
        assert trio.current_time() - started < 1


async def test_a_flood_of_other_messages_is_held_to_the_limit(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(SMALL, limit_down=10_000) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        sent = 0
        with trio.move_on_after(60):
            while True:
                await hand.raw(bytes([0, 0, 0, 5, HAVE, 0, 0, 0, 0]) * 100)
                sent += 900
        assert sent == pytest.approx(60 * 10_000, abs=2 * world.net.window)


async def test_a_peer_that_leaves_while_it_waits_leaves_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(SMALL, limit_up=1) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        await hand.send(REQUEST, 0, 0, BLOCK)
        await trio.sleep(1)
        hand.stream.close()
        await trio.sleep(1)
        assert not torrent.peers()
        behind(torrent).core.connections.limits.up.set_rate(None)
        await trio.sleep(1)


async def test_a_torrents_limits_are_kept_over_a_restart(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    network = FakeNetwork(random.Random(1))
    config = Config(
        bootstrap=[],
        listen="10.0.0.1:6881",
        state_dir=tmp_path / "state",
        download_dir=tmp_path,
        disk=DiskConfig(inline=True),
        limit_up=7000,
    )
    async with open_node(config, network=network.host("10.0.0.1")) as node:
        assert node.status().limit_up == 7000
        node.set_limits(up=9000)
        (await node.get(SMALL.metainfo)).set_limits(up=5000, down=6000)
    async with open_node(config, network=network.host("10.0.0.1")) as node:
        (torrent,) = node.torrents.values()
        summary = torrent.summary()
        assert (summary.limit_up, summary.limit_down) == (5000, 6000)
        status = node.status()
        assert (status.limit_up, status.limit_down) == (7000, None)
        torrent.set_limits(up=None)
        assert (torrent.summary().limit_up, torrent.summary().limit_down) == (None, 6000)
        torrent.set_limits(down=0)
        assert torrent.summary().limit_down is None


@pytest.mark.parametrize("rate", [-1, MAX_RATE + 1])
async def test_what_is_not_a_rate_is_refused_and_changes_nothing(rate: int) -> None:
    limits = Limits()
    limits.set(up=5)
    with pytest.raises(InputError, match=str(rate)):
        limits.set(up=6, down=rate)
    assert (limits.up.rate, limits.down.rate) == (5, None)
    with pytest.raises(InputError, match=str(rate)):
        async with open_node(Config(bootstrap=[], listen="127.0.0.1:0", limit_up=rate)):
            raise AssertionError("a node runs with it")
