"""Items put by one node and got by another, on a network in memory and virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.dht.items import (
    ImmutableItem,
    Item,
    MutableItem,
    SigningKey,
    immutable,
    mutable_target,
    sign,
)
from dht_torrent.dht.krpc import ErrorReply, Query, Reply, encode
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.net.protocols import DatagramSocket
from dht_torrent.errors import InputError
from dht_torrent.ids import Address, NodeId
from tests.helpers.dht_lab import CONFIG, MINUTE, OTHER, Lab, only_query, query, replies

KEY = SigningKey(b"\x01" * 32)
TARGET = mutable_target(KEY.public)
KEEPER, NEAR = Address("10.0.0.1", 6881), Address("10.0.0.2", 6881)  # nodes 0 and 1 of the lab
BRIEF = replace(CONFIG, item_ttl=10 * MINUTE, item_republish=5 * MINUTE)


async def test_what_one_puts_every_other_gets(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(20)
    stored = await nodes[3].items.put_immutable([b"any", {b"value": 1}])
    assert len(stored.stored) == 8
    assert stored.refused == {}
    for dht in nodes:
        item = await dht.items.get(stored.target)
        assert item is not None
        assert item.value == [b"any", {b"value": 1}]


async def test_of_a_mutable_item_the_newest_is_got(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(20)
    for seq in (1, 5, 9):
        stored = await nodes[seq].items.put_mutable(KEY, b"", b"value %d" % seq, seq)
        assert len(stored.stored) == 8
        item = await nodes[15].items.get(TARGET)
        assert isinstance(item, MutableItem)
        assert (item.seq, item.value) == (seq, b"value %d" % seq)


async def test_a_put_without_seq_takes_the_next(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(10)
    for number in (1, 2, 3):
        await nodes[number].items.put_mutable(KEY, b"s", b"v%d" % number)
    item = await nodes[9].items.get(mutable_target(KEY.public, b"s"), salt=b"s")
    assert isinstance(item, MutableItem)
    assert (item.seq, item.value) == (3, b"v3")


async def test_a_salt_makes_another_item(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(10)
    for salt in (b"", b"a", b"b"):
        await nodes[1].items.put_mutable(KEY, salt, b"value of " + salt, 1)
    for salt in (b"", b"a", b"b"):
        item = await nodes[7].items.get(mutable_target(KEY.public, salt), salt=salt)
        assert item is not None
        assert item.value == b"value of " + salt
    # Without the salt nobody can verify it.
    assert await nodes[7].items.get(mutable_target(KEY.public, b"a")) is None


async def test_an_older_seq_is_refused_by_all_with_302(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(12)
    await nodes[1].items.put_mutable(KEY, b"", b"new", 5)
    stored = await nodes[2].items.put_mutable(KEY, b"", b"old", 4)
    assert stored.stored == ()
    assert set(stored.refused.values()) == {302}
    assert (await lab_value(nodes[3])) == b"new"


async def lab_value(dht: Dht) -> Value:
    item = await dht.items.get(TARGET)
    assert item is not None
    return item.value


async def test_of_two_writers_with_cas_one_wins(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(12)
    await nodes[1].items.put_mutable(KEY, b"", b"start", 1)
    first = await nodes[2].items.put_mutable(KEY, b"", b"first", 2, cas=1)
    second = await nodes[3].items.put_mutable(KEY, b"", b"second", 3, cas=1)
    assert len(first.stored) == 8
    assert set(second.refused.values()) == {301}
    assert await lab_value(nodes[4]) == b"first"


async def test_an_item_that_lost_by_cas_does_not_win_when_items_are_put_again(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(12)
    for salt in (b"by hand", b"kept"):
        await nodes[3].items.put_mutable(KEY, salt, b"mine", 1)
        await nodes[2].items.put_mutable(KEY, salt, b"theirs", 2, cas=1)
        refused = await nodes[3].items.put_mutable(KEY, salt, b"mine again", 3, cas=1)
        assert refused.stored == ()
    await trio.sleep(3 * 60 * MINUTE)
    for salt in (b"by hand", b"kept"):
        target = mutable_target(KEY.public, salt)
        item = await nodes[4].items.get(target, salt=salt)
        assert isinstance(item, MutableItem)
        assert (item.seq, item.value) == (2, b"theirs")


async def test_what_cas_could_not_replace_is_kept_alive_as_before(
    lab: Lab, autojump_clock: MockClock
) -> None:
    one, other = await lab.nodes(2)
    await one.items.put_mutable(KEY, b"", b"mine", 5)
    refused = await one.items.put_mutable(KEY, b"", b"mistaken", 6, cas=4)
    assert set(refused.refused.values()) == {301}
    await trio.sleep(3 * 60 * MINUTE)
    assert await lab_value(other) == b"mine"
    one.items.forget(TARGET)
    await trio.sleep(3 * 60 * MINUTE)
    assert await other.items.get(TARGET) is None


async def test_a_survey_tells_who_has_what_and_puts_to_each_with_its_own_cas(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(20)
    await nodes[1].items.put(sign(KEY, b"old", 1), keep=False)
    survey = await nodes[5].items.get_all(TARGET)
    holders = survey.targets()
    assert len(holders) == 8
    assert {holder.seq for holder in holders} == {1}
    newer = sign(KEY, b"new", 2)
    half = await nodes[5].items.put_to(holders[:4], newer)
    assert {info.id for info in half.stored} == {holder.contact.id for holder in holders[:4]}
    survey = await nodes[6].items.get_all(TARGET)
    assert [item.value for item in survey.variants()] == [b"new", b"old"]
    assert survey.newest == newer
    assert {holder.seq for holder in survey.targets()} == {1, 2}
    latest = sign(KEY, b"latest", 3)
    seqs = {h.contact.id: h.seq for h in survey.targets() if h.seq is not None}
    assert len((await nodes[6].items.put_to(survey.targets(), latest, cas=seqs)).stored) == 8
    wrong = dict.fromkeys(seqs, 1)
    refused = await nodes[6].items.put_to(survey.targets(), sign(KEY, b"x", 4), cas=wrong)
    assert set(refused.refused.values()) == {301}


async def test_only_what_is_newer_is_sent(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(10)
    await nodes[1].items.put_mutable(KEY, b"", b"v", 5)
    item = await nodes[2].items.get(TARGET, seq=4)
    assert item is not None
    assert await nodes[2].items.get(TARGET, seq=5) is None
    raw = await lab.raw("10.0.9.9")
    for seq in (4, 5):
        raw.send(query(b"get", target=TARGET, seq=seq), nodes[2].address)
    full, short = await replies(raw)
    assert isinstance(full, Reply)
    assert isinstance(short, Reply)
    assert {b"v", b"k", b"sig", b"seq", b"token", b"nodes", b"id"} <= full.body.keys()
    assert short.body[b"seq"] == 5
    assert not {b"v", b"k", b"sig"} & short.body.keys()
    assert {b"token", b"nodes"} <= short.body.keys()


async def test_a_node_that_has_the_newest_already_finds_that_out_cheaply(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(40)
    stored = await nodes[1].items.put_mutable(KEY, b"", b"v", 5)

    async def questions(seq: int | None) -> int:
        before = nodes[2].status().queries_out
        item = await nodes[2].items.get(TARGET, seq=seq)
        assert (item is None) == (seq == 5)
        return nodes[2].status().queries_out - before

    usual = await questions(None)
    assert await questions(5) < 1.5 * usual
    # Where most of those around deny that there is anything, it asks on as ever.
    for dht in nodes:
        if dht.node_id in {info.id for info in stored.stored[:5]}:
            dht._core.items.expire(float("inf"))
    assert await questions(5) > 1.5 * usual


async def test_items_of_our_own_live_as_long_as_we_keep_them(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(12, config=BRIEF)
    stored = await nodes[1].items.put_immutable(b"kept")
    await trio.sleep(20 * MINUTE)
    assert await nodes[8].items.get(stored.target) is not None
    nodes[1].items.forget(stored.target)
    await trio.sleep(11 * MINUTE)
    assert await nodes[8].items.get(stored.target) is None


async def holders_of(dht: Dht, target: bytes) -> list[Address]:
    survey = await dht.items.get_all(target)
    return [holder.contact.address for holder in survey.holders if holder.item is not None]


async def test_an_item_is_put_again_sooner_the_faster_its_holders_leave(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(24)
    stored = await nodes[0].items.put_immutable(b"kept")
    for wait in (15 * MINUTE, 8 * MINUTE):
        holders = await holders_of(nodes[1], stored.target)
        assert len(holders) >= 8
        mortal = [address.host for address in holders if address not in (NEAR, KEEPER)]
        for host in mortal[:-1]:
            lab.net.host(host).go_down()
        await trio.sleep(wait)
    assert len(await holders_of(nodes[1], stored.target)) >= 8


async def test_items_are_put_again_side_by_side(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(16, config=BRIEF)
    for number in range(120):
        await nodes[0].items.put_immutable(number)
    await trio.sleep(4 * MINUTE)  # so that those who leave now are still believed to be there
    for dht in nodes[10:]:
        lab.net.host(dht.address.host).go_down()
    puts: list[float] = []

    def heard(source: Address, to: Address, data: bytes) -> None:
        if b"1:q3:put" in data:
            puts.append(trio.current_time())

    lab.net.tap = heard
    await trio.sleep(3 * MINUTE)
    assert len(puts) >= 120 * 7
    assert max(puts) - min(puts) < 80.0  # one after the other they take two minutes


async def test_without_keep_an_item_lives_two_hours(lab: Lab, autojump_clock: MockClock) -> None:
    nodes = await lab.nodes(5)
    item = immutable(b"once")
    await nodes[1].items.put(item, keep=False)
    await trio.sleep(60 * MINUTE)
    assert await nodes[3].items.get(item.target) == item
    await trio.sleep(61 * MINUTE)
    assert await nodes[3].items.get(item.target) is None


async def test_we_stop_keeping_an_item_that_another_holder_of_the_key_replaced(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(12, config=BRIEF)
    await nodes[1].items.put_mutable(KEY, b"", b"old", 1)
    await nodes[2].items.put_mutable(KEY, b"", b"new", 2)
    await trio.sleep(6 * MINUTE)
    nodes[2].items.forget(TARGET)
    await trio.sleep(20 * MINUTE)
    assert await nodes[3].items.get(TARGET) is None


async def test_what_the_first_node_put_alone_the_second_gets(
    lab: Lab, autojump_clock: MockClock
) -> None:
    one = await lab.node("10.0.0.1")
    stored = await one.items.put_immutable(b"alone")
    assert stored.stored == ()
    two = await lab.node("10.0.0.2", one)
    await two.bootstrapped()
    item = await two.items.get(stored.target)
    assert item is not None
    assert item.value == b"alone"
    await trio.sleep(10)
    assert two.status().stored_items == 1  # it was put to the newcomer as well


async def test_liars_are_not_believed_though_they_are_all_around(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """Eight of eight who answer lie, each in another way: nothing is got, and nothing breaks."""
    dht = await lab.node("10.0.0.1")
    good = sign(KEY, b"v", 1)
    lies: list[dict[bytes, Value]] = [
        {**good.fields(), b"v": b"other"},
        {**good.fields(), b"seq": 2},
        {**good.fields(), b"sig": bytes(64)},
        {**good.fields(), b"k": SigningKey(b"\x02" * 32).public},
        {**sign(KEY, b"v", 1, b"salt").fields()},
        {b"v": b"x" * 1100},
        {b"v": []},
        {b"seq": 99},
    ]
    for number, lie in enumerate(lies):
        raw = await lab.raw(f"10.0.1.{number}")
        node_id = NodeId(bytes([number]) * 20)
        lab.nursery.start_soon(answer_always, raw, node_id, lie)
        await dht.ping(raw.address)
    assert await dht.items.get(TARGET) is None
    survey = await dht.items.get_all(TARGET)
    assert len(survey.holders) == 8
    assert survey.variants() == []
    truth = await lab.raw("10.0.1.99")
    lab.nursery.start_soon(answer_always, truth, OTHER, good.fields())
    await dht.ping(truth.address)
    assert await dht.items.get(TARGET) == good


async def answer_always(raw: DatagramSocket, node_id: NodeId, body: dict[bytes, Value]) -> None:
    while True:
        for data, source in await raw.receive():
            message = bencode.decode(data)
            assert isinstance(message, dict)
            tid = message[b"t"]
            assert isinstance(tid, bytes)
            raw.send(encode(Reply(tid, {b"id": node_id, b"token": b"t", **body})), source)


async def test_the_first_valid_answer_may_be_enough(lab: Lab, autojump_clock: MockClock) -> None:
    """One has it at once; the others take their time, and an impatient get does not wait."""
    dht = await lab.node("10.0.0.1")
    good = sign(KEY, b"v", 1)
    raw = await lab.raw("10.0.1.0")
    lab.nursery.start_soon(answer_always, raw, OTHER, good.fields())
    await dht.ping(raw.address)
    for number in range(1, 6):
        silent = await lab.raw(f"10.0.1.{number}")

        async def join(silent: DatagramSocket = silent, number: int = number) -> None:
            ping, source = await only_query(silent, b"ping")
            silent.send(encode(Reply(ping.tid, {b"id": bytes([number]) * 20})), source)

        lab.nursery.start_soon(join)
        await dht.ping(silent.address)
    start = trio.current_time()
    assert await dht.items.get(TARGET, first=True) == good
    assert trio.current_time() - start < 0.1
    assert await dht.items.get(TARGET) == good
    assert trio.current_time() - start > 0.2


async def test_putting_by_hand_needs_the_token_a_get_gave(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("10.0.0.1")
    raw, thief = await lab.raw("10.0.0.2"), await lab.raw("10.0.0.3")
    item = sign(KEY, b"v", 1)
    raw.send(query(b"get", target=item.target), dht.address)
    (asked,) = await replies(raw)
    assert isinstance(asked, Reply)
    token = asked.token
    assert token is not None

    async def put(socket: DatagramSocket, token: bytes, **changes: Value) -> Reply | ErrorReply:
        named = {name.decode(): value for name, value in item.fields().items()}
        socket.send(query(b"put", **{**named, "token": token, **changes}), dht.address)
        (answer,) = await replies(socket)
        return answer

    def code(answer: Reply | ErrorReply) -> int | None:
        return answer.code if isinstance(answer, ErrorReply) else None

    assert code(await put(raw, b"guessed!")) == 203
    assert code(await put(thief, token)) == 203
    assert code(await put(raw, token, salt=b"another target")) == 203
    assert code(await put(raw, token, sig=bytes(64))) == 206
    assert code(await put(raw, token, v=b"x" * 1000)) == 205
    assert code(await put(raw, token, seq=-1)) == 203
    assert dht.status().stored_items == 0
    assert code(await put(raw, token)) is None
    assert code(await put(raw, token, cas=9)) == 301
    assert dht.status().stored_items == 1


async def test_a_put_too_large_or_too_many_is_an_input_error(
    lab: Lab, autojump_clock: MockClock
) -> None:
    dht = await lab.node("10.0.0.1", config=replace(CONFIG, max_own_items=2))
    with pytest.raises(InputError, match="1000 bytes"):
        await dht.items.put_immutable(b"x" * 1000)
    with pytest.raises(InputError, match="salt"):
        await dht.items.put_mutable(KEY, b"x" * 65, b"v")
    with pytest.raises(InputError, match="sequence number"):
        await dht.items.put_mutable(KEY, b"", b"v", 1, cas=2**63)
    for number in (1, 2, 1):
        await dht.items.put_immutable(number)
    with pytest.raises(InputError, match="keeps 2 items"):
        await dht.items.put_immutable(3)


async def test_nothing_is_stored_on_public_nodes_whose_id_does_not_fit_their_ip(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """BEP 42: eight right beside the target would have everything, if their ids were believed."""
    nodes = await lab.nodes(20, public=True)
    item = immutable(b"v")
    number = int.from_bytes(item.target, "big")
    taken: list[Query] = []

    async def grab(raw: DatagramSocket, node_id: NodeId) -> None:
        while True:
            for data, source in await raw.receive():
                message = bencode.decode(data)
                assert isinstance(message, dict)
                tid, method = message[b"t"], message.get(b"q")
                assert isinstance(tid, bytes)
                if method in (b"put", b"announce_peer"):
                    taken.append(Query(tid, method, {}))
                raw.send(encode(Reply(tid, {b"id": node_id, b"token": b"t"})), source)

    for sybil in range(8):
        raw = await lab.raw(f"12.0.{sybil}.1")
        node_id = NodeId((number ^ (sybil + 1)).to_bytes(20, "big"))
        lab.nursery.start_soon(grab, raw, node_id)
        for dht in nodes:
            await dht.ping(raw.address)
    stored = await nodes[1].items.put(item)
    assert len(stored.stored) == 8
    assert not taken
    assert await nodes[9].items.get(item.target) == item
    lax = await lab.node("13.0.0.1", *nodes[:1], config=replace(CONFIG, secure_ids=False))
    await lax.bootstrapped()
    for sybil in range(8):
        await lax.ping(Address(f"12.0.{sybil}.1", 6881))
    await lax.items.put(ImmutableItem(item.encoded), keep=False)
    assert taken  # so it was the rule that kept them out


async def test_a_survey_may_end_with_the_first_item_that_is_enough(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(20)
    stored = await nodes[3].items.put_mutable(KEY, b"", b"value", 4)
    outside = next(dht for dht in nodes if dht.node_id not in {one.id for one in stored.stored})
    whole = await outside.items.get_all(TARGET)
    asked: list[Item] = []

    def enough(item: Item) -> bool:
        asked.append(item)
        return True

    begun = trio.current_time()
    survey = await outside.items.get_all(TARGET, enough=enough)
    assert trio.current_time() - begun < 1
    assert asked[0] == survey.newest
    assert (
        1
        <= len([h for h in survey.holders if h.item is not None])
        < len([h for h in whole.holders if h.item is not None])
    )


async def test_a_survey_goes_on_while_nothing_is_enough(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(20)
    await nodes[3].items.put_mutable(KEY, b"", b"value", 4)
    survey = await nodes[9].items.get_all(TARGET, enough=lambda item: False)
    assert len([h for h in survey.holders if h.item is not None]) >= 8


async def test_what_was_put_on_us_is_not_enough_of_a_survey(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(3)
    await nodes[0].items.put_mutable(KEY, b"", b"value", 4)
    survey = await nodes[1].items.get_all(TARGET, enough=lambda item: True)
    assert survey.own is not None
    assert any(holder.item is not None for holder in survey.holders)
