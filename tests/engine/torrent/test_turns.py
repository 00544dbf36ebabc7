"""A thousand may wait for their turn, and each gets it."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dht_torrent.engine.torrent.turns import Queue


async def test_a_thousand_take_turns_and_the_new_one_need_not_wait_for_all(
    autojump_clock: MockClock,
) -> None:
    queue = Queue(30.0)
    served: list[tuple[str, float]] = []

    async def ask(name: str, had: int) -> None:
        await queue.wait(had)
        served.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(ask, f"old {number}", 3)
        await trio.sleep(60)
        before = len(served)
        assert before <= 30 + 6
        nursery.start_soon(ask, "new", 1)
        await trio.sleep(3)
        assert "new" in [name for name, _ in served]
    assert len({name for name, _ in served}) == 1001
    assert trio.current_time() <= 1001 * 2 + 60


async def test_a_waiter_that_gives_up_does_not_hold_up_the_others(
    autojump_clock: MockClock,
) -> None:
    queue = Queue(1.0)
    for _ in range(6):
        await queue.wait(0)
    with trio.move_on_after(10):
        await queue.wait(0)
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            with trio.move_on_after(20):
                await queue.wait(0)

        nursery.start_soon(give_up)
        await trio.sleep(1)
        with trio.fail_after(61):
            await queue.wait(1)
