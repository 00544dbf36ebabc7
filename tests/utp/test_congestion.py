"""LEDBAT's window, and the delays it lives on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import UtpConfig
from dht_torrent.utp.congestion import Congestion
from dht_torrent.utp.delays import Minimum, OneWayDelays

CONFIG = UtpConfig()
BASE = 0xFFFF_F000
"""A one-way delay whose clocks differ so that it wraps soon."""


def steady(window: float = 100_000.0) -> Congestion:
    """With a round trip of 50 ms, not in slow start."""
    congestion = Congestion(CONFIG)
    congestion.measured(0.05, 0)
    congestion.window = window
    congestion.slow_start = False
    congestion.acknowledged(1, 0, BASE, 0, 0)
    return congestion


def acknowledge(congestion: Congestion, delay: float, now: float = 0.1) -> float:
    """A whole window, with so much queueing; by how much the window grew."""
    for _ in range(3):  # the least of three samples counts
        congestion.delays.add(BASE + int(delay * 1e6) & 0xFFFFFFFF, now)
    before = congestion.window
    window = int(before)
    congestion.measured(0.5, now)
    congestion.rtt = 0.5
    congestion.acknowledged(
        window, window, BASE + int(delay * 1e6) & 0xFFFFFFFF, window / 0.05, now
    )
    return congestion.window - before


def test_the_window_grows_by_the_gain_in_a_round_trip_without_a_queue() -> None:
    assert acknowledge(steady(), 0) == pytest.approx(3000)


def test_half_the_target_is_half_the_growth() -> None:
    assert acknowledge(steady(), 0.05) == pytest.approx(1500)


def test_at_the_target_it_stays() -> None:
    assert acknowledge(steady(), 0.1) == pytest.approx(0, abs=1)


def test_above_the_target_it_shrinks_at_least_as_fast_as_it_grew() -> None:
    assert acknowledge(steady(10_000), 0.2) == pytest.approx(-5000)
    assert acknowledge(steady(4_000), 0.11) == pytest.approx(-300)


def test_a_large_window_shrinks_in_proportion_but_never_by_more_than_half() -> None:
    assert acknowledge(steady(1_000_000), 0.15) == pytest.approx(-250_000)
    assert acknowledge(steady(1_000_000), 0.4) == pytest.approx(-500_000)


def test_a_window_that_is_not_used_does_not_grow() -> None:
    congestion = steady()
    congestion.acknowledged(1000, 1000, BASE, 1e6, 0.1)
    assert congestion.window == 100_000


def test_slow_start_doubles_the_window_in_a_round_trip() -> None:
    congestion = Congestion(CONFIG)
    congestion.acknowledged(6000, 6000, BASE, 1e6, 0)
    assert congestion.window == 12_000
    congestion.threshold = 13_000
    congestion.acknowledged(6000, 12_000, BASE, 1e6, 0)
    assert not congestion.slow_start


def test_slow_start_ends_with_a_queue_and_keeps_what_the_line_carries() -> None:
    congestion = steady(400_000)
    congestion.slow_start = True
    acknowledge(congestion, 0.08)
    assert not congestion.slow_start
    assert congestion.window == 400_000  # until it is known what arrives in a round trip
    congestion.acknowledged(1000, 400_000, BASE, 2_000_000, 1.0)
    assert congestion.window == pytest.approx(2_000_000 * (0.05 + 0.09))


def test_a_loss_takes_half_behind_a_queue_and_less_where_there_is_none() -> None:
    congestion = steady()
    congestion.delay = 0.024
    congestion.lost(1e6)
    assert congestion.window == pytest.approx(70_000)
    congestion = steady()
    congestion.delay = 0.026
    congestion.lost(1e6)
    assert congestion.window == pytest.approx(50_000)


def test_a_false_alarm_gives_the_window_back() -> None:
    congestion = steady()
    congestion.lost(1e6)
    assert congestion.window < 100_000
    congestion.was_not_lost()
    assert congestion.window == 100_000
    congestion.was_not_lost()  # said twice
    assert congestion.window == 100_000


def test_what_was_sent_before_the_window_shrank_does_not_shrink_it_again() -> None:
    """Its queue and its losses are still those of the larger window."""
    congestion = steady(400_000)
    congestion.slow_start = True
    acknowledge(congestion, 0.08, 0.1)
    # A round trip later it is known what the line carries.
    congestion.acknowledged(1000, 400_000, BASE, 1_000_000, 0.7)
    settled = congestion.window
    assert settled == pytest.approx(200_000)
    assert acknowledge(congestion, 0.3, 1.1) == 0
    congestion.lost(1e6)
    assert congestion.window == settled
    acknowledge(congestion, 0.3, 1.3)
    assert congestion.window == pytest.approx(settled / 2)
    congestion.lost(1e6)
    assert congestion.window == pytest.approx(settled / 4)


def growth(queue: float = 0.0, lost_at: int | None = None) -> list[float]:
    """Of each of thirty round trips, as parts of the window."""
    congestion = steady(1_000_000)
    grew = []
    for trip in range(1, 31):
        if trip == lost_at:
            congestion.lost(1e6)
        before = congestion.window
        grew.append(acknowledge(congestion, queue, 0.5 * trip) / before)
    return grew


def test_a_line_that_stays_empty_is_filled_in_proportion() -> None:
    grew = growth()
    assert grew[:7] == pytest.approx([0.003] * 7, rel=0.05)
    assert grew[9] == pytest.approx(2 * 0.0125, rel=0.05)
    assert grew[15] > grew[9]
    assert max(grew) == pytest.approx(0.2)


def test_a_queue_or_a_loss_ends_that() -> None:
    assert max(growth(0.03)[:18]) < 0.003  # then it is drained
    grew = growth(lost_at=14)
    assert grew[12] > 0.05
    assert max(grew[14:20]) < 0.01


def test_a_timeout_leaves_one_packet_and_starts_slowly_up_to_half() -> None:
    congestion = steady()
    assert congestion.timeout == 0.5
    congestion.timed_out()
    assert (congestion.window, congestion.slow_start) == (1232, True)
    assert congestion.threshold == 50_000
    assert congestion.timeout == 1.0
    congestion.timed_out()
    assert congestion.threshold == 50_000
    congestion.acknowledged(1000, 1000, BASE, 1e6, 0.1)
    assert congestion.timeout == 0.5


def test_timeouts_are_as_the_bep_has_them() -> None:
    congestion = Congestion(CONFIG)
    assert congestion.timeout == 1.0
    for _ in range(20):
        congestion.timed_out()
    assert congestion.timeout == CONFIG.max_timeout
    congestion = Congestion(CONFIG)
    congestion.measured(1.0, 0)
    assert congestion.timeout == 3.0
    congestion.measured(2.0, 0)
    # BEP 29: delta = 1; rtt_var = 0.5 + (1 - 0.5) / 4; rtt = 1 + 1 / 8
    assert congestion.timeout == pytest.approx(1.125 + 4 * 0.625)


def test_a_standing_queue_is_drained_now_and_then_to_see_the_path_without_it() -> None:
    congestion = steady()
    now = 1.0
    while congestion.window > 50_000 and now < 30:
        acknowledge(congestion, 0.1, now)
        now += 0.1
    assert now == pytest.approx(10.2, abs=0.3)
    low = congestion.window
    assert low == 50_000
    acknowledge(congestion, 0.01, now)
    assert congestion.window == low
    acknowledge(congestion, 0.01, now + 1)
    assert congestion.window == pytest.approx(75_000, rel=0.5)
    assert not congestion.slow_start


@given(
    st.lists(
        st.tuples(
            st.integers(1, 1 << 20), st.integers(0, 1 << 32), st.floats(0, 1e9), st.booleans()
        ),
        max_size=60,
    )
)
def test_whatever_a_peer_says_the_window_stays_in_its_bounds(
    said: list[tuple[int, int, float, bool]],
) -> None:
    congestion = Congestion(CONFIG)
    now = 0.0
    for size, sample, rate, is_lost in said:
        now += size / 1e5
        congestion.acknowledged(size, size, sample & 0xFFFFFFFF, rate, now)
        if is_lost:
            congestion.lost(rate)
        assert 1232 <= congestion.window <= CONFIG.max_window


def test_a_minimum_is_forgotten_after_its_age_but_not_before() -> None:
    least = Minimum(120, 5, 0)
    for second in range(1, 85):
        least.add(9, second)
    assert least.value == 5
    for second in range(85, 125):
        least.add(9, second)
    assert least.value == 9
    least.add(7, 1000)
    least.add(8, 5000)
    assert least.value == 8


def test_delays_are_relative_to_the_least_also_where_they_wrap() -> None:
    delays = OneWayDelays(120)
    assert delays.add(0xFFFFFFF0, 0) == 0
    assert delays.add(0xFFFFFFF0 + 50_000 & 0xFFFFFFFF, 1) == 0  # one late packet is not a queue
    delays.add(0xFFFFFFF0 + 50_000 & 0xFFFFFFFF, 1)
    assert delays.add(0xFFFFFFF0 + 50_000 & 0xFFFFFFFF, 1) == pytest.approx(0.05)


def test_a_clock_that_runs_away_is_not_a_queue() -> None:
    ours, theirs = OneWayDelays(120), OneWayDelays(120)
    queue = 0.0
    for second in range(60):
        drift = second * 1000  # microseconds: 0.1 %
        before = theirs.base
        theirs.add(5_000_000 - drift, second)
        after = theirs.base
        if before is not None and after is not None:
            ours.other_way(before - after)
        queue = ours.add(5_000_000 + drift, second)
    assert queue == pytest.approx(0, abs=0.002)


def test_a_clock_that_was_set_counts_as_a_round_trip_at_most() -> None:
    congestion = steady()
    congestion.rtt = 0.05
    for _ in range(3):
        congestion.acknowledged(1000, 100_000, BASE + 900_000_000 & 0xFFFFFFFF, 1e6, 0.1)
    assert congestion.delay == 0.05
