"""Crawls of a small network: the nodes see to their intervals, and each kind of liar gains
nothing."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.bencode import Value
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import Query, Reply
from dht_torrent.ids import Address
from dht_torrent.lab import run
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.sampled import HOSTILE, Hostile, SampledNetwork
from dht_torrent.lab.studies.crawling import CrawlingPlan, crawling

SMALL = CrawlingPlan(nodes=40, torrents=60, hours=1, dead=0.0, deaf=0.0)


def test_all_torrents_of_a_small_network_are_found_within_the_hour() -> None:
    outcome = run.run(crawling, SMALL, seed=3)
    assert outcome.found == outcome.reachable == 60
    assert outcome.false == 0
    assert outcome.peak <= 20
    (status,) = outcome.hours
    assert status.outcomes["found"] == 60
    assert status.queries_hour == outcome.queries


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_kind_of_liar_hides_nothing_that_others_tell(kind: Hostile) -> None:
    plan = CrawlingPlan(
        nodes=30, torrents=40, hours=1, dead=0.0, deaf=0.0, hostile=0.3, kinds=[kind]
    )
    outcome = run.run(crawling, plan, seed=4)
    assert outcome.found >= 0.9 * outcome.reachable
    assert outcome.false == 0
    assert outcome.peak <= 20
    # Invented infohashes are looked at, a few of each node; no kind keeps us busy for ever.
    assert outcome.queries < 3600


async def test_a_node_that_is_asked_too_early_ends_the_run(autojump_clock: MockClock) -> None:
    net = FakeNetwork(random.Random(1))
    world = SampledNetwork(net, 20, 10, 1)
    (asker,) = [await net.host("172.20.0.1").open_udp(Address("172.20.0.1", 1))]
    to = world.entry_points(1)[0]
    args: dict[bytes, Value] = {b"id": bytes(20), b"target": bytes(20)}
    query = krpc.encode(Query(b"t", krpc.SAMPLE_INFOHASHES, args))

    async def ask_too_early() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            asker.send(query, to)
            ((data, _),) = await asker.receive()
            reply = krpc.decode(data)
            assert isinstance(reply, Reply)
            interval = reply.body[b"interval"]
            assert isinstance(interval, int)
            await trio.sleep(interval)
            asker.send(query, to)
            await asker.receive()
            await trio.sleep(interval - 1)
            asker.send(query, to)
            await trio.sleep(1)

    with pytest.raises(BaseExceptionGroup) as raised:
        await ask_too_early()
    error: BaseException = raised.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, AssertionError)
    assert "before its time" in str(error)
