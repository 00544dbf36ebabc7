"""Nobody is dialled again and again for nothing."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import PeerConfig
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.ids import Address
from tests.helpers.engine import (
    EXTENDED,
    HAND,
    HAVE_ALL,
    LEECH,
    PORT,
    SEED,
    Hand,
    HandSeed,
    World,
    dial,
    entered,
    listening,
    sample,
)

HOUR = 3600.0
PUBLIC = "5.5.5.5"


async def hangs_up(hand: Hand) -> None:
    """Before its handshake: as a client that insists on encryption."""


async def speaks_another_language(hand: Hand) -> None:
    await hand.raw(b"SSH-2.0-OpenSSH_9.2\r\n".ljust(68))


async def greets_and_leaves(hand: Hand) -> None:
    await hand.hello(sample().metainfo.info_hash)


async def resets(hand: Hand) -> None:
    await hand.hello(sample().metainfo.info_hash)
    await hand.send(EXTENDED, data=b"\0garbage")
    await hand.closed()


@pytest.mark.parametrize("host", [HAND, PUBLIC])
@pytest.mark.parametrize("behave", [hangs_up, speaks_another_language, greets_and_leaves, resets])
async def test_redialling_backs_off_whatever_the_other_side_does(
    behave: object, host: str, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    assert callable(behave)
    ours = LEECH if host == HAND else "5.5.5.1"
    async with listening(world, host, behave) as dials, world.node(ours) as node:
        await node.get(one.magnet(host))
        await trio.sleep(HOUR)
        assert 4 <= len(dials) <= 13
        await trio.sleep(HOUR)
        assert len(dials) <= 13 + 5


async def test_two_seeds_of_ours_meet_seldom(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.01), sample()
    world.storage(LEECH, one.metainfo).write(0, one.data)
    async with world.seed(one) as there, world.node(LEECH) as node:
        here = await node.get(one.metainfo)
        await here.completed()
        behind(here).core.connections.found([Address(SEED, PORT)], "magnet")
        behind(there).core.connections.found([Address(LEECH, PORT)], "magnet")
        await trio.sleep(HOUR)
        assert world.net.stats.connections <= 10
        assert behind(here).core.connections.peers == behind(there).core.connections.peers == {}


async def test_a_seed_that_meets_a_seed_says_so_before_it_closes(
    autojump_clock: MockClock,
) -> None:
    """It dials again and again, unless it hears why nothing will come of it."""
    world, one = World(latency=0.01), sample()
    async with world.seed(one):
        hand = await dial(world, SEED)
        await hand.hello(one.metainfo.info_hash, extended=True)
        await hand.send(HAVE_ALL)
        await hand.send(EXTENDED, data=b"\0d1:mde1:pi7000ee")
        began = trio.current_time()
        heard = await hand.heard(60)
        assert heard[0] == (HAVE_ALL, b"")
        assert [b"11:upload_onlyi1e" in payload for kind, payload in heard if kind == EXTENDED]
        waited = trio.current_time() - began
        assert PeerConfig().parting_timeout - 1 < waited < PeerConfig().parting_timeout + 1


async def test_a_peer_that_leaves_first_is_let_go(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.01), sample()
    heard: list[int] = []

    async def seed(hand: Hand) -> None:
        await hand.hello(one.metainfo.info_hash, extended=True)
        await hand.send(HAVE_ALL)
        kind, _ = await hand.receive()
        heard.append(kind)  # now it knows, and leaves

    async with listening(world, HAND, seed) as dials, world.seed(one) as torrent:
        behind(torrent).core.connections.found([Address(HAND, PORT)], "magnet")
        await trio.sleep(1)
        assert behind(torrent).core.connections.peers == {}
        await trio.sleep(HOUR)
        assert heard == [HAVE_ALL] * len(dials)
        assert 2 <= len(dials) <= 5


@pytest.mark.parametrize(("host", "pause"), [(HAND, 2.0), (PUBLIC, 5.0)])
async def test_a_peer_that_was_of_use_is_dialled_again_soon(
    host: str, pause: float, autojump_clock: MockClock
) -> None:
    """It was started anew, or was paused for a moment."""
    world, one = World(), sample()
    seed = HandSeed(one, pause=0.5)
    ours = LEECH if host == HAND else "5.5.5.1"
    async with listening(world, host, seed) as dials, world.node(ours) as node:
        torrent = await node.get(one.magnet(host))
        await entered(torrent, "downloading")
        for count in range(1, 6):
            await trio.sleep(1.5)
            assert len(dials) == count
            world.net.host(host).go_down()
            world.net.host(host).come_up()
            await trio.sleep(pause + 0.5)
