"""Values stored and searched for in small networks of full nodes."""

from __future__ import annotations

import random

import trio

from dht_torrent.lab.run import run
from dht_torrent.lab.studies.lookups import KINDS, LookupPlan, LookupStudy, Search, Tables


async def experiment(rng: random.Random, plan: LookupPlan) -> tuple[Tables, list[Search], int]:
    """Its tables and searches, and how many live at the end."""
    async with trio.open_nursery() as nursery:
        lab = LookupStudy(plan, rng, nursery)
        grown: list[int] = []
        tables = await lab.build(grown.append)
        assert grown[-1] == plan.nodes
        assert grown == sorted(grown)
        done: list[int] = []
        searches = await lab.search_all(done.append)
        assert done == list(range(1, plan.lookups + 1))
        living = len(lab.net.nodes)
        nursery.cancel_scope.cancel()
    return tables, searches, living


def test_everything_is_found_where_nothing_goes_wrong() -> None:
    tables, searches, living = run(experiment, LookupPlan(nodes=40, lookups=12))
    assert living == len(tables.contacts) == len(tables.depth) == 40
    assert min(tables.contacts) >= 8
    assert [search.kind for search in searches] == [KINDS[number % 2] for number in range(12)]
    for search in searches:
        assert search.found
        assert search.first is not None
        assert 0.05 <= search.first <= search.seconds < 2  # a question takes a tenth of a second
        assert 1 <= search.hops <= search.answered <= search.asked <= 40
        assert search.stored >= 8
        assert search.right == 8
        assert (search.overlap is None) == (search.kind == "item")
    assert min(search.overlap for search in searches if search.overlap is not None) >= 7


def test_values_are_found_though_nodes_have_died_and_datagrams_are_lost() -> None:
    plan = LookupPlan(nodes=40, lookups=8, dead=0.5, loss=0.1)
    tables, searches, living = run(experiment, plan)
    assert living == 20
    assert len(tables.contacts) == 40  # they are looked at before
    assert all(search.found for search in searches)
    assert any(search.answered < search.asked for search in searches)


def test_latency_is_one_way() -> None:
    _, slow, _ = run(experiment, LookupPlan(nodes=20, lookups=4, latency=0.4))
    _, fast, _ = run(experiment, LookupPlan(nodes=20, lookups=4, latency=0.001))
    assert min(search.first or 0 for search in slow) >= 0.4
    assert max(search.first or 9 for search in fast) < 0.1


def test_nodes_that_settle_know_more_than_their_neighbours() -> None:
    fresh, _, _ = run(experiment, LookupPlan(nodes=60, lookups=1, bootstraps=4))
    settled, _, _ = run(experiment, LookupPlan(nodes=60, lookups=1, bootstraps=4, settle=120))
    assert min(settled.contacts) > 22 > min(fresh.contacts)
    assert min(settled.depth) >= 2  # sixty nodes are seven times k


def test_the_paths_of_stores_can_be_chosen() -> None:
    async def paths(rng: random.Random, wanted: int | None) -> tuple[int, int]:
        async with trio.open_nursery() as nursery:
            config = LookupStudy(
                LookupPlan(nodes=5, lookups=1, paths=wanted), rng, nursery
            ).net.config
            nursery.cancel_scope.cancel()
        return config.paths, config.announce_paths

    assert run(paths, 3) == (3, 3)
    assert run(paths, None) != (3, 3)


def test_a_network_of_two_is_a_network() -> None:
    _, searches, _ = run(experiment, LookupPlan(nodes=2, lookups=4))
    assert all(search.found for search in searches)
    assert {search.stored for search in searches if search.kind == "peers"} == {1}


def test_the_same_seed_gives_the_same_experiment() -> None:
    plan = LookupPlan(nodes=24, lookups=6, loss=0.1)
    assert run(experiment, plan, seed=3) == run(experiment, plan, seed=3)
    assert run(experiment, plan, seed=3) != run(experiment, plan, seed=4)
