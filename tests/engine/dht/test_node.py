"""DHT nodes among each other: on a network in memory and virtual time, and on loopback sockets."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import bencode
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import NodeInfo, Query, Reply
from dht_torrent.engine.dht.announces import PeerLookup
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.net.protocols import DatagramSocket
from dht_torrent.engine.net.sockets import RealNetwork
from dht_torrent.errors import InputError, NoReply
from dht_torrent.ids import Address, HostPort, InfoHash, NodeId
from dht_torrent.lab.net.network import FakeNetwork
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
    saved,
)


async def test_two_nodes_meet_and_both_know_it(lab: Lab, autojump_clock: MockClock) -> None:
    one = await lab.node("10.0.0.1")
    await one.bootstrapped()
    two = await lab.node("10.0.0.2", one)
    with trio.fail_after(1):
        await two.bootstrapped()
        await trio.sleep(0.1)
    assert (one.status().good, two.status().good) == (1, 1)
    assert await one.ping(two.address) == two.node_id


async def test_what_the_first_node_announced_alone_is_found_by_the_second(
    lab: Lab, autojump_clock: MockClock
) -> None:
    one = await lab.node("10.0.0.1")
    assert (await find(one, 5000)).announced_to == 0
    two = await lab.node("10.0.0.2", one)
    with trio.fail_after(3):
        await two.bootstrapped()
        found = await find(two)
    assert found.peers == (Address("10.0.0.1", 5000),)


async def test_two_nodes_that_want_the_same_hear_of_each_other_at_once(
    lab: Lab, autojump_clock: MockClock
) -> None:
    one = await lab.node("10.0.0.1")
    heard_by_one, heard_by_two = Found(), Found()
    await one.announces.find_peers(HASH, announce_port=5000, on_peers=heard_by_one)
    two = await lab.node("10.0.0.2", one)
    with trio.fail_after(1):
        await two.bootstrapped()
        await two.announces.find_peers(HASH, announce_port=5001, on_peers=heard_by_two)
        assert Address("10.0.0.2", 5001) in await heard_by_one.some()
        assert Address("10.0.0.1", 5000) in await heard_by_two.some()


async def test_a_lookup_begun_before_any_node_was_there_gets_its_peers_later(
    lab: Lab, autojump_clock: MockClock
) -> None:
    one = await lab.node("10.0.0.1")
    heard = Found()
    await one.announces.find_peers(HASH, announce_port=5000, on_peers=heard)
    two = await lab.node("10.0.0.2", one)
    await two.bootstrapped()
    await find(two, 5001)
    assert Address("10.0.0.2", 5001) in await heard.some()


async def test_a_withdrawn_torrent_is_not_announced_again(
    lab: Lab, autojump_clock: MockClock
) -> None:
    one = await lab.node("10.0.0.1")
    await find(one, 5000)
    one.announces.withdraw(HASH)
    two = await lab.node("10.0.0.2", one)
    await two.bootstrapped()
    assert (await find(two)).peers == ()
    assert two.status().stored_peers == 0


async def test_the_port_announced_is_implied_when_it_is_the_udp_port(
    lab: Lab, autojump_clock: MockClock
) -> None:
    one = await lab.node("10.0.0.1")
    two = await lab.node("10.0.0.2", one, port=7000)
    await two.bootstrapped()
    raw = await lab.raw("10.0.0.3")
    await raw_joins(raw, two)
    search = Found()

    async def announce() -> None:
        await two.announces.find_peers(HASH, announce_port=7000, on_peers=search)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(announce)
        asked, source = await only_query(raw, b"get_peers")
        raw.send(krpc.encode(Reply(asked.tid, {b"id": OTHER, b"token": b"tok"})), source)
        announced, _ = await only_query(raw, b"announce_peer")
    assert announced.args[b"implied_port"] == 1
    assert announced.args[b"port"] == 7000
    assert announced.token == b"tok"


async def raw_joins(raw: DatagramSocket, dht: Dht, node_id: NodeId = OTHER) -> None:
    """Query `dht` by hand and answer its ping, as a new node would."""
    raw.send(krpc.encode(Query(b"tt", b"ping", {b"id": node_id})), dht.address)
    ping, source = await only_query(raw, b"ping")
    raw.send(krpc.encode(Reply(ping.tid, {b"id": node_id})), source)
    await trio.sleep(0.1)


@pytest.mark.parametrize("public", [False, True])
async def test_thirty_nodes_find_what_one_announced(
    lab: Lab, autojump_clock: MockClock, public: bool
) -> None:
    nodes = await lab.nodes(30, public=public)
    lab.records.clear()
    announced = await find(nodes[11], 5000)
    assert announced.announced_to == 8
    expected = Address(nodes[11].address.host, 5000)
    for dht in nodes:
        start = trio.current_time()
        found = await find(dht)
        assert expected in found.peers
        assert trio.current_time() - start < 0.5
    done = [record for record in lab.records if isinstance(record, LookupDone)]
    assert max(record.hops for record in done) <= 4


async def test_find_node_gives_the_closest_of_the_network(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(40)
    target = bytes(HASH)
    number = int.from_bytes(target, "big")
    true = sorted(nodes[1:], key=lambda dht: int.from_bytes(dht.node_id, "big") ^ number)[:8]
    assert [info.id for info in await nodes[0].find_node(target)] == [dht.node_id for dht in true]


async def test_a_search_is_quick_though_half_of_the_network_has_died(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(20)
    await find(nodes[3], 5000)
    for number in range(10, 20):
        lab.net.host(f"10.0.0.{number + 1}").go_down()
    start = trio.current_time()
    found = await find(nodes[1])
    assert found.peers == (Address("10.0.0.4", 5000),)
    assert trio.current_time() - start < 3


async def test_a_dead_bootstrap_point_is_tried_until_it_lives(
    lab: Lab, autojump_clock: MockClock
) -> None:
    late = HostPort("10.0.0.1", 6881)
    two = await lab.node("10.0.0.2", HostPort("10.0.0.99", 1), late)
    with trio.move_on_after(30) as waited:
        await two.bootstrapped()
    assert waited.cancelled_caught
    assert two.status().bootstrap_answered == 0
    await lab.node("10.0.0.1")
    with trio.fail_after(61):
        await two.bootstrapped()
    status = two.status()
    assert (status.bootstrap_answered, status.bootstrap_total, status.good) == (1, 2, 1)


async def test_a_name_server_that_hangs_does_not_hold_up_others(
    lab: Lab, autojump_clock: MockClock
) -> None:
    class SlowNames:
        def __init__(self, net: FakeNetwork) -> None:
            self._host = net.host("10.0.0.2")
            self.open_udp = self._host.open_udp
            self.listen = self._host.listen
            self.connect = self._host.connect
            self.interfaces = self._host.interfaces
            self.gateways = self._host.gateways
            self.surroundings = self._host.surroundings
            self.open_multicast = self._host.open_multicast

        async def resolve(self, point: HostPort) -> list[Address]:
            if point.host == "slow.example":
                await trio.sleep(500)
            return await self._host.resolve(point)

    one = await lab.node("10.0.0.1")
    points = [HostPort("slow.example", 1), HostPort(*one.address)]
    two = Dht(
        SlowNames(lab.net),
        Address("10.0.0.2", 6881),
        CONFIG,
        rng=random.Random(1),
        bootstrap=points,
    )
    await lab.nursery.start(two.run)
    with trio.fail_after(1):
        await two.bootstrapped()


async def test_a_node_that_lost_everybody_finds_its_way_back(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(4)
    lab.net.host("10.0.0.4").go_down()
    await trio.sleep(40 * MINUTE)
    assert nodes[3].status().good == 0
    lab.net.host("10.0.0.4").come_up()
    with trio.fail_after(90):
        while nodes[3].status().good < 3:
            await trio.sleep(1)


async def test_saved_contacts_and_id_are_enough_to_come_back(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(10)
    state = nodes[5].state()
    again = await lab.node("10.0.1.1", state=state)
    assert again.node_id == nodes[5].node_id
    await again.bootstrapped()
    await trio.sleep(2)
    assert again.status().good >= 8


async def test_dead_saved_contacts_do_not_keep_it_from_the_bootstrap_point(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dead = [Address("10.9.9.9", port).compact() for port in range(1, 301)]
    state = bencode.encode({b"id": bytes(OTHER), b"nodes": list(dead)})
    one = await lab.node("10.0.0.1")
    two = await lab.node("10.0.0.2", one, state=state)
    assert two.node_id == OTHER
    with trio.fail_after(3):
        await two.bootstrapped()


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"de",
        b"le",
        b"i1e",
        b"d2:id3:abce",
        b"d2:id20:" + b"x" * 20 + b"5:nodesi5ee",
        b"d2:id20:" + b"x" * 20 + b"5:nodesl3:abci5eleee",
        b"d2:id20:" + b"x" * 20 + b"5:nodesl6:\0\0\0\0\0\x006:\xe0\0\0\1\0\1ee",
        b"l" * 100_000,
        b"d2:id20:" + b"x" * 20 + b"5:nodesl" + b"6:abcdef" * 100_000 + b"ee",
    ],
)
async def test_a_broken_state_is_ignored(lab: Lab, autojump_clock: MockClock, state: bytes) -> None:
    one = await lab.node("10.0.0.1")
    two = await lab.node("10.0.0.2", one, state=state)
    assert len(two.node_id) == 20
    with trio.fail_after(5):
        await two.bootstrapped()


async def test_a_stale_contact_is_replaced_after_fifteen_minutes(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """Nine nodes in the half of the table that cannot split: one of them waits for a place."""
    config = replace(CONFIG, max_fails=2)
    far = [NodeId(b"\xff" + bytes([n]) + bytes(18)) for n in range(9)]
    one = await lab.node("10.0.0.1", node_id=NodeId(bytes(20)), config=config)
    await lab.node("10.0.0.2", one, node_id=NodeId(bytes(19) + b"\1"))  # so that it splits
    for number, node_id in enumerate(far):
        await lab.node(f"10.0.1.{number}", one, node_id=node_id)
        await trio.sleep(1)
    known = {info.id for info in await one.find_node(far[0])}
    assert known == set(far[:8])
    lab.net.host("10.0.1.3").go_down()
    await trio.sleep(25 * MINUTE)
    assert one.status().bad == 0
    assert {info.id for info in await one.find_node(far[0])} == set(far) - {far[3]}


async def test_ten_thousand_unsolicited_queries_leave_the_table_unchanged(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(5, public=True)
    victim = nodes[0]
    before = saved(victim)
    for number in range(10_000):
        raw = await lab.raw(f"12.{number >> 8}.{number & 255}.7")
        attacker = NodeId(lab.rng.randbytes(20))
        raw.send(krpc.encode(Query(b"tt", b"ping", {b"id": attacker})), victim.address)
        raw.close()
        if number % 500 == 0:
            await trio.sleep(0.1)
    await trio.sleep(3 * MINUTE)
    assert saved(victim) == before
    assert victim.status().good == 4


async def test_a_public_stranger_is_pinged_after_ninety_seconds_and_a_local_one_at_once(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("11.0.0.1")
    public, local = await lab.raw("12.0.0.1"), await lab.raw("10.0.0.1")
    for raw in (public, local):
        raw.send(query(b"ping"), dht.address)
    start = trio.current_time()
    await only_query(local, b"ping")
    assert trio.current_time() - start < 1
    await only_query(public, b"ping")
    assert 90 <= trio.current_time() - start < 100


async def test_a_node_that_is_being_asked_is_not_pinged_as_well(
    lab: Lab, autojump_clock: MockClock
) -> None:
    entry = await lab.raw("10.0.0.2")
    dht = await lab.node("10.0.0.1", HostPort("10.0.0.2", 6881))
    await only_query(entry, krpc.FIND_NODE)
    entry.send(query(b"ping"), dht.address)  # it asks before it answers
    with trio.move_on_after(5) as waited:
        await only_query(entry, krpc.PING)
    assert waited.cancelled_caught


async def test_a_read_only_stranger_is_answered_but_never_pinged(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("10.0.0.1")
    raw = await lab.raw("10.0.0.2")
    raw.send(krpc.encode(Query(b"tt", b"ping", {b"id": OTHER}, read_only=True)), dht.address)
    data, _ = (await raw.receive())[0]
    assert isinstance(krpc.decode(data), Reply)
    with trio.move_on_after(10 * MINUTE) as waited:
        await raw.receive()
    assert waited.cancelled_caught


async def test_a_flood_is_answered_fifty_times_and_its_victim_stays_a_contact(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """Someone floods in the name of an honest node: our questions to that node still work."""
    one = await lab.node("11.0.0.1")
    two = await lab.node("12.0.0.1", one)
    await two.bootstrapped()
    flood = await lab.raw("12.0.0.1", 9999)
    for _ in range(1000):
        flood.send(query(b"ping"), one.address)
    answers = await replies(flood)
    assert 40 <= len(answers) <= 50
    assert one.status().dropped["flood"] > 900
    assert await one.ping(two.address) == two.node_id


async def test_answers_to_the_public_are_rationed(lab: Lab, autojump_clock: MockClock) -> None:
    dht = (await lab.nodes(9, public=True))[0]
    sockets = [await lab.raw(f"12.0.{number}.1") for number in range(250)]
    asked = 0
    for raw in sockets:
        for _ in range(10):
            asked += raw.send(query(b"find_node", target=bytes(HASH)), dht.address)
    got = 0
    for raw in sockets:
        with trio.move_on_after(0.01):
            while True:
                got += sum(len(data) for data, _ in await raw.receive())
    assert asked == 2500
    assert got <= 3 * 8000 + 8000 * trio.current_time()
    assert dht.status().dropped["send rate"] > 1000


async def test_a_spoofed_reply_is_ignored(lab: Lab, autojump_clock: MockClock) -> None:
    dht = await lab.node("10.0.0.1")
    true, false = await lab.raw("10.0.0.2"), await lab.raw("10.0.0.3")
    answers: list[NodeId] = []

    async def ask() -> None:
        answers.append(await dht.ping(true.address))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        ping, source = await only_query(true, b"ping")
        assert len(ping.tid) == 4
        false.send(krpc.encode(Reply(ping.tid, {b"id": b"f" * 20})), source)
        true.send(krpc.encode(Reply(b"\0\0\0\0", {b"id": b"g" * 20})), source)
        await trio.sleep(1)
        assert not answers
        true.send(krpc.encode(Reply(ping.tid, {b"id": OTHER})), source)
    assert answers == [OTHER]
    assert dht.status().dropped["unasked"] == 2
    assert dht.status().good == 1


async def test_a_reply_with_our_own_id_counts_as_silence(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("10.0.0.1")
    raw = await lab.raw("10.0.0.2")

    async def echo() -> None:
        ping, source = await only_query(raw, b"ping")
        raw.send(krpc.encode(Reply(ping.tid, {b"id": dht.node_id})), source)

    lab.nursery.start_soon(echo)
    with pytest.raises(NoReply, match="no answer"):
        await dht.ping(raw.address)
    assert dht.status().good == 0


async def test_a_refusal_carries_its_code(lab: Lab, autojump_clock: MockClock) -> None:
    one = await lab.node("10.0.0.1")
    two = await lab.node("10.0.0.2")
    with pytest.raises(NoReply, match="Method Unknown") as refusal:
        await one.query(two.address, b"no_such_thing")
    assert refusal.value.code == 204


async def test_silence_is_over_after_fifteen_seconds(lab: Lab, autojump_clock: MockClock) -> None:
    dht = await lab.node("10.0.0.1")
    start = trio.current_time()
    with pytest.raises(NoReply):
        await dht.ping(Address("10.0.0.99", 1))
    assert trio.current_time() - start == CONFIG.hard_timeout


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"d",
        b"x" * 100,
        b"d" + b"l" * 2000,
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:q",
        b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
        b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
        query(b"ping", padding=b"x" * 2100),
        b"d1:rd2:id20:mnopqrstuvwxyz1234565:nodes3:abce1:t2:aa1:y1:re",
    ],
)
async def test_junk_and_unasked_replies_get_no_answer_and_do_no_harm(
    lab: Lab, autojump_clock: MockClock, junk: bytes
) -> None:
    dht = await lab.node("10.0.0.1")
    raw = await lab.raw("10.0.0.2")
    for _ in range(20):
        raw.send(junk, dht.address)
    assert await replies(raw) == []
    assert sum(dht.status().dropped.values()) == 20
    raw.send(query(b"ping"), dht.address)
    assert len(await replies(raw)) == 1


async def test_every_reply_says_where_we_see_the_asker(lab: Lab, autojump_clock: MockClock) -> None:
    dht = await lab.node("10.0.0.1")
    raw = await lab.raw("10.0.0.2", 1234)
    for data in (query(b"ping"), query(b"nonsense"), query(b"find_node")):
        raw.send(data, dht.address)
    answers = await replies(raw)
    assert [answer.ip for answer in answers] == [Address("10.0.0.2", 1234)] * 3
    assert [answer.version for answer in answers] == [krpc.VERSION] * 3


async def test_a_port_message_leads_to_a_ping(lab: Lab, autojump_clock: MockClock) -> None:
    one, two = await lab.node("11.0.0.1"), await lab.node("12.0.0.1")
    one.maybe_contact(two.address)
    one.maybe_contact(Address("224.0.0.1", 5))
    await trio.sleep(10)
    assert one.status().good == 1


async def test_a_node_that_restarts_under_another_id_is_known_by_the_new_one(
    lab: Lab, autojump_clock: MockClock
) -> None:
    one = await lab.node("10.0.0.1")
    async with trio.open_nursery() as nursery:
        await (await lab.node("10.0.0.2", one, nursery=nursery)).bootstrapped()
        nursery.cancel_scope.cancel()
    two = await lab.node("10.0.0.2", one)
    await two.bootstrapped()
    await trio.sleep(1)
    assert [info.id for info in await one.find_node(HASH)] == [two.node_id]


async def test_many_lookups_through_one_neighbour_stay_within_its_limits(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """A node with a hundred torrents and one contact keeps below that contact's limit."""
    one = await lab.node("10.0.0.1")
    two = await lab.node("10.0.0.2", one)
    await two.bootstrapped()
    results: list[PeerLookup] = []

    async def announce(number: int) -> None:
        info_hash = InfoHash(number.to_bytes(20, "big"))
        results.append(
            await two.announces.find_peers(info_hash, announce_port=5000, on_peers=Found())
        )

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(announce, number)
    assert "flood" not in one.status().dropped
    assert one.status().stored_torrents == 100
    assert sum(result.announced_to for result in results) == 100


async def test_values_from_liars_are_bounded_and_inward_addresses_dropped(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("11.0.0.1")
    raw = await lab.raw("12.0.0.1")
    lab.nursery.start_soon(_liar, raw)
    assert await dht.ping(raw.address) == OTHER
    heard = Found()
    found = await dht.announces.find_peers(HASH, on_peers=heard)
    assert set(found.peers) == {Address("13.0.0.1", 1)}
    assert heard.peers == [Address("13.0.0.1", 1)]


async def _liar(raw: DatagramSocket) -> None:
    lies = [
        Address("127.0.0.1", 22),
        Address("10.0.0.1", 80),
        Address("13.0.0.1", 0),
        Address("255.255.255.255", 9),
        Address("13.0.0.1", 1),
        Address("13.0.0.1", 1),
    ]
    while True:
        for data, source in await raw.receive():
            message = krpc.decode(data)
            if isinstance(message, Query):
                body: dict[bytes, bencode.Value] = {b"id": OTHER}
                body[b"values"] = [lie.compact() for lie in lies]
                raw.send(krpc.encode(Reply(message.tid, body)), source)


async def test_questions_in_flight_are_bounded_and_further_ones_wait(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("10.0.0.1", config=replace(CONFIG, max_pending=5))
    ended: list[float] = []

    async def ask(number: int) -> None:
        with pytest.raises(NoReply):
            await dht.ping(Address("10.0.9.9", 1 + number))
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(ask, number)
    assert [round(when) for when in ended] == [15] * 5 + [30] * 5 + [45] * 2


async def test_shutdown_wakes_all_waiters_and_frees_the_port(
    lab: Lab, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        dht = await lab.node("10.0.0.1", nursery=nursery)

        async def ask() -> None:
            with pytest.raises(NoReply):
                await dht.ping(Address("10.0.0.99", 1))

        async with trio.open_nursery() as asking:
            asking.start_soon(ask)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert trio.current_time() < 2
    again = await lab.node("10.0.0.1")
    assert again.address == Address("10.0.0.1", 6881)


async def test_an_hour_of_quiet_keeps_a_small_network_together(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(6)
    await find(nodes[2], 5000)
    await trio.sleep(60 * MINUTE)
    assert [dht.status().good for dht in nodes] == [5] * 6
    assert all(dht.status().stored_peers == 0 for dht in nodes)
    assert all("flood" not in dht.status().dropped for dht in nodes)


async def test_a_network_cut_in_two_for_an_hour_grows_together_again(
    lab: Lab, autojump_clock: MockClock
) -> None:
    # So impatient that after an hour nobody of the other side is remembered.
    nodes = await lab.nodes(16, config=replace(CONFIG, max_fails=2, max_fails_alone=3))
    far = [f"10.0.0.{number + 1}" for number in range(8, 16)]
    lab.net.partition(far)
    await trio.sleep(60 * MINUTE)
    assert [dht.status().good for dht in nodes] == [7] * 16
    await nodes[12].announces.find_peers(HASH, announce_port=5000, on_peers=Found())
    assert (await find(nodes[2])).peers == ()
    lab.net.heal()
    await trio.sleep(30 * MINUTE)
    await nodes[12].announces.find_peers(HASH, announce_port=5000, on_peers=Found())
    for dht in nodes:
        assert (await find(dht)).peers == (Address("10.0.0.13", 5000),)


async def test_one_of_three_entry_points_that_lies_does_not_own_the_table(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """It tells of its accomplices only, who answer, and tell of each other only."""
    nodes = await lab.nodes(20)
    accomplices = [
        NodeInfo(NodeId(lab.rng.randbytes(20)), Address(f"10.6.{number}.1", 6881))
        for number in range(3)
    ]

    async def lie(raw: DatagramSocket, own: NodeId) -> None:
        while True:
            for data, source in await raw.receive():
                message = krpc.decode(data)
                if isinstance(message, Query):
                    body = {b"id": bytes(own), b"nodes": krpc.compact_nodes(accomplices)}
                    raw.send(krpc.encode(Reply(message.tid, dict(body))), source)

    for info in accomplices:
        lab.nursery.start_soon(lie, await lab.raw(info.address.host), info.id)
    liar = HostPort(*accomplices[0].address)
    new = await lab.node("10.7.0.1", liar, nodes[3], nodes[7])
    await new.bootstrapped()
    await trio.sleep(5 * MINUTE)
    false = {info.id for info in accomplices}
    contacts = [view.id for view in new.contacts()]
    assert len(contacts) >= 10
    assert sum(node_id in false for node_id in contacts) <= 0.3 * len(contacts)
    await find(nodes[4], 5000)
    assert (await find(new)).peers == (Address("10.0.0.5", 5000),)


async def test_with_a_fifth_of_all_datagrams_lost_peers_are_still_found(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    lab = Lab(nursery)
    nodes = await lab.nodes(20)
    for number in range(20):
        for other in range(number):
            link = replace(lab.net.link("a", "b"), loss=0.2, duplication=0.05, reordering=0.1)
            lab.net.set_link(f"10.0.0.{number + 1}", f"10.0.0.{other + 1}", link)
    await find(nodes[4], 5000)
    found = [bool((await find(dht)).peers) for dht in nodes]
    assert sum(found) == 20


async def test_two_nodes_on_loopback_sockets_find_each_other_in_a_moment() -> None:
    network = RealNetwork()
    async with trio.open_nursery() as nursery:
        bind = Address("127.0.0.1", 0)
        one = Dht(network, bind, CONFIG, rng=random.Random(1))
        first = await nursery.start(one.run)
        assert first == one.address
        assert first.port
        heard = Found()
        await one.announces.find_peers(HASH, announce_port=5000, on_peers=heard)
        socket = await network.open_udp(bind)
        two = Dht(network, socket, CONFIG, rng=random.Random(2), bootstrap=[HostPort(*first)])
        await nursery.start(two.run)
        with trio.fail_after(20):
            await two.bootstrapped()
            found = await two.announces.find_peers(HASH, announce_port=5001, on_peers=Found())
            assert Address("127.0.0.1", 5000) in found.peers
            await heard.some()
        nursery.cancel_scope.cancel()


async def test_twenty_nodes_on_loopback_sockets_look_up_in_milliseconds() -> None:
    network = RealNetwork()
    async with trio.open_nursery() as nursery:
        nodes: list[Dht] = []
        for number in range(20):
            points = [HostPort(*dht.address) for dht in nodes[:1]]
            address = Address("127.0.0.1", 0)
            rng = random.Random(number)
            dht = Dht(network, address, CONFIG, rng=rng, bootstrap=points)
            await nursery.start(dht.run)
            nodes.append(dht)
        with trio.fail_after(20):
            for dht in nodes:
                await dht.bootstrapped()
            await find(nodes[7], 5000)
            start = trio.current_time()
            for dht in nodes:
                assert Address("127.0.0.1", 5000) in (await find(dht)).peers
            assert (trio.current_time() - start) / 20 < 0.25  # 5 ms, on a machine at rest
        nursery.cancel_scope.cancel()


async def test_a_target_of_another_length_is_refused(lab: Lab, autojump_clock: MockClock) -> None:
    one, _ = await lab.nodes(2)
    for target in (b"", b"x" * 19, b"x" * 32):
        for search in (one.find_node, one.items.get, one.items.get_all):
            with pytest.raises(InputError, match="20 bytes"):
                await search(target)
