"""What a crawl has seen, in a fixed number of bytes."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.seen import WAYS, RestingNodes, SeenHashes
from tests.helpers.times import seconds


def test_a_filter_forgets_none_of_its_last_generation_and_confuses_few() -> None:
    seen = SeenHashes(1 << 16, b"key")
    rng = random.Random(1)
    told = [rng.randbytes(20) for _ in range(seen.capacity)]
    for infohash in told:
        seen.add(infohash)
    assert all(infohash in seen for infohash in told)
    wrong = sum(rng.randbytes(20) in seen for _ in range(20_000))
    assert wrong < 40  # 0.07 % were 14


def test_a_filter_that_is_full_forgets_the_oldest_and_stays_as_large() -> None:
    seen = SeenHashes(1 << 12, b"key")
    numbers = [number.to_bytes(20, "big") for number in range(3 * seen.capacity)]
    for infohash in numbers:
        seen.add(infohash)
    assert all(infohash in seen for infohash in numbers[-seen.capacity :])
    first = numbers[: seen.capacity]
    assert sum(infohash in seen for infohash in first) < len(first) // 20
    assert len(seen._new) + len(seen._old or b"") <= (1 << 12) + 2


def test_two_keys_confuse_different_infohashes() -> None:
    one, other = SeenHashes(256, b"one"), SeenHashes(256, b"other")
    for number in range(60):
        one.add(number.to_bytes(20, "big"))
        other.add(number.to_bytes(20, "big"))
    strangers = [random.Random(n).randbytes(20) for n in range(5000)]
    assert {s for s in strangers if s in one} != {s for s in strangers if s in other}


@given(
    st.lists(
        st.tuples(st.binary(min_size=4, max_size=4), seconds(0, 1000), seconds(0, 50)),
        max_size=100,
    )
)
def test_whoever_was_given_a_place_rests_until_its_time(
    steps: list[tuple[bytes, float, float]],
) -> None:
    began = 17.25
    nodes = RestingNodes(2 * WAYS * 12, b"key", began)  # so small that it is full at times
    now, truth = began, dict[bytes, float]()
    for node, rest, pause in steps:
        now += pause
        for known, until in truth.items():
            if until > now:
                assert nodes.is_resting(known, now)
        if nodes.is_resting(node, now):
            continue
        if nodes.rest(node, now + rest, now):
            truth[node] = now + rest
        else:
            assert sum(until + 1 > now for until in truth.values()) >= WAYS


def test_a_rest_may_be_shortened_once_the_node_has_spoken() -> None:
    nodes = RestingNodes(WAYS * 12, b"key", 0.0)
    assert nodes.rest(b"node", 1000.0, 0.0)
    assert nodes.rest(b"node", 10.0, 1.0)
    assert nodes.is_resting(b"node", 9.9)
    assert not nodes.is_resting(b"node", 11.0)
    assert not nodes.is_resting(b"other", 1.0)


def test_a_full_table_gives_no_place_and_takes_none_back() -> None:
    nodes = RestingNodes(WAYS * 12, b"key", 0.0)
    for number in range(WAYS):
        assert nodes.rest(bytes([number]), 100.0, 0.0)
    assert not nodes.rest(b"new", 5.0, 1.0)
    assert all(nodes.is_resting(bytes([number]), 99.0) for number in range(WAYS))
    assert nodes.rest(b"new", 200.0, 101.0)
