"""The wire, byte for byte as BEP 5 prints it, and everything that is not it."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import BadQuery, ErrorReply, NodeInfo, Query, Reply
from dht_torrent.errors import KrpcError
from dht_torrent.ids import Address, NodeId
from tests.helpers.examples import examples

A = NodeId(b"abcdefghij0123456789")
M = NodeId(b"mnopqrstuvwxyz123456")

EXAMPLES = [
    (
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
        Query(b"aa", b"ping", {b"id": A}),
    ),
    (b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", Reply(b"aa", {b"id": M})),
    (
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e"
            b"1:q9:find_node1:t2:aa1:y1:qe"
        ),
        Query(b"aa", b"find_node", {b"id": A, b"target": M}),
    ),
    (
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e"
            b"1:q9:get_peers1:t2:aa1:y1:qe"
        ),
        Query(b"aa", b"get_peers", {b"id": A, b"info_hash": M}),
    ),
    (
        (
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee"
            b"1:t2:aa1:y1:re"
        ),
        Reply(b"aa", {b"id": A, b"token": b"aoeusnth", b"values": [b"axje.u", b"idhtnm"]}),
    ),
    (
        (
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz123456"
            b"4:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe"
        ),
        Query(
            b"aa",
            b"announce_peer",
            {
                b"id": A,
                b"implied_port": 1,
                b"info_hash": M,
                b"port": 6881,
                b"token": b"aoeusnth",
            },
        ),
    ),
    (
        b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
        ErrorReply(b"aa", 201, "A Generic Error Ocurred"),
    ),
]


@pytest.mark.parametrize(("wire", "message"), EXAMPLES)
def test_the_examples_of_bep_5(wire: bytes, message: Query | Reply | ErrorReply) -> None:
    assert krpc.decode(wire) == message
    assert krpc.encode(message) == wire


def test_fields_are_read_from_the_examples() -> None:
    announce = krpc.decode(EXAMPLES[5][0])
    assert isinstance(announce, Query)
    assert (announce.id, announce.target, announce.token) == (A, M, b"aoeusnth")
    assert announce.port is None  # implied: the UDP source port counts
    reply = krpc.decode(EXAMPLES[4][0])
    assert isinstance(reply, Reply)
    assert reply.values() == [Address("97.120.106.101", 11893), Address("105.100.104.116", 28269)]
    assert reply.token == b"aoeusnth"


@pytest.mark.parametrize("host", ["10.1.2.3", "2001:db8::7"])
def test_compact_nodes_are_read_back(host: str) -> None:
    nodes = [NodeInfo(A, Address(host, 1)), NodeInfo(M, Address(host, 65535))]
    ipv6 = ":" in host
    raw = krpc.compact_nodes(nodes)
    assert len(raw) == 2 * (38 if ipv6 else 26)
    reply = krpc.decode(krpc.encode(Reply(b"t", {b"id": A, b"nodes6" if ipv6 else b"nodes": raw})))
    assert isinstance(reply, Reply)
    assert reply.nodes(ipv6=ipv6) == nodes
    assert reply.nodes(ipv6=not ipv6) == []


def test_values_of_both_families_are_read_and_others_skipped() -> None:
    v4, v6 = Address("10.0.0.1", 80), Address("2001:db8::1", 81)
    body: dict[bytes, bencode.Value] = {
        b"id": A,
        b"values": [v6.compact(), b"seven b", 5, v4.compact()],
    }
    reply = krpc.decode(krpc.encode(Reply(b"t", body)))
    assert isinstance(reply, Reply)
    assert reply.values() == [v6, v4]


def test_read_only_ip_and_version_stand_at_the_top_level() -> None:
    query = Query(b"aa", b"ping", {b"id": A}, b"DT\x00\x01", read_only=True)
    wire = krpc.encode(query)
    assert wire == b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping2:roi1e1:t2:aa1:v4:DT\x00\x011:y1:qe"
    assert krpc.decode(wire) == query
    reply = Reply(b"aa", {b"id": A}, Address("1.2.3.4", 258))
    wire = krpc.encode(reply)
    assert wire == b"d2:ip6:\x01\x02\x03\x04\x01\x021:rd2:id20:abcdefghij0123456789e1:t2:aa1:y1:re"
    assert krpc.decode(wire) == reply


@pytest.mark.parametrize(
    ("method", "args"),
    [
        (b"ping", {}),
        (b"ping", {b"id": A[:19]}),
        (b"ping", {b"id": A + b"x"}),
        (b"ping", {b"id": 5}),
        (b"find_node", {b"id": A}),
        (b"find_node", {b"id": A, b"target": b"short"}),
        (b"get_peers", {b"id": A, b"target": M}),
        (b"get_peers", {b"id": A, b"info_hash": [M]}),
        (b"announce_peer", {b"id": A, b"info_hash": M, b"port": 1}),
        (b"announce_peer", {b"id": A, b"info_hash": M, b"token": b"t"}),
        (b"announce_peer", {b"id": A, b"info_hash": M, b"token": [], b"port": 1}),
        (b"announce_peer", {b"id": A, b"info_hash": M, b"token": b"t", b"port": 0}),
        (b"announce_peer", {b"id": A, b"info_hash": M, b"token": b"t", b"port": 65536}),
        (b"announce_peer", {b"id": A, b"info_hash": M, b"token": b"t", b"port": -1}),
        (b"announce_peer", {b"id": A, b"info_hash": M, b"token": b"t", b"implied_port": b"1"}),
    ],
)
def test_a_malformed_query_is_one_to_refuse(
    method: bytes, args: dict[bytes, bencode.Value]
) -> None:
    bad = krpc.decode(krpc.encode(Query(b"tt", method, args)))
    assert isinstance(bad, BadQuery)
    assert (bad.tid, bad.code) == (b"tt", 203)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"de",
        b"le",
        b"i1e",
        b"d1:t2:aa1:y1:xe",
        b"d1:y1:qe",
        b"d1:ti1e1:y1:qe",
        b"d1:t65:" + b"t" * 65 + b"1:y1:qe",
        b"d1:rd2:id20:abcdefghij0123456789e1:t2:aa1:y1:re ",
        b"d1:rd2:id20:abcdefghij01234567895:nodes25:" + b"n" * 25 + b"e1:t2:aa1:y1:re",
        b"d1:rd2:id20:abcdefghij01234567896:nodes639:" + b"n" * 39 + b"e1:t2:aa1:y1:re",
        b"d1:rd2:id20:abcdefghij01234567896:valuesi1ee1:t2:aa1:y1:re",
        b"d1:rd2:idi5ee1:t2:aa1:y1:re",
        b"d1:rle1:t2:aa1:y1:re",
        b"d1:x" + b"l" * 11 + b"e" * 11 + b"1:t2:aa1:y1:ee",
        b"d1:xl" + b"0:" * 600 + b"e1:t2:aa1:y1:ee",
    ],
)
def test_what_is_not_a_message_raises_krpc_error(wire: bytes) -> None:
    with pytest.raises(KrpcError):
        krpc.decode(wire)


@pytest.mark.parametrize("error", [b"le", b"i5e", b"de", b"l1:xe", b"lli1eee", b"l3:abci5ee"])
def test_a_malformed_error_is_still_an_error(error: bytes) -> None:
    message = krpc.decode(b"d1:e" + error + b"1:t2:aa1:y1:ee")
    assert isinstance(message, ErrorReply)
    assert message.tid == b"aa"


def test_an_error_text_may_hold_any_bytes() -> None:
    every = bytes(range(128, 256))
    message = krpc.decode(b"d1:eli201e128:" + every + b"e1:t2:aa1:y1:ee")
    assert isinstance(message, ErrorReply)
    assert "\\x80" in message.text


@pytest.mark.parametrize(("wire", "message"), EXAMPLES)
def test_every_cut_and_every_changed_byte_is_survived(
    wire: bytes, message: Query | Reply | ErrorReply
) -> None:
    for cut in range(len(wire)):
        with pytest.raises(KrpcError):
            krpc.decode(wire[:cut])
    for at in range(len(wire)):
        for byte in (0, 48, 49, 57, 58, 100, 101, 105, 108, 255):
            _decode_or_refuse(wire[:at] + bytes([byte]) + wire[at + 1 :])


_values = st.recursive(
    st.binary(max_size=40) | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.binary(max_size=4), inner),
    max_leaves=6,
)
_keys = st.sampled_from(
    [b"id", b"target", b"info_hash", b"port", b"token", b"nodes", b"values", b"implied_port"]
)


@settings(max_examples=examples(200))
@given(
    st.fixed_dictionaries(
        {b"t": _values, b"y": st.sampled_from([b"q", b"r", b"e"])},
        optional={
            b"q": st.sampled_from([b"ping", b"get_peers", b"announce_peer", b"foo"]) | _values,
            b"a": st.dictionaries(_keys, _values | st.just(bytes(A))) | _values,
            b"r": st.dictionaries(_keys, _values | st.just(bytes(A))) | _values,
            b"e": _values,
            b"ip": _values,
            b"v": _values,
            b"ro": _values,
        },
    )
)
def test_whatever_decodes_can_be_read(raw: dict[bytes, bencode.Value]) -> None:
    _decode_or_refuse(bencode.encode(raw))


@settings(max_examples=examples(200))
@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_krpc_error(data: bytes) -> None:
    _decode_or_refuse(data)


def _decode_or_refuse(data: bytes) -> None:
    try:
        message = krpc.decode(data)
    except KrpcError:
        return
    if isinstance(message, Query):
        assert len(message.id) == 20
        assert message.target is None or len(message.target) == 20
        if message.method == b"announce_peer":
            assert isinstance(message.token, bytes)
            assert message.port is None or 0 < message.port < 65536
    elif isinstance(message, Reply):
        assert len(message.id) == 20
        assert all(len(node.id) == 20 for node in message.nodes() + message.nodes(ipv6=True))
        assert all(0 <= peer.port < 65536 for peer in message.values())
        assert message.token is None or isinstance(message.token, bytes)
    if not isinstance(message, BadQuery):
        krpc.encode(message)


# --- later BEPs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "args", "code"),
    [
        (b"get", {}, 203),
        (b"get", {b"target": b"short"}, 203),
        (b"sample_infohashes", {}, 203),
        (b"put", {b"v": b"x"}, 203),
        (b"put", {b"v": b"x", b"token": 5}, 203),
    ],
)
def test_queries_of_later_beps_are_checked_as_well(
    method: bytes, args: dict[bytes, Value], code: int
) -> None:
    message = krpc.decode(krpc.encode(Query(b"aa", method, {b"id": b"i" * 20, **args})))
    assert isinstance(message, BadQuery)
    assert message.code == code


def test_seq_want_and_flags_are_read_whatever_they_hold() -> None:
    def ask(**args: Value) -> Query:
        return Query(b"aa", b"get", {name.encode(): value for name, value in args.items()})

    assert (ask(seq=5).seq, ask(seq=b"5").seq, ask().seq) == (5, None, None)
    assert ask(want=[b"n6", 5, []]).want == (False, True)
    assert (ask(want=b"n4").want, ask(want=[]).want, ask().want) == (None, None, None)
    values: list[Value] = [1, 0, b"1", []]
    assert [ask(scrape=value).flag(b"scrape") for value in values] == [True] + [False] * 3


def test_a_query_with_a_key_twice_or_out_of_order_gets_203() -> None:
    for start in (
        b"d1:ad2:id20:abcdefghij01234567891:v1:a1:v1:be1:q3:put",
        b"d1:ad1:v1:a2:id20:abcdefghij0123456789e1:q3:put",
        b"d1:ad2:id20:abcdefghij01234567891:vi-0ee1:q3:put",
        b"d1:ad2:id20:abcdefghij01234567891:v" + b"l" * 50 + b"e" * 50 + b"e1:q3:put",
    ):
        for tid, version in ((b"aa", b""), (b"1:t2:", b""), (b"", b"1:v4:LT\x01\x02")):
            data = start + b"1:t%d:%s" % (len(tid), tid) + version + b"1:y1:qe"
            assert krpc.decode(data) == BadQuery(tid, 203, "not canonical bencode")


@pytest.mark.parametrize(
    "data",
    [
        b"d1:ad2:id20:abcdefghij01234567891:v1:a1:v1:be1:q3:put1:t3:aa1:y1:qe",
        b"d1:rd2:id20:abcdefghij01234567891:v1:a1:v1:be1:t2:aa1:y1:re",
        b"x1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij01234567891:v1:a1:v1:be1:q3:put1:t2:aa1:y1:q",
    ],
)
def test_other_broken_messages_get_no_answer(data: bytes) -> None:
    with pytest.raises(KrpcError):
        krpc.decode(data)


def test_what_bencode_does_not_know_is_never_sent() -> None:
    for wrong in ({b"id": "text"}, {"id": b"x"}, {b"values": [None]}, {b"values": "text"}):
        body = cast(dict[bytes, Value], wrong)
        with pytest.raises(TypeError):
            krpc.encode(Reply(b"t", body))
        with pytest.raises(TypeError):
            krpc.encode(Query(b"t", b"get", body))
    with pytest.raises(TypeError):
        krpc.encode(Query(b"t", b"put", {b"seq": True}))
