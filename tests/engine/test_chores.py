"""Chores have a task only while they are under way, and no call of one is lost."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from dht_torrent.engine.chores import Chores


class Owner:
    """Has work, and takes a second for a turn at it."""

    def __init__(self, chores: Chores) -> None:
        self.chores = chores
        self.work = 0
        self.turns: list[tuple[float, int]] = []
        self.at_once = 0

    def add(self) -> None:
        self.work += 1
        self.chores.call(self.do)

    async def do(self) -> None:
        self.at_once += 1
        assert self.at_once == 1
        try:
            taken, self.work = self.work, 0
            await trio.sleep(1)
            self.turns.append((trio.current_time(), taken))
        finally:
            self.at_once -= 1


def tasks_of(nursery: trio.Nursery) -> int:
    [service] = nursery.child_tasks
    return sum(len(inner.child_tasks) for inner in service.child_nurseries)


@given(st.lists(st.floats(0, 5), max_size=20))
def test_all_work_is_done_one_turn_at_a_time_and_then_nothing_runs(at: list[float]) -> None:
    async def main() -> None:
        chores = Chores()
        owner = Owner(chores)
        async with trio.open_nursery() as nursery:
            await nursery.start(chores.run)
            began = trio.current_time()
            for moment in sorted(at):
                await trio.sleep_until(began + moment)
                owner.add()
                assert tasks_of(nursery) == 1
            await trio.sleep(10)
            assert owner.work == 0
            assert sum(taken for _, taken in owner.turns) == len(at)
            assert tasks_of(nursery) == 0
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_what_is_called_for_when_nobody_is_there_is_not_done(
    autojump_clock: MockClock,
) -> None:
    chores = Chores()
    owner, late = Owner(chores), Owner(chores)
    owner.add()
    assert not chores.begin(owner.do)

    async def last_words() -> None:
        try:
            await trio.sleep_forever()
        finally:
            late.add()  # as a connection that ends

    async with trio.open_nursery() as nursery:
        await nursery.start(chores.run)
        await trio.sleep(5)
        assert chores.begin(last_words)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    owner.add()
    async with trio.open_nursery() as nursery:
        await nursery.start(chores.run)
        await trio.sleep(5)
        assert not owner.turns
        assert not late.turns
        owner.add()
        await trio.sleep(5)
        assert [taken for _, taken in owner.turns] == [3]
        nursery.cancel_scope.cancel()


async def test_a_chore_that_was_cut_off_can_be_called_again(autojump_clock: MockClock) -> None:
    chores = Chores()
    owner = Owner(chores)
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(chores.run)
            owner.add()
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
    assert owner.at_once == 0


async def test_a_fault_ends_all_of_it() -> None:
    chores = Chores()

    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.RaisesGroup(pytest.RaisesGroup(ZeroDivisionError)):
        async with trio.open_nursery() as nursery:
            await nursery.start(chores.run)
            chores.call(fails)


async def test_an_owner_is_not_held_by_what_it_has_called_for(autojump_clock: MockClock) -> None:
    chores = Chores()
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(chores.run)
            owner = Owner(chores)
            owner.add()
            await trio.sleep(5)
            gone = weakref.ref(owner)
            del owner
            assert gone() is None
            nursery.cancel_scope.cancel()
    finally:
        gc.enable()
