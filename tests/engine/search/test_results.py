"""Results as they come, and what happens when nobody wants them any more."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.lowlevel

from dht_torrent.engine.faults import Faults
from dht_torrent.engine.search.results import Emit, SearchResults
from dht_torrent.engine.search.views import SearchQuery, SearchResult
from dht_torrent.errors import InputError, OurFault, StorageError


def result(number: int) -> SearchResult:
    return SearchResult(
        id=f"{number:040x}",
        name=f"title {number}",
        size=None,
        files=None,
        published=None,
        trust="unverified",
        publisher=None,
        publishers=1,
        peers=None,
        seeds=None,
        peers_how=None,
        peers_at=None,
        source="network",
        magnet="",
    )


@dataclass
class Owner:
    """The node, as far as a search knows it."""

    nursery: trio.Nursery
    faults: Faults = field(default_factory=lambda: Faults(fail_fast=False))
    ended: list[str] = field(default_factory=list)
    """How the tasks came to an end."""

    def results(self, search: Callable[[Emit], Awaitable[None]], limit: int = 10) -> SearchResults:
        async def noted(emit: Emit) -> None:
            try:
                await search(emit)
                self.ended.append("done")
            except trio.Cancelled:
                self.ended.append("cancelled")
                raise

        return SearchResults(noted, self.nursery.start_soon, self.faults, limit=limit)


@asynccontextmanager
async def owner() -> AsyncIterator[Owner]:
    async with trio.open_nursery() as nursery:
        yield Owner(nursery)
        nursery.cancel_scope.cancel()


async def for_ever(emit: Emit) -> None:
    number = 0
    while True:
        emit(result(number))
        number += 1
        await trio.sleep(1)


async def test_results_come_as_they_are_found(autojump_clock: trio.abc.Clock) -> None:
    async with owner() as node:
        begun = trio.current_time()
        times = []
        async for one in node.results(for_ever):
            times.append((int(one.id, 16), trio.current_time() - begun))
            if len(times) == 3:
                break
        assert times == [(0, 0), (1, 1), (2, 2)]


async def test_a_loop_that_is_left_leaves_no_task(autojump_clock: trio.abc.Clock) -> None:
    async with owner() as node:
        async for _ in node.results(for_ever):
            break
        await trio.testing.wait_all_tasks_blocked()
        assert node.ended == ["cancelled"]
        assert not node.nursery.child_tasks


async def test_results_may_be_dropped_in_another_thread() -> None:
    async with owner() as node:
        held = [node.results(for_ever)]
        await anext(held[0])

        def drop() -> None:
            held.clear()
            gc.collect()

        thread = threading.Thread(target=drop)
        thread.start()
        with trio.fail_after(20):
            while node.nursery.child_tasks:
                await trio.sleep(0.001)
        thread.join()
        assert node.ended == ["cancelled"]


async def test_closing_ends_the_search_at_once_and_what_came_is_gone(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with owner() as node:
        results = node.results(for_ever)
        async with results:
            await anext(results)
            await trio.sleep(3)
        await trio.testing.wait_all_tasks_blocked()
        assert node.ended == ["cancelled"]
        await results.aclose()
        await results.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_results_closed_before_the_first_was_asked_for_never_begin() -> None:
    async with owner() as node:
        results = node.results(for_ever)
        await results.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        assert not node.ended
        del results
        await trio.testing.wait_all_tasks_blocked()


async def test_no_more_are_kept_than_the_limit_however_slow_the_reader() -> None:
    async def flood(emit: Emit) -> None:
        for number in range(1000):
            emit(result(number))

    async with owner() as node:
        results = node.results(flood, limit=5)
        found = [one async for one in results]
        assert [int(one.id, 16) for one in found] == [0, 1, 2, 3, 4]
        assert node.ended == ["done"]


async def test_a_cancelled_reader_has_taken_nothing(autojump_clock: trio.abc.Clock) -> None:
    async with owner() as node:
        results = node.results(for_ever)
        await anext(results)
        with trio.move_on_after(0.5) as scope:
            await anext(results)
        assert scope.cancelled_caught
        with trio.CancelScope() as now:
            now.cancel()
            await trio.lowlevel.checkpoint()
        assert int((await anext(results)).id, 16) == 1


async def test_what_keeps_a_search_from_going_on_is_raised_after_what_was_found() -> None:
    async def broken(emit: Emit) -> None:
        emit(result(1))
        raise StorageError("the disk is gone")

    async with owner() as node:
        results = node.results(broken)
        await anext(results)
        with pytest.raises(StorageError, match="the disk is gone"):
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_a_bug_ends_the_search_and_nothing_else() -> None:
    async def bug(emit: Emit) -> None:
        raise KeyError("oh")

    async with owner() as node:
        with pytest.raises(OurFault, match="KeyError"):
            await anext(node.results(bug))
        assert node.faults.count == 1


async def test_the_end_of_the_node_ends_the_iteration(autojump_clock: trio.abc.Clock) -> None:
    async with trio.open_nursery() as outer:
        async with owner() as node:
            results = node.results(for_ever)
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        outer.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"text": "x" * 1001}, "1000 characters"),
        ({"min_size": -1}, "not negative"),
        ({"max_size": -1}, "not negative"),
        ({"min_size": 2, "max_size": 1}, "above the largest"),
        ({"since": float("nan")}, "Unix time"),
        ({"limit": 0}, "from 1 to 1000"),
        ({"limit": 1001}, "from 1 to 1000"),
        ({"patience": 0.0}, "600 s"),
        ({"patience": float("nan")}, "600 s"),
    ],
)
def test_a_query_that_cannot_be_is_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        SearchQuery(**options)  # type: ignore[arg-type]


def test_the_bounds_of_a_query_are_allowed() -> None:
    SearchQuery(text="x" * 1000, min_size=0, max_size=0, since=0.0, limit=1000, patience=600.0)
    SearchQuery(limit=1)
