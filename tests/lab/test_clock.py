"""The clock of simulations: when it jumps, where to, and what it does on the way."""

from __future__ import annotations

import math
import random
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.lab.clock import Alarm, VirtualClock
from dht_torrent.lab.run import run


def the_clock() -> VirtualClock:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, VirtualClock)
    return clock


def test_calls_come_in_order_of_time_and_then_of_asking() -> None:
    async def main(rng: random.Random) -> list[tuple[str, float]]:
        heard: list[tuple[str, float]] = []
        for name, when in (("c", 2.0), ("a", 1.0), ("d", 2.0), ("b", 1.5)):
            the_clock().call_at(when, lambda now, name=name: heard.append((name, now)))  # type: ignore[misc]
        await trio.sleep(3)
        return heard

    assert run(main) == [("a", 1.0), ("b", 1.5), ("c", 2.0), ("d", 2.0)]


def test_a_call_comes_before_the_tasks_that_slept_until_then() -> None:
    async def main(rng: random.Random) -> list[str]:
        heard: list[str] = []
        the_clock().call_at(1.0, lambda now: heard.append("call"))
        await trio.sleep_until(1.0)
        heard.append("task")
        return heard

    assert run(main) == ["call", "task"]


def test_time_stands_still_while_a_task_can_go_on() -> None:
    async def main(rng: random.Random) -> tuple[float, float]:
        the_clock().call_at(5.0, lambda now: None)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        before = trio.current_time()
        await trio.sleep(10)
        return before, trio.current_time()

    assert run(main) == (0.0, 10.0)


def test_a_call_may_ask_for_another_even_at_the_same_moment() -> None:
    async def main(rng: random.Random) -> list[float]:
        heard: list[float] = []

        def again(now: float) -> None:
            heard.append(now)
            if len(heard) < 4:
                the_clock().call_at(now + len(heard) % 2, again)

        the_clock().call_at(1.0, again)
        await trio.sleep(60)
        return heard

    assert run(main) == [1.0, 2.0, 2.0, 3.0]


def test_a_call_in_the_past_comes_at_once_and_time_does_not_go_back() -> None:
    async def main(rng: random.Random) -> list[float]:
        heard: list[float] = []
        await trio.sleep(7)
        the_clock().call_at(3.0, heard.append)
        await trio.sleep(1)
        return [*heard, trio.current_time()]

    assert run(main) == [7.0, 8.0]


async def ring_at(alarm: Alarm, when: float) -> None:
    await trio.sleep_until(when)
    alarm.ring()


async def waits(rng: random.Random, *moments: float, **meanwhile: float) -> list[float]:
    """When an alarm ends the waits for these moments, while something happens to it."""
    alarm = Alarm()
    start, ended = trio.current_time(), []
    async with trio.open_nursery() as nursery:
        if "ring" in meanwhile:
            nursery.start_soon(ring_at, alarm, start + meanwhile["ring"])
        for moment in moments:
            if "forward" in meanwhile:
                nursery.start_soon(bring_forward, alarm, 0.5, start + meanwhile["forward"])
            await alarm.wait_until(start + moment)
            ended.append(trio.current_time() - start)
    return ended


async def bring_forward(alarm: Alarm, after: float, when: float) -> None:
    await trio.sleep(after)
    alarm.bring_forward(when)


CASES = [
    ((1.0, 4.0), {}, [1.0, 4.0]),
    ((5.0, 3.0, 9.0), {"ring": 2.0}, [2.0, 3.0, 9.0]),  # the ring makes the call for 5 stale
    ((math.inf, 6.0), {"ring": 2.0}, [2.0, 6.0]),
    ((5.0,), {"forward": 2.0}, [2.0]),
    ((5.0,), {"forward": 8.0}, [5.0]),  # later is not forward
]


@pytest.mark.parametrize(("moments", "meanwhile", "ended"), CASES)
def test_an_alarm_rings_on_the_labs_clock(
    moments: tuple[float, ...], meanwhile: dict[str, float], ended: list[float]
) -> None:
    async def main(rng: random.Random) -> list[float]:
        return await waits(rng, *moments, **meanwhile)

    assert run(main) == ended


@pytest.mark.parametrize(("moments", "meanwhile", "ended"), CASES)
async def test_an_alarm_rings_on_any_other_clock(
    moments: tuple[float, ...],
    meanwhile: dict[str, float],
    ended: list[float],
    autojump_clock: MockClock,
) -> None:
    assert await waits(random.Random(1), *moments, **meanwhile) == pytest.approx(ended)


def test_an_alarm_that_was_given_up_can_be_waited_for_again() -> None:
    async def main(rng: random.Random) -> float:
        alarm = Alarm()
        with trio.move_on_after(1):
            await alarm.wait_until(5.0)
        await alarm.wait_until(7.0)  # the call for 5 comes, and means nothing any more
        return trio.current_time()

    assert run(main) == 7.0


def test_one_task_at_a_time_waits_for_an_alarm() -> None:
    async def main(rng: random.Random) -> None:
        alarm = Alarm()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(alarm.wait_until, 5.0))
            await trio.sleep(1)
            with pytest.raises(trio.BusyResourceError):
                await alarm.wait_until(6.0)

    run(main)
