"""What follows a Reject (BEP 6): another request, at once if somebody else has the piece."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.geometry import BLOCK
from dht_torrent.ids import HostPort
from dht_torrent.lab.net.link import Link
from dht_torrent.torrent.peer_pieces import FIRST_PAUSE, REFUSAL_PAUSE
from tests.helpers.engine import LEECH, PORT, World, listening
from tests.helpers.paced_seed import Nothing, PacedSeed, at_once, ones

META = ones(4 << 20)
LAST = (3, 63 * BLOCK, BLOCK)
ONE, OTHER = "10.0.3.1", "10.0.3.2"
LATENCY = 0.01


class Refusing:
    """Rejects some blocks, each so many times."""

    def __init__(self, times: int, *blocks: tuple[int, int, int]) -> None:
        self.left = Counter(dict.fromkeys(blocks, times))

    def __call__(self, block: tuple[int, int, int]) -> bool:
        if self.left[block] <= 0:
            return False
        self.left[block] -= 1
        return True


async def fetched_in(*seeds: PacedSeed) -> float:
    """Seconds from the first request to the last verified piece."""
    world = World()
    async with contextlib.AsyncExitStack() as stack:
        for host, seed in zip((ONE, OTHER), seeds, strict=False):
            world.net.set_link(LEECH, host, Link(latency=LATENCY))
            await stack.enter_async_context(listening(world, host, seed))
        node = await stack.enter_async_context(world.node(LEECH, open_storage=lambda *_: Nothing()))
        torrent = await node.get(META)
        torrent.add_peers([HostPort(host, PORT) for host in (ONE, OTHER)[: len(seeds)]])
        with trio.fail_after(120):
            await torrent.completed()
        assert torrent.wasted == 0
        return trio.current_time() - min(seed.times[0][0] for seed in seeds)


async def test_the_only_holder_of_a_block_is_soon_asked_again(autojump_clock: MockClock) -> None:
    plain = await fetched_in(PacedSeed(META, at_once))
    seed = PacedSeed(META, at_once, rejects=Refusing(1, LAST))
    assert await fetched_in(seed) <= plain + FIRST_PAUSE + 4 * LATENCY


async def test_a_holder_that_goes_on_rejecting_is_asked_ever_less(
    autojump_clock: MockClock,
) -> None:
    seed = PacedSeed(META, at_once, rejects=Refusing(6, LAST))
    await fetched_in(seed)
    asked = [when for when, block in seed.times if block == LAST]
    pauses = [late - early for early, late in itertools.pairwise(asked)]
    assert len(pauses) == 6
    expected = [min(FIRST_PAUSE * 2**n, REFUSAL_PAUSE) for n in range(6)]
    for pause, least in zip(pauses, expected, strict=True):
        assert least <= pause <= least + 2.1  # the clock ticks once a second


async def test_another_peer_is_asked_at_once_for_what_one_peer_rejects(
    autojump_clock: MockClock,
) -> None:
    every = [(piece, begin, BLOCK) for piece in range(4) for begin in range(0, 1 << 20, BLOCK)]
    refusing = PacedSeed(META, at_once, rejects=Refusing(10**6, *every))
    honest = PacedSeed(META, at_once)
    plain = await fetched_in(PacedSeed(META, at_once))
    assert await fetched_in(refusing, honest) <= plain + 6 * LATENCY
    assert {block for _, block in honest.times} == set(every)


@pytest.mark.parametrize("count", [64, 2048])
async def test_a_peer_that_only_rejects_is_left_alone_for_a_while(
    count: int, autojump_clock: MockClock
) -> None:
    world, meta = World(), ones(count << 20)
    world.net.set_link(LEECH, ONE, Link(latency=0.0001))
    seed = PacedSeed(meta, at_once, rejects=lambda block: True)
    async with (
        listening(world, ONE, seed),
        world.node(LEECH, open_storage=lambda *_: Nothing()) as node,
    ):
        torrent = await node.get(meta)
        torrent.add_peers([HostPort(ONE, PORT)])
        await trio.sleep(60)
        assert 8 <= len(seed.times) < 400
        # It is not punished for longer than it does so.
        seed.rejects = lambda block: False
        with trio.fail_after(2 * REFUSAL_PAUSE):
            while torrent.progress < 0.5:
                await trio.sleep(0.1)
