"""The usual limits of a node, and the alternative ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from trio.testing import MockClock

from dht_torrent import Config
from dht_torrent.config.alternative import AlternativeLimits, WeeklyHours
from dht_torrent.engine.speed import SpeedLimits
from dht_torrent.engine.torrent.rate_limits import Limits
from dht_torrent.errors import InputError
from tests.helpers.engine import SEED, World


class Wall:
    """A clock on the wall, of local time."""

    def __init__(self) -> None:
        self.hour = 8

    def __call__(self) -> float:
        return datetime(2026, 6, 1, self.hour).timestamp()  # noqa: DTZ001 - local time


def in_force(limits: Limits) -> tuple[int | None, int | None]:
    return limits.up.rate, limits.down.rate


async def test_the_alternative_limits_hold_by_the_clock_and_the_usual_ones_come_back(
    autojump_clock: MockClock,
) -> None:
    limits, wall = Limits(), Wall()
    other = AlternativeLimits(10, None, by_clock=True, hours=WeeklyHours(9 * 60, 17 * 60))
    speed = SpeedLimits(limits.set, Config(limit_up=100, alternative_limits=other), wall)
    assert in_force(limits) == (100, None)
    wall.hour = 9
    speed.look()
    assert in_force(limits) == (10, None)
    speed.set(down=7)  # of the usual ones, which hold later
    assert in_force(limits) == (10, None)
    assert (speed.up, speed.down) == (100, 7)
    speed.set_alternative(replace(speed.alternative, down=3))
    assert in_force(limits) == (10, 3)
    wall.hour = 17
    speed.look()
    assert in_force(limits) == (100, 7)
    speed.set_alternative(replace(speed.alternative, on=True))
    assert in_force(limits) == (10, 3)


async def test_a_node_that_starts_in_these_hours_begins_with_them(
    autojump_clock: MockClock,
) -> None:
    limits, wall = Limits(), Wall()
    wall.hour = 12
    other = AlternativeLimits(10, 20, by_clock=True)
    SpeedLimits(limits.set, Config(alternative_limits=other), wall)
    assert in_force(limits) == (10, 20)


async def test_what_is_no_limit_changes_nothing(autojump_clock: MockClock) -> None:
    limits, wall = Limits(), Wall()
    speed = SpeedLimits(limits.set, Config(limit_up=5), wall)
    for wrong in (AlternativeLimits(up=-1), AlternativeLimits(down=10**13, on=True)):
        with pytest.raises(InputError):
            speed.set_alternative(wrong)
    with pytest.raises(InputError):
        speed.set(up=1, down=-1)
    assert (speed.up, in_force(limits)) == (5, (5, None))
    with pytest.raises(InputError):
        SpeedLimits(limits.set, Config(alternative_limits=AlternativeLimits(up=-1)), wall)


async def test_a_node_tells_which_limits_hold(autojump_clock: MockClock) -> None:
    async with World().node(SEED, limit_up=1000) as node:
        assert (node.status().limit_up, node.status().alternative) == (1000, False)
        node.speed.set_alternative(AlternativeLimits(50, 60, on=True))
        status = node.status()
        assert (status.limit_up, status.limit_down, status.alternative) == (50, 60, True)
        assert node.limits == (1000, None)
