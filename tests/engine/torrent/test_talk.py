"""Peers that tell late, often or far too much: heard, but not at anybody else's cost."""

from __future__ import annotations

import struct

import pytest
import trio

from dht_torrent.engine.torrent.swarm import Swarm
from dht_torrent.ids import Address
from tests.helpers.engine import (
    BITFIELD,
    CANCEL,
    HAND,
    HAVE,
    HAVE_ALL,
    HAVE_NONE,
    INTERESTED,
    LEECH,
    NOT_INTERESTED,
    PIECE,
    PORT,
    REQUEST,
    UNCHOKE,
    Hand,
    World,
    content,
    entered,
    greeted,
    listening,
    sample,
    unchoked,
)

FILM = sample()


@pytest.mark.parametrize("fast", [False, True])
async def test_a_bitfield_in_mid_stream_is_news(
    fast: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """As aria2 sends one in place of many Haves: what it adds is asked for."""
    world = World()

    async def grows(hand: Hand) -> None:
        await hand.hello(FILM.metainfo.info_hash, fast=fast)
        if fast:
            await hand.send(HAVE_NONE)
        await hand.send(UNCHOKE)
        await hand.send(HAVE, 1)
        known = {1}
        while True:
            kind, payload = await hand.receive()
            if kind == REQUEST:
                piece, begin, length = struct.unpack(">III", payload)
                assert piece in known
                await hand.send(PIECE, piece, begin, data=FILM.block(piece, begin, length))
                if begin:  # the second block of two: it gets another piece
                    known |= {(max(known) + 1) % FILM.count, 0}
                    # Without the first: no piece vanishes by that.
                    bits = sum(0x80 >> index for index in known - {1})
                    await hand.send(BITFIELD, data=bytes([bits]))

    async with listening(world, HAND, grows), world.node(LEECH) as node:
        torrent = await node.get(FILM.metainfo)
        torrent.crowd.found([Address(HAND, PORT)], "magnet")
        with trio.fail_after(100):
            await torrent.completed()
    assert content(world.storages[LEECH], len(FILM.data)) == FILM.data


async def test_late_have_all_makes_a_seed_and_late_have_none_takes_nothing_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(FILM.metainfo)
        await entered(torrent, "downloading")
        hand = await greeted(world, torrent, to=LEECH)
        await hand.send(HAVE_NONE)
        await hand.send(HAVE, 2)
        await hand.send(HAVE_NONE)
        await trio.sleep(1)
        [peer] = torrent.crowd.peers.values()
        assert (peer.piece_total, peer.is_seed, peer.am_interested) == (1, False, True)
        await hand.send(HAVE_ALL)
        await hand.send(BITFIELD, data=b"\0")
        await hand.send(HAVE_NONE)
        await trio.sleep(1)
        assert (peer.piece_total, peer.is_seed) == (FILM.count, True)


async def test_a_peer_that_repeats_without_end_what_it_has_is_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(FILM.metainfo)
        await entered(torrent, "downloading")
        hand = await greeted(world, torrent, to=LEECH)
        for _ in range(11):  # the first is news
            await hand.send(BITFIELD, data=b"\xc0")
        await trio.sleep(1)
        assert torrent.crowd.peers
        await hand.send(BITFIELD, data=b"\xc0")
        with trio.fail_after(5):
            await hand.closed()


async def test_peers_that_change_their_mind_all_the_time_cost_few_rounds(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, rounds = World(), list[float]()
    whole = Swarm.rechoke

    def counted(swarm: Swarm, now: float, *, only_free_slots: bool = False) -> None:
        rounds.append(now)
        whole(swarm, now, only_free_slots=only_free_slots)

    async with world.seed(FILM) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        await trio.sleep(5)
        monkeypatch.setattr(Swarm, "rechoke", counted)
        flood = (struct.pack(">IB", 1, INTERESTED) + struct.pack(">IB", 1, NOT_INTERESTED)) * 2000
        await hand.raw(flood)
        await trio.sleep(10)
        assert 1 <= len(rounds) <= 10
        # And a newcomer with a slot free has it at once.
        other = await greeted(world, torrent, "10.0.0.9")
        await trio.sleep(5)
        await other.send(HAVE_NONE)
        await other.send(INTERESTED)
        with trio.fail_after(0.2):
            await other.expect(UNCHOKE)


FLOODS = {
    "interest": struct.pack(">IB", 1, INTERESTED) + struct.pack(">IB", 1, NOT_INTERESTED),
    "keep-alives": bytes(4),
    "haves": struct.pack(">IBI", 5, HAVE, 1),
    "ports": struct.pack(">IBH", 3, 9, 7),
    "unknown extensions": struct.pack(">IBB", 3, 20, 200) + b"x",
    "cancels": struct.pack(">IBIII", 13, CANCEL, 0, 0, 16384),
    "suggestions": struct.pack(">IBI", 5, 13, 1),
}


@pytest.mark.parametrize("message", FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_small_messages_is_read_at_a_bounded_rate(
    message: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()
    async with world.seed(FILM) as torrent:
        hand = await greeted(world, torrent, extended=True)
        await hand.send(HAVE_NONE)
        await trio.sleep(1)
        [peer] = torrent.crowd.peers.values()
        parse, heard = peer.connection.receive, 0

        def counted(data: memoryview) -> list:  # type: ignore[type-arg]
            nonlocal heard
            assert len(data) <= 4096, "a turn is short"
            before = peer.connection.unheard
            events = parse(data)
            heard += len(events) + peer.connection.unheard - before
            return events

        async def flood() -> None:
            while True:
                await hand.raw(message * 5000)

        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.shield = False
            peer.connection.receive = counted  # type: ignore[method-assign, assignment]
            nursery.start_soon(flood)
            await trio.sleep(30)
            # A peer beside it is served as ever.
            other = await greeted(world, torrent, "10.0.0.9")
            await unchoked(other)
            await other.send(REQUEST, 1, 0, 16384)
            with trio.fail_after(2):
                await other.expect(PIECE)
            nursery.cancel_scope.cancel()
    assert heard <= 5000 + 1000 * 45 + 2000
