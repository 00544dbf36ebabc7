"""What the index may cost the DHT."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import SearchConfig
from dht_torrent.engine.search.meter import HourCount, Meter

CONFIG = SearchConfig(publish_rate=2.0, publish_burst=4.0, search_rate=10.0, search_burst=5.0)


def test_an_hour_is_counted_to_a_minute() -> None:
    count = HourCount()
    for second in range(0, 7200, 10):
        count.add(float(second))
        expected = min(second // 10 + 1, 361 + second % 60 // 10)
        assert count.within(float(second)) == expected
    assert count.within(7190 + 3600 - 60) > 0
    assert count.within(7190 + 3600 + 60) == 0


def test_it_says_when_there_will_be_room() -> None:
    count = HourCount()
    assert count.below_at(1, 5.0) == 5.0
    for now in (10.0, 20.0, 100.0):
        count.add(now)
    assert count.below_at(4, 101.0) == 101.0
    assert count.below_at(3, 101.0) == 3660.0
    assert count.below_at(2, 101.0) == 3660.0
    assert count.below_at(1, 101.0) == 3720.0
    assert count.within(3660.0) == 1


async def test_publishing_keeps_its_rate_after_a_burst(autojump_clock: MockClock) -> None:
    meter = Meter(CONFIG)
    begun = trio.current_time()
    for _ in range(4):
        await meter.get(searching=False)
    assert trio.current_time() == begun
    for _ in range(10):
        await meter.put()
        await meter.get(searching=False)
    assert trio.current_time() - begun == pytest.approx(10.0)
    assert meter.gets.within(trio.current_time()) == 14
    assert meter.puts.within(trio.current_time()) == 10


async def test_a_search_does_not_wait_for_publishing(autojump_clock: MockClock) -> None:
    meter = Meter(CONFIG)
    for _ in range(50):
        await meter.get(searching=False)
    begun = trio.current_time()
    for _ in range(5):
        await meter.get(searching=True)
    assert trio.current_time() == pytest.approx(begun)
    await meter.get(searching=True)
    assert trio.current_time() - begun == pytest.approx(0.1)


async def test_no_more_is_put_in_an_hour_than_the_bound(autojump_clock: MockClock) -> None:
    meter = Meter(replace(CONFIG, max_puts_per_hour=100))
    times: list[float] = []

    async def put() -> None:
        await meter.put()
        times.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(250):
            nursery.start_soon(put)
    for first, after in zip(times, times[100:], strict=False):
        assert after - first >= 3600
    assert times[-1] - times[0] < 3 * 3700


async def test_a_cancelled_put_is_not_counted_and_holds_nobody_up(
    autojump_clock: MockClock,
) -> None:
    meter = Meter(replace(CONFIG, max_puts_per_hour=1))
    await meter.put()
    with trio.move_on_after(5) as scope:
        await meter.put()
    assert scope.cancelled_caught
    assert meter.puts.within(trio.current_time()) == 1
    with trio.fail_after(3700):
        await meter.put()
