"""The window of requests against peers that deliver as real ones do, on the fake network.

Each must give nine tenths of what its link gives within ten seconds. What the link gives is also
bounded by the requests a peer takes: so many per pulse, or per round trip.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import PeerConfig, TorrentConfig
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import HostPort
from dht_torrent.lab.net.link import Link
from dht_torrent.lab.net.streams import FakeStream
from tests.helpers.engine import HAND, LEECH, PORT, World, listening
from tests.helpers.paced_seed import (
    Nothing,
    Pace,
    PacedSeed,
    at_once,
    bucket,
    chained_pulses,
    ones,
    pulses,
)

MB = 1e6
NEAR = 0.001
MOST = PeerConfig().max_outstanding


@dataclass(frozen=True)
class Case:
    """A seed and what lies before it."""

    pace: Pace
    rate: float | None = None
    latency: float | tuple[float, float] = NEAR
    later: float | None = None
    """The latency after one second."""
    reqq: int = 2000
    gives: float = 0.0
    """Bytes per second, if not the rate of the link."""
    until: int = 10
    """Seconds it has."""
    over: int = 2
    """Seconds over which it is measured then."""


def per(seconds: float, reqq: int = MOST) -> float:
    """Bytes per second if all requests are answered each so many seconds."""
    return min(reqq, MOST) * BLOCK / seconds


CASES = {
    **{
        f"pulses of {period:g} s, {rate / MB:g} MB/s": Case(
            pulses(period), rate, gives=min(rate, per(period)), until=until
        )
        for period, until in ((0.1, 2), (0.2, 3), (0.5, 5), (1.0, 9))
        for rate in (1 * MB, 4 * MB, 20 * MB)
    },
    **{
        f"late pulses of {period:g} s": Case(
            pulses(period, jitter=0.3), 20 * MB, gives=min(20 * MB, per(1.15 * period)), until=until
        )
        for period, until in ((0.2, 4), (0.5, 5))
    },
    "pulses of 0.5 s, 100 MB/s": Case(pulses(0.5), 100 * MB, gives=per(0.5), until=5),
    "pulses of 0.5 s, 500 requests": Case(
        pulses(0.5), 20 * MB, reqq=500, gives=per(0.5, 500), until=5
    ),
    "as Transmission 3, 4 MB/s": Case(chained_pulses(0.5), 4 * MB, until=4),
    "as Transmission 3, 20 MB/s": Case(chained_pulses(0.5), 20 * MB, until=3),
    "from 1 to 200 ms, 4 MB/s": Case(at_once, 4 * MB, later=0.1),
    "from 1 to 200 ms, 20 MB/s": Case(at_once, 20 * MB, later=0.1, until=4),
    "from 1 to 200 ms, 100 MB/s": Case(at_once, 100 * MB, later=0.1, gives=per(0.2), until=3),
    "200 ms, 20 MB/s": Case(at_once, 20 * MB, latency=0.1, until=4),
    "200 to 400 ms, 20 MB/s": Case(at_once, 20 * MB, latency=(0.1, 0.2), until=4),
    **{
        f"limited to {rate / MB:g} MB/s": Case(bucket(rate), gives=rate, until=2)
        for rate in (1 * MB, 4 * MB, 20 * MB)
    },
    "limited to 100 MB/s": Case(bucket(100 * MB), gives=100 * MB, until=1, over=1),
    "limited to 20 MB/s, 100 ms": Case(bucket(20 * MB), latency=0.05, gives=20 * MB, until=2),
    "limited in gulps": Case(bucket(4 * MB, depth=0.25, tick=0.25), gives=4 * MB, until=4),
}


@contextlib.asynccontextmanager
async def downloading(world: World, seed: PacedSeed) -> AsyncIterator[Torrent]:
    """Yields the torrent once the first block came."""
    async with (
        listening(world, HAND, seed),
        world.node(LEECH, open_storage=lambda *_: Nothing()) as node,
    ):
        torrent = await node.get(seed.metainfo)
        torrent.add_peers([HostPort(HAND, PORT)])
        with trio.fail_after(30):
            while not torrent.downloaded:
                await trio.sleep(0.001)
        yield torrent


async def rate_of(torrent: Torrent, seconds: float) -> float:
    before = torrent.downloaded
    await trio.sleep(seconds)
    return (torrent.downloaded - before) / seconds


@pytest.mark.parametrize("name", CASES)
async def test_nine_tenths_of_what_the_link_gives_come_within_ten_seconds(
    name: str, autojump_clock: MockClock
) -> None:
    case = CASES[name]
    world = World(window=64 << 20)
    world.net.set_link(LEECH, HAND, Link(latency=case.latency, rate=case.rate))
    seed = PacedSeed(ones(4 << 30), case.pace, reqq=case.reqq)
    async with downloading(world, seed) as torrent:
        if case.later is not None:
            await trio.sleep(1)
            world.net.set_link(LEECH, HAND, Link(latency=case.later, rate=case.rate))
        await trio.sleep(case.until)
        assert await rate_of(torrent, case.over) >= 0.9 * (case.gives or case.rate or 0.0)
        assert seed.most <= min(case.reqq, MOST)
        assert torrent.wasted == 0


@pytest.mark.parametrize("rate", [0.5 * MB, 2 * MB])
async def test_a_deep_buffer_on_the_way_is_not_filled(
    rate: float, autojump_clock: MockClock
) -> None:
    world = World(window=64 << 20)
    world.net.set_link(LEECH, HAND, Link(latency=0.01, rate=rate))
    seed = PacedSeed(ones(4 << 30), at_once)
    async with downloading(world, seed) as torrent:
        await trio.sleep(6)
        for _ in range(12):
            assert await rate_of(torrent, 1) >= 0.9 * rate
            (peer,) = behind(torrent).core.connections.peers.values()
            assert peer.pipeline.target * BLOCK <= max(1.25 * PeerConfig().near_window, 3.1 * rate)


async def test_a_peer_that_stalls_loses_its_window(autojump_clock: MockClock) -> None:
    world = World(window=64 << 20)
    world.net.set_link(LEECH, HAND, Link(latency=NEAR, rate=20 * MB))
    seed = PacedSeed(ones(4 << 30), pulses(0.5))
    async with downloading(world, seed) as torrent:
        await trio.sleep(6)
        (peer,) = behind(torrent).core.connections.peers.values()
        assert peer.pipeline.target > 500
        world.net.partition([LEECH], [HAND])
        await trio.sleep(PeerConfig().snub_timeout + 3)
        assert peer.pipeline.target == 1


@pytest.mark.parametrize(("rate", "gathers"), [(10 * MB, 0), (800 * MB, 1 << 20)])
async def test_answers_gather_where_they_come_fast(
    rate: float, gathers: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(window=64 << 20)
    world.net.set_link(LEECH, HAND, Link(latency=NEAR / 10, rate=rate))
    asked, readable = set[int](), FakeStream.readable

    async def noted(stream: FakeStream, gather: int = 0) -> None:
        asked.add(gather)
        await readable(stream, gather)

    monkeypatch.setattr(FakeStream, "readable", noted)
    async with downloading(world, PacedSeed(ones(1 << 30), at_once)) as torrent:
        await trio.sleep(0.3)
        (peer,) = behind(torrent).core.connections.peers.values()
        assert peer.gather == gathers
        assert bool(max(asked)) is bool(gathers)  # as much of it as a turn may take
    assert max(asked) <= gathers


async def test_large_windows_leave_memory_for_other_peers(autojump_clock: MockClock) -> None:
    world = World(window=64 << 20)
    meta = ones(4 << 30)
    hosts = [f"10.0.3.{number}" for number in range(4)]
    seeds = [PacedSeed(meta, pulses(1.0)) for _ in hosts[:3]]
    seeds.append(PacedSeed(meta, at_once))
    async with contextlib.AsyncExitStack() as stack:
        for host, seed in zip(hosts, seeds, strict=True):
            world.net.set_link(LEECH, host, Link(latency=NEAR, rate=4 * MB))
            await stack.enter_async_context(listening(world, host, seed))
        node = await stack.enter_async_context(world.node(LEECH, open_storage=lambda *_: Nothing()))
        torrent = await node.get(meta)
        torrent.add_peers([HostPort(host, PORT) for host in hosts])
        await trio.sleep(12)
        got = {
            peer.address.host: peer.downloaded
            for peer in behind(torrent).core.connections.peers.values()
        }
        await trio.sleep(4)
        for peer in behind(torrent).core.connections.peers.values():
            got[peer.address.host] = peer.downloaded - got[peer.address.host]
        bound = TorrentConfig().max_open_bytes
        asked = (
            sum(peer.pipeline.target for peer in behind(torrent).core.connections.peers.values())
            * BLOCK
        )
        assert asked <= bound
        assert got[hosts[3]] > 0.9 * 4 * 4 * MB
        assert min(got.values()) > 0.4 * 4 * 4 * MB


@pytest.mark.parametrize("period", [0.5, 1.0])
async def test_a_slow_peers_window_does_not_hold_up_the_end(
    period: float, autojump_clock: MockClock
) -> None:
    world = World(window=64 << 20)
    meta = ones(80 << 20)
    fast, slow = PacedSeed(meta, at_once), PacedSeed(meta, pulses(period))
    world.net.set_link(LEECH, "10.0.3.1", Link(latency=NEAR, rate=8 * MB))
    world.net.set_link(LEECH, "10.0.3.2", Link(latency=NEAR, rate=2.4 * MB))
    async with (
        listening(world, "10.0.3.1", fast),
        listening(world, "10.0.3.2", slow),
        world.node(LEECH, open_storage=lambda *_: Nothing()) as node,
    ):
        began = trio.current_time()
        torrent = await node.get(meta)
        torrent.add_peers([HostPort("10.0.3.1", PORT), HostPort("10.0.3.2", PORT)])
        await torrent.completed()
        took = trio.current_time() - began
    # Never longer than without it, nor much longer than both together could.
    assert took < meta.geometry.total / (8 * MB)
    assert took < 1.1 * meta.geometry.total / (10.4 * MB) + period
