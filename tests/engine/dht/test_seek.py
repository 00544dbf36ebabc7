"""Nodes get to know the whole network, not their neighbourhood alone, and nobody can abuse that."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import NodeInfo, Reply
from dht_torrent.ids import Address, NodeId
from tests.helpers.dht_lab import HASH, MINUTE, OTHER, Found, Lab, only_query


async def test_a_latecomer_knows_every_part_of_the_network_after_three_minutes(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(60)
    late = await lab.node("10.0.1.1", nodes[0])
    await late.bootstrapped()
    at_first = len(late.contacts())
    await trio.sleep(3 * MINUTE)
    own = int.from_bytes(late.node_id, "big")
    known = [int.from_bytes(view.id, "big") ^ own for view in late.contacts()]
    there = [int.from_bytes(dht.node_id, "big") ^ own for dht in nodes]
    assert len(known) > at_first
    for shared in range(4):
        part = range(1 << (159 - shared), 1 << (160 - shared))  # at these distances
        assert sum(one in part for one in known) >= min(8, sum(one in part for one in there))


async def test_a_network_that_is_known_is_left_in_peace(
    lab: Lab, autojump_clock: MockClock
) -> None:
    await lab.nodes(12)
    await trio.sleep(20 * MINUTE)
    before = lab.net.stats.datagrams
    await trio.sleep(10 * MINUTE)
    # Within the quarter of an hour a contact stays good, hardly a question is left to ask.
    assert (lab.net.stats.datagrams - before) / 12 / 10 < 12


async def test_an_answer_makes_us_ping_k_usable_strangers_at_most(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """Whoever is asked for the nodes of a bucket may name whom he likes."""
    victims = [NodeInfo(NodeId(bytes([n]) * 20), Address(f"11.7.{n}.1", 53)) for n in range(1, 60)]
    inside = [
        NodeInfo(NodeId(bytes([n]) * 20), Address(f"10.9.{n}.1", 22)) for n in range(200, 204)
    ]
    node = await lab.node("12.0.0.1", node_id=NodeId(b"\xf0" * 20))
    liar = await lab.raw("13.0.0.1")
    pinged: dict[Address, int] = {}

    def heard(source: Address, to: Address, data: bytes) -> None:
        if source == node.address and to != liar.address:
            pinged[to] = pinged.get(to, 0) + 1

    lab.net.tap = heard
    node.maybe_contact(liar.address)
    query, source = await only_query(liar, krpc.PING)
    liar.send(krpc.encode(Reply(query.tid, {b"id": OTHER})), source)
    with trio.move_on_after(10 * MINUTE):
        while True:
            query, source = await only_query(liar, krpc.FIND_NODE)
            named = krpc.compact_nodes([*inside, *victims])
            body = {b"id": OTHER, b"nodes": named}
            # The lookup of our own id asks as well, and is not what this is about.
            told = body if query.target != node.node_id else {b"id": OTHER, b"nodes": b""}
            liar.send(krpc.encode(Reply(query.tid, told)), source)
    assert pinged
    assert not pinged.keys() & {info.address for info in inside}
    # One question every five seconds at first, and ever fewer: a trickle, and never the same twice
    # within the timeout of a question.
    assert sum(pinged.values()) < 120
    assert max(pinged.values()) < 15
    assert len(node.contacts()) == 1


async def test_what_is_being_announced_is_not_announced_again_meanwhile(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(50)
    await trio.sleep(MINUTE)
    told: list[Address] = []

    def heard(source: Address, to: Address, data: bytes) -> None:
        if b"announce_peer" in data:
            told.append(to)

    lab.net.tap = heard
    late = await lab.node("10.0.1.1", nodes[0])
    await late.bootstrapped()
    found = await late.announces.find_peers(HASH, announce_port=5000, on_peers=Found())
    await trio.sleep(1)
    assert len(told) == len(set(told)) == found.announced_to >= 8
