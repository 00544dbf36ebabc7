"""When a follower looks for a new version, and what it does for the item."""

from __future__ import annotations

import itertools
import random

import trio
from trio.testing import MockClock

from dht_torrent.config import FollowConfig
from dht_torrent.dht.items import MutableItem, sign
from dht_torrent.dht.versions import Versions
from dht_torrent.engine.following.watching import LinkWatch
from tests.engine.following.test_writing import KEY, LINK, ih, version
from tests.helpers.links import FewNodes

MINUTE, HOUR = 60.0, 3600.0
CONFIG = FollowConfig()


class Watching:
    """A watch over few nodes that runs in a test's nursery."""

    def __init__(self, nodes: FewNodes, nursery: trio.Nursery, peers: int = 0) -> None:
        self.nodes = nodes
        self.peers = peers
        self.versions = Versions(LINK.key, LINK.salt)
        self.seen: list[int] = []
        self.watch = LinkWatch(
            nodes,
            LINK,
            self.versions,
            CONFIG,
            rng=random.Random(1),
            turns=trio.Semaphore(1),
            peers=lambda: self.peers,
        )
        nursery.start_soon(self.watch.run, self._on_version)

    async def _on_version(self) -> None:
        await trio.lowlevel.checkpoint()
        self.seen.append(self.versions.seq)


def pauses(nodes: FewNodes, since: float = 0.0) -> list[int]:
    times = [at for at, _ in nodes.asked if at >= since]
    return [round(b - a) for a, b in itertools.pairwise(times)]


async def test_it_looks_each_minute_at_first_and_after_a_change_and_then_less_often(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nodes = FewNodes()
    nodes.held = [version(1, 1)] * 8
    watching = Watching(nodes, nursery)
    await trio.sleep(3 * HOUR)
    assert watching.seen == [1]
    found = pauses(nodes)
    assert found[:28] == [61] * 28  # a minute after the end of a look, which takes a second
    assert found[-1] == 601
    assert found == sorted(found)
    # While all is quiet it asks only for what is newer; before, for all there is.
    assert [seq for _, seq in nodes.asked[:10]] == [None] * 10
    assert nodes.asked[-1][1] == 1
    nodes.held = [version(2, 2)] * 8
    await trio.sleep(11 * MINUTE)
    assert watching.seen == [1, 2]
    changed = trio.current_time()
    await trio.sleep(10 * MINUTE)
    assert set(pauses(nodes, changed)) == {61}
    before = len(nodes.asked)
    watching.watch.hurry()
    await trio.sleep(0.5)
    assert len(nodes.asked) == before + 1


async def test_owner_hears_also_of_what_nobody_can_read(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nodes = FewNodes()
    nodes.held = [version(1, 1)] * 8
    watching = Watching(nodes, nursery)
    await trio.sleep(MINUTE)
    nodes.held = [sign(KEY, b"odd", 5, LINK.salt)] * 8
    await trio.sleep(2 * MINUTE)
    assert watching.seen == [1, 5]
    assert watching.versions.info_hash == ih(1)
    nodes.refreshed.clear()
    await trio.sleep(3 * HOUR)
    assert nodes.refreshed == []  # what it has is not put over what came later


async def test_the_item_is_put_again_each_hour_and_where_it_is_lacking(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nodes = FewNodes()
    nodes.held = [version(1, 1)] * 8
    watching = Watching(nodes, nursery, peers=10_000)
    await trio.sleep(3.5 * HOUR)
    assert nodes.refreshed == []  # ten thousand others do so
    assert 2 <= len(nodes.surveys) <= 4
    nodes.held[2] = nodes.held[5] = None
    await trio.sleep(1.5 * HOUR)
    assert nodes.refreshed == [[2, 5]]
    assert nodes.held == [version(1, 1)] * 8
    watching.peers = 0
    nodes.refreshed.clear()
    await trio.sleep(3.5 * HOUR)
    assert 2 <= len(nodes.refreshed) <= 4
    assert set(map(tuple, nodes.refreshed)) == {tuple(range(8))}


async def test_what_was_replayed_is_repaired(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nodes = FewNodes()
    nodes.held = [version(7, 7)] * 8
    watching = Watching(nodes, nursery, peers=10_000)
    await trio.sleep(MINUTE)
    nodes.held = [version(2, 2)] * 8  # all who had it are gone
    await trio.sleep(2 * HOUR)
    assert watching.seen == [7]
    assert watching.versions.stale > 0
    assert nodes.held == [version(7, 7)] * 8


async def test_a_second_value_with_the_same_number_is_seen_in_a_survey(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nodes = FewNodes()
    nodes.held = [version(1, 9)] * 8
    watching = Watching(nodes, nursery)
    await trio.sleep(3 * HOUR)
    held: list[MutableItem | None] = [version(1, 3), *[version(1, 9)] * 7]
    nodes.held = held
    await trio.sleep(1.5 * HOUR)
    assert watching.versions.info_hash == ih(3)
    assert watching.seen == [1, 1]
