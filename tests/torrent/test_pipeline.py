"""As many requests in flight as the rate is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import PeerConfig
from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.pipeline import Pipeline, Rate

CONFIG = PeerConfig(
    min_outstanding=8, max_outstanding=500, queue_seconds=3.0, near_window=128 * BLOCK
)


def run(pipeline: Pipeline, rate: float, *, round_trip: float, seconds: float) -> None:
    """A link of that rate and round trip time: a window each round, or what it can."""
    measured, now = Rate(), 0.0
    while now < seconds:
        size = int(min(pipeline.target * BLOCK, rate * round_trip))
        now += round_trip
        measured.add(size, now)
        pipeline.update(measured.value(now), now, size, max(round_trip, size / rate))


def test_a_constant_flow_has_its_rate() -> None:
    rate = Rate()
    for tick in range(200):
        rate.add(1000, tick / 10)
    assert rate.value(20.0) == pytest.approx(10_000, rel=0.05)
    assert rate.total == 200_000


def test_silence_brings_the_rate_to_zero_within_five_seconds() -> None:
    rate = Rate()
    assert rate.value(0.0) == 0
    rate.add(10_000, 3.0)
    assert rate.value(5.0) > 0
    assert rate.value(8.0) == 0


def test_a_fast_start_shows_at_once() -> None:
    rate = Rate()
    for tick in range(5):
        rate.add(1_000_000, 100 + tick / 10)
    assert rate.value(100.5) == pytest.approx(10_000_000)


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.floats(0, 10)), max_size=30))
def test_a_rate_is_never_negative_nor_more_than_came(steps: list[tuple[int, float]]) -> None:
    rate, now = Rate(), 0.0
    for size, pause in steps:
        now += pause
        rate.add(size, now)
        assert 0 <= rate.value(now) <= rate.total / Rate.MIN_SPAN


def test_a_window_begins_small_and_doubles_each_round_trip() -> None:
    pipeline = Pipeline(CONFIG)
    targets = [pipeline.target]
    for turn in range(4):
        pipeline.update(1e9, turn / 100, pipeline.target * BLOCK, 0.01)
        targets.append(pipeline.target)
    assert targets == [8, 16, 32, 64, 128]


def test_a_fast_and_distant_peer_gets_the_largest_window() -> None:
    pipeline = Pipeline(CONFIG)
    run(pipeline, 100e6, round_trip=0.05, seconds=2)
    assert pipeline.target == 500


def test_a_gigabit_at_a_hundred_milliseconds_is_filled_by_the_defaults() -> None:
    pipeline = Pipeline(PeerConfig())
    pipeline.peer_limit(PeerConfig().max_asked)
    run(pipeline, 125e6, round_trip=0.1, seconds=5)
    assert pipeline.target * BLOCK >= 125e6 * 0.1


def test_a_fast_peer_next_door_needs_little_in_flight() -> None:
    pipeline = Pipeline(CONFIG)
    run(pipeline, 600e6, round_trip=0.0005, seconds=3)
    assert pipeline.target == 128


def test_a_full_queue_does_not_pass_for_a_distant_peer() -> None:
    pipeline = Pipeline(CONFIG)
    pipeline.update(10e6, 0.0, BLOCK, 0.01)
    for turn in range(600):
        in_flight = pipeline.target * BLOCK
        pipeline.update(10e6, turn / 10, 1_000_000, max(0.01, in_flight / 10e6))
    assert pipeline.target == 128


@pytest.mark.parametrize("rate", [200e3, 600e3])
def test_the_window_settles_at_three_seconds_of_the_rate(rate: float) -> None:
    pipeline = Pipeline(CONFIG)
    run(pipeline, rate, round_trip=0.1, seconds=20)
    assert pipeline.target == pytest.approx(3 * rate / BLOCK, rel=0.15)


def test_a_slow_peer_keeps_a_small_window() -> None:
    pipeline = Pipeline(CONFIG)
    run(pipeline, 5e3, round_trip=0.2, seconds=30)
    assert pipeline.target == 8


def test_the_peers_own_bound_is_kept() -> None:
    pipeline = Pipeline(CONFIG)
    pipeline.peer_limit(50)
    run(pipeline, 100e6, round_trip=0.05, seconds=5)
    assert pipeline.target == 50
    pipeline.peer_limit(-3)
    assert pipeline.target == 1
    pipeline.peer_limit(10**9)
    run(pipeline, 100e6, round_trip=0.05, seconds=5)
    assert pipeline.target == 500


def test_a_snubbing_peer_is_asked_for_one_block_until_one_comes() -> None:
    pipeline = Pipeline(CONFIG)
    run(pipeline, 1e6, round_trip=0.1, seconds=5)
    pipeline.snubbed()
    assert pipeline.room(0) == 1
    assert pipeline.room(1) == 0
    pipeline.update(100.0, 60.0, BLOCK, 1.0)
    assert pipeline.target == 9


def test_requests_go_out_when_a_quarter_of_the_window_is_answered() -> None:
    pipeline = Pipeline(CONFIG)
    assert [pipeline.room(outstanding) for outstanding in (0, 5, 6, 7, 8, 9)] == [8, 3, 2, 0, 0, 0]


def test_a_ceiling_bounds_what_is_in_flight() -> None:
    pipeline = Pipeline(PeerConfig())
    assert pipeline.room(0) > 3
    assert pipeline.room(0, 3) == 3
    assert pipeline.room(2, 3) == 1
    assert pipeline.room(3, 3) == 0
    assert pipeline.room(0, 10_000) == pipeline.room(0)
    pipeline.snubbed()
    assert pipeline.room(0, 3) == 1
