"""The size of the network, and sybils that should not be there."""

from __future__ import annotations

import heapq
import random

import pytest

from dht_torrent.config import DhtConfig
from dht_torrent.dht.density import REMEMBERED, Density
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.ids import Address, NodeId, distance
from tests.helpers.dht_world import CONFIG as WORLD
from tests.helpers.dht_world import World, finish, run_lookup

CONFIG = DhtConfig()


class Ids:
    """A network of so many random ids."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.ids = [self.rng.randbytes(20) for _ in range(size)]
        self._numbers = [int.from_bytes(node_id, "big") for node_id in self.ids]

    def closest(
        self, target: bytes, extra: list[bytes] | None = None, count: int = 9
    ) -> list[bytes]:
        number = int.from_bytes(target, "big")
        everybody = self._numbers + [int.from_bytes(node_id, "big") for node_id in extra or []]
        nearest = heapq.nsmallest(count, [other ^ number for other in everybody])
        return [(number ^ nearness).to_bytes(20, "big") for nearness in nearest]

    def learned(self, lookups: int = 40) -> Density:
        density = Density(CONFIG)
        for _ in range(lookups):
            target = self.rng.randbytes(20)
            density.note(target, self.closest(target))
        return density


@pytest.mark.parametrize("size", [100, 1000, 10_000])
def test_the_size_is_estimated_to_a_fifth(size: int) -> None:
    estimate = Ids(size).learned().size
    assert estimate is not None
    assert 0.8 * size < estimate < 1.25 * size


def test_without_lookups_nothing_is_known_and_no_eclipse_suspected() -> None:
    density = Density(CONFIG)
    assert density.size is None
    assert density.radius(16) == 0
    assert not density.is_dense(bytes(20), [bytes(20)] * 8)
    density.note(bytes(20), [b"x" * 20] * 7)  # fewer than k: the whole network, perhaps
    assert density.size is None


def alarms(count: int) -> float:
    """Share of the random targets that alarm one who is told of so many of the closest."""
    seen = 0
    for seed in range(8):
        ids = Ids(1000, seed)
        density = ids.learned()
        for _ in range(500):
            target = ids.rng.randbytes(20)
            seen += density.is_dense(target, ids.closest(target, count=count))
    return seen / 4000


def test_false_alarms_are_rarer_than_one_in_a_hundred() -> None:
    assert 0 < alarms(9) < 0.01


def test_with_no_ninth_one_in_sixty_is_suspected() -> None:
    assert 0.01 < alarms(8) < 0.03


def sybils_around(ids: Ids, target: bytes, sybils: int, spread: float) -> list[bytes]:
    """Ids nearer to the target than the nearest honest one: just so (spread 1), or by far."""
    nearest = distance(ids.closest(target)[0], target)
    number = int.from_bytes(target, "big")
    return [
        (number ^ ids.rng.randrange(1, int(nearest * spread) + 2)).to_bytes(20, "big")
        for _ in range(sybils)
    ]


@pytest.mark.parametrize(
    ("sybils", "spread", "least"),
    [(8, 1.0, 0.95), (16, 1.0, 0.98), (24, 1.0, 0.98), (8, 0.5, 0.98), (8, 0.001, 1.0)],
)
def test_eight_or_more_put_around_a_key_are_seen(sybils: int, spread: float, least: float) -> None:
    seen = 0
    for seed in range(4):
        ids = Ids(1000, seed)
        density = ids.learned()
        for _ in range(250):
            target = ids.rng.randbytes(20)
            fakes = sybils_around(ids, target, sybils, spread)
            seen += density.is_dense(target, ids.closest(target, fakes))
    assert seen >= least * 1000


@pytest.mark.parametrize("ninth", [False, True])
def test_hiding_the_honest_ones_or_putting_a_ninth_far_behind_silences_no_alarm(
    ninth: bool,
) -> None:
    ids = Ids(1000)
    density = ids.learned()
    seen = 0
    for _ in range(400):
        target = ids.rng.randbytes(20)
        fakes = sorted(sybils_around(ids, target, 8, 1.0), key=lambda one: distance(one, target))
        seen += density.is_dense(target, [*fakes, *[ids.closest(target)[8]] * ninth])
    assert seen >= (0.85 if ninth else 0.95) * 400


def test_behind_the_sybils_the_radius_holds_the_honest_nodes() -> None:
    ids = Ids(1000)
    density = ids.learned()
    inside = []
    for _ in range(100):
        target = ids.rng.randbytes(20)
        radius = density.radius(16)
        inside.append(sum(distance(node_id, target) <= radius for node_id in ids.ids))
    assert 12 < sum(inside) / 100 < 21
    assert sorted(inside)[5] >= 8


def test_sybils_around_one_key_move_the_estimate_little() -> None:
    ids = Ids(1000)
    density = ids.learned(20)
    before = density.size
    target = bytes(20)
    for _ in range(1000):
        density.note(target, [n.to_bytes(20, "big") for n in range(8)])
    after = density.size
    assert before is not None
    assert after is not None
    assert abs(after - before) < 0.25 * before


def test_a_small_network_is_dense_everywhere_and_not_eclipsed() -> None:
    assert Density(CONFIG).is_small, "for all we know"
    assert not Ids(1000).learned(1).is_small
    ids = Ids(20)
    density = ids.learned()
    assert density.is_small
    assert not density.is_dense(bytes(20), [n.to_bytes(20, "big") for n in range(8)])


@pytest.mark.parametrize("sybils", [8, 16, 24])
def test_behind_an_eclipse_the_honest_holders_are_found(sybils: int) -> None:
    """The whole defence: sybils nearer than anybody, who tell of each other and deny the value."""
    world = World(300, seed=9)
    density = Density(WORLD)
    for _ in range(30):
        target = world.rng.randbytes(20)
        lookup, _ = run_lookup(world.answer, target, world.some(8))
        density.note(target, [info.id for info in lookup.closest()])
    retrieved = alarms = 0
    for _ in range(40):
        target = world.rng.randbytes(20)
        number = int.from_bytes(target, "big")
        near = distance(world.closest(target)[0].id, target)
        fakes = [
            NodeInfo(
                NodeId((number ^ world.rng.randrange(1, near // 2)).to_bytes(20, "big")),
                Address(f"66.{n}.1.1", 6881),
            )
            for n in range(sybils)
        ]
        fake_ids = {fake.id for fake in fakes}
        honest_near = {node.id for node in world.closest(target)}

        def answer(
            node: NodeInfo,
            target: bytes,
            fakes: list[NodeInfo] = fakes,
            fake_ids: set[NodeId] = fake_ids,
            honest_near: set[NodeId] = honest_near,
        ) -> tuple[float, list[NodeInfo]] | None:
            if node.id in fake_ids:
                return 0.05, fakes[:8]
            found = world.answer(node, target)
            if found is not None and node.id in honest_near:  # whose tables they got into
                mixed = sorted([*found[1], *fakes], key=lambda one: distance(one.id, target))
                return found[0], mixed[:8]
            return found

        lookup, now = run_lookup(answer, target, world.some(8))
        if density.is_dense(target, [info.id for info in lookup.closest()]):
            lookup.widen(density.radius(16), CONFIG.lookup_widest)
            finish(lookup, answer, now=now)
            alarms += density.is_dense(target, [info.id for info in lookup.all_answered()])
        retrieved += len({info.id for info in lookup.closest()} & honest_near) >= 4
    assert alarms >= 38
    assert retrieved >= 36


def test_only_so_many_lookups_are_remembered_and_the_oldest_is_forgotten() -> None:
    density = Density(CONFIG)
    density.note(bytes(20), [bytes(19) + bytes([9])] * 8)  # one lookup that says: very many nodes
    many = density.size
    assert many is not None
    for number in range(REMEMBERED):
        target = bytes([1]) + number.to_bytes(19, "big")
        density.note(target, [bytes([64]) + bytes(19)] * 8)
    assert density.size is not None
    assert density.size < 1000 < many
    assert len(density._sizes) == REMEMBERED


def test_the_radius_holds_about_as_many_nodes_as_asked() -> None:
    ids = Ids(2000)
    density = ids.learned()
    inside = []
    for _ in range(50):
        target = ids.rng.randbytes(20)
        radius = density.radius(16)
        inside.append(sum(distance(one, target) <= radius for one in ids.ids))
    assert 12 < sum(inside) / len(inside) < 21


def test_in_a_network_of_few_nodes_the_radius_is_the_whole_space() -> None:
    density = Ids(10).learned()
    assert density.radius(1000) >= 2**160 - 1
    assert density.is_small
    assert not Ids(1000).learned().is_small
