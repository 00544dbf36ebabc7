"""Whom a crawl asks, what it looks at, and what strangers cannot make of that."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import CrawlConfig
from dht_torrent.ids import Address, InfoHash
from dht_torrent.search.crawl import Ask, CrawlPlan
from tests.helpers.times import seconds

CONFIG = CrawlConfig(seen_bytes=1 << 16, resting_bytes=1 << 16, regions=16)
HOUR = 3600.0


def plan(config: CrawlConfig = CONFIG, seed: int = 1) -> CrawlPlan:
    return CrawlPlan(config, random.Random(seed), 0.0)


def node(number: int, region: int | None = None) -> tuple[bytes, Address]:
    """Ids spread over the keyspace, addresses in different networks."""
    first = (number * 2_654_435_761) % 2**32 if region is None else (region << 28) + number
    return (
        first.to_bytes(4, "big") + bytes(16),
        Address(f"{20 + number // 65536}.{number // 256 % 256}.{number % 256}.1", 6881),
    )


def hashes(first: int, count: int) -> list[InfoHash]:
    return [InfoHash(number.to_bytes(20, "big")) for number in range(first, first + count)]


def all_asked(crawl: CrawlPlan, now: float) -> list[Ask]:
    found = []
    while (ask := crawl.next_node(now)) is not None:
        found.append(ask)
    return found


def tell(crawl: CrawlPlan, ask: Ask, samples: Sequence[InfoHash], now: float = 0.0) -> None:
    crawl.answered(ask, 21_600, samples, [], now)


# -- nodes ------------------------------------------------------------------------------------


def test_every_node_heard_of_is_asked_once() -> None:
    crawl = plan()
    nodes = [node(number) for number in range(100)]
    assert crawl.heard_of(nodes, 0.0) == 100
    assert crawl.heard_of(nodes, 0.0) == 0
    assert crawl.nodes == 100
    asked = all_asked(crawl, 0.0)
    assert sorted(ask.address for ask in asked) == sorted(address for _, address in nodes)
    assert crawl.nodes == 0
    assert crawl.heard_of(nodes, 1.0) == 0


def test_nodes_are_asked_region_by_region() -> None:
    crawl = plan()
    nodes = [node(16 * region + n, region) for region in range(16) for n in range(3)]
    crawl.heard_of(nodes, 0.0)
    regions = [ask.region for ask in all_asked(crawl, 0.0)]
    first = regions[0]
    assert regions == [(first + step) % 16 for step in range(16)] * 3


def test_targets_are_near_the_node_in_the_next_empty_region_or_anywhere() -> None:
    crawl = plan()
    found: Counter[tuple[int, int]] = Counter()
    for number in range(1000):
        # Two in each, so that one is left and the region is not an empty one.
        nodes = [node(4 * number + n, region) for n in (0, 1) for region in (3, 4)]
        crawl.heard_of([(id_, address) for id_, address in nodes], 0.0)
        ask = crawl.next_node(0.0)
        assert ask is not None
        found[ask.region, ask.target[0] >> 4] += 1
    anywhere = [found[region, target] for region in (3, 4) for target in (0, 8, 15)]
    assert all(5 <= count <= 35 for count in anywhere)  # 16 on average
    assert found[3, 3] > 100
    assert found[4, 4] > 100
    assert found[3, 5] > 100
    assert found[4, 5] > 100


@given(
    intervals=st.lists(
        st.one_of(st.integers(-10, 30_000), st.sampled_from([0, 10**9, -(10**9), 2**63])),
        min_size=1,
        max_size=10,
    ),
    pauses=st.lists(seconds(0, 5000), min_size=30, max_size=30),
)
def test_no_node_is_asked_before_its_interval_is_over(
    intervals: list[int], pauses: list[float]
) -> None:
    crawl = plan()
    named = [node(number) for number in range(len(intervals))]
    interval_of = dict(zip((address for _, address in named), intervals, strict=True))
    not_before: dict[Address, float] = {}
    now = 0.0
    for pause in pauses:
        crawl.heard_of(named, now)
        for ask in all_asked(crawl, now):
            assert not_before.get(ask.address, 0.0) <= now
            # The interval may be less than honest; it is kept, up to BEP 51's maximum.
            interval = interval_of[ask.address]
            not_before[ask.address] = now + min(max(interval, 600), 21_600)
            crawl.answered(ask, interval, hashes(1, 1), [], now)
        now += pause


def test_a_node_that_had_torrents_is_asked_again_when_its_interval_is_over() -> None:
    crawl = plan()
    crawl.heard_of([node(1), node(2), node(3)], 0.0)
    one, two, _ = all_asked(crawl, 0.0)
    crawl.answered(one, 3600, hashes(0, 3), [], 5.0)
    crawl.answered(two, 3600, [], [], 5.0)
    when = crawl.next_time()
    assert when is not None
    assert 3605 < when < 3605 + 61
    assert crawl.next_node(when - 61) is None
    again = crawl.next_node(when)
    assert again is not None
    assert (again.address, again.region) == (one.address, one.region)
    assert all_asked(crawl, 10 * 3600.0) == []
    assert crawl.next_time() is None


def test_one_that_does_not_answer_is_left_alone_for_six_hours() -> None:
    crawl = plan()
    crawl.heard_of([node(1)], 0.0)
    assert crawl.next_node(0.0)
    crawl.heard_of([node(1)], 21_600.0)
    assert crawl.next_node(21_600.0) is None
    crawl.heard_of([node(1)], 21_720.0)
    assert crawl.next_node(21_720.0)


def test_a_public_address_is_one_node_whatever_its_ports_and_ids() -> None:
    crawl = plan()
    crawl.heard_of([(bytes([n]) * 20, Address("20.1.1.1", 1000 + n)) for n in range(200)], 0.0)
    assert len(all_asked(crawl, 0.0)) == 1
    crawl.heard_of(
        [(bytes([n]) * 20, Address(f"2001:db8::{n:x}", 1000)) for n in range(1, 200)], 0.0
    )
    assert len(all_asked(crawl, 0.0)) == 1
    crawl.heard_of([(bytes([n]) * 20, Address("10.1.1.1", 1000 + n)) for n in range(200)], 0.0)
    assert len(all_asked(crawl, 0.0)) == 200  # of a laboratory, or of one's own network


def test_a_flood_of_nodes_finds_little_room_and_pushes_nobody_out() -> None:
    crawl = plan()
    honest = [node(number) for number in range(64)]
    crawl.heard_of(honest, 0.0)
    crawl.heard_of([node(number, 7) for number in range(1000, 6000)], 0.0)
    assert crawl.nodes <= 64 + CONFIG.nodes_in_region
    asked = {ask.address for ask in all_asked(crawl, 0.0)}
    assert {address for _, address in honest} <= asked


def test_of_one_answer_eight_nodes_are_heard_and_none_it_may_not_name() -> None:
    crawl = plan()
    crawl.heard_of([node(1)], 0.0)
    ask = crawl.next_node(0.0)
    assert ask is not None
    inside = [(bytes(20), Address(f"192.168.1.{n}", 1)) for n in range(1, 5)]
    crawl.answered(ask, 0, [], [*inside, (bytes(20), ask.address), *map(node, range(10, 90))], 0.0)
    assert crawl.nodes == 8 - 5


def test_nodes_to_be_asked_again_are_bounded() -> None:
    crawl = plan(replace(CONFIG, revisits=5))
    crawl.heard_of(map(node, range(50)), 0.0)
    for ask in all_asked(crawl, 0.0):
        tell(crawl, ask, hashes(1, 1))
    assert len(all_asked(crawl, 25_000.0)) == 5
    crawl.heard_of(map(node, range(100, 150)), 25_000.0)
    for ask in all_asked(crawl, 25_000.0):
        tell(crawl, ask, hashes(1, 1), 25_000.0)
    assert len(all_asked(crawl, 50_000.0)) == 5  # there is room again


def test_with_no_place_to_remember_a_node_it_is_not_asked() -> None:
    crawl = plan(replace(CONFIG, resting_bytes=12 * 16))
    crawl.heard_of(map(node, range(100)), 0.0)
    assert len(all_asked(crawl, 0.0)) == 16


# -- infohashes -------------------------------------------------------------------------------


def asked(crawl: CrawlPlan, count: int) -> list[Ask]:
    crawl.heard_of([node(number) for number in range(count)], 0.0)
    found = all_asked(crawl, 0.0)
    assert len(found) == count
    return found


def test_nodes_take_turns_in_what_is_looked_at() -> None:
    crawl = plan()
    one, two = asked(crawl, 2)
    tell(crawl, one, hashes(0, 90))
    tell(crawl, two, hashes(100, 2))
    order = [want.named_by for _ in range(5) if (want := crawl.next_hash())]
    assert order == [one.address, two.address, one.address, two.address, one.address]


def test_an_infohash_is_looked_at_once_however_many_name_it() -> None:
    crawl = plan()
    one, two, three = asked(crawl, 3)
    tell(crawl, one, [*hashes(7, 1), *hashes(7, 1)])
    tell(crawl, two, hashes(7, 1))
    want = crawl.next_hash()
    assert want is not None
    assert not want.again
    assert crawl.next_hash() is None
    tell(crawl, three, hashes(7, 1))  # while it is looked at
    assert crawl.next_hash() is None
    crawl.settled(want)
    tell(crawl, three, hashes(7, 1))
    assert crawl.next_hash() is None
    assert crawl.named == 4


def test_what_nobody_had_is_looked_at_once_more_if_it_is_named_again() -> None:
    crawl = plan()
    one, two, three = asked(crawl, 3)
    tell(crawl, one, hashes(7, 1))
    want = crawl.next_hash()
    assert want is not None
    crawl.missed(want)
    tell(crawl, two, hashes(7, 1))
    again = crawl.next_hash()
    assert again is not None
    assert again.again
    assert again.named_by == two.address
    crawl.missed(again)
    tell(crawl, three, hashes(7, 1))
    assert crawl.next_hash() is None


def test_what_was_put_back_is_as_if_it_had_not_been_named() -> None:
    crawl = plan()
    one, two = asked(crawl, 2)
    tell(crawl, one, hashes(7, 1))
    want = crawl.next_hash()
    assert want is not None
    crawl.put_back(want)
    tell(crawl, two, hashes(7, 1))
    fresh = crawl.next_hash()
    assert fresh is not None
    assert not fresh.again


def test_of_a_node_whose_infohashes_nobody_has_only_a_few_are_looked_at() -> None:
    crawl = plan()
    liar, honest = asked(crawl, 2)
    tell(crawl, liar, hashes(0, 90))
    tell(crawl, honest, hashes(85, 10))  # five of which the liar has named too
    looked = []
    while (want := crawl.next_hash()) is not None:
        looked.append(want)
        crawl.missed(want) if want.named_by == liar.address else crawl.settled(want)
    assert sum(want.named_by == liar.address for want in looked) == CONFIG.max_misses
    assert crawl.waiting == 0
    # What it named falsely, or truly, may be named by another.
    tell(crawl, honest, hashes(85, 5))
    assert crawl.waiting == 5


def test_a_hit_in_between_makes_a_node_honest_again() -> None:
    crawl = plan()
    (one,) = asked(crawl, 1)
    tell(crawl, one, hashes(0, 90))
    for number in range(90):
        want = crawl.next_hash()
        assert want is not None
        crawl.settled(want) if number % 7 == 6 else crawl.missed(want)
    assert crawl.next_hash() is None


def test_invented_infohashes_by_the_thousand_are_bounded() -> None:
    crawl = plan(replace(CONFIG, max_waiting=500))
    for number, ask in enumerate(asked(crawl, 100)):
        tell(crawl, ask, hashes(1000 * number, 1000))
    assert crawl.waiting == 500
    assert crawl.is_full
    found = 0
    while (want := crawl.next_hash()) is not None:
        crawl.missed(want)
        found += 1
    assert found <= 500
    assert not crawl.is_full
    assert not crawl._open


@pytest.mark.parametrize("count", [0, 1, 100, 101, 5000])
def test_of_one_answer_a_hundred_infohashes_are_heard(count: int) -> None:
    crawl = plan()
    (one,) = asked(crawl, 1)
    tell(crawl, one, hashes(0, count))
    assert crawl.waiting == min(count, 100)
