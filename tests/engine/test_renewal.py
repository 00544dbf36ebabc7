"""After an hour without a network, in another one, or after a suspend, bytes flow within a minute.
On the fake network, in virtual time; the hosts have public addresses, which wait longest.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.config import DhtConfig, LsdConfig, UtpConfig, WatchConfig
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.lab.net.network import FakeHost
from dht_torrent.trace import PeerDropped
from tests.helpers.engine import (
    LEECH,
    SEED,
    Hand,
    HandSeed,
    World,
    entered,
    listening,
    sample,
)

OTHERS = [f"8.{number}.0.9" for number in range(20, 28)]
FAR_SEED, FAR_LEECH, MOVED = "9.9.9.9", "7.7.7.7", "6.6.6.6"
HOUR = 3600.0
WILDCARD = "0.0.0.0:6881"


@dataclass
class Swarm:
    world: World
    host: FakeHost
    """The leech's."""
    node: Node
    torrent: Torrent

    async def seconds_until_bytes_flow(self) -> float:
        began, before = trio.current_time(), self.torrent.downloaded
        with trio.fail_after(600):
            while self.torrent.downloaded == before:
                await trio.sleep(0.1)
        return trio.current_time() - began

    async def seconds_until_in_the_dht(self) -> float:
        began = trio.current_time()
        with trio.fail_after(600):
            await self.node.dht.bootstrapped()
            while self.node.status().dht.good < 4:
                await trio.sleep(0.1)
        return trio.current_time() - began

    def cut(self) -> None:
        self.world.net.partition([self.host.ip])

    def heal(self) -> None:
        self.world.net.heal()


@contextlib.asynccontextmanager
async def downloading(**changes: object) -> AsyncIterator[Swarm]:
    """A leech of a seed, in a DHT of some nodes, in the middle of a slow download."""
    world, thing = World(latency=0.02), sample(6_000_000)
    given: dict[str, Any] = {"listen": WILDCARD, "dht": DhtConfig(secure_ids=False), **changes}
    async with contextlib.AsyncExitStack() as stack:
        for ip in OTHERS:
            points = OTHERS[:2] if ip != OTHERS[0] else []
            await stack.enter_async_context(world.node(ip, bootstrap=points, **given))
        points = OTHERS[:3]
        await stack.enter_async_context(world.seed(thing, FAR_SEED, bootstrap=points, **given))
        node = await stack.enter_async_context(world.node(FAR_LEECH, bootstrap=points, **given))
        torrent = await node.get(thing.magnet())
        torrent.set_limits(down=10_000)
        await trio.sleep(200)
        assert 0 < torrent.progress < 0.6
        yield Swarm(world, world.net.host(FAR_LEECH), node, torrent)


@pytest.mark.parametrize("minutes", [1, 3, 60])
async def test_when_a_line_is_back_bytes_flow_within_seconds(
    minutes: float, autojump_clock: MockClock
) -> None:
    async with downloading() as swarm:
        swarm.cut()
        await trio.sleep(minutes * 60)
        about = "no DHT node has responded for 1 minute:" if minutes == 1 else "is there a network?"
        assert about in swarm.node.status().warnings[0]
        swarm.heal()
        assert await swarm.seconds_until_bytes_flow() < 15
        assert await swarm.seconds_until_in_the_dht() < 5
        await trio.sleep(10)
        assert swarm.node.status().warnings == ()


async def test_after_an_hour_with_the_cable_unplugged_bytes_flow_within_seconds(
    autojump_clock: MockClock,
) -> None:
    async with downloading() as swarm:
        swarm.host.go_down()
        await trio.sleep(HOUR)
        swarm.host.come_up()
        assert await swarm.seconds_until_bytes_flow() < 10
        assert await swarm.seconds_until_in_the_dht() < 5


async def test_with_another_address_bytes_flow_within_seconds(autojump_clock: MockClock) -> None:
    async with downloading() as swarm:
        swarm.host.move(MOVED)
        await trio.sleep(2.5)
        (dropped,) = [
            one.why for one in swarm.world.records.of(PeerDropped) if "address" in one.why
        ]
        assert dropped == "our address is another"
        assert await swarm.seconds_until_bytes_flow() < 10
        assert await swarm.seconds_until_in_the_dht() < 5


async def test_others_find_a_seed_at_its_new_address(autojump_clock: MockClock) -> None:
    world, thing = World(latency=0.02), sample()
    given: dict[str, Any] = {"listen": WILDCARD, "dht": DhtConfig(secure_ids=False)}
    async with (
        world.node(OTHERS[0], **given),
        world.seed(thing, FAR_SEED, bootstrap=OTHERS[:1], **given),
        world.node(FAR_LEECH, bootstrap=OTHERS[:1], **given) as leech,
    ):
        await trio.sleep(5)
        world.net.host(FAR_SEED).move(MOVED)
        await trio.sleep(15)
        found = await leech.dht.find_peers(thing.metainfo.info_hash, on_peers=lambda _: None)
        assert MOVED in [peer.host for peer in found.peers]


async def test_after_a_suspend_bytes_flow_within_seconds(autojump_clock: MockClock) -> None:
    async with downloading() as swarm:
        swarm.cut()
        await trio.sleep(HOUR)
        swarm.host.lose_streams()
        swarm.heal()
        swarm.host.slept += HOUR
        assert await swarm.seconds_until_bytes_flow() < 10
        assert await swarm.seconds_until_in_the_dht() < 5


async def test_a_connection_that_a_router_forgot_is_given_up_within_a_minute(
    autojump_clock: MockClock,
) -> None:
    async with downloading() as swarm:
        swarm.host.lose_streams()
        assert await swarm.seconds_until_bytes_flow() < 60


async def test_a_network_that_stays_as_it_is_is_left_in_peace(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with downloading() as swarm:
        swarm.world.net.host(OTHERS[5]).go_down()  # nodes die, and are asked in vain
        swarm.world.net.host(OTHERS[6]).go_down()
        swarm.world.net.host(OTHERS[7]).go_down()
        await trio.sleep(HOUR / 2)
    assert [text for text in caplog.messages if "entered anew" in text] == []


async def test_a_download_without_a_network_knows_no_dht_until_it_is_back(
    autojump_clock: MockClock,
) -> None:
    async with downloading() as swarm:
        swarm.host.move(MOVED)
        swarm.cut()
        swarm.world.net.partition([MOVED])
        await trio.sleep(3)
        assert not next(iter(swarm.node.dht)).is_bootstrapped
        swarm.heal()
        assert await swarm.seconds_until_in_the_dht() < 60


async def test_whether_we_are_reachable_is_not_known_at_another_address(
    autojump_clock: MockClock,
) -> None:
    world, thing = World(), sample()
    async with world.node(SEED, listen=WILDCARD) as node:
        stream = await world.net.host(LEECH).connect(node.address._replace(host=SEED))
        await stream.send(
            b"\x13BitTorrent protocol" + bytes(8) + thing.metainfo.info_hash + bytes(20)
        )
        await trio.sleep(1)
        assert node.status().reachable
        world.net.host(SEED).slept += HOUR
        await trio.sleep(5)
        assert node.status().reachable
        world.net.host(SEED).move("10.0.0.77")
        await trio.sleep(5)
        assert node.status().reachable is None


async def test_local_networks_hear_of_us_again_after_a_suspend(autojump_clock: MockClock) -> None:
    world, thing = World(), sample()
    world.net.lan("lan", SEED, LEECH)
    lsd = LsdConfig(interval=HOUR)
    async with (
        world.seed(thing, SEED, listen=WILDCARD, lsd=True, lsd_limits=lsd),
        world.node(LEECH, listen=WILDCARD, lsd=True) as leech,
    ):
        await trio.sleep(1000)  # what it heard is forgotten
        torrent = await leech.get(thing.magnet())
        await trio.sleep(60)
        before = len(torrent.peers())
        world.net.host(SEED).slept += HOUR
        await entered(torrent, "seeding")
        assert before == 0


def test_the_watch_is_quick_enough_for_people() -> None:
    config = WatchConfig()
    assert config.look_interval <= 5
    assert max(config.retries) < 60


async def test_who_refuses_us_at_first_is_dialled_again_soon(autojump_clock: MockClock) -> None:
    world, thing = World(latency=0.02), sample(2_000_000)
    refuses_until = 0.0
    honest = HandSeed(thing, pause=1.0)

    async def serve(hand: Hand) -> None:
        if trio.current_time() >= refuses_until:
            await honest(hand)

    async with (
        listening(world, FAR_SEED, serve),
        world.node(FAR_LEECH, listen=WILDCARD) as node,
    ):
        torrent = await node.get(thing.magnet(FAR_SEED))
        await trio.sleep(30)
        assert 0 < torrent.progress < 1
        refuses_until = trio.current_time() + 20  # it takes us for the connection that is lost
        host = world.net.host(FAR_LEECH)
        host.lose_streams()
        host.slept += HOUR
        swarm = Swarm(world, host, node, torrent)
        await trio.sleep(3)
        assert await swarm.seconds_until_bytes_flow() < 45


UTP_ALONE: dict[str, Any] = {"tcp": False, "utp": UtpConfig()}


@pytest.mark.parametrize("minutes", [0.2, 1, 60])
async def test_over_utp_bytes_flow_within_seconds_when_a_line_is_back(
    minutes: float, autojump_clock: MockClock
) -> None:
    async with downloading(**UTP_ALONE) as swarm:
        swarm.cut()
        await trio.sleep(minutes * 60)
        swarm.heal()
        assert await swarm.seconds_until_bytes_flow() < 15


@pytest.mark.parametrize("host", ["leech", "seed"])
async def test_over_utp_bytes_flow_within_seconds_at_another_address(
    host: str, autojump_clock: MockClock
) -> None:
    """A socket that is bound to no address in particular goes on, and those at the other end do not
    know where its packets come from."""
    async with downloading(**UTP_ALONE) as swarm:
        moving = swarm.host if host == "leech" else swarm.world.net.host(FAR_SEED)
        moving.move(MOVED)
        assert await swarm.seconds_until_bytes_flow() < 20
