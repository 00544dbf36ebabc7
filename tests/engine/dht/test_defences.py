"""Floods and forgeries against a whole DHT node, counted: what they make it send, verify, parse and
keep. The other defences are listed, each with its test, in tests/dht/README.md."""

from __future__ import annotations

import gc
import itertools
import sys
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.dht import items, krpc
from dht_torrent.dht.items import SigningKey, immutable, sign
from dht_torrent.dht.krpc import ErrorReply, Query, Reply
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.net.sockets import MAX_DRAIN
from dht_torrent.ids import Address
from tests.helpers.dht_lab import CONFIG, HASH, OTHER, Lab, query

SECONDS = 3
RATE = 20_000
"""Datagrams a second of a flood: in one second from more addresses than anything remembers."""


def arrive(lab: Lab, at: Dht, data: bytes, source: Address) -> bool:
    """A datagram reaches a node, its source address forged or not. False when the queue is full."""
    socket = lab.net.host(at.address.host).heard_at(at.address.port)
    assert socket is not None
    now = trio.current_time()
    return socket.accept(now, data, source, now)


def forged(number: int) -> Address:
    """One of 65,536 public addresses, each in a /24 of its own."""
    return Address(f"12.{number >> 8 & 255}.{number & 255}.7", 1024 + number % 60_000)


async def pair(lab: Lab) -> tuple[Dht, Dht]:
    """A public node under attack, and an honest one it knows."""
    victim = await lab.node("11.0.0.1")
    honest = await lab.node("13.0.0.1", victim)
    await honest.bootstrapped()
    await trio.sleep(120)  # by then each has pinged the other
    assert victim.status().good == 1
    return victim, honest


# -- a flood of queries ---------------------------------------------------------------------------


async def test_of_twenty_thousand_queries_a_second_all_but_a_few_hundred_are_shed_unparsed(
    lab: Lab, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From ever other addresses, so that no limit per source helps."""
    victim, honest = await pair(lab)
    parsed = 0
    usual, decode = krpc.usual, krpc.decode_any

    def counting(data: bytes) -> krpc.UsualQuery | None:
        nonlocal parsed
        parsed += 1
        return usual(data)

    def counting_all(data: bytes) -> krpc.Message:
        nonlocal parsed
        parsed += 1
        return decode(data)

    monkeypatch.setattr(krpc, "usual", counting)
    monkeypatch.setattr(krpc, "decode_any", counting_all)
    flood = query(b"find_node", target=bytes(HASH))
    before, asked = sum(victim.status().dropped.values()), victim.status().queries_in
    blocks: list[int] = []  # objects in memory when all that is bounded is full, and at the end
    number = arrived = 0
    for tick in range(10 * SECONDS):
        for _ in range(RATE // 10):
            arrived += arrive(lab, victim, flood, forged(number))
            number += 1
        await trio.sleep(0.1)
        if tick in (9, 10 * SECONDS - 1):
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    assert arrived == SECONDS * RATE
    # What answers may cost in that time, in answers of the smallest size.
    most = (CONFIG.send_burst + SECONDS) * CONFIG.send_rate / 65
    assert 0 < parsed < most
    assert 0 < victim.status().queries_in - asked < most
    shed = sum(victim.status().dropped.values()) - before
    assert shed > 0.98 * arrived
    assert blocks[1] - blocks[0] < 5000
    # And those who are honest: we can ask at any time, and be asked when it is over.
    assert await victim.ping(honest.address) == honest.node_id
    with trio.fail_after(5):
        await trio.sleep(1)
        assert await honest.ping(victim.address) == victim.node_id


async def test_a_flood_from_one_network_is_remembered_in_bounded_space(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """Where answers are not rationed, every source is counted; but not for ever."""
    config = replace(CONFIG, send_rate=1e9, tracked_sources=500)
    victim = await lab.node("11.0.0.1", config=config)
    for number in range(3000):
        assert arrive(lab, victim, query(b"ping"), forged(number))
    await trio.sleep(1)
    assert victim.status().queries_in == 3000
    assert len(victim._responder._limit) == 500
    assert len(victim._core.ping_queue) == CONFIG.verify_queue


async def test_others_get_their_turn_after_every_few_datagrams_of_a_flood(
    lab: Lab, autojump_clock: MockClock
) -> None:
    victim, _ = await pair(lab)
    socket = lab.net.host(victim.address.host).heard_at(victim.address.port)
    assert socket is not None
    for number in range(5000):
        assert arrive(lab, victim, query(b"ping"), forged(number))
    waiting = [len(socket._queue)]
    while waiting[-1]:
        await trio.lowlevel.checkpoint()
        waiting.append(len(socket._queue))
    steps = [earlier - later for earlier, later in itertools.pairwise(waiting)]
    # Trio runs in any order: ours may come first in one round and last in the next.
    assert 0 < max(steps) <= 2 * MAX_DRAIN


async def test_unsolicited_replies_are_dropped_in_silence(
    lab: Lab, autojump_clock: MockClock
) -> None:
    victim, honest = await pair(lab)
    sent = lab.net.stats.datagrams
    reply = krpc.encode(Reply(b"tttt", {b"id": bytes(OTHER)}))
    for number in range(2000):
        assert arrive(lab, victim, reply, forged(number))
        assert arrive(lab, victim, reply, honest.address)
    await trio.sleep(0.5)
    assert victim.status().dropped["unasked"] == 4000
    assert lab.net.stats.datagrams == sent
    assert [view.id for view in victim.contacts()] == [honest.node_id]


# -- reflection -----------------------------------------------------------------------------------


async def test_a_whole_subnet_is_sent_no_more_than_the_send_rate_and_a_few_large_answers(
    lab: Lab, autojump_clock: MockClock
) -> None:
    """10,000 queries in 10 s, forged in the name of all addresses of one /24. No single address
    asks too much; what bounds their sum is `stranger_bytes` for what is large, and the send rate
    for the rest: there is no limit on *small* answers to a /24 alone."""
    dht = (await lab.nodes(9, public=True))[0]
    for number in range(8):
        await dht.items.put_immutable(b"%d" % number * 990)
    targets = [immutable(b"%d" % number * 990).target for number in range(8)]
    sizes: list[int] = []
    large = 0

    def tap(source: Address, to: Address, data: bytes) -> None:
        nonlocal large
        if to.host.startswith("99.0.0."):
            sizes.append(len(data))
            large += len(data) > 1000

    lab.net.tap = tap
    sent = 0
    for number in range(10_000):
        what = query(b"get", target=targets[number % 8])
        source = Address(f"99.0.0.{number % 256}", 5000)
        sent += len(what)
        assert arrive(lab, dht, what, source)
        if number % 100 == 99:
            await trio.sleep(0.1)
    assert sum(sizes) <= (10 + CONFIG.send_burst) * CONFIG.send_rate
    assert sum(sizes) < 3 * sent
    assert 0 < large <= CONFIG.stranger_bytes / 990
    assert max(sizes) <= CONFIG.max_reply


# -- signatures -----------------------------------------------------------------------------------


async def test_amid_a_flood_of_forged_puts_pings_are_answered_at_once(
    lab: Lab, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 a second for ten seconds, each with a good token and a bad signature. A signature takes
    a tenth of a millisecond or so; twenty a second are verified, whatever comes."""
    victim = await lab.node("10.0.0.1")
    honest = await lab.node("10.0.0.2", victim)
    await honest.bootstrapped()
    verified = 0
    verify = items.verify

    def counting(key: bytes, signature: bytes, message: bytes) -> bool:
        nonlocal verified
        verified += 1
        return verify(key, signature, message)

    monkeypatch.setattr(items, "verify", counting)
    bad = replace(sign(SigningKey(b"\x01" * 32), b"v", 1), signature=bytes(64))
    codes: dict[int, int] = {}

    def tap(source: Address, to: Address, data: bytes) -> None:
        message = krpc.decode(data)
        if isinstance(message, ErrorReply):
            codes[message.code] = codes.get(message.code, 0) + 1

    lab.net.tap = tap
    tokens = victim._answerer.tokens
    sources = [Address(f"10.1.{number}.1", 6881) for number in range(100)]
    puts = []
    for source in sources:
        token = tokens.make(source, bad.target, trio.current_time())
        fields = {b"id": bytes(OTHER), b"token": token, **bad.fields()}
        puts.append(krpc.encode(Query(b"tt", krpc.PUT, fields)))
    waits = []
    for tick in range(100):
        for place in range(50):
            at = (50 * tick + place) % 100
            assert arrive(lab, victim, puts[at], sources[at])
        began = trio.current_time()
        if tick % 5 == 0:
            await honest.ping(victim.address)
            waits.append(trio.current_time() - began)
        await trio.sleep_until(began + 0.1)
    assert max(waits) < 0.021  # twice the latency: nothing waited
    assert verified <= 10 * CONFIG.item_verify_rate + CONFIG.item_verify_rate
    assert codes[krpc.BAD_SIGNATURE] == verified
    assert codes[krpc.SERVER_ERROR] == 5000 - verified
    assert victim.status().stored_items == 0
