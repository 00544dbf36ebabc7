"""All connections of one UDP socket: who comes in, what strangers cost, and the timers."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.config import UtpConfig
from dht_torrent.ids import Address
from dht_torrent.utp.connection import UtpConnection, UtpFailure
from dht_torrent.utp.packets import DATA, FIN, RESET, STATE, SYN, Packet, decode, encode
from dht_torrent.utp.table import UtpTable
from tests.helpers.utp_link import two_ends

PEER = Address("10.0.0.2", 7000)
OTHER = Address("10.0.0.3", 7000)
NOW = 500.0
WINDOW = 100_000


def table(config: UtpConfig | None = None, seed: int = 1) -> UtpTable:
    return UtpTable(config or UtpConfig(), b"a secret of ours", random.Random(seed))


def packet(
    kind: int, connection_id: int, sequence: int, ack: int = 0, payload: bytes = b""
) -> bytes:
    return encode(Packet(kind, connection_id, 1, 0, WINDOW, sequence, ack & 0xFFFF, 0, payload))


def say(
    at: UtpTable, data: bytes, source: Address = PEER, *, now: float = NOW
) -> tuple[list[UtpConnection], list[Packet]]:
    """New connections, and what is sent to `source`."""
    _, new = at.receive([(data, source)], now)
    box = at.due(now)
    return new, [decode(datagram) for datagram, to in box.datagrams if to == source]


def accept(at: UtpTable, source: Address = PEER, *, theirs: int = 40) -> UtpConnection:
    _, (reply,) = say(at, packet(SYN, theirs, 1), source)
    (connection,), _ = say(at, packet(DATA, theirs + 1, 2, reply.sequence - 1, b"hello"), source)
    return connection


def test_nothing_is_kept_of_a_syn_and_the_reply_is_no_longer() -> None:
    ours = table()
    new, (reply,) = say(ours, packet(SYN, 40, 1))
    assert (new, len(ours), ours.next_time()) == ([], 0, None)
    assert (reply.kind, reply.connection_id, reply.acknowledged) == (STATE, 40, 1)
    assert len(encode(reply)) == len(packet(SYN, 40, 1))


def test_whoever_names_the_reply_has_a_connection_and_its_first_bytes() -> None:
    ours = table()
    connection = accept(ours)
    assert (connection.receive_id, connection.send_id) == (41, 40)
    buffer = bytearray(10)
    assert connection.read_into(memoryview(buffer)) == 5
    connection.send(b"welcome")
    ours.changed(connection)
    ((data, to),) = ours.due(NOW).datagrams
    first = decode(data)
    _, (reply,) = say(table(), packet(SYN, 40, 1))
    assert (to, first.connection_id, first.sequence) == (PEER, 40, reply.sequence)


@pytest.mark.parametrize("kind", [DATA, STATE, FIN])
def test_a_wrong_number_is_answered_with_a_reset_and_nothing_more(kind: int) -> None:
    ours = table()
    _, (reply,) = say(ours, packet(SYN, 40, 1))
    for source, theirs, ack in [(PEER, 40, 0), (PEER, 41, -1), (OTHER, 40, -1)]:
        new, (reset,) = say(ours, packet(kind, theirs + 1, 2, reply.sequence + ack), source)
        assert (new, reset.kind, reset.connection_id) == ([], RESET, theirs + 1)
    assert len(ours) == 0


def test_a_reply_to_a_syn_is_valid_for_half_a_minute_to_a_minute() -> None:
    for age, valid in [(25, True), (35, True), (61, False)]:
        ours = table()
        _, (reply,) = say(ours, packet(SYN, 40, 1), now=NOW)
        first = packet(STATE, 41, 2, reply.sequence - 1)
        new, _ = say(ours, first, now=NOW + age)
        assert bool(new) == valid


def test_the_first_packet_after_a_syn_may_be_lost() -> None:
    ours = table()
    _, (reply,) = say(ours, packet(SYN, 40, 1))
    (connection,), (state,) = say(ours, packet(DATA, 41, 3, reply.sequence - 1, b"second"))
    assert (state.acknowledged, state.sack) == (1, 1)
    say(ours, packet(DATA, 41, 2, reply.sequence - 1, b"first"))
    assert connection.readable == len(b"firstsecond")


def test_a_syn_that_comes_again_gets_the_same_reply() -> None:
    ours = table()
    accept(ours)
    _, (first,) = say(table(), packet(SYN, 40, 1))
    new, (again, *_) = say(ours, packet(SYN, 40, 1), now=NOW + 100)
    assert new == []
    assert (again.kind, again.sequence) == (STATE, first.sequence)
    assert len(ours) == 1


def test_a_syn_with_the_id_of_another_connection_is_refused() -> None:
    ours = table()
    connection = accept(ours)
    _, (reply,) = say(ours, packet(SYN, 40, 77))
    assert reply.kind == RESET
    assert connection.failure is None


def test_ids_in_use_are_not_taken_for_a_new_connection() -> None:
    ours = table()
    taken = [accept(ours, theirs=2 * n) for n in range(400)]
    assert len(taken) == 400
    for _ in range(200):
        dialled = ours.connect(PEER, NOW)
        assert dialled is not None
        assert dialled.receive_id not in {one.receive_id for one in taken}
    assert len(ours) == 600


def test_a_flood_of_syns_costs_no_memory_and_honest_peers_come_in() -> None:
    ours = table()
    syns = [
        (packet(SYN, n & 0xFFFF, 1), Address(f"1.2.{n >> 8 & 255}.{n & 255}", 1))
        for n in range(20_000)
    ]
    ours.receive(syns[:100], NOW)
    ours.due(NOW)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        bytes_in = bytes_out = 0
        for begin in range(0, len(syns), 100):
            now = NOW + begin / 10_000
            ours.receive(syns[begin : begin + 100], now)
            bytes_in += sum(len(data) for data, _ in syns[begin : begin + 100])
            bytes_out += sum(len(data) for data, _ in ours.due(now).datagrams)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000
    assert 0 < bytes_out <= bytes_in
    assert bytes_out <= 20 * 4 * UtpConfig().syn_reply_rate  # it lasted two seconds
    _, (reply,) = say(ours, packet(SYN, 40, 1), now=NOW + 3)
    new, _ = say(ours, packet(STATE, 41, 2, reply.sequence - 1), now=NOW + 3)
    assert len(new) == 1


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.binary()
        ),
        max_size=60,
    )
)
def test_an_unverified_source_never_gets_more_than_it_sent(
    said: list[tuple[int, int, int, int, bytes]],
) -> None:
    ours, bytes_in, bytes_out = table(), 0, 0
    for n, (kind, connection_id, sequence, ack, payload) in enumerate(said):
        data = packet(kind, connection_id, sequence, ack, payload)
        ours.receive([(data, PEER)], NOW + n)
        bytes_in += len(data)
        bytes_out += sum(len(reply) for reply, _ in ours.due(NOW + n).datagrams)
        assert bytes_out <= bytes_in
    assert len(ours) == 0


def test_resets_have_a_rate_and_are_never_answered() -> None:
    ours = table()
    strays = [(packet(DATA, 9, n, 9), PEER) for n in range(500)]
    ours.receive(strays, NOW)
    assert len(ours.due(NOW).datagrams) == 20
    ours.receive(strays, NOW + 0.5)
    assert len(ours.due(NOW + 0.5).datagrams) == 10
    assert ours.strays == 1000
    ours.receive([(packet(RESET, 9, n, 9), PEER) for n in range(50)], NOW + 9)
    assert ours.due(NOW + 9).datagrams == []


def test_more_connections_than_allowed_are_refused_both_ways() -> None:
    ours = table(UtpConfig(max_connections=2))
    _, (early,) = say(ours, packet(SYN, 50, 1))
    accept(ours)
    assert ours.connect(PEER, NOW) is not None
    assert ours.connect(PEER, NOW) is None
    _, (reply, *_) = say(ours, packet(SYN, 60, 1))
    assert reply.kind == RESET
    new, (reply,) = say(ours, packet(STATE, 51, 2, early.sequence - 1))
    assert (new, reply.kind, len(ours)) == ([], RESET, 2)


def test_a_table_that_accepts_nobody_refuses() -> None:
    ours = table()
    ours.accepts = False
    _, (reply,) = say(ours, packet(SYN, 40, 1))
    assert reply.kind == RESET


@pytest.mark.parametrize("named", ["ours", "theirs"])
def test_a_reset_may_name_either_id(named: str) -> None:
    ours = table()
    connection = accept(ours)
    number = connection.receive_id if named == "ours" else connection.send_id
    ours.receive([(packet(RESET, number, 0, connection.outbound.next - 1), OTHER)], NOW)
    beside = connection.receive_id + 1
    ours.receive([(packet(RESET, beside, 0, connection.outbound.next - 1), PEER)], NOW)
    assert ours.due(NOW).ended == []
    ours.receive([(packet(RESET, number, 0, connection.outbound.next - 1), PEER)], NOW)
    assert ours.due(NOW).ended == [connection]
    assert connection.failure == UtpFailure.RESET
    assert len(ours) == 0


def test_malformed_datagrams_are_counted() -> None:
    ours = table()
    connection = accept(ours)
    cut = bytearray(packet(DATA, connection.receive_id, 3, 0))
    cut[1] = 1  # a mask is announced
    ours.receive([(b"d1:q4:pinge", PEER), (b"", PEER), (bytes(cut), PEER)], NOW)
    assert ours.malformed == 3
    assert connection.failure is None


def test_a_dial_that_nobody_answers_ends_by_its_timer_alone() -> None:
    ours = table()
    connection = ours.connect(PEER, NOW)
    now, sent = NOW, 0
    ended: list[UtpConnection] = []
    box = ours.due(now)
    while (when := ours.next_time()) is not None:
        sent += len(box.datagrams)
        now = when
        box = ours.due(now)
        ended += box.ended
    assert (ended, sent, now) == ([connection], 3, NOW + 7)


def test_a_refused_probe_finds_its_connection() -> None:
    world, one, other = two_ends()
    other.reads = False
    connection = one.dial(other)
    world.run(1)
    connection.send(b"first")
    one.act()
    world.run(1)
    connection.send(bytes(20_000))
    one.table.changed(connection)
    box = one.table.due(world.now)
    ((probe, to),) = box.probes
    one.table.probe_refused(probe, OTHER)
    assert connection.size.probe() == 1472
    one.table.probe_refused(probe, to)
    assert connection.size.probe() == 1352


def test_two_peers_that_dial_each_other_at_once_have_two_connections() -> None:
    world, one, other = two_ends()
    one.dial(other, 10_000)
    other.dial(one, 20_000)
    world.run(5)
    assert sorted(other.received.values()) == [0, 10_000]
    assert sorted(one.received.values()) == [0, 20_000]


def test_a_thousand_idle_connections_cost_little() -> None:
    ours, theirs = table(), table(seed=2)
    tracemalloc.start()
    try:
        for _ in range(1000):
            assert ours.connect(PEER, NOW) is not None
        sent: list[int] = []
        before = 0
        for step in range(130):
            now = NOW + step / 2
            there = [(data, OTHER) for data, _ in ours.due(now).datagrams]
            theirs.receive(there, now + 0.01)
            back = [(data, PEER) for data, _ in theirs.due(now + 0.01).datagrams]
            ours.receive(back, now + 0.02)
            sent.append(len(there) + len(back))
            if step == 10:
                before, _ = tracemalloc.get_traced_memory()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ours) == len(theirs) == 1000
    assert before / 2000 < 8_000
    assert after < before * 1.1
    assert sum(sent[10:]) <= 2 * 1000 * 3  # each says something every 29 s


def test_timers_do_not_pile_up() -> None:
    world, one, other = two_ends()
    connection = one.dial(other, 3_000_000)
    world.run(10)
    assert other.received[other.connections[0]] == 3_000_000
    assert connection.failure is None
    assert len(one.table._timers) + len(other.table._timers) < 10
