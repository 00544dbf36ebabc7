"""Disjoint paths: what liars can do to one of them they cannot do to the others."""

from __future__ import annotations

import gc
import random
from dataclasses import replace

import pytest

from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.lookup import POINTS, Lookup
from dht_torrent.dht.paths import Paths, _Path, search, share
from dht_torrent.ids import NodeId, distance
from tests.helpers.dht_world import CONFIG, OWN, World, finish


@pytest.fixture(scope="module")
def world() -> World:
    return World(300, seed=1)


def paths(target: bytes, count: int = 4, kind: type[Paths] = Paths) -> Paths:
    part = share(CONFIG, count)
    return kind([Lookup(target, OWN, part, 0) for _ in range(count)], CONFIG.k)


def test_they_find_the_closest_and_ask_no_node_twice(world: World) -> None:
    found = 0
    for _ in range(30):
        target = world.rng.randbytes(20)
        asked: list[NodeInfo] = []

        def answer(
            node: NodeInfo, target: bytes, asked: list[NodeInfo] = asked
        ) -> tuple[float, list[NodeInfo]] | None:
            asked.append(node)
            return world.answer(node, target)

        lookup = paths(target)
        lookup.add(world.some(16))
        assert finish(lookup, answer) < 5  # and it asserts that nobody is asked twice
        assert lookup.asked == len(asked) <= CONFIG.lookup_queries
        closest = lookup.closest()
        assert len(closest) == 8
        assert closest == sorted(closest, key=lambda node: distance(node.id, target))
        found += len(set(closest) & set(world.closest(target)))
        # It waits for nobody but those who would change the result.
        late = set(asked) - set(lookup.all_answered())
        assert lookup.replies == len(asked) - len(late)
        farthest = distance(closest[-1].id, target)
        assert all(distance(node.id, target) > farthest for node in late)
    assert found >= 0.98 * 8 * 30


def test_with_too_few_contacts_for_many_paths_it_takes_one(world: World) -> None:
    start = world.some(16)
    assert isinstance(search(bytes(20), OWN, CONFIG, 0, start, paths=8), Paths)
    assert isinstance(search(bytes(20), OWN, CONFIG, 0, start[:15], paths=8), Lookup)
    assert isinstance(search(bytes(20), OWN, CONFIG, 0, start), Lookup)


def test_one_contact_is_enough_to_begin(world: World) -> None:
    target = world.rng.randbytes(20)
    lookup = paths(target)
    lookup.add(world.some(1))
    finish(lookup, world.answer)
    assert len(lookup.closest()) >= 4


@pytest.mark.parametrize("start", [1, 3, 16])
def test_widened_they_ask_about_each_point_once_and_dead_ends_do_not_hold_them_up(
    world: World, start: int
) -> None:
    target = world.rng.randbytes(20)
    asked: list[bytes] = []

    def answer(node: NodeInfo, target: bytes) -> tuple[float, list[NodeInfo]] | None:
        asked.append(target)
        return world.answer(node, target)

    lookup = paths(target)
    lookup.add(world.some(start))
    now = finish(lookup, answer)
    assert set(asked) == {target}
    lookup.widen(2**155, CONFIG.lookup_widest)
    assert finish(lookup, answer, now=now) - now < 3
    assert lookup.asked == len(asked)
    points = [where for where in asked if where != target]
    assert len(set(points)) == len(points)
    assert len(points) == len(POINTS) if start == 16 else 0 < len(points) < len(POINTS)
    assert all(distance(point, target) <= 2**155 for point in points)


def test_without_any_contact_it_ends_at_once() -> None:
    lookup = paths(bytes(20))
    lookup.add([])
    assert lookup.done(0)
    assert lookup.closest() == []
    assert lookup.take(0) == []


def test_with_half_of_the_contacts_dead_they_end_in_time() -> None:
    world = World(300, seed=3, dead=0.5)
    for _ in range(10):
        target = world.rng.randbytes(20)
        lookup = paths(target)
        lookup.add(world.some(16))
        assert finish(lookup, world.answer) < 15
        assert len(set(lookup.closest()) & set(world.closest(target))) >= 6


def colluding(world: World, share: float, rng: random.Random) -> set[NodeId]:
    return {node.id for node in world.nodes if rng.random() < share}


def success(world: World, share: float, ways: int, tries: int = 60) -> float:
    """How often one of the eight true holders is reached, if liars tell of each other only."""
    rng = random.Random(share)
    reached = 0
    for _ in range(tries):
        liars = colluding(world, share, rng)
        accomplices = [node for node in world.nodes if node.id in liars]
        target = rng.randbytes(20)

        def answer(
            node: NodeInfo,
            target: bytes,
            liars: set[NodeId] = liars,
            accomplices: list[NodeInfo] = accomplices,
        ) -> tuple[float, list[NodeInfo]] | None:
            if node.id not in liars:
                return world.answer(node, target)
            return 0.01, sorted(accomplices, key=lambda other: distance(other.id, target))[:8]

        lookup: Lookup | Paths = Lookup(target, OWN, CONFIG, 0) if ways == 1 else paths(target)
        lookup.add(rng.sample(world.nodes, 8 * max(2, ways)))
        finish(lookup, answer)
        holders = {node.id for node in world.closest(target)} - liars
        reached += any(info.id in holders for info in lookup.closest())
    return reached / tries


def test_where_a_fifth_collude_a_store_still_reaches_an_honest_holder(world: World) -> None:
    assert success(world, 0.1, 4) >= 0.99
    assert success(world, 0.2, 4) >= 0.95
    assert success(world, 0.3, 4) >= 0.85


class Forgetful(Paths):
    """Asks all its paths every time, as if anything could have happened on any of them."""

    def _look(self, path: _Path, now: float) -> None:
        path.stir()
        super()._look(path, now)


@pytest.mark.parametrize("dead", [0.0, 0.5])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_path_on_which_nothing_happened_needs_no_look(count: int, dead: float) -> None:
    world = World(200, seed=5, dead=dead)
    for seed in range(12):
        runs: list[tuple[float, list[NodeInfo], list[NodeInfo]]] = []
        for kind in (Paths, Forgetful):
            world.rng.seed(seed)
            target, start = world.rng.randbytes(20), world.some(16)
            asked: list[NodeInfo] = []

            def answer(
                node: NodeInfo, target: bytes, asked: list[NodeInfo] = asked
            ) -> tuple[float, list[NodeInfo]] | None:
                asked.append(node)
                return world.answer(node, target)

            lookup = paths(target, count, kind)
            lookup.add(start)
            runs.append((finish(lookup, answer), asked, lookup.closest()))
        assert runs[0] == runs[1]


@pytest.mark.parametrize("ways", [1, 2, 4])
def test_it_begins_with_the_contacts_given_and_asks_no_more_than_one_lookup(
    world: World, ways: int
) -> None:
    start = world.some(16)
    lookup = search(bytes(20), OWN, CONFIG, 0, start, paths=ways)
    first = lookup.take(0)
    assert first != []
    assert set(first) <= set(start)
    part = share(CONFIG, ways)
    assert ways * part.lookup_queries <= max(CONFIG.lookup_queries, ways * CONFIG.k)
    assert part.lookup_queries >= CONFIG.k


def test_a_path_to_silent_nodes_does_not_hold_up_another_that_gets_on(
    world: World,
) -> None:
    start = world.some(16)
    lookup = search(bytes(20), OWN, CONFIG, 0, start, paths=2)
    silent = set(start[1::2])  # they begin the second way
    now = 0.0
    for _ in range(20):
        now += 0.01
        for info in lookup.take(now):
            if info not in silent:
                lookup.answered(info, [], now)
    assert not lookup.done(now)
    for _ in range(20):
        now += CONFIG.soft_timeout
        lookup.take(now)
    assert lookup.done(now)
    assert now < CONFIG.lookup_timeout
    assert set(lookup.closest()) <= set(start) - silent


def test_together_they_wake_when_the_first_of_them_would(world: World) -> None:
    lookup = paths(bytes(20))
    lookup.add(world.some(16))
    first = lookup.take(0)
    now = 0.01
    lookup.answered(first[0], [], now)
    while lookup.take(now):
        now += 0.3
    wakes = [path.lookup.wake_at(now) for path in lookup._paths]
    assert len(set(wakes)) > 1
    assert lookup.wake_at(now) == min(wakes)


@pytest.mark.parametrize("ways", [1, 2, 4])
def test_paths_share_what_one_lookup_may_have_in_flight(world: World, ways: int) -> None:
    lookup = search(bytes(20), OWN, CONFIG, 0, world.nodes[:40], paths=ways)
    each = CONFIG.alpha if ways == 1 else CONFIG.alpha // 2
    assert len(lookup.take(0)) == ways * each


def test_a_node_that_refuses_on_a_path_is_given_up_at_once(world: World) -> None:
    lookup = paths(bytes(20), 2)
    start = world.some(16)
    lookup.add(start)
    lookup.failed(start[0])  # nobody has asked it yet
    first = lookup.take(0)
    assert lookup.take(0) == []
    for contact in first:
        lookup.failed(contact)
    second = lookup.take(0)
    assert len(second) == len(first)
    assert not set(first) & set(second)


def test_they_went_as_far_as_the_one_that_went_farthest(world: World) -> None:
    lookup = paths(bytes(20), 2)
    one, other, told = world.some(3)
    lookup.add([one, other])
    assert set(lookup.take(0)) == {one, other}
    lookup.answered(one, [told], 0)
    assert lookup.take(0) == [told]
    assert lookup.hops == 1
    lookup.answered(told, [], 0)
    lookup.answered(other, [], 0)
    assert lookup.hops == 2


def test_what_is_told_about_a_point_is_heard_on_the_path_that_asked(world: World) -> None:
    lookup = paths(world.rng.randbytes(20), 2)
    lookup.add(world.some(16))
    now = finish(lookup, world.answer)
    lookup.widen(2**150, CONFIG.lookup_widest)
    finish(lookup, lambda *_: None, now=now)
    lookup.widen(2**150, CONFIG.lookup_widest)
    replies = lookup.replies
    asks = lookup.around(now + 30)
    assert asks
    for contact, _ in asks:
        lookup.told(contact, [])
    assert lookup.replies == replies + len(asks)


def test_widened_all_within_the_radius_are_the_closest(world: World) -> None:
    target = world.rng.randbytes(20)
    lookup = paths(target, 2)
    lookup.add(world.some(16))
    now = finish(lookup, world.answer)
    assert len(lookup.closest()) == CONFIG.k
    lookup.widen(2**156, 20)
    finish(lookup, world.answer, now=now)
    near = [info for info in lookup.all_answered() if distance(info.id, target) <= 2**156]
    assert len(near) > CONFIG.k
    assert lookup.closest() == near[:20]


@pytest.mark.parametrize(("k", "alpha"), [(2, 2), (3, 3), (8, 5), (16, 8)])
def test_each_path_has_half_of_what_a_lookup_has_and_two_at_least(k: int, alpha: int) -> None:
    part = share(replace(CONFIG, k=k, alpha=alpha, lookup_queries=100), 4)
    assert (part.k, part.alpha) == (max(2, k // 2), max(2, alpha // 2))
    assert part.lookup_queries == 25
    assert share(replace(CONFIG, k=8, lookup_queries=16), 4).lookup_queries == 8


@pytest.mark.parametrize("count", [1, 4])
def test_what_a_lookup_found_is_told_after_its_end_too(world: World, count: int) -> None:
    lookup = search(bytes(20), OWN, CONFIG, 0, world.some(16), paths=count)
    finish(lookup, world.answer)
    told = lookup.closest(), lookup.all_answered(), lookup.hops, lookup.steps()
    assert any(step.referrer is not None for step in told[-1])
    lookup.end()
    assert (lookup.closest(), lookup.all_answered(), lookup.hops, lookup.steps()) == told


@pytest.mark.parametrize("count", [1, 4])
def test_after_its_end_a_lookup_leaves_nothing_to_the_garbage_collector(
    world: World, count: int
) -> None:
    gc.collect()
    gc.disable()
    try:
        lookup = search(bytes(20), OWN, CONFIG, 0, world.some(16), paths=count)
        late, other, *_ = lookup.take(0)
        finish(lookup, world.answer)
        lookup.end()
        lookup.answered(late, [other, *world.nodes[:8]], 1.0)  # nothing new comes of it
        lookup.answered(other, [late, *world.nodes[:8]], 1.0)
        del lookup
        assert gc.collect() == 0
    finally:
        gc.enable()
