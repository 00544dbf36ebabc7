"""BEP 33, 42, 43 and 51 between nodes on a network in memory."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.bencode import Value
from dht_torrent.dht import krpc
from dht_torrent.dht.density import SMALL, TOO_DENSE
from dht_torrent.dht.identity import is_compliant
from dht_torrent.dht.items import ImmutableItem
from dht_torrent.dht.krpc import NodeInfo, Query, Reply
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.net.protocols import DatagramSocket
from dht_torrent.errors import NoReply
from dht_torrent.ids import Address, HostPort, InfoHash, NodeId, distance
from dht_torrent.trace import LookupDone
from tests.helpers.dht_lab import (
    CONFIG,
    HASH,
    MINUTE,
    OTHER,
    Found,
    Lab,
    find,
    only_query,
    query,
    replies,
)

# --- ids bound to IPs (BEP 42) -------------------------------------------------------------------


async def test_public_nodes_take_ids_that_fit_where_others_see_them(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(12, public=True)
    for dht in nodes:
        assert is_compliant(dht.node_id, dht.address)
        assert dht.status().external_ip == dht.address.host
        assert dht.status().node_id == dht.node_id.hex()
        assert dht.status().good >= 8
    ids = [dht.node_id for dht in nodes]
    await trio.sleep(30 * MINUTE)
    assert [dht.node_id for dht in nodes] == ids
    stranger = await lab.node("13.0.0.1", nodes[0])
    await stranger.bootstrapped()
    number = int.from_bytes(HASH, "big")
    true = sorted(nodes, key=lambda dht: int.from_bytes(dht.node_id, "big") ^ number)[:8]
    assert [info.id for info in await stranger.find_node(HASH)] == [dht.node_id for dht in true]


async def test_local_nodes_keep_their_ids(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(5)
    ids = [dht.node_id for dht in nodes]
    await trio.sleep(20 * MINUTE)
    assert [dht.node_id for dht in nodes] == ids
    assert nodes[0].status().external_ip is None


async def test_an_id_that_fits_lives_through_a_restart(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(9, public=True)
    again = await lab.node("11.0.3.1", *nodes[:1], port=7000, state=nodes[3].state())
    assert again.node_id == nodes[3].node_id
    await trio.sleep(10 * MINUTE)
    assert again.node_id == nodes[3].node_id


async def test_with_the_rule_off_ids_stay_as_they_are(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(9, public=True, config=replace(CONFIG, secure_ids=False))
    assert not any(is_compliant(dht.node_id, dht.address) for dht in nodes)


async def test_announces_and_items_reach_a_network_that_does_not_know_the_rule(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """Transmission, rTorrent and WebTorrent have ids of their own choice."""
    lax = replace(CONFIG, secure_ids=False)
    nodes = await lab.nodes(6, public=True, config=lax)
    ours = await lab.node("13.0.0.1", *nodes[:1])
    await ours.bootstrapped()
    assert not any(is_compliant(dht.node_id, dht.address) for dht in nodes)
    assert (await find(ours, 5000)).announced_to >= 5
    assert (await find(nodes[3])).peers == (Address("13.0.0.1", 5000),)
    stored = await ours.items.put(ImmutableItem(b"1:v"))
    assert len(stored.stored) >= 5
    assert await nodes[4].items.get(stored.target) == ImmutableItem(b"1:v")


# --- read-only nodes (BEP 43) --------------------------------------------------------------------


async def test_a_read_only_node_says_so_and_answers_nothing(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(8)
    await find(nodes[2], 5000)
    quiet = await lab.node("10.0.1.1", nodes[0], config=replace(CONFIG, read_only=True))
    await quiet.bootstrapped()
    assert (await find(quiet)).peers == (Address("10.0.0.3", 5000),)
    with pytest.raises(NoReply):
        await nodes[0].ping(quiet.address)
    await trio.sleep(5 * MINUTE)
    for dht in nodes:
        assert quiet.node_id not in {info.id for info in await dht.find_node(HASH)}
    raw = await lab.raw("10.0.2.2")

    async def ask() -> None:
        with pytest.raises(NoReply):
            await quiet.ping(raw.address)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        ping, _ = await only_query(raw, b"ping")
    assert ping.read_only
    assert b"ro" not in ping.args  # BEP 43: at the top level


# --- scrape (BEP 33) -----------------------------------------------------------------------------


async def test_a_scrape_counts_seeds_and_downloaders_once_each(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(15)
    for dht in nodes[:5]:
        await dht.announces.find_peers(HASH, announce_port=5000, seed=True, on_peers=Found())
    for dht in nodes[5:12]:
        await dht.announces.find_peers(HASH, announce_port=5000, on_peers=Found())
    scrape = await nodes[14].announces.scrape(HASH)
    assert round(scrape.seeds) == 5
    assert round(scrape.downloaders) == 7
    assert scrape.answered >= 7
    empty = await nodes[14].announces.scrape(InfoHash(b"e" * 20))
    assert (empty.seeds, empty.downloaders) == (0, 0)


async def test_filters_of_the_wrong_size_count_no_peers(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("10.0.0.1")
    raw = await lab.raw("10.0.0.2")

    async def lie() -> None:
        while True:
            for data, source in await raw.receive():
                message = krpc.decode(data)
                if isinstance(message, Query):
                    body = {b"id": bytes(OTHER), b"BFsd": b"\xff" * 255, b"BFpe": b"\xff" * 256}
                    raw.send(krpc.encode(Reply(message.tid, body)), source)

    lab.nursery.start_soon(lie)
    await dht.ping(raw.address)
    scrape = await dht.announces.scrape(HASH)
    assert (scrape.seeds, scrape.downloaders, scrape.answered) == (0, 0, 0)


# --- samples (BEP 51) ----------------------------------------------------------------------------


async def test_a_node_is_asked_for_samples_once_in_its_interval(
    lab: Lab, autojump_clock: MockClock
) -> None:
    one = await lab.node("10.0.0.1", config=replace(CONFIG, samples_interval=600.0))
    two = await lab.node("10.0.0.2", one)
    await two.bootstrapped()
    for number in range(30):
        info_hash = InfoHash(number.to_bytes(20, "big"))
        await two.announces.find_peers(info_hash, announce_port=5000, on_peers=Found())
    before = one.status().queries_in
    sample = await two.samples.get(one.address, two.random_id())
    assert (sample.interval, sample.num, len(sample.samples)) == (600, 30, 20)
    assert all(int.from_bytes(info_hash, "big") < 30 for info_hash in sample.samples)
    assert await two.samples.get(one.address, two.random_id()) is sample
    assert one.status().queries_in == before + 1
    await trio.sleep(601)
    assert await two.samples.get(one.address, two.random_id()) is not sample


async def test_a_node_that_gives_no_samples_is_not_an_error(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("10.0.0.1")
    raw = await lab.raw("10.0.0.2")

    async def answer() -> None:
        asked, source = await only_query(raw, b"sample_infohashes")
        raw.send(krpc.encode(Reply(asked.tid, {b"id": OTHER, b"samples": b"x" * 19})), source)

    lab.nursery.start_soon(answer)
    with pytest.raises(NoReply, match="no samples"):
        await dht.samples.get(raw.address, dht.random_id())


# --- other limits --------------------------------------------------------------------------------


async def test_in_a_lab_without_limits_a_flood_is_answered(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("11.0.0.1", config=replace(CONFIG, unlimited=True))
    raw = await lab.raw("12.0.0.1")
    for _ in range(300):
        raw.send(query(b"find_node", target=bytes(HASH)), dht.address)
    assert len(await replies(raw)) == 300
    assert dht.status().dropped == {}


async def test_a_flood_in_the_name_of_a_contact_costs_it_ten_seconds_and_not_five_minutes(
    lab: Lab, autojump_clock: MockClock
) -> None:
    one = await lab.node("11.0.0.1")
    two = await lab.node("12.0.0.1", one)
    await two.bootstrapped()
    await trio.sleep(2 * MINUTE)
    assert one.status().good == 1  # so it is no stranger
    # From another port of that IP: the contact notices nothing.
    flood = await lab.raw("12.0.0.1", 9999)
    for _ in range(1000):
        flood.send(query(b"ping"), one.address)
    await trio.sleep(0.1)
    assert await two.ping(one.address) == one.node_id
    # From its very port: until the window is over, and no longer.
    spoof = krpc.encode(Query(b"tt", b"ping", {b"id": two.node_id}))
    forge = two._socket
    assert forge is not None
    for _ in range(1000):
        forge.send(spoof, one.address)
    await trio.sleep(CONFIG.query_window + 0.1)
    assert await two.ping(one.address) == one.node_id


async def test_ten_thousand_queries_in_a_victims_name_send_it_little(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("11.0.0.1")
    stored = await dht.items.put_immutable(b"x" * 990)
    victim = await lab.raw("12.0.0.1")
    sent = got = 0
    for number in range(10_000):
        forged = query(b"get", target=stored.target)
        sent += len(forged)
        victim.send(forged, dht.address)
        if number % 1000 == 999:
            await trio.sleep(0.1)
    with trio.move_on_after(5):
        while True:
            got += sum(len(data) for data, _ in await victim.receive())
    assert 0 < got < 15_000
    assert got < 0.02 * sent


async def test_a_host_that_liars_point_to_is_asked_a_few_times_a_minute(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """All that anybody tells of are ports of one IP, whose owner knows nothing of it."""
    dht = await lab.node("11.0.0.1", config=replace(CONFIG, secure_ids=False))
    sockets = [await lab.raw(f"12.0.{number}.1") for number in range(5)]

    async def lie(raw: DatagramSocket, number: int) -> None:
        own = NodeId(bytes([number]) * 20)
        while True:
            for data, source in await raw.receive():
                message = krpc.decode(data)
                if isinstance(message, Query):
                    fakes = [
                        NodeInfo(
                            NodeId(lab.rng.randbytes(20)),
                            Address("66.0.0.9", lab.rng.randrange(1, 65536)),
                        )
                        for _ in range(8)
                    ]
                    body: dict[bytes, Value] = {b"id": own, b"nodes": krpc.compact_nodes(fakes)}
                    raw.send(krpc.encode(Reply(message.tid, body)), source)

    for number, raw in enumerate(sockets):
        lab.nursery.start_soon(lie, raw, number)
        await dht.ping(raw.address)
    before = dht.status().queries_out
    with trio.move_on_after(60):
        while True:
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(dht.find_node, lab.rng.randbytes(20))
    victims = dht.status().queries_out - before - dht.status().replies_in
    assert 0 < victims <= 100


async def test_an_announce_may_go_on_disjoint_paths(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(40, config=replace(CONFIG, announce_paths=4))
    announcer = nodes[5]
    size = announcer.status().network_size
    assert size is not None
    assert size > SMALL * CONFIG.k, "else the eight closest are enough"
    answer = await find(announcer, 5000)
    # The eight closest of the others, and whoever is where eight should be, as far as it knows.
    away = {dht.node_id: distance(dht.node_id, HASH) for dht in nodes if dht is not announcer}
    within = max(sorted(away.values())[7], math.floor(8 / size * (2**160 - 1)))
    holders = {dht.node_id for dht in nodes if dht.status().stored_peers}
    assert holders == {node_id for node_id, nearness in away.items() if nearness <= within}
    assert answer.announced_to == len(holders)
    for dht in nodes[::5]:
        assert Address("10.0.0.6", 5000) in (await find(dht)).peers


async def test_a_key_whose_closest_are_dense_by_chance_is_not_called_eclipsed(
    lab: Lab, autojump_clock: MockClock
) -> None:
    # Eight where 2.2 to 2.8 of sixty are expected, and the next where there are at least 4.5.
    number, nodes = int.from_bytes(HASH, "big"), list[Dht]()
    for place in range(60):
        share = lab.rng.uniform(2.2, 2.8) if place < 8 else lab.rng.uniform(4.5, 60)
        node_id = NodeId((number ^ int(share / 60 * 2**160)).to_bytes(20, "big"))
        nodes.append(await lab.node(f"10.0.0.{place + 1}", *nodes[:1], node_id=node_id))
    for dht in nodes:
        await dht.bootstrapped()
    looker = nodes[-1]
    for _ in range(40):
        await looker.find_node(lab.rng.randbytes(20))
    size = looker.status().network_size
    assert size is not None
    assert size * 2.8 / 60 < TOO_DENSE < size * 4.5 / 60
    lab.records.clear()
    await find(looker)
    first, *_ = [record for record in lab.records if isinstance(record, LookupDone)]
    assert len(first.closest) >= 12, "sixteen are expected so near"
    assert not first.eclipse_suspected
    assert looker.status().eclipses_suspected == 0


@pytest.mark.parametrize("invented", [0, 16])
async def test_a_lookup_that_reached_no_node_is_repeated_though_peers_were_named(
    lab: Lab, autojump_clock: MockClock, invented: int
) -> None:
    dht = await lab.node("10.0.0.1")

    async def serve(raw: DatagramSocket, node_id: NodeId, number: int) -> None:
        peers = [Address(f"10.{number}.{n}.1", 5000).compact() for n in range(100)]
        while True:
            for data, source in await raw.receive():
                query = krpc.decode(data)
                assert isinstance(query, Query)
                nobody = [
                    NodeInfo(
                        NodeId(bytes(HASH[:10]) + lab.rng.randbytes(10)),
                        Address(f"192.168.{number}.{n}", 6881),
                    )
                    for n in range(invented)
                ]
                body: dict[bytes, Value] = {
                    b"id": node_id,
                    b"nodes": krpc.compact_nodes(nobody),
                    b"values": list[Value](peers),
                }
                raw.send(krpc.encode(Reply(query.tid, body)), source)

    for number in range(10):
        raw = await lab.raw(f"10.0.1.{number + 1}")
        lab.nursery.start_soon(serve, raw, NodeId(lab.rng.randbytes(20)), number)
        await dht.ping(raw.address)
    lab.records.clear()
    found = await find(dht)
    records = [record for record in lab.records if isinstance(record, LookupDone)]
    assert sum(record.target == HASH for record in records) == (2 if invented else 1)
    told = [peer.host.split(".")[1] for peer in found.peers]
    assert {told.count(str(number)) for number in range(10)} <= {0, CONFIG.max_told}


# --- both address families (BEP 32) --------------------------------------------------------------


async def test_two_nodes_of_ours_tell_of_each_others_family(
    lab: Lab, autojump_clock: MockClock
) -> None:
    four = [await lab.node("10.0.0.1"), await lab.node("10.0.0.2", HostPort("10.0.0.1", 6881))]
    six = [await lab.node("fd00::1"), await lab.node("fd00::2", HostPort("fd00::1", 6881))]
    for dht in (*four, *six):
        await dht.bootstrapped()
    await trio.sleep(1)
    four[0].tell_of(six[0])
    six[0].tell_of(four[0])
    for asker, asked in (("10.0.0.3", four[0]), ("fd00::3", six[0])):
        raw = await lab.raw(asker)
        for want in (["n4", "n6"], ["n6"], ["n4"]):
            wanted = [family.encode() for family in want]
            raw.send(query(b"find_node", target=bytes(HASH), want=list(wanted)), asked.address)
            (reply,) = await replies(raw)
            assert isinstance(reply, Reply)
            told = {info.id for info in [*reply.nodes(), *reply.nodes(ipv6=True)]}
            others = {family: nodes[1].node_id for family, nodes in (("n4", four), ("n6", six))}
            assert {others[family] for family in want} <= told
            assert {others[family] for family in others if family not in want}.isdisjoint(told)
    announced = await six[1].announces.find_peers(HASH, announce_port=5000, on_peers=Found())
    assert announced.announced_to == 1
    found = await six[0].announces.find_peers(HASH, on_peers=Found())
    assert found.peers == (Address("fd00::2", 5000),)
    assert (await find(four[0])).peers == ()
