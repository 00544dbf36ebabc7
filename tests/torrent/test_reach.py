"""How many requests are worth having in flight, learnt by trying."""

from __future__ import annotations

from collections.abc import Callable

from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.reach import LONGEST, PAUSE, STEP, Reach

LEAST, LIMIT = 128, 1000


def rounds(
    reach: Reach, rate_of: Callable[[float], float], *, start: float, seconds: float
) -> float:
    """What is in flight comes as one batch at the end of each round. Returns the time after."""
    now = start
    while now < start + seconds:
        asked = int(reach.blocks)
        reach.asked(asked, now)
        now += asked * BLOCK / rate_of(asked)
        reach.came(asked * BLOCK, now, LIMIT)
    return now


def pulse(blocks: float) -> float:
    """Half a second for whatever was asked."""
    return blocks * BLOCK / 0.5


def link(rate: float) -> Callable[[float], float]:
    return lambda blocks: rate


def test_a_peer_that_answers_every_half_second_is_asked_for_as_much_as_it_takes() -> None:
    reach = Reach(LEAST, 3.0)
    rounds(reach, pulse, start=0.0, seconds=6)
    assert reach.blocks == LIMIT


def test_more_than_brings_something_is_tried_and_given_up() -> None:
    reach = Reach(LEAST, 3.0)
    now = rounds(reach, link(10e6), start=0.0, seconds=2 * PAUSE)
    assert reach.blocks in {LEAST, LEAST * STEP}
    rounds(reach, link(10e6), start=now, seconds=PAUSE / 2)
    assert reach.blocks == LEAST


def test_a_pulse_that_a_link_bounds_is_asked_for_that_much_and_not_twice() -> None:
    reach = Reach(LEAST, 3.0)
    rounds(reach, lambda blocks: min(pulse(blocks), 10e6), start=0.0, seconds=20)
    assert 10e6 * 0.5 / BLOCK * 0.95 < reach.blocks < 10e6 * 0.5 / BLOCK * 1.6


def test_three_seconds_of_the_rate_are_never_exceeded() -> None:
    reach = Reach(LEAST, 3.0)
    rounds(reach, lambda blocks: blocks * BLOCK / 4, start=0.0, seconds=60)
    assert reach.blocks <= LEAST * STEP


def test_a_peer_next_door_is_never_asked_for_more() -> None:
    reach = Reach(LEAST, 3.0)
    rounds(reach, lambda blocks: blocks * BLOCK / 0.01, start=0.0, seconds=20)
    assert reach.blocks == LEAST


def test_a_link_that_becomes_slower_is_asked_for_less() -> None:
    reach = Reach(LEAST, 3.0)
    now = rounds(reach, pulse, start=0.0, seconds=6)
    assert reach.blocks == LIMIT
    rounds(reach, link(10e6), start=now, seconds=20 * PAUSE)
    assert reach.blocks < LIMIT / 3


def test_rounds_that_never_end_are_judged_by_what_came() -> None:
    reach = Reach(LEAST, 3.0)
    now = rounds(reach, pulse, start=0.0, seconds=6)
    reach.asked(LIMIT, now)
    reach.came(BLOCK, now + LONGEST, LIMIT)
    assert reach.rate == BLOCK / LONGEST


def test_what_is_not_asked_for_is_not_judged() -> None:
    reach = Reach(LEAST, 3.0)
    for turn in range(100):
        reach.asked(LEAST // 2, turn * 0.5)
        reach.came(LEAST // 2 * BLOCK, turn * 0.5 + 0.4, LIMIT)
    assert reach.blocks == LEAST
