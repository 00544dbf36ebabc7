"""Requests in flight fill a long fat link, and hold little memory on a slow one."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.engine.torrent.torrent import behind
from tests.helpers.engine import KIB, LEECH, SEED, World, sample

GIGABIT = 125e6
BIG = sample(192 * 1024 * KIB, 1024 * KIB)


async def test_a_gigabit_at_a_hundred_milliseconds_is_filled(autojump_clock: MockClock) -> None:
    world = World(latency=0.05, rate=GIGABIT, window=64 << 20)
    half = len(BIG.data) // 2
    async with world.seed(BIG), world.node(LEECH) as node:
        torrent = await node.get(BIG.magnet(SEED))
        with trio.fail_after(60):
            while torrent.downloaded < half:
                await trio.sleep(0.001)
            began, at_half = trio.current_time(), torrent.downloaded
            await torrent.completed()
    second_half = (len(BIG.data) - at_half) / (trio.current_time() - began)
    assert torrent.wasted == 0
    assert began < 2.5  # slow start is over soon: the first half would take 0.8 s at full rate
    assert second_half > 0.85 * GIGABIT


@pytest.mark.parametrize(("rate", "most"), [(100e3, 48), (10e6, 160)])
async def test_a_slow_peer_is_asked_for_little(
    rate: float, most: int, autojump_clock: MockClock
) -> None:
    world = World(latency=0.02, rate=rate)
    highest = 0
    async with world.seed(BIG), world.node(LEECH) as node:
        torrent = await node.get(BIG.magnet(SEED))
        for _ in range(100):
            await trio.sleep(0.25)
            highest = max(
                [
                    highest,
                    *(p.pipeline.target for p in behind(torrent).core.connections.peers.values()),
                ]
            )
    assert 8 < highest <= most
