"""Networks that are computed: what their nodes know is what k-buckets would hold, and lookups in
them end at the truly closest."""

from __future__ import annotations

import statistics
import sys
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dht_torrent.config import DhtConfig
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.table import Table
from dht_torrent.ids import distance
from dht_torrent.lab.population.virtual import MOST, SIZES, VirtualNetwork

K = DhtConfig().k

networks = st.builds(VirtualNetwork, st.integers(2, 300), st.integers(0, 5))
targets = st.binary(min_size=20, max_size=20)


def everybody(network: VirtualNetwork, number: int) -> list[int]:
    """The whole table of a node."""
    return [one for shared in range(64) for one in network.bucket(number, shared)]


def shared_bits(one: bytes, other: bytes) -> int:
    return 160 - distance(one, other).bit_length()


def test_ids_are_different_in_order_and_spread_evenly() -> None:
    network = VirtualNetwork(20_000, 3)
    prefixes = list(network.prefixes)
    assert len(network) == len(set(prefixes)) == 20_000
    assert prefixes == sorted(prefixes)
    tenths = [sum(10 * one >> 64 == tenth for one in prefixes) for tenth in range(10)]
    assert sum(tenths) == 20_000
    assert 1800 < min(tenths) <= max(tenths) < 2200
    # The gaps between uniform points are exponential: as long as they are spread.
    gaps = [after - before for before, after in pairwise(prefixes)]
    assert statistics.pstdev(gaps) == pytest.approx(statistics.fmean(gaps), rel=0.05)


def test_a_node_costs_eight_bytes() -> None:
    network = VirtualNetwork(50_000, 1)
    assert sys.getsizeof(network.prefixes) < 50_000 * 8 * 1.2
    assert SIZES[-1] == 10_000_000 <= MOST


@given(networks, st.integers(0, 299))
def test_a_bucket_holds_all_nodes_of_its_range_or_k_of_them(
    network: VirtualNetwork, number: int
) -> None:
    number %= len(network)
    own = network.info(number).id
    others = [network.info(one).id for one in range(len(network)) if one != number]
    for shared in range(16):
        there = {other for other in others if shared_bits(own, other) == shared}
        bucket = [network.info(one).id for one in network.bucket(number, shared)]
        assert set(bucket) <= there
        assert len(bucket) == len(set(bucket)) == min(K, len(there))
        assert network.bucket(number, shared) == network.bucket(number, shared)


def test_different_nodes_know_different_ones_of_a_far_part() -> None:
    network = VirtualNetwork(5000, 1)
    half = {one for number in range(200) for one in network.bucket(number, 0)}
    assert len(half) > 1000  # 200 times eight draws out of 2500, some of them the same


@given(networks, st.integers(0, 299), targets, st.integers(1, 20))
def test_an_answer_has_the_closest_of_all_the_node_knows(
    network: VirtualNetwork, number: int, target: bytes, count: int
) -> None:
    number %= len(network)
    known = [network.info(one) for one in everybody(network, number)]
    known.sort(key=lambda info: distance(info.id, target))
    assert network.known(number, target, count) == known[:count]


@given(networks, st.integers(0, 299), targets)
def test_it_answers_as_the_routing_table_would_with_the_same_contacts(
    network: VirtualNetwork, number: int, target: bytes
) -> None:
    number %= len(network)
    levels = [len(network.bucket(number, shared)) for shared in range(64)]
    # The table does not split a bucket whose contacts are all on one side (ids crafted to be near
    # ours), so that an empty level above more than k contacts costs it some. That is rare.
    assume(not any(not here and sum(levels[at:]) > K for at, here in enumerate(levels)))
    table = Table(network.info(number).id, DhtConfig(), 0)
    contacts = [network.info(one) for one in everybody(network, number)]  # far ones first
    for info in contacts:
        table.replied(info.id, info.address, 0)
    assert len(table) == len(contacts)
    answer = [contact.info for contact in table.healthy(target, K)]
    assert answer == network.known(number, target, K)


@given(networks, st.integers(0, 299), targets)
def test_the_truly_closest_are_those_of_all(
    network: VirtualNetwork, number: int, target: bytes
) -> None:
    number %= len(network)
    others = [network.info(one) for one in range(len(network)) if one != number]
    others.sort(key=lambda info: distance(info.id, target))
    assert network.closest(target, K, but=number) == others[:K]


def test_nodes_have_different_addresses_and_are_found_by_their_ids() -> None:
    network = VirtualNetwork(3000, 2)
    infos = [network.info(number) for number in range(3000)]
    assert len({info.address for info in infos}) == 3000
    assert [network.number(info.id) for info in infos] == list(range(3000))
    assert all(info.address.is_usable for info in infos)


@pytest.mark.parametrize("paths", [1, 4])
def test_lookups_end_at_the_truly_closest(paths: int) -> None:
    network = VirtualNetwork(20_000, 1)
    outcomes = [network.lookup(number, paths=paths) for number in range(30)]
    assert all(outcome.right == outcome.wanted == K for outcome in outcomes)
    assert all(outcome.asked == outcome.answered for outcome in outcomes)
    assert 2 <= statistics.median(outcome.hops for outcome in outcomes) <= 5
    assert all(0.1 <= outcome.seconds < 2 for outcome in outcomes)


def test_more_nodes_take_more_hops_but_not_many() -> None:
    networks = [VirtualNetwork(size, 1) for size in (100, 3000, 90_000)]
    hops = [
        statistics.fmean(network.lookup(number).hops for number in range(40))
        for network in networks
    ]
    assert hops == sorted(hops)
    assert hops[2] - hops[0] < 5  # log2 of the sizes grows by ten


def test_where_half_of_all_known_are_dead_most_of_the_closest_that_live_are_found() -> None:
    network = VirtualNetwork(5000, 1, dead=0.5)
    dead = [network.is_dead(number) for number in range(5000)]
    assert sum(dead) == pytest.approx(2500, abs=150)
    outcomes = [network.lookup(number) for number in range(30)]
    # Of the eight that a node names, four are alive: so a few of the closest nobody tells of.
    assert sum(outcome.right for outcome in outcomes) >= 0.8 * sum(
        outcome.wanted for outcome in outcomes
    )
    assert all(outcome.answered < outcome.asked for outcome in outcomes)
    assert statistics.median(outcome.seconds for outcome in outcomes) > 0.5  # silence takes time
    living: list[NodeInfo] = network.closest(b"\x42" * 20, K, but=0)
    assert len(living) == K
    assert not any(network.is_dead(network.number(info.id)) for info in living)


def test_the_same_seed_gives_the_same_network_and_lookups() -> None:
    one, same, other = (VirtualNetwork(500, seed) for seed in (7, 7, 8))
    assert one.prefixes == same.prefixes != other.prefixes
    assert [one.lookup(n) for n in range(5)] == [same.lookup(n) for n in range(5)]
    assert [one.lookup(n) for n in range(5)] != [one.lookup(n) for n in range(5, 10)]


def test_latency_is_one_way_and_counts_twice() -> None:
    slow, fast = VirtualNetwork(500, 1, latency=0.1), VirtualNetwork(500, 1, latency=0.001)
    assert slow.lookup(1).seconds > 0.1
    assert fast.lookup(1).seconds < 0.1


@pytest.mark.parametrize("size", [0, 1, MOST + 1])
def test_a_network_has_two_nodes_and_at_most_as_many_as_there_are_addresses(size: int) -> None:
    with pytest.raises(ValueError, match="nodes"):
        VirtualNetwork(size, 1)


def test_ids_beyond_their_64_bits_are_spread_too() -> None:
    network = VirtualNetwork(200, 1)
    rests = [network.info(number).id[8:] for number in range(200)]
    assert {len(rest) for rest in rests} == {12}
    assert len(set(rests)) == 200
