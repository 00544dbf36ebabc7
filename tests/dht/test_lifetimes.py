"""The interval between two puts of an item follows how fast its holders go."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dht_torrent.config import DhtConfig
from dht_torrent.dht.lifetimes import FIRST, TOLERATED, Lifetimes

CONFIG = DhtConfig()
MINUTE = 60.0


def under_churn(median: float, rounds: int, lifetimes: Lifetimes, rng: random.Random) -> None:
    """Eight holders a round, each gone with the chance that exponential sessions give it."""
    for _ in range(rounds):
        elapsed = lifetimes.interval()
        kept = sum(rng.random() < 0.5 ** (elapsed / median) for _ in range(8))
        lifetimes.note(kept, 8 - kept, elapsed)


def test_before_anything_is_known_it_is_a_quarter_of_an_hour() -> None:
    assert Lifetimes(CONFIG).interval() == pytest.approx(FIRST)


def test_where_all_nodes_stay_it_is_soon_the_hour_of_bep_44() -> None:
    lifetimes = Lifetimes(CONFIG)
    intervals = []
    for _ in range(4):
        intervals.append(lifetimes.interval())
        lifetimes.note(8, 0, intervals[-1])
    assert intervals == sorted(intervals)
    assert intervals[-1] == CONFIG.item_republish


@pytest.mark.parametrize("median", [15 * MINUTE, 30 * MINUTE, 60 * MINUTE])
def test_under_churn_about_a_third_of_the_holders_are_gone_by_then(median: float) -> None:
    lifetimes, rng = Lifetimes(CONFIG), random.Random(3)
    under_churn(median, 50, lifetimes, rng)
    shares = []
    for _ in range(200):
        under_churn(median, 1, lifetimes, rng)
        shares.append(1 - 0.5 ** (lifetimes.interval() / median))
    assert sum(shares) / len(shares) == pytest.approx(TOLERATED, abs=0.05)


def test_even_if_all_are_gone_every_time_there_is_a_least_interval() -> None:
    lifetimes = Lifetimes(CONFIG)
    for _ in range(100):
        lifetimes.note(0, 8, lifetimes.interval())
    assert lifetimes.interval() == CONFIG.item_republish_least


def test_a_network_that_calms_down_is_believed_after_some_rounds() -> None:
    lifetimes = Lifetimes(CONFIG)
    for _ in range(100):
        lifetimes.note(0, 8, lifetimes.interval())
    for _ in range(30):
        lifetimes.note(8, 0, lifetimes.interval())
    assert lifetimes.interval() == CONFIG.item_republish


def test_more_holders_at_once_than_it_remembers_are_all_that_counts() -> None:
    calm, stormy = Lifetimes(CONFIG), Lifetimes(CONFIG)
    for _ in range(20):
        stormy.note(0, 8, 300.0)
    for lifetimes in (calm, stormy):
        lifetimes.note(80, 20, 600.0)
    assert calm.interval() == stormy.interval()


def test_the_hour_may_be_made_shorter_than_the_least_interval() -> None:
    config = replace(CONFIG, item_republish=60.0)
    assert Lifetimes(config).interval() == 60.0
