"""What a node says, and how little it gives to those it does not know."""

from __future__ import annotations

import random
from dataclasses import replace

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import bloom, krpc
from dht_torrent.dht.answer import Answerer
from dht_torrent.dht.items import Item, MutableItem, Put, SigningKey, immutable, parse_reply, sign
from dht_torrent.dht.krpc import BadQuery, ErrorReply, Query, Reply
from dht_torrent.dht.store import PeerStore
from dht_torrent.dht.table import Table
from dht_torrent.dht.tokens import Tokens
from dht_torrent.ids import Address, InfoHash, NodeId

CONFIG = DhtConfig(secure_ids=False)  # ids here are invented, not made from the IPs
OWN = NodeId(b"o" * 20)
ASKER = NodeId(b"a" * 20)
HASH = InfoHash(b"h" * 20)
STRANGER = Address("11.1.1.1", 6881)
LOCAL = Address("127.0.0.1", 6881)


def answerer(*, ipv6: bool = False) -> Answerer:
    rng = random.Random(1)
    table = Table(OWN, CONFIG, 0, ipv6=ipv6)
    return Answerer(table, PeerStore(CONFIG), Tokens(rng, 300, 0), CONFIG, rng)


def with_contacts(count: int = 20) -> Answerer:
    it = answerer()
    rng = random.Random(2)
    for number in range(count):
        it.table.replied(NodeId(rng.randbytes(20)), Address(f"12.0.{number}.1", 6881), 0)
    return it


def get_peers(it: Answerer, source: Address, now: float = 0) -> Reply:
    query = Query(b"tt", b"get_peers", {b"id": ASKER, b"info_hash": HASH})
    reply = it.answer(query, source, now)
    assert isinstance(reply, Reply)
    return reply


def announce(
    it: Answerer, source: Address, token: bytes, port: int = 7000, now: float = 0, implied: int = 0
) -> Reply | ErrorReply:
    args: dict[bytes, Value] = {
        b"id": ASKER,
        b"info_hash": HASH,
        b"port": port,
        b"token": token,
        b"implied_port": implied,
    }
    return it.answer(Query(b"tt", b"announce_peer", args), source, now)


def test_ping_is_answered_with_our_id_version_and_where_we_see_the_asker() -> None:
    reply = answerer().answer(Query(b"tt", b"ping", {b"id": ASKER}), STRANGER, 0)
    assert reply == Reply(b"tt", {b"id": OWN}, STRANGER, krpc.VERSION)


def test_find_node_names_the_eight_closest() -> None:
    it = with_contacts()
    reply = it.answer(Query(b"tt", b"find_node", {b"id": ASKER, b"target": HASH}), STRANGER, 0)
    assert isinstance(reply, Reply)
    assert reply.nodes() == [contact.info for contact in it.table.closest(HASH, 8)]
    assert reply.token is None


def test_an_asker_is_not_told_of_itself() -> None:
    it = with_contacts(5)
    one = next(iter(it.table))
    reply = it.answer(
        Query(b"tt", b"find_node", {b"id": one.id, b"target": one.id}), one.address, 0
    )
    assert isinstance(reply, Reply)
    assert one.info not in reply.nodes()
    assert len(reply.nodes()) == 4


def test_no_unverified_node_is_ever_recommended() -> None:
    it = with_contacts(3)
    for number in range(100):
        it.table.queried(
            NodeId(random.Random(number).randbytes(20)), Address(f"13.0.{number}.1", 1), 0
        )
    reply = it.answer(Query(b"tt", b"find_node", {b"id": ASKER, b"target": HASH}), STRANGER, 0)
    assert isinstance(reply, Reply)
    assert len(reply.nodes()) == 3


def test_outsiders_hear_nothing_of_the_local_network() -> None:
    it = answerer()
    it.table.replied(NodeId(b"l" * 20), LOCAL, 0)
    it.store.add(HASH, LOCAL, 0)
    assert get_peers(it, STRANGER).nodes() == []
    assert get_peers(it, STRANGER).values() == []
    assert len(get_peers(it, Address("127.0.0.1", 2)).nodes()) == 1
    assert get_peers(it, Address("127.0.0.1", 2)).values() == [LOCAL]


def test_get_peers_gives_nodes_always_and_values_after_an_announce() -> None:
    it = with_contacts()
    first = get_peers(it, STRANGER)
    assert len(first.nodes()) == 8
    assert b"values" not in first.body
    assert first.token is not None
    assert isinstance(announce(it, STRANGER, first.token), Reply)
    second = get_peers(it, Address("11.9.9.9", 1))
    assert len(second.nodes()) == 8
    assert second.values() == [Address(STRANGER.host, 7000)]


def test_an_implied_port_is_the_source_port() -> None:
    it = answerer()
    token = get_peers(it, STRANGER).token
    assert token is not None
    announce(it, STRANGER, token, implied=1)
    assert get_peers(it, LOCAL).values() == [STRANGER]


def test_a_wrong_token_gets_203_and_stores_nothing() -> None:
    it = answerer()
    token = get_peers(it, STRANGER).token
    assert token is not None
    for source, given, now in (
        (STRANGER, b"", 0.0),
        (STRANGER, bytes(8), 0.0),
        (Address("11.1.1.2", 6881), token, 0.0),
        (STRANGER, token, 601.0),
    ):
        refusal = announce(it, source, given, now=now)
        assert isinstance(refusal, ErrorReply)
        assert refusal.code == 203
    assert len(it.store) == 0


def test_a_full_store_withholds_the_token() -> None:
    it = answerer()
    for number in range(CONFIG.max_peers_per_torrent):
        it.store.add(HASH, Address(f"14.{number >> 8}.{number & 255}.1", 1), 0)
    assert get_peers(it, STRANGER).token is None
    assert get_peers(it, Address("14.0.0.1", 9)).token is not None  # it is in, and may stay
    late = announce(it, STRANGER, it.tokens.make(STRANGER, HASH, 0))
    assert isinstance(late, ErrorReply)
    assert late.code == 202


def test_strangers_get_eight_values_and_the_proven_fifty() -> None:
    it = answerer()
    for number in range(200):
        it.store.add(HASH, Address(f"14.0.{number}.1", 1), 0)
    known = Address("15.0.0.1", 6881)
    it.table.replied(NodeId(b"k" * 20), known, 0)
    assert len(get_peers(it, STRANGER).values()) == 8
    assert len(get_peers(it, known).values()) == 50
    assert len(get_peers(it, LOCAL).values()) == 50


def test_no_answer_is_longer_than_a_datagram_may_be() -> None:
    it = answerer(ipv6=True)
    rng = random.Random(5)
    for number in range(60):
        address = Address(f"2a00:{number + 1:x}::1", 6881)
        it.store.add(HASH, address, 0)
        it.table.replied(NodeId(rng.randbytes(20)), address, 0)
    known = next(iter(it.table)).address
    query = Query(b"t" * 64, b"get_peers", {b"id": ASKER, b"info_hash": HASH})
    reply = it.answer(query, known, 0)
    assert isinstance(reply, Reply)
    assert len(reply.nodes(ipv6=True)) == 8
    assert len(reply.values()) > 35
    assert len(krpc.encode(reply)) <= CONFIG.max_reply


def test_an_unknown_query_with_a_target_is_answered_like_find_node() -> None:
    it = with_contacts()
    for key in (b"target", b"info_hash"):
        reply = it.answer(Query(b"tt", b"vote", {b"id": ASKER, key: bytes(HASH)}), STRANGER, 0)
        assert isinstance(reply, Reply)
        assert len(reply.nodes()) == 8
    refusal = it.answer(Query(b"tt", b"vote", {b"id": ASKER}), STRANGER, 0)
    assert isinstance(refusal, ErrorReply)
    assert refusal.code == 204


def test_a_malformed_query_is_refused_with_203() -> None:
    refusal = answerer().answer(BadQuery(b"tt", 203, "why"), STRANGER, 0)
    assert refusal == ErrorReply(b"tt", 203, "why", STRANGER, krpc.VERSION)


# --- items (BEP 44) ------------------------------------------------------------------------------


def ask(it: Answerer, method: bytes, source: Address = STRANGER, **args: Value) -> Reply:
    named = {name.encode(): value for name, value in args.items()}
    reply = it.answer(Query(b"tt", method, {b"id": ASKER, **named}), source, 0)
    assert isinstance(reply, Reply)
    return reply


def put(it: Answerer, item: Item, token: bytes, source: Address = STRANGER) -> int | None:
    """The code of the refusal; None when it was stored."""
    args: dict[bytes, Value] = {b"id": ASKER, b"token": token, **item.fields()}
    answer = it.answer(Query(b"tt", b"put", args), source, 0)
    return answer.code if isinstance(answer, ErrorReply) else None


KEY = SigningKey(b"\x01" * 32)


def test_an_item_is_put_with_a_token_and_got_by_others() -> None:
    it = with_contacts()
    for item in (immutable(b"Hello World!"), sign(KEY, b"v", 7)):
        empty = ask(it, b"get", target=item.target)
        assert len(empty.nodes()) == 8
        assert not {b"v", b"k", b"sig", b"seq"} & empty.body.keys()
        assert empty.token is not None
        assert put(it, item, b"x" * 8) == 203
        assert put(it, item, empty.token, Address("11.1.1.2", 6881)) == 203
        assert put(it, item, empty.token) is None
        full = ask(it, b"get", Address("15.1.1.1", 1), target=item.target)
        assert {key: full.body[key] for key in item.fields()} == item.fields()
        assert len(full.nodes()) == 8


def test_the_token_is_judged_before_the_size_and_the_size_before_the_signature() -> None:
    it = answerer()
    fat = MutableItem(bencode.encode(b"x" * 1000), KEY.public, b"", 1, bytes(64))
    token = ask(it, b"get", target=fat.target).token
    assert token is not None
    assert put(it, fat, b"x" * 8) == 203
    assert put(it, fat, token) == 205
    assert put(it, replace(fat, encoded=b"1:v"), token) == 206


def test_a_malformed_put_is_refused_with_203_whatever_its_token() -> None:
    it = answerer()
    malformed: list[dict[bytes, Value]] = [
        {},
        {b"v": b"v", b"k": b"short"},
        {b"v": b"v", b"seq": 1},
    ]
    for args in malformed:
        answer = it.answer(Query(b"tt", b"put", {b"token": b"t", **args}), STRANGER, 0)
        assert isinstance(answer, ErrorReply)
        assert answer.code == 203


def test_the_longest_item_fits_a_datagram_with_nodes_of_both_families() -> None:
    it = with_contacts()
    it.other_table = with_contacts6()
    item = sign(KEY, b"x" * 996, 2**63 - 1)
    it.items.put(Put(item, None), LOCAL, OWN, 0)
    args: dict[bytes, Value] = {b"id": ASKER, b"target": item.target, b"want": [b"n4", b"n6"]}
    reply = it.answer(Query(b"t" * 64, b"get", args), LOCAL, 0)
    assert isinstance(reply, Reply)
    assert len(krpc.encode(reply)) <= CONFIG.max_reply
    assert {b"v", b"nodes", b"token"} <= reply.body.keys()
    decoded = krpc.decode(krpc.encode(reply))
    assert isinstance(decoded, Reply)
    assert parse_reply(decoded.body, item.target) == item


def test_an_unproven_address_that_asks_a_lot_soon_gets_small_answers_only() -> None:
    """In a victim's name somebody asks for a thousand bytes again and again."""
    it = with_contacts()
    item = immutable(b"x" * 996)
    it.items.put(Put(item, None), LOCAL, OWN, 0)
    full = [b"v" in ask(it, b"get", target=item.target).body for _ in range(50)]
    assert full == [True] * 6 + [False] * 44
    assert b"v" not in ask(it, b"get", Address("11.1.1.200", 5), target=item.target).body
    assert b"v" in ask(it, b"get", Address("11.1.2.1", 5), target=item.target).body
    known = next(iter(it.table)).address
    assert all(b"v" in ask(it, b"get", known, target=item.target).body for _ in range(50))


# --- scrape, samples, families (BEP 33, 51, 32) --------------------------------------------------


def test_a_scrape_gets_filters_instead_of_values() -> None:
    it = answerer()
    plain = ask(it, b"get_peers", info_hash=HASH, scrape=1)
    assert not {b"BFsd", b"BFpe", b"values"} & plain.body.keys()
    assert plain.token is not None
    token = plain.token
    args: dict[bytes, Value] = {b"info_hash": HASH, b"port": 7000, b"token": token, b"seed": 1}
    it.answer(Query(b"tt", b"announce_peer", {b"id": ASKER, **args}), STRANGER, 0)
    it.store.add(HASH, Address("14.0.0.1", 1), 0)
    it.store.add(HASH, Address("14.0.0.2", 1), 0)
    body = ask(it, b"get_peers", info_hash=HASH, scrape=1).body
    seeds, others = body[b"BFsd"], body[b"BFpe"]
    assert seeds == bytes(bloom.of([STRANGER.host]))
    assert others == bytes(bloom.of(["14.0.0.1", "14.0.0.2"]))
    assert b"values" not in body
    values = ask(it, b"get_peers", info_hash=HASH, noseed=1).values()
    assert {peer.host for peer in values} == {"14.0.0.1", "14.0.0.2"}


def test_samples_are_told_with_interval_number_and_nodes() -> None:
    it = with_contacts()
    empty = ask(it, b"sample_infohashes", target=HASH).body
    assert (empty[b"samples"], empty[b"num"]) == (b"", 0)
    for number in range(100):
        it.store.add(InfoHash(bytes([number]) * 20), Address(f"14.0.{number}.1", 1), 0)
    reply = ask(it, b"sample_infohashes", target=HASH)
    samples = reply.body[b"samples"]
    assert isinstance(samples, bytes)
    assert len(samples) == 20 * 20
    assert reply.body[b"num"] == 100
    assert reply.body[b"interval"] == 21_600
    assert len(reply.nodes()) == 8
    # The same ones, whatever the target.
    assert ask(it, b"sample_infohashes", target=b"z" * 20).body[b"samples"] == samples


def with_contacts6() -> Table:
    table = Table(OWN, CONFIG, 0, ipv6=True)
    rng = random.Random(3)
    for number in range(20):
        table.replied(NodeId(rng.randbytes(20)), Address(f"2a00:{number + 1:x}::1", 6881), 0)
    return table


def test_nodes_of_the_wanted_families_are_told() -> None:
    it = with_contacts()
    it.other_table = with_contacts6()
    for want, families in (
        (None, {b"nodes"}),
        ([b"n4"], {b"nodes"}),
        ([b"n6"], {b"nodes6"}),
        ([b"n4", b"n6"], {b"nodes", b"nodes6"}),
        ([b"n4"] * 400, {b"nodes"}),
        ([b"n9"], set()),
        ([], {b"nodes"}),
    ):
        args: dict[bytes, Value] = {b"id": ASKER, b"target": bytes(HASH)}
        if want is not None:
            args[b"want"] = list(want)
        reply = it.answer(Query(b"tt", b"find_node", args), STRANGER, 0)
        assert isinstance(reply, Reply)
        assert reply.body.keys() - {b"id"} == families
        assert len(reply.nodes(ipv6=True)) in (0, 8)


def test_a_node_of_one_family_tells_nothing_of_the_other() -> None:
    reply = ask(with_contacts(), b"find_node", target=HASH, want=[b"n6"])
    assert reply.body.keys() == {b"id"}


# --- what the asker has, and what fits -----------------------------------------------------------


def test_an_item_the_asker_has_already_is_not_told_again() -> None:
    it = with_contacts()
    item = sign(KEY, b"v", 7)
    it.items.put(Put(item, None), LOCAL, OWN, 0)
    for seq, told in ((6, True), (7, False), (8, False)):
        body = ask(it, b"get", target=item.target, seq=seq).body
        assert body[b"seq"] == 7
        assert (b"v" in body) == told
        assert {b"nodes", b"token"} <= body.keys()


def test_the_number_of_a_mutable_item_is_told_to_those_who_get_no_value() -> None:
    it = with_contacts()
    item = sign(KEY, b"x" * 990, 7)
    it.items.put(Put(item, None), LOCAL, OWN, 0)
    bodies = [ask(it, b"get", target=item.target).body for _ in range(20)]
    assert b"v" not in bodies[-1]
    assert {body[b"seq"] for body in bodies} == {7}


def test_room_for_an_item_is_made_by_the_farthest_nodes_of_the_longer_kind_first() -> None:
    it = with_contacts()
    it.other_table = with_contacts6()
    args: dict[bytes, Value] = {b"id": ASKER, b"want": [b"n4", b"n6"]}
    kept = []
    for size in (10, 400, 700, 800, 996):
        item = immutable(b"x" * size)
        it.items.put(Put(item, None), LOCAL, OWN, 0)
        reply = it.answer(Query(b"tt", b"get", {**args, b"target": item.target}), LOCAL, 0)
        assert isinstance(reply, Reply)
        assert reply.body[b"v"] == b"x" * size
        encoded = krpc.encode(reply)
        assert len(encoded) <= CONFIG.max_reply
        counts = [
            len(value)
            for key in (b"nodes6", b"nodes")
            if isinstance(value := reply.body[key], bytes)
        ]
        kept.append((counts[0] // 38, counts[1] // 26))
        assert counts[0] % 38 == counts[1] % 26 == 0
        full = counts[0] == 8 * 38
        assert full or CONFIG.max_reply - len(encoded) < 38 + 60  # no more is left out than need be
    assert kept[0] == (8, 8)
    assert kept[-1][0] < 8
    assert all(four == 8 or six == 0 for six, four in kept)


def test_samples_are_as_many_as_fit_and_cost_the_unproven_their_share() -> None:
    it = with_contacts()
    for number in range(100):
        it.store.add(InfoHash(bytes([number]) * 20), Address(f"14.0.{number}.1", 1), 0)
    sizes = []
    for _ in range(40):
        samples = ask(it, b"sample_infohashes", target=HASH).body[b"samples"]
        assert isinstance(samples, bytes)
        sizes.append(len(samples))
    assert sizes[0] == 400
    assert sizes[-1] == 0
    assert 6000 <= sum(sizes) <= 8000
