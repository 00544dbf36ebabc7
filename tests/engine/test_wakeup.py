"""The event that resets itself: no wake-up is lost."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from dht_torrent.engine.wakeup import AutoResetEvent


async def waits(event: AutoResetEvent) -> bool:
    """Whether a call of `wait` does not return by itself."""
    with trio.move_on_after(1) as scope:
        await event.wait()
    return scope.cancelled_caught


async def test_set_before_any_task_waits_lets_one_pass(autojump_clock: object) -> None:
    event = AutoResetEvent()
    event.set()
    event.set()
    assert not await waits(event)
    assert await waits(event)


async def test_set_wakes_all_who_wait_and_then_is_reset(autojump_clock: object) -> None:
    event = AutoResetEvent()
    woken = []

    async def wait(name: int) -> None:
        await event.wait()
        woken.append(name)

    async with trio.open_nursery() as nursery:
        for name in range(3):
            nursery.start_soon(wait, name)
        await wait_all_tasks_blocked()
        event.set()
    assert sorted(woken) == [0, 1, 2]
    assert await waits(event)


async def test_a_cancelled_waiter_takes_no_wake_up_with_it(autojump_clock: object) -> None:
    event = AutoResetEvent()
    assert await waits(event)  # cancelled while it waited
    event.set()
    assert not await waits(event)

    event.set()
    with trio.CancelScope() as scope:
        scope.cancel()
        await event.wait()  # cancelled though it was set
    assert not await waits(event)


async def test_set_and_cancelled_at_once_is_kept_for_the_next(autojump_clock: object) -> None:
    event = AutoResetEvent()
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await event.wait()
            raise AssertionError("was cancelled first")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        scope.cancel()
        event.set()
    assert not await waits(event)


async def test_cleared_it_lets_no_task_pass(autojump_clock: object) -> None:
    event = AutoResetEvent()
    event.set()
    event.clear()
    assert await waits(event)


async def test_clearing_takes_nothing_from_those_who_wait(autojump_clock: object) -> None:
    event = AutoResetEvent()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(event.wait)
        await wait_all_tasks_blocked()
        event.set()
        event.clear()
        nursery.cancel_scope.deadline = trio.current_time() + 1
    assert not nursery.cancel_scope.cancelled_caught
