"""A torrent is looked up and announced often enough, and a private one not at all."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dht_torrent.lab.net import Link
from dht_torrent.trace import LookupDone
from tests.helpers.engine import HAND, LEECH, HandSeed, World, listening, sample
from tests.helpers.raw_peer import stall

ROUTER = "10.0.0.100"


async def test_a_lonely_download_looks_often_and_one_with_company_does_not(
    autojump_clock: MockClock,
) -> None:
    lookups: dict[bool, int] = {}
    for lonely in (True, False):
        world, one = World(), sample()
        hosts = () if lonely else (HAND,)
        async with (
            world.node(ROUTER),
            listening(world, HAND, HandSeed(one, stall)),
            world.node(LEECH, bootstrap=[ROUTER]) as node,
        ):
            torrent = await node.get(one.magnet(*hosts))
            await trio.sleep(1800)
            targets = [record.target for record in world.records.of(LookupDone)]
            lookups[lonely] = targets.count(torrent.info_hash)
            assert bool(torrent.crowd.peers) != lonely
    assert lookups[True] > lookups[False] >= 2


async def test_a_torrent_that_turns_out_private_is_announced_no_more(
    autojump_clock: MockClock,
) -> None:
    """BEP 27: also the lookup that was under way must not end in an announce."""
    world, secret = World(latency=0.02), sample(private=True)
    world.net.set_link(ROUTER, LEECH, Link(latency=0.9))  # its answers come after the metadata
    async with (
        world.node(ROUTER) as router,
        listening(world, HAND, HandSeed(secret)),
        world.node(LEECH, bootstrap=[ROUTER]) as node,
    ):
        await node.dht.bootstrapped()
        torrent = await node.get(secret.magnet(HAND))
        with trio.fail_after(60):
            await torrent.completed()
        lookups = len(world.records.of(LookupDone))
        await trio.sleep(3600)
        targets = [record.target for record in world.records.of(LookupDone)[lookups:]]
        assert torrent.info_hash not in targets
        assert router.status().dht.stored_peers == 0
        assert node.status().last_announce is None


async def test_a_private_torrent_is_never_looked_up(autojump_clock: MockClock) -> None:
    world, secret = World(), sample(private=True)
    async with world.node(ROUTER), world.node(LEECH, bootstrap=[ROUTER]) as node:
        torrent = await node.get(secret.metainfo)
        await trio.sleep(3600)
        targets = [record.target for record in world.records.of(LookupDone)]
        assert torrent.info_hash not in targets
        assert torrent.why == "a private torrent is not looked up in the DHT, and no peer is known"
