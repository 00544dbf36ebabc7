"""A time limit raises when it has passed, and then holds on to nothing."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.engine.time_limit import TimeLimit


class Large:
    """What must not wait for the garbage collector."""


async def held_while_time_is_up(made: list[weakref.ref[Large]]) -> None:
    large = Large()
    made.append(weakref.ref(large))
    with TimeLimit(5):
        await trio.sleep(6)


async def test_what_takes_too_long_is_too_slow_and_leaves_no_cycle(
    autojump_clock: MockClock,
) -> None:
    made: list[weakref.ref[Large]] = []
    gc.collect()
    gc.disable()
    try:
        too_slow = False
        try:
            await held_while_time_is_up(made)
        except trio.TooSlowError:
            too_slow = True
        assert too_slow
        assert trio.current_time() == 5
        await trio.sleep(1)  # Trio itself holds what it threw until this task is resumed again
        assert [ref() for ref in made] == [None]
    finally:
        gc.enable()


async def test_what_is_in_time_and_what_fails_by_itself_passes(autojump_clock: MockClock) -> None:
    with TimeLimit(5):
        await trio.sleep(4)
    with pytest.raises(ZeroDivisionError), TimeLimit(5):
        raise ZeroDivisionError
    with trio.move_on_after(1) as outer:
        with TimeLimit(5):
            await trio.sleep(4)
        raise AssertionError("the outer scope was cancelled")
    assert outer.cancelled_caught
    assert trio.current_time() == 5
