"""As many requests in flight as the rate is worth."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import PeerConfig
from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.pipeline import LOOK_INTERVAL, OUT_OF_TURN, Pipeline, SpeedMeter

CONFIG = PeerConfig(
    min_outstanding=8, max_outstanding=500, queue_seconds=3.0, near_window=128 * BLOCK
)


def run(
    pipeline: Pipeline, rate: float, *, round_trip: float, seconds: float, start: float = 0.0
) -> set[int]:
    """A link of that rate and round trip time, kept full, in 64 steps to the round trip. Returns
    the windows that were used."""
    measured, now = SpeedMeter(), start
    step = round_trip / 64
    on_the_way: deque[tuple[float, int]] = deque()  # when a block is here, and how many
    outstanding, free_at = 0, start
    targets = set()
    while now < start + seconds:
        room = pipeline.room(outstanding)
        if room > 0:
            outstanding += room
            pipeline.asked(outstanding, now)
            free_at = max(free_at, now + round_trip)
            for _ in range(room):
                free_at += BLOCK / rate
                on_the_way.append((free_at, 1))
        now += step
        came = 0
        while on_the_way and on_the_way[0][0] <= now:
            came += on_the_way.popleft()[1]
        if came:
            outstanding -= came
            measured.add(came * BLOCK, now)
            pipeline.update(measured.value(now), now, came * BLOCK)
        targets.add(pipeline.target)
    return targets


def test_a_constant_flow_has_its_rate() -> None:
    rate = SpeedMeter()
    for tick in range(200):
        rate.add(1000, tick / 10)
    assert rate.value(20.0) == pytest.approx(10_000, rel=0.05)
    assert rate.total == 200_000


def test_silence_brings_the_rate_to_zero_within_five_seconds() -> None:
    rate = SpeedMeter()
    assert rate.value(0.0) == 0
    rate.add(10_000, 3.0)
    assert rate.value(5.0) > 0
    assert rate.value(8.0) == 0


def test_a_fast_start_shows_at_once() -> None:
    rate = SpeedMeter()
    for tick in range(5):
        rate.add(1_000_000, 100 + tick / 10)
    assert rate.value(100.5) == pytest.approx(10_000_000)


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.floats(0, 10)), max_size=30))
def test_a_rate_is_never_negative_nor_more_than_came(steps: list[tuple[int, float]]) -> None:
    rate, now = SpeedMeter(), 0.0
    for size, pause in steps:
        now += pause
        rate.add(size, now)
        assert 0 <= rate.value(now) <= rate.total / SpeedMeter.MIN_SPAN


def test_a_window_begins_small_and_doubles_each_round_trip() -> None:
    pipeline = Pipeline(CONFIG)
    targets = [pipeline.target]
    for turn in range(4):
        pipeline.update(1e9, turn / 100, pipeline.target * BLOCK)
        targets.append(pipeline.target)
    assert targets == [8, 16, 32, 64, 128]


def test_a_fast_and_distant_peer_gets_the_largest_window() -> None:
    pipeline = Pipeline(CONFIG)
    run(pipeline, 300e6, round_trip=0.05, seconds=2)
    assert pipeline.target == 500


def test_a_gigabit_at_a_hundred_milliseconds_is_filled_by_the_defaults() -> None:
    pipeline = Pipeline(PeerConfig())
    pipeline.peer_limit(PeerConfig().max_asked)
    run(pipeline, 125e6, round_trip=0.1, seconds=5)
    assert pipeline.target * BLOCK >= 125e6 * 0.1


@pytest.mark.parametrize("rate", [50e6, 200e6, 700e6])
def test_what_comes_in_a_moment_is_in_flight_however_near_the_peer_is(rate: float) -> None:
    """Either end may not run for some milliseconds, and the other is to have work meanwhile."""
    pipeline = Pipeline(PeerConfig())
    run(pipeline, rate, round_trip=0.0005, seconds=1.5)
    windows = run(pipeline, rate, round_trip=0.0005, seconds=1.0, start=1.5)
    least = max(PeerConfig().near_window, rate * OUT_OF_TURN)
    assert 0.9 * least < min(windows) * BLOCK <= max(windows) * BLOCK < 1.1 * least


@pytest.mark.parametrize(
    ("rate", "outstanding", "bytes_"),
    [
        (60e6, 500, 0),  # turns are few enough
        (150e6, 500, 256 * 1024),
        (400e6, 500, 512 * 1024),
        (900e6, 500, 1 << 20),
        (9e9, 500, 1 << 20),
        (900e6, 100, 256 * 1024),  # or its requests would run out meanwhile
        (900e6, 31, 0),
        (900e6, 0, 0),
    ],
)
def test_what_comes_fast_may_gather_for_a_moment(
    rate: float, outstanding: int, bytes_: int
) -> None:
    pipeline = Pipeline(PeerConfig())
    assert pipeline.gather(outstanding) == 0  # nothing came yet
    pipeline.update(rate, 1.0, BLOCK)
    assert pipeline.gather(outstanding) == bytes_
    pipeline.restart()
    assert pipeline.gather(outstanding) == 0


def test_a_fast_peer_next_door_needs_little_in_flight() -> None:
    pipeline = Pipeline(CONFIG)
    run(pipeline, 60e6, round_trip=0.0005, seconds=3)
    assert pipeline.target == 128


def test_a_full_queue_does_not_pass_for_a_distant_peer() -> None:
    pipeline = Pipeline(CONFIG)
    windows = run(pipeline, 10e6, round_trip=0.01, seconds=60)
    assert max(windows) == 160  # now and then more is tried, and brings nothing


def test_a_peer_that_moves_away_gets_a_larger_window_and_one_that_comes_back_a_smaller_one() -> (
    None
):
    pipeline = Pipeline(PeerConfig())
    run(pipeline, 50e6, round_trip=0.002, seconds=5)
    assert pipeline.target == 128
    run(pipeline, 50e6, round_trip=0.2, seconds=5, start=5)
    assert 50e6 * 0.2 < pipeline.target * BLOCK < 2 * 50e6 * 0.2
    run(pipeline, 50e6, round_trip=0.002, seconds=120, start=10)
    assert pipeline.target <= 160


def test_a_window_that_one_snub_made_small_was_large_for_nothing_else() -> None:
    pipeline = Pipeline(PeerConfig())
    run(pipeline, 50e6, round_trip=0.2, seconds=5)
    assert pipeline.target > 500
    pipeline.snubbed()
    assert pipeline.target == 1
    pipeline.update(1e6, 60.0, BLOCK)
    for turn in range(1000):
        pipeline.update(1e6, 60.0 + turn / 1000, BLOCK)
    assert pipeline.target == 128


def test_a_choke_in_between_does_not_make_the_window_forget_how_far_it_may_go() -> None:
    pipeline = Pipeline(PeerConfig())
    run(pipeline, 50e6, round_trip=0.2, seconds=5)
    known = pipeline.target
    pipeline.restart()
    assert pipeline.target == 8
    run(pipeline, 50e6, round_trip=0.2, seconds=2, start=10)
    assert pipeline.target >= 0.7 * known


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
    run(pipeline, 300e6, round_trip=0.05, seconds=5)
    assert pipeline.target == 50
    pipeline.peer_limit(-3)
    assert pipeline.target == 1
    run(pipeline, 300e6, round_trip=0.05, seconds=5, start=5)
    assert pipeline.target == 1
    pipeline.peer_limit(10**9)
    run(pipeline, 300e6, round_trip=0.05, seconds=5, start=10)
    assert pipeline.target == 500


def test_a_snubbing_peer_is_asked_for_one_block_until_one_comes() -> None:
    pipeline = Pipeline(CONFIG)
    run(pipeline, 1e6, round_trip=0.1, seconds=5)
    pipeline.snubbed()
    assert pipeline.room(0) == 1
    assert pipeline.room(1) == 0
    pipeline.update(100.0, 60.0, BLOCK)
    assert pipeline.target == 9


def test_requests_go_out_when_a_quarter_of_the_window_is_answered() -> None:
    pipeline = Pipeline(CONFIG)
    assert [pipeline.room(outstanding) for outstanding in (0, 5, 6, 7, 8, 9)] == [8, 3, 2, 0, 0, 0]
    pipeline = Pipeline(replace(CONFIG, min_outstanding=20))
    assert [pipeline.room(outstanding) for outstanding in (15, 16)] == [5, 0]


def test_a_large_window_is_filled_up_in_batches_of_thirty_two() -> None:
    pipeline = Pipeline(PeerConfig())
    run(pipeline, 50e6, round_trip=0.2, seconds=5)
    target = pipeline.target
    assert target > 4 * 32
    assert pipeline.room(target - 31) == 0
    assert pipeline.room(target - 32) == 32


def test_a_ceiling_bounds_what_is_in_flight() -> None:
    pipeline = Pipeline(PeerConfig())
    assert pipeline.room(0) > 3
    assert pipeline.room(0, 3) == 3
    assert pipeline.room(2, 3) == 1
    assert pipeline.room(3, 3) == 0
    assert pipeline.room(0, 10_000) == pipeline.room(0)
    pipeline.snubbed()
    assert pipeline.room(0, 3) == 1


def test_slow_start_is_judged_once_a_second() -> None:
    pipeline = Pipeline(CONFIG)
    pipeline.update(1e3, 0.0, BLOCK)
    pipeline.update(1e6, LOOK_INTERVAL, BLOCK)  # it grew
    begun = pipeline.target
    for tenth in range(1, 10):
        pipeline.update(1e6, LOOK_INTERVAL + tenth / 10, BLOCK)
    assert pipeline.target == begun + 9
    pipeline.update(1e6, 2 * LOOK_INTERVAL, BLOCK)  # it did not
    ended = pipeline.target
    pipeline.update(1e3, 2 * LOOK_INTERVAL + 0.1, BLOCK)
    assert pipeline.target < ended


def test_after_a_long_silence_only_what_comes_then_counts() -> None:
    meter = SpeedMeter()
    for now in range(10):
        meter.add(1_000_000, float(now))
    assert meter.value(14.5) == 0
    meter = SpeedMeter()
    meter.add(1_000_000, 0.0)
    meter.add(1000, 100.0)
    assert meter.value(101.0) == 1000
    assert meter.total == 1_001_000
