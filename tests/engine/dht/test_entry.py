"""The way into the DHT without a bootstrap node: through peers, and through what torrents name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.engine.dht.bootstrap import MAX_HINTS, MAX_RETRY
from dht_torrent.engine.dht.node import MAX_NAMED
from dht_torrent.ids import Address, HostPort
from tests.helpers.dht_lab import MINUTE, Lab
from tests.helpers.engine import LEECH, PORT, SEED, World, sample

LATER = "10.0.0.8"


async def small_dht(lab: Lab, count: int = 8) -> Address:
    one = await lab.node("10.0.1.1")
    for number in range(2, count + 1):
        await (await lab.node(f"10.0.1.{number}", one)).bootstrapped()
    return one.address


async def test_a_peer_that_says_port_lets_a_node_with_an_empty_table_in(
    autojump_clock: MockClock,
) -> None:
    """Nobody told the newcomer anything but the address of one ordinary peer."""
    world, one = World(latency=0.01), sample()
    async with (
        world.node("10.0.1.1") as first,
        world.node("10.0.1.2", bootstrap=["10.0.1.1"]),
        world.node("10.0.1.3", bootstrap=["10.0.1.1"]),
        world.seed(one, bootstrap=["10.0.1.1"]) as seed,
        world.node(LEECH) as leech,
    ):
        await trio.sleep(60)
        assert leech.status().dht.good == 0
        torrent = await leech.get(one.magnet(SEED))
        await torrent.completed()
        await trio.sleep(30)
        assert leech.status().dht.good >= 4
        assert seed.info_hash == torrent.info_hash
        # Others find it there now, by its announce.
        found = await first.dht.find_peers(torrent.info_hash, on_peers=lambda peers: None)
        assert Address(LEECH, PORT) in found.peers


async def test_where_a_peer_says_its_node_is_it_is_asked_until_it_responds(
    lab: Lab, autojump_clock: MockClock
) -> None:
    entry = await small_dht(lab)
    node = await lab.node("10.0.0.1")
    lab.net.host(entry.host).go_down()
    node.maybe_contact(entry)
    await trio.sleep(5 * MINUTE)
    assert node.status().good == 0
    lab.net.host(entry.host).come_up()
    await trio.sleep(2 * MAX_RETRY)
    assert node.status().good >= 8


async def test_what_a_torrent_names_lets_a_node_in(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.01), sample()
    world.net.names["entry.example"] = ["10.0.1.2"]
    nodes = (
        HostPort("10.9.9.9", 1),
        HostPort("nobody.example", 5),
        HostPort("entry.example", PORT),
    )
    metainfo = replace(one.metainfo, nodes=nodes)
    async with (
        world.node("10.0.1.1") as first,
        world.node("10.0.1.2", bootstrap=["10.0.1.1"]),
        world.seed(one, bootstrap=["10.0.1.1"]),
        world.node(LEECH) as leech,
        world.node(LATER) as later,
    ):
        await trio.sleep(60)
        began = trio.current_time()
        torrent = await leech.get(metainfo)
        await torrent.completed()
        assert trio.current_time() - began < 10
        assert leech.status().dht.good >= 3
        # Also of a .torrent that is given to a torrent which began as a bare link.
        other = await later.get(one.magnet())
        await trio.sleep(60)
        assert later.status().dht.good == 0
        assert await later.get(metainfo) is other
        await other.completed()
        assert later.status().dht.good >= 3
        assert first.status().dht.good >= 4


async def test_nodes_of_a_private_torrent_are_not_asked(autojump_clock: MockClock) -> None:
    world, one = World(), sample(private=True)
    async with world.node("10.0.1.1") as first, world.node(LEECH) as leech:
        metainfo = replace(one.metainfo, nodes=(HostPort("10.0.1.1", PORT),))
        await leech.get(metainfo)
        await trio.sleep(5 * MINUTE)
        assert leech.status().dht.good == first.status().dht.good == 0


async def test_a_node_that_is_in_the_dht_asks_and_resolves_nothing_that_a_torrent_names(
    lab: Lab, autojump_clock: MockClock
) -> None:
    entry = await small_dht(lab)
    node = await lab.node("10.0.0.1", HostPort(*entry))
    await node.bootstrapped()
    await trio.sleep(MINUTE)
    asked: list[Address] = []
    resolved: list[HostPort] = []
    host = lab.net.host("10.0.0.1")
    resolve = host.resolve

    async def noted(point: HostPort) -> list[Address]:
        resolved.append(point)
        return await resolve(point)

    host.resolve = noted  # type: ignore[method-assign]
    named = Address("10.9.9.9", 7)
    lab.net.tap = lambda source, to, data: asked.append(to) if to == named else None
    node.maybe_enter([HostPort(*named), HostPort("name.example", 7)])
    await trio.sleep(10 * MINUTE)
    assert asked == []
    assert all(point == HostPort(*entry) for point in resolved)
    # When all contacts are gone, it is asked.
    for number in range(1, 9):
        lab.net.host(f"10.0.1.{number}").go_down()
    await trio.sleep(60 * MINUTE)
    assert asked
    assert HostPort("name.example", 7) in resolved


@pytest.mark.parametrize("many", [1, 20])
async def test_what_torrents_make_us_ask_is_bounded(
    many: int, lab: Lab, autojump_clock: MockClock
) -> None:
    node = await lab.node("12.0.0.1")
    asked: dict[Address, list[float]] = {}

    def heard(source: Address, to: Address, data: bytes) -> None:
        if source == node.address:
            asked.setdefault(to, []).append(trio.current_time())

    lab.net.tap = heard
    await trio.sleep(10)
    for torrent in range(many):
        node.maybe_enter([HostPort(f"11.{torrent}.{n}.1", 53) for n in range(100)])
    await trio.sleep(1)
    first = set(asked)
    assert len(first) == min(many * MAX_NAMED, MAX_HINTS)
    await trio.sleep(30 * MINUTE)
    assert set(asked) == first
    for times in asked.values():
        assert len(times) <= 40  # about once a minute


async def test_only_the_newest_of_what_peers_named_is_kept(
    lab: Lab, autojump_clock: MockClock
) -> None:
    entry = await small_dht(lab)
    lab.net.host(entry.host).go_down()
    node = await lab.node("12.0.0.1")
    for number in range(1, 200):
        node.maybe_contact(Address(f"11.1.{number}.1", 53))
    node.maybe_contact(Address(entry.host, entry.port))
    await trio.sleep(10 * MINUTE)
    assert len(node._bootstrap.hints) == MAX_HINTS
    lab.net.host(entry.host).come_up()
    await trio.sleep(3 * MINUTE)
    assert node.status().good >= 1
