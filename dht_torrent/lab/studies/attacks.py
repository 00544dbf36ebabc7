"""Experiments in a hostile DHT. The rule: a lookup is judged by what its caller gets, and the
caller knows nothing that a node could not know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from dht_torrent.dht.items import immutable
from dht_torrent.engine.dht.node import Dht
from dht_torrent.ids import distance
from dht_torrent.lab.population.adversaries import Colluding, coalition
from dht_torrent.lab.studies.hostile import Look, World, share
from dht_torrent.lab.studies.study import Cell, quantile

Progress = Callable[[int], None]

AT_ONCE: Final = 10
"""Lookups at the same time."""
LOOKERS: Final = 20
"""Nodes from which eclipsed keys are looked for."""
WARM: Final = 16
"""Lookups each of them has made before."""
MET: Final = 10.0
"""Seconds from the arrival of adversaries around a key until those near it have met them."""


async def mixed(world: World, count: int, done: Progress) -> list[Look]:
    """Publish `count` values, and look for them from elsewhere: two lookups each, one of an item
    and one of a peer."""
    looks: dict[int, list[Look]] = {}

    async def one(number: int) -> None:
        item = immutable(world.rng.randbytes(32))
        publisher, looker = world.outsiders(item.target)
        await publisher.items.put(item, keep=False)
        await world.announce(publisher, item.target)
        looks[number] = [
            await world.look_for_peers(looker, item.target, publisher),
            await world.look_for_item(looker, item.target),
        ]
        done(len(looks))

    await _side_by_side([partial(one, number) for number in range(count)])
    return [look for number in range(count) for look in looks[number]]


@dataclass(frozen=True, slots=True)
class Eclipse:
    """Whether a key is eclipsed, and what a lookup of it gave."""

    size: int
    """Adversaries around the key; 0: it is left in peace."""
    early: bool
    """Whether the value was there before them."""
    look: Look


async def eclipses(
    world: World, sizes: Sequence[int], keys: int, peaceful: int, done: Progress
) -> list[Eclipse]:
    """Eclipse `keys` keys by each number of adversaries, once before and once after the value is
    there; and look for `peaceful` keys that are not attacked, in between. Two lookups each."""
    plan = [(size, early) for size in sizes for early in (True, False) for _ in range(keys)]
    plan += [(0, True)] * peaceful
    all_nodes = list(world.dht.nodes.values())
    lookers = world.rng.sample(all_nodes, min(LOOKERS, len(plan), len(all_nodes)))
    for looker in lookers:  # who has run for an hour has refreshed its buckets more often
        for _ in range(WARM):
            await looker.find_node(world.rng.randbytes(20))
    found: dict[int, list[Eclipse]] = {}

    async def one(number: int, size: int, early: bool) -> None:
        looks = await _eclipse(world, size, early, lookers)
        found[number] = [Eclipse(size, early, look) for look in looks]
        done(len(found))

    jobs = [partial(one, number, size, early) for number, (size, early) in enumerate(plan)]
    world.rng.shuffle(jobs)
    await _side_by_side(jobs)
    return [eclipse for number in range(len(plan)) for eclipse in found[number]]


async def _eclipse(world: World, size: int, early: bool, lookers: Sequence[Dht]) -> list[Look]:
    item = immutable(world.rng.randbytes(32))
    target = item.target
    publisher, looker = world.outsiders(target, lookers)

    async def publish() -> None:
        await publisher.items.put(item, keep=False)
        await world.announce(publisher, target)

    if early:
        await publish()
    async with coalition(world.net, world.rng, Colluding(), dead=world.dead) as sybils:
        nearest = distance(world.dht.closest(target, 1)[0].node_id, target)
        for place in range(size):
            info = world.nearest_sybil(target, nearest, place)
            await world.join(sybils, info, world.honest())
        if size:
            await trio.sleep(MET)
        if not early:
            await publish()
        return [
            await world.look_for_peers(looker, target, publisher),
            await world.look_for_item(looker, target),
        ]


async def _side_by_side(jobs: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """All of them, `AT_ONCE` at a time, in order."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job()

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)


def mixed_figures(looks: Sequence[Look]) -> dict[str, Cell]:
    """How often things were found, by method, and how much of the hostile the lookups met."""
    figures: dict[str, Cell] = {}
    for method, name in (("get", "items"), ("get_peers", "peers")):
        some = [look for look in looks if look.method == method]
        figures[f"{name}_found"] = share(some, lambda look: look.found)
        figures[f"{name}_asked_mean"] = _mean([look.asked for look in some])
        figures[f"{name}_seconds_p95"] = quantile([look.seconds for look in some], 0.95)
    figures["hostile_asked"] = _mean([look.hostile_asked for look in looks])
    figures["hostile_closest"] = _mean([look.hostile_closest for look in looks])
    figures["alarms"] = share(looks, lambda look: look.eclipse_suspected)
    return figures


def eclipse_figures(found: Sequence[Eclipse]) -> dict[str, Cell]:
    """For each number of sybils: how often it had all the k closest, was noticed, and hid the
    value. Detection is judged by the search for peers: that for an item ends when it has it; and an
    alarm is false where no adversary is near, for eclipses may reach the keys next to them."""
    figures: dict[str, Cell] = {}
    for size in sorted({eclipse.size for eclipse in found if eclipse.size}):
        for early, order in ((True, "early"), (False, "late")):
            some = [s for s in found if s.size == size and s.early == early]
            peers = [s.look for s in some if s.look.method == "get_peers"]
            items = [s.look for s in some if s.look.method == "get"]
            tag = f"{size}_{order}"
            figures[f"eclipsed_{tag}"] = share(peers, lambda look: look.eclipsed)
            figures[f"detected_{tag}"] = share(peers, lambda look: look.eclipse_suspected)
            figures[f"peers_found_{tag}"] = share(peers, lambda look: look.found)
            figures[f"items_found_{tag}"] = share(items, lambda look: look.found)
    attacked = [s.look for s in found if s.size and s.look.method == "get_peers"]
    eclipsed = [look for look in attacked if look.eclipsed]
    peaceful = [s.look for s in found if not s.size]
    figures["detected"] = share(attacked, lambda look: look.eclipse_suspected)
    figures["detected_of_eclipsed"] = share(eclipsed, lambda look: look.eclipse_suspected)
    figures["found"] = share([s.look for s in found if s.size], lambda look: look.found)
    calm = [look for look in peaceful if look.method == "get_peers" and not look.hostile_closest]
    figures["false_alarms"] = share(calm, lambda look: look.eclipse_suspected)
    figures["found_in_peace"] = share(peaceful, lambda look: look.found)
    return figures


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
