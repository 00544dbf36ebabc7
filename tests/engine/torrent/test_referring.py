"""A torrent that has no room for a newcomer tells it of others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import bencode
from dht_torrent.config import TorrentConfig
from dht_torrent.engine.torrent.referring import LINGER, MAX_GUESTS, TIME
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.ids import Address, HostPort
from tests.helpers.engine import (
    BITFIELD,
    EXTENDED,
    HAVE_ALL,
    HAVE_NONE,
    LEECH,
    PORT,
    SEED,
    Hand,
    Sample,
    World,
    greeted,
    listening,
    sample,
)

FILM = sample()
PRIVATE = sample(private=True)
OTHER, THIRD = "10.0.0.7", "10.0.0.8"
PUBLIC, PUBLIC_OTHER = "20.0.0.1", "20.1.0.1"
SPEAKS = b"\0d1:md6:ut_pexi9eee"
"""The extension handshake of a peer that wants to hear ut_pex under number nine."""


@contextlib.asynccontextmanager
async def full(
    world: World,
    film: Sample = FILM,
    *,
    ip: str = LEECH,
    other: str = OTHER,
    most: int = 1,
    **changes: Any,
) -> AsyncIterator[Torrent]:
    """A node that has room for one connection, and is connected with OTHER, which it dialled."""

    async def stay(hand: Hand) -> None:
        await hand.hello(film.metainfo.info_hash, b"-HW0003-")
        await hand.send(HAVE_NONE)
        await hand.closed()

    config = TorrentConfig(max_connections=most, newcomer_grace=10_000, dialled_share=0)
    async with (
        listening(world, other, stay),
        world.node(ip, torrent=config, **changes) as node,
    ):
        torrent = await node.get(film.metainfo)
        torrent.add_peers([HostPort(other, PORT)])
        await trio.sleep(1)
        assert connected(torrent) == [Address(other, PORT)]
        yield torrent


def connected(torrent: Torrent) -> list[Address]:
    return [peer.address for peer in behind(torrent).core.connections.peers.values()]


async def guest(
    world: World, torrent: Torrent, ip: str = THIRD, *, to: str = LEECH, says: bytes = SPEAKS
) -> Hand:
    """It has said both handshakes."""
    hand = await greeted(world, torrent, ip, to=to, extended=True)
    await hand.send(HAVE_NONE)
    await hand.send(EXTENDED, data=says)
    return hand


def named(heard: list[tuple[int, bytes]]) -> list[dict[bytes, object]]:
    """What was said in ut_pex."""
    said = [payload[1:] for kind, payload in heard if (kind, payload[:1]) == (EXTENDED, b"\x09")]
    return [dict(one) for one in map(bencode.decode, said) if isinstance(one, dict)]


async def test_a_newcomer_that_there_is_no_room_for_is_told_of_others_and_sent_away(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with full(world) as torrent:
        hand = await guest(world, torrent)
        began = trio.current_time()
        heard = await hand.heard(60)
        assert trio.current_time() - began < LINGER + 0.5
        assert [kind for kind, _ in heard] == [HAVE_NONE, EXTENDED, EXTENDED]
        assert b"6:ut_pexi1e" in heard[1][1]
        assert b"11:ut_metadata" not in heard[1][1]
        assert named(heard) == [
            {b"added": Address(OTHER, PORT).compact(), b"added.f": b"\x10", b"dropped": b""}
        ]
        assert connected(torrent) == [Address(OTHER, PORT)]


async def test_what_it_says_meanwhile_does_not_take_that_back(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world) as torrent:
        hand = await guest(world, torrent)
        with contextlib.suppress(OSError):
            for _ in range(10):
                await hand.raw(bytes(400))
        assert len(named(await hand.heard(60))) == 1


async def test_without_bep_6_it_is_told_too(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world) as torrent:
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True, fast=False)
        await hand.send(EXTENDED, data=SPEAKS)
        heard = await hand.heard(60)
        assert [kind for kind, _ in heard] == [EXTENDED, EXTENDED]
        assert len(named(heard)) == 1


async def test_a_seed_that_is_full_tells_of_its_leeches(autojump_clock: MockClock) -> None:
    world = World()
    world.storage(SEED, FILM.metainfo).write(0, FILM.data)
    async with full(world, ip=SEED) as torrent:
        assert torrent.state == "seeding"
        assert len(named(await (await guest(world, torrent, to=SEED)).heard(60))) == 1


async def test_the_node_may_be_full_in_place_of_the_torrent(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world, most=50, max_connections=1) as torrent:
        assert len(named(await (await guest(world, torrent)).heard(60))) == 1
        assert connected(torrent) == [Address(OTHER, PORT)]


async def test_a_node_that_was_full_and_unknown_to_others_is_found_through_a_full_one(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with full(world) as torrent, world.node(THIRD) as node:
        ours = await node.get(torrent.magnet)
        ours.add_peers([HostPort(LEECH, PORT)])
        await trio.sleep(5)
        assert connected(ours) == [Address(OTHER, PORT)]


async def test_it_is_not_told_of_itself(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world) as torrent:
        says = b"\0d1:md6:ut_pexi9ee1:pi%dee" % PORT
        assert named(await (await guest(world, torrent, OTHER, says=says)).heard(60)) == []
        assert len(named(await (await guest(world, torrent, THIRD, says=says)).heard(60))) == 1


async def test_a_stranger_is_not_told_of_our_network(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world, ip=PUBLIC) as torrent:
        hand = await guest(world, torrent, PUBLIC_OTHER, to=PUBLIC)
        assert named(await hand.heard(60)) == []


async def test_a_peer_that_does_not_speak_it_is_sent_away_and_told_nothing(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with full(world) as torrent:
        hand = await guest(world, torrent, says=b"\0d1:mdee")
        began = trio.current_time()
        heard = await hand.heard(60)
        assert named(heard) == []
        assert trio.current_time() - began < 0.5


async def test_a_peer_that_says_nothing_is_sent_away_in_seconds(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world) as torrent:
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True)
        began = trio.current_time()
        assert named(await hand.heard(60)) == []
        assert TIME - 0.5 < trio.current_time() - began < TIME + 0.5


@pytest.mark.parametrize("says", [b"\0garbage", b"\0d1:m"])
async def test_a_peer_that_talks_nonsense_is_sent_away_at_once(
    says: bytes, autojump_clock: MockClock
) -> None:
    world = World()
    async with full(world) as torrent:
        hand = await guest(world, torrent, says=says)
        began = trio.current_time()
        assert named(await hand.heard(60)) == []
        assert trio.current_time() - began < 0.5


async def test_a_peer_that_talks_on_is_not_listened_to(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world) as torrent:
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True)
        began, sent = trio.current_time(), 0
        with contextlib.suppress(OSError):
            while trio.current_time() - began < 60:
                await hand.raw(bytes(4096))
                sent += 4096
        assert trio.current_time() - began < 1
        assert sent < 1 << 20


async def test_what_it_has_may_come_first(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world) as torrent:
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True)
        await hand.send(BITFIELD, data=bytes(10_000))
        await hand.send(EXTENDED, data=SPEAKS)
        assert len(named(await hand.heard(60))) == 1


@pytest.mark.parametrize("what", ["private", "off", "nobody"])
async def test_without_peer_exchange_no_peer_is_told_or_kept_waiting(
    what: str, autojump_clock: MockClock
) -> None:
    world, film = World(), PRIVATE if what == "private" else FILM
    async with full(world, film, pex=what != "off") as torrent:
        if what == "nobody":  # the one that is connected was not reached at any address
            for peer in behind(torrent).core.connections.peers.values():
                peer.listens_at = None
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True)
        began = trio.current_time()
        assert await hand.heard(60) == []
        assert trio.current_time() - began < 0.5


async def test_without_bep_10_no_peer_is_kept_waiting(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world) as torrent:
        hand = await greeted(world, torrent, THIRD, to=LEECH)
        began = trio.current_time()
        assert await hand.heard(60) == []
        assert trio.current_time() - began < 0.5


async def test_while_the_metadata_is_unknown_no_peer_is_told(autojump_clock: MockClock) -> None:
    async def stay(hand: Hand) -> None:
        await hand.hello(FILM.metainfo.info_hash)
        await hand.send(HAVE_ALL)
        await hand.closed()

    world = World()
    config = TorrentConfig(max_connections=1, newcomer_grace=10_000, dialled_share=0)
    async with listening(world, OTHER, stay), world.node(LEECH, torrent=config) as node:
        torrent = await node.get(FILM.magnet(OTHER))
        await trio.sleep(1)
        assert len(connected(torrent)) == 1
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True)
        assert await hand.heard(60) == []


async def test_there_are_few_guests_at_a_time(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world) as torrent:
        room = behind(torrent).core.node.room

        async def silent(number: int) -> Hand:
            return await greeted(world, torrent, f"10.0.1.{number}", to=LEECH, extended=True)

        hands = [await silent(number) for number in range(MAX_GUESTS + 1)]
        await trio.sleep(0.1)
        assert len(room.guests) == MAX_GUESTS
        assert await hands[-1].heard(0.1) == []
        assert await guest_is_turned_away(world, torrent)
        await trio.sleep(TIME)
        assert not room.guests
        assert len(named(await (await guest(world, torrent)).heard(60))) == 1
        assert not room.guests


async def guest_is_turned_away(world: World, torrent: Torrent) -> bool:
    began = trio.current_time()
    try:
        heard = await (await guest(world, torrent)).heard(60)
    except OSError:
        return True
    return not heard and trio.current_time() - began < 0.5


async def test_a_public_host_is_one_guest(autojump_clock: MockClock) -> None:
    world = World()
    async with full(world, ip=PUBLIC, other="20.2.0.1") as torrent:
        first = await greeted(world, torrent, PUBLIC_OTHER, to=PUBLIC, extended=True)
        began = trio.current_time()
        second = await greeted(world, torrent, PUBLIC_OTHER, to=PUBLIC, extended=True)
        assert await second.heard(60) == []
        assert trio.current_time() - began < 0.5
        third = await guest(world, torrent, "20.3.0.1", to=PUBLIC)
        assert len(named(await third.heard(60))) == 1
        await first.heard(60)


async def test_a_guest_that_is_being_told_does_not_outlive_its_torrent(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with full(world) as torrent:
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True)
        await trio.sleep(0.1)
        assert behind(torrent).core.node.room.guests
        await torrent.pause()
        began = trio.current_time()
        await hand.heard(60)
        assert trio.current_time() - began < 0.5
        assert not behind(torrent).core.node.room.guests
