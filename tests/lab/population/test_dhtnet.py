"""Networks of full nodes: how they grow, who is in them, and that they are the same again."""

from __future__ import annotations

import gc
import random
from functools import partial

import pytest
import trio

from dht_torrent.dht.lookup import _Candidate
from dht_torrent.ids import Address, distance
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.dhtnet import DhtNet, host_address
from dht_torrent.lab.run import run


def test_each_number_has_an_address_and_neighbours_lie_apart() -> None:
    addresses = [host_address(number) for number in range(1000)]
    assert len(set(addresses)) == 1000
    assert len({address.host.rpartition(".")[0] for address in addresses[:256]}) == 256
    assert host_address((1 << 24) - 1) == Address("10.255.255.255", 6881)
    assert all(address.is_local and address.is_usable for address in addresses)


@pytest.mark.parametrize("number", [-1, 1 << 24])
def test_there_are_no_more_addresses(number: int) -> None:
    with pytest.raises(ValueError, match="addresses"):
        host_address(number)


def network(rng: random.Random, nursery: trio.Nursery) -> DhtNet:
    return DhtNet(rng, nursery, FakeNetwork(random.Random(1), latency=(0.01, 0.03)))


async def grown(
    rng: random.Random, count: int, at_once: int | None = None
) -> list[tuple[bytes, list[bytes]]]:
    """The ids of a network, and of whom each knows."""
    async with trio.open_nursery() as nursery:
        net = network(rng, nursery)
        await net.grow(count, at_once=at_once)
        found = [(dht.node_id, [c.id for c in dht.contacts()]) for dht in net.nodes.values()]
        nursery.cancel_scope.cancel()
    return [(bytes(own), [bytes(one) for one in known]) for own, known in found]


@pytest.mark.parametrize("at_once", [1, 7, None])
def test_a_grown_network_has_bootstrapped(at_once: int | None) -> None:
    found = run(partial(grown, at_once=at_once), 30)
    ids = {own for own, _ in found}
    assert len(ids) == 30
    for _, known in found:
        assert len(known) >= 8
        assert ids.issuperset(known)


def test_the_same_seed_gives_the_same_network() -> None:
    assert run(grown, 25, seed=4) == run(grown, 25, seed=4) != run(grown, 25, seed=5)


def test_all_may_come_in_through_a_few() -> None:
    async def main(rng: random.Random) -> tuple[int, int]:
        async with trio.open_nursery() as nursery:
            net = network(rng, nursery)
            await net.grow(3)
            asked_first: dict[str, str] = {}

            def heard(source: Address, to: Address, data: bytes) -> None:
                asked_first.setdefault(source.host, to.host)

            net.net.tap = heard
            await net.grow(20, via=[0, 1, 2])
            entry_points = [host_address(number).host for number in range(3)]
            newcomers = [host_address(number).host for number in range(3, 20)]
            nursery.cancel_scope.cancel()
        return sum(asked_first[host] in entry_points for host in newcomers), len(net.nodes)

    assert run(main) == (17, 20)


def test_the_closest_are_those_of_all_that_live() -> None:
    async def main(rng: random.Random) -> None:
        async with trio.open_nursery() as nursery:
            net = network(rng, nursery)
            await net.grow(20)
            target = rng.randbytes(20)
            for number in list(net.nodes)[:5]:
                net.kill(number)
            ordered = sorted(net.nodes.values(), key=lambda dht: distance(dht.node_id, target))
            assert net.closest(target, 4) == ordered[:4]
            assert net.closest(target, 99) == ordered
            nursery.cancel_scope.cancel()

    run(main)


def test_a_node_that_is_killed_answers_no_more_and_is_not_drawn() -> None:
    async def main(rng: random.Random) -> None:
        async with trio.open_nursery() as nursery:
            net = network(rng, nursery)
            await net.grow(6)
            victim = net.nodes[2].address
            net.kill(2)
            assert list(net.nodes) == [0, 1, 3, 4, 5]
            assert {net.some().address for _ in range(60)} == {
                host_address(number) for number in net.nodes
            }
            lost = net.net.stats.lost
            with trio.move_on_after(5):
                await net.nodes[0].ping(victim)
            assert net.net.stats.lost > lost
            assert await net.add() == 6  # a number is never given twice
            nursery.cancel_scope.cancel()

    run(main)


def test_a_lookup_leaves_nothing_to_the_garbage_collector() -> None:
    async def main(rng: random.Random) -> int:
        async with trio.open_nursery() as nursery:
            net = network(rng, nursery)
            await net.grow(60)
            await trio.sleep(1)
            gc.collect()
            gc.disable()
            try:
                assert len(await net.some().find_node(rng.randbytes(20))) == 8
                return sum(isinstance(one, _Candidate) for one in gc.get_objects())
            finally:
                gc.enable()
                nursery.cancel_scope.cancel()

    assert run(main) == 0
