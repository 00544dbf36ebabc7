"""Nodes that come and go: how long they stay, that their number keeps, what tables make of it."""

from __future__ import annotations

import argparse
import math
import random
from statistics import fmean, median
from typing import cast

import pytest
import trio

from dht_torrent.lab import run
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.churn import (
    LAWS,
    WEIBULL_SHAPE,
    Churn,
    Law,
    Sessions,
    duration,
    health,
)
from dht_torrent.lab.population.dhtnet import DhtNet, host_address
from dht_torrent.lab.studies.values import KINDS, QueryTap, announce_again, make, put

HOUR = 3600.0


class Population:
    """Stands in for a network where only the number of nodes matters."""

    def __init__(self, count: int) -> None:
        self.nodes = dict.fromkeys(range(count))
        self.added = count

    async def add(self) -> int:
        self.nodes[self.added] = None
        self.added += 1
        return self.added - 1

    def kill(self, number: int) -> None:
        del self.nodes[number]


@pytest.mark.parametrize("law", LAWS)
def test_half_of_all_sessions_are_longer_than_the_median(law: Law) -> None:
    rng, sessions = random.Random(1), Sessions.of(law, 900.0)
    drawn = [sessions.whole(rng) for _ in range(20_000)]
    assert median(drawn) == pytest.approx(900.0, rel=0.05)
    assert fmean(drawn) == pytest.approx(sessions.mean, rel=0.1)


def test_an_exponential_session_has_no_memory() -> None:
    rng, sessions = random.Random(1), Sessions.of("exponential", 900.0)
    rests = [sessions.rest(rng) for _ in range(20_000)]
    assert fmean(rests) == pytest.approx(sessions.mean, rel=0.05)
    assert median(rests) == pytest.approx(900.0, rel=0.05)


def test_a_node_met_under_weibull_sessions_stays_longer_than_a_newcomer() -> None:
    rng, sessions = random.Random(1), Sessions.of("weibull", 900.0)
    rests = [sessions.rest(rng) for _ in range(50_000)]
    # Renewal theory: the mean rest is E[L^2] / (2 E[L]).
    scale = 900.0 / math.log(2) ** (1 / WEIBULL_SHAPE)
    second = scale**2 * math.gamma(1 + 2 / WEIBULL_SHAPE)
    assert fmean(rests) == pytest.approx(second / (2 * sessions.mean), rel=0.1)
    assert fmean(rests) > 2 * sessions.mean


@pytest.mark.parametrize("law", LAWS)
def test_from_the_first_minute_as_many_leave_as_ever_and_the_number_keeps(law: Law) -> None:
    sessions = Sessions.of(law, 900.0)

    async def main(rng: random.Random) -> tuple[list[int], list[int]]:
        population = Population(1000)
        churn = Churn(cast(DhtNet, population), sessions, rng, pause=30.0)
        left, living = [], []
        async with trio.open_nursery() as nursery:
            await nursery.start(churn.run)
            for _ in range(4):
                before = churn.leaves
                await trio.sleep(HOUR)
                left.append(churn.leaves - before)
                living.append(len(population.nodes))
            nursery.cancel_scope.cancel()
        return left, living

    left, living = run.run(main, seed=5)
    cycle = sessions.mean + 30.0
    for count in left:
        assert count == pytest.approx(1000 * HOUR / cycle, rel=0.1)
    for count in living:
        assert count == pytest.approx(1000 * sessions.mean / cycle, rel=0.05)


async def _network(rng: random.Random, nursery: trio.Nursery, count: int) -> DhtNet:
    network = DhtNet(rng, nursery, FakeNetwork(rng, latency=0.01))
    await network.grow(count)
    return network


def test_a_node_that_may_stay_stays_and_all_others_are_replaced_by_new_ones() -> None:
    async def main(rng: random.Random) -> None:
        async with trio.open_nursery() as nursery:
            network = await _network(rng, nursery, 12)
            left: list[int] = []
            sessions = Sessions.of("exponential", 60.0)
            churn = Churn(network, sessions, rng, pause=5.0, stay=[3, 5])
            churn.on_leave = left.append
            await nursery.start(churn.run)
            await trio.sleep(600.0)
            assert {3, 5} == set(range(12)) & set(network.nodes)
            assert churn.leaves == len(left) == len(set(left)) > 40
            assert 0 <= churn.leaves - churn.joins < 10
            for number in left:
                assert network.net.host(host_address(number).host).is_down
            assert {3, 5} <= set(churn.settled()) <= set(network.nodes)
            assert len(churn.settled()) >= 6
            nursery.cancel_scope.cancel()

    run.run(main, seed=2)


def test_health_knows_the_dead_among_those_a_node_believes_in() -> None:
    async def main(rng: random.Random) -> None:
        async with trio.open_nursery() as nursery:
            network = await _network(rng, nursery, 12)
            dht = network.nodes[11]
            before = health(network, [dht])
            for number in list(network.nodes)[:6]:
                network.kill(number)
            after = health(network, [dht])
            known = before.good + before.others
            assert known == after.good + after.others == len(dht.contacts()) > 6
            assert (before.dead, before.dead_good) == (0.0, 0.0)
            assert after.dead == after.dead_good >= 4 / known
            await trio.sleep(HOUR)  # silence tells the node
            later = health(network, [dht])
            assert later.dead_good == 0.0
            nursery.cancel_scope.cancel()

    run.run(main, seed=2)


def test_each_kind_of_value_is_found_when_it_was_put_and_not_before() -> None:
    async def main(rng: random.Random) -> None:
        async with trio.open_nursery() as nursery:
            network = await _network(rng, nursery, 20)
            for kind in KINDS:
                value = make(kind, rng)
                assert not await value.find(network.nodes[7])
                await put(network, 2, value, keep=False)
                assert await value.find(network.nodes[7])
                other = make(kind, rng)
                assert other.target != value.target
                assert not await other.find(network.nodes[7])
            nursery.cancel_scope.cancel()

    run.run(main, seed=2)


def test_an_announce_lives_as_long_as_it_is_repeated() -> None:
    async def main(rng: random.Random) -> None:
        async with trio.open_nursery() as nursery:
            network = await _network(rng, nursery, 10)
            kept, left = make("announce", rng), make("announce", rng)
            await put(network, 2, kept, keep=True)
            await put(network, 2, left, keep=False)
            with trio.move_on_after(HOUR):
                await announce_again(network, 2, kept)
            assert await kept.find(network.nodes[7])
            assert not await left.find(network.nodes[7])
            network.kill(2)
            await announce_again(network, 2, kept)  # ends, since its node has
            nursery.cancel_scope.cancel()

    run.run(main, seed=2)


def test_the_wire_tells_which_nodes_a_lookup_asked_and_which_were_dead() -> None:
    async def main(rng: random.Random) -> None:
        async with trio.open_nursery() as nursery:
            network = await _network(rng, nursery, 20)
            wire, value = QueryTap(network.net), make("announce", rng)
            asker = network.nodes[19]
            with wire.watch(asker, value.target) as asked:
                with wire.watch(asker, value.target) as early:
                    pass  # a second look for the same at the same time may be over first
                await value.find(asker)
            assert len(asked.alive) >= 8
            assert len(early) == 0
            assert asked.dead_share == 0.0
            victims = {host_address(number) for number in range(10)}
            for number in range(10):
                network.kill(number)
            before = len(asked)
            with wire.watch(asker, value.target) as again:
                await value.find(asker)
            assert len(asked) == before  # that one is over
            assert set(again.dead) <= victims
            assert not set(again.alive) & victims
            assert 0 < again.dead_share < 1
            nursery.cancel_scope.cancel()

    run.run(main, seed=2)


def test_a_duration_is_above_zero_and_finite() -> None:
    assert duration("0.5") == 0.5
    for text in ("0", "-1", "inf", "nan"):
        with pytest.raises(argparse.ArgumentTypeError):
            duration(text)
