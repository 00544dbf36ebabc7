"""A torrent is looked up and announced often enough, and a private one not at all."""

from __future__ import annotations

import itertools

import trio
from trio.testing import MockClock

from dht_torrent.config import TorrentConfig
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.ids import Address
from dht_torrent.lab.net.link import Link
from dht_torrent.trace import LookupDone
from tests.helpers.engine import HAND, LEECH, PORT, HandSeed, World, listening, sample
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
            assert bool(behind(torrent).core.connections.peers) != lonely
    assert lookups[True] > lookups[False] >= 2


async def test_a_search_that_found_no_peer_is_repeated_quickly_and_then_each_minute(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.node(ROUTER), world.node(LEECH, bootstrap=[ROUTER]) as node:
        await node.dht.bootstrapped()
        looked: list[float] = []
        torrent = await node.get(one.magnet())
        seen = 0
        for _ in range(6000):
            await trio.sleep(0.1)
            done = [r for r in world.records.of(LookupDone) if r.target == torrent.info_hash]
            looked += [trio.current_time()] * (len(done) - seen)
            seen = len(done)
        pauses = [round(b - a) for a, b in itertools.pairwise(looked)]
        assert pauses[0] in (4, 5)  # the first one takes a while to announce us as well
        assert pauses[1:4] == [8, 16, 32]
        assert set(pauses[4:]) == {60}
        assert len(pauses) >= 12


async def test_many_stuck_torrents_share_a_budget_of_lookups(autojump_clock: MockClock) -> None:
    world = World()
    few = TorrentConfig(hungry_lookups=12.0, find_peers_interval=1e6)
    async with (
        world.node(ROUTER),
        world.node(LEECH, bootstrap=[ROUTER], torrent=few) as node,
    ):
        await node.dht.bootstrapped()
        for number in range(100):
            await node.get(f"magnet:?xt=urn:btih:{number:040x}")
        await trio.sleep(120)
        before = len(world.records.of(LookupDone))
        await trio.sleep(600)
        targets = [record.target for record in world.records.of(LookupDone)[before:]]
        hungry = [target for target in targets if int.from_bytes(target) < 100]
        assert 110 <= len(hungry) <= 125
        # Each had its turn, and nobody two more than another.
        counts = [hungry.count(number.to_bytes(20)) for number in range(100)]
        assert max(counts) - min(counts) <= 1


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


async def test_a_dead_node_is_not_recommended(autojump_clock: MockClock) -> None:
    world, one = World(), sample()

    async with (
        world.node(ROUTER) as router,
        world.node(LEECH, bootstrap=[ROUTER]) as other,
        world.node(HAND, bootstrap=[ROUTER]) as dying,
    ):
        asking = await world.net.host("10.0.0.55").open_udp(Address("10.0.0.55", PORT))
        compact = Address(HAND, PORT).compact()

        async def told() -> bool:
            target = dying.node_id
            query = b"d1:ad2:id20:%b6:target20:%be1:q9:find_node1:t2:aa1:y1:qe" % (target, target)
            asking.send(query, Address(ROUTER, PORT))
            for _ in range(9):
                for data, _ in await asking.receive():
                    if b"5:nodes" in data:
                        return compact in data
            raise AssertionError("no answer")

        await dying.dht.bootstrapped()
        await other.dht.bootstrapped()
        await router.get(one.magnet())
        await trio.sleep(100)
        assert await told()
        world.net.host(HAND).go_down()
        await trio.sleep(120)
        assert not await told()
        world.net.host(HAND).come_up()
        await trio.sleep(120)
        assert await told()
