"""Watching a torrent: what a progress bar gets, and when."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Summary, Torrent, Watch
from tests.helpers.engine import KIB, LEECH, SEED, World, sample


async def quiet(torrent: Torrent, seconds: float) -> bool:
    """Whether a fresh watch says nothing for so long, once it has given its first summary."""
    watch = torrent.watch()
    await anext(watch)
    with trio.move_on_after(seconds) as scope:
        await anext(watch)
    return scope.cancelled_caught


async def test_a_download_is_seen_from_metadata_to_seed(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.03), sample(2048 * KIB)
    seen: list[tuple[float, Summary]] = []
    async with world.seed(one, limit_up=512 * KIB), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(SEED))
        with trio.fail_after(60):
            async for snapshot in torrent.watch(per_second=4):
                seen.append((trio.current_time(), snapshot))
                if snapshot.state == "seeding":
                    break
    states = list(dict.fromkeys(snapshot.state for _, snapshot in seen))
    assert states[0] == "metadata"
    assert states[-2:] == ["downloading", "seeding"]
    progress = [snapshot.progress for _, snapshot in seen]
    assert progress == sorted(progress)
    assert progress[-1] == 1
    assert len(set(progress)) > 5
    times = [at for at, _ in seen]
    assert all(later - earlier >= 0.25 - 1e-9 for earlier, later in pairwise(times))


async def test_the_first_summary_comes_at_once_and_the_next_only_on_a_change(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        start = trio.current_time()
        assert (await anext(torrent.watch())).state == "seeding"
        assert trio.current_time() == start
        assert await quiet(torrent, 600)


async def test_a_change_of_stage_is_seen_when_it_happens(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent, trio.open_nursery() as nursery:
        watch = torrent.watch(per_second=0.01)  # so that no regular look comes in between
        assert (await anext(watch)).state == "seeding"
        await trio.sleep(150)
        start = trio.current_time()

        async def see() -> None:
            assert (await anext(watch)).state == "paused"
            assert trio.current_time() == start + 5

        nursery.start_soon(see)
        await trio.sleep(5)
        await torrent.pause()


async def test_a_slow_reader_gets_the_newest_and_no_backlog(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        watch = torrent.watch()
        await anext(watch)
        for limit in range(1, 50):
            torrent.set_limits(up=limit * 1000)
            await trio.sleep(1)
        start = trio.current_time()
        assert (await anext(watch)).limit_up == 49_000
        assert trio.current_time() == start
        with trio.move_on_after(60) as scope:
            await anext(watch)
        assert scope.cancelled_caught


async def test_what_no_stage_tells_is_seen_within_the_interval(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent, trio.open_nursery() as nursery:
        watch = torrent.watch(per_second=2)
        await anext(watch)

        async def limit() -> None:
            await trio.sleep(3.1)
            torrent.set_limits(up=5000)

        nursery.start_soon(limit)
        start = trio.current_time()
        assert (await anext(watch)).limit_up == 5000
        assert 3.1 <= trio.current_time() - start <= 3.6 + 1e-9


async def test_a_cancelled_wait_loses_no_change(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        watch = torrent.watch()
        await anext(watch)
        torrent.set_limits(up=5000)
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(watch)
        assert (await anext(watch)).limit_up == 5000


async def test_every_watcher_sees_every_change(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        watches = [torrent.watch() for _ in range(3)]
        for watch in watches:
            await anext(watch)
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:

            async def see(number: int) -> None:
                assert (await anext(watches[number])).state == "paused"

            for number in range(3):
                nursery.start_soon(see, number)
            await trio.sleep(1)
            await torrent.pause()


@pytest.mark.parametrize("waits", [True, False])
async def test_watching_ends_when_the_torrent_is_removed(
    autojump_clock: MockClock, waits: bool
) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent, trio.open_nursery() as nursery:
        watch = torrent.watch()
        await anext(watch)
        await trio.sleep(10)
        if not waits:
            await torrent.remove()

        async def see() -> None:
            with trio.fail_after(2):
                assert [snapshot async for snapshot in watch] == []

        nursery.start_soon(see)
        if waits:
            await trio.sleep(1)
            await torrent.remove()


async def test_watching_ends_when_the_node_is_closed(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with trio.open_nursery() as nursery:
        async with world.seed(one) as torrent:

            async def see() -> None:
                async for _ in torrent.watch():
                    pass

            nursery.start_soon(see)
            await trio.sleep(1)
        with trio.fail_after(5):
            while nursery.child_tasks:
                await trio.sleep(0.1)


async def test_a_summary_is_repeated_when_asked_though_nothing_changes(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        watch = torrent.watch(repeat_after=7.25)
        first = await anext(watch)
        start = trio.current_time()
        for count in range(1, 4):
            assert await anext(watch) == first
            assert trio.current_time() == pytest.approx(start + count * 7.25)


@pytest.mark.parametrize("number", [0, -1, float("nan")])
async def test_numbers_that_are_not_positive_are_refused(
    autojump_clock: MockClock, number: float
) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        with pytest.raises(ValueError, match="a positive number"):
            torrent.watch(per_second=number)
        with pytest.raises(ValueError, match="a positive number"):
            torrent.watch(repeat_after=number)


async def test_fractions_of_bytes_and_seconds_are_not_a_change(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        summary = torrent.summary()
    now = [replace(summary, down_rate=10.1, up_rate=3.2, eta=5.3)]
    watch = Watch(lambda: now[-1], trio.sleep_forever, lambda: False, interval=0.5)
    assert await anext(watch) == now[0]
    now.append(replace(summary, down_rate=10.4, up_rate=2.9, eta=5.0))
    with trio.move_on_after(60) as scope:
        await anext(watch)
    assert scope.cancelled_caught
    for change in (11.0, 3.0, 5.0), (10.0, 4.0, 5.0), (10.0, 3.0, 7.0), (10.0, 3.0, None):
        down, up, eta = change
        now.append(replace(summary, down_rate=down, up_rate=up, eta=eta))
        assert await anext(watch) == now[-1]
