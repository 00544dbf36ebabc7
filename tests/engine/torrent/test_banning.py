"""Liars are found and banned, and nobody else is."""

from __future__ import annotations

import contextlib
import random

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.ids import Address
from dht_torrent.trace import PeerBanned, PieceFailed
from tests.helpers.engine import (
    HAND,
    KIB,
    LEECH,
    PORT,
    SEED,
    Hand,
    HandSeed,
    World,
    content,
    dial,
    listening,
    sample,
)
from tests.helpers.raw_peer import poison


async def test_the_sole_sender_of_a_broken_piece_is_banned_at_once(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    liar = HandSeed(one, answer=poison)
    async with (
        listening(world, HAND, liar) as lies,
        listening(world, SEED, HandSeed(one)),
        world.node(LEECH) as node,
    ):
        # The honest one is found late, so that the liar is alone with its first piece.
        torrent = await node.get(one.magnet(HAND))
        with trio.fail_after(60):
            while not world.records.of(PeerBanned):
                await trio.sleep(0.1)
        assert len(world.records.of(PieceFailed)) <= 4
        again = await node.get(one.magnet())
        assert again is torrent
        behind(torrent).core.connections.found([Address(SEED, PORT)], "user")
        with trio.fail_after(60):
            await torrent.completed()
        assert [record.address.host for record in world.records.of(PeerBanned)] == [HAND]
        assert content(world.storages[LEECH], len(one.data)) == one.data
        assert torrent.wasted > 0
        await trio.sleep(300)
        assert len(lies) == 1  # it is not dialled again


@pytest.mark.parametrize("seed", range(4))
async def test_one_liar_among_many_is_found_and_no_honest_peer_is_blamed(
    seed: int, autojump_clock: MockClock
) -> None:
    world, one = World(seed, latency=0.02), sample(1024 * KIB, 128 * KIB)
    dice = random.Random(seed)

    def now_and_then(piece: int, begin: int, data: bytes) -> bytes:
        return bytes([data[0] ^ 1]) + data[1:] if dice.random() < 0.3 else data

    hosts = [f"10.0.2.{number}" for number in range(6)]
    async with contextlib.AsyncExitStack() as stack:
        for number, host in enumerate(hosts):
            peer = HandSeed(one, pause=0.01)
            if number == 0:
                peer.answer = now_and_then
            await stack.enter_async_context(listening(world, host, peer))
        node = await stack.enter_async_context(world.node(LEECH))
        torrent = await node.get(one.magnet(*hosts))
        with trio.fail_after(120):
            await torrent.completed()
        assert content(world.storages[LEECH], len(one.data)) == one.data
        banned = {record.address.host for record in world.records.of(PeerBanned)}
        assert banned <= {hosts[0]}
        if world.records.of(PieceFailed):
            assert banned == {hosts[0]}


async def test_a_poisoner_that_claims_anothers_port_bans_only_itself(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    liar = HandSeed(one, answer=poison, claims=PORT)
    async with (
        listening(world, HAND, HandSeed(one, pause=0.1)) as victim,
        world.node(LEECH) as node,
    ):
        torrent = await node.get(one.metainfo)
        await trio.sleep(1)
        hand = await dial(world, LEECH, HAND)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_closed, liar, hand)
            with trio.fail_after(60):
                while not world.records.of(PeerBanned):
                    await trio.sleep(0.1)
        now = trio.current_time()
        (banned,) = world.records.of(PeerBanned)
        assert banned.address == hand.stream.local
        assert not behind(torrent).core.connections.candidates.is_banned(Address(HAND, PORT), now)
        behind(torrent).core.connections.found([Address(HAND, PORT)], "dht")
        with trio.fail_after(60):
            await torrent.completed()
        assert len(victim) == 1


async def until_closed(peer: HandSeed, hand: Hand) -> None:
    with contextlib.suppress(EOFError, OSError):
        await peer(hand)


async def test_a_liar_is_banned_for_what_it_sent_before_it_left(
    autojump_clock: MockClock,
) -> None:
    """It spoils a block of each piece it shares, and hangs up before anybody can tell."""
    world, one = World(), sample(512 * KIB, 256 * KIB)
    served = 0

    def one_block(piece: int, begin: int, data: bytes) -> bytes | None:
        nonlocal served
        served += 1
        if served > 1:
            raise EOFError
        return poison(piece, begin, data)

    async with (
        listening(world, HAND, HandSeed(one, answer=one_block)),
        listening(world, SEED, HandSeed(one, pause=0.01)),
        world.node(LEECH) as node,
    ):
        torrent = await node.get(one.magnet(HAND))
        await trio.sleep(1)
        behind(torrent).core.connections.found([Address(SEED, PORT)], "user")
        with trio.fail_after(60):
            await torrent.completed()
        assert len(world.records.of(PieceFailed)) == 1
        assert [record.address.host for record in world.records.of(PeerBanned)] == [HAND]
