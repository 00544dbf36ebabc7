"""What a peer says before we know, or can say, how many pieces there are."""

from __future__ import annotations

import struct

import pytest
import trio

from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.ids import HostPort
from dht_torrent.trace import PeerDropped
from tests.helpers.engine import (
    BITFIELD,
    CANCEL,
    HAND,
    HAVE,
    HAVE_ALL,
    HAVE_NONE,
    INTERESTED,
    LEECH,
    PIECE,
    PORT,
    REJECT,
    REQUEST,
    SEED,
    Hand,
    HandSeed,
    World,
    content,
    dial,
    drop_reasons,
    greeted,
    listening,
    sample,
    unchoked,
)

FILM = sample()
ODD = HAND[:-1] + "7"


def hello(peer_id: bytes) -> bytes:
    reserved = bytes(5) + b"\x10\0\x04"
    return b"\x13BitTorrent protocol" + reserved + FILM.metainfo.info_hash + peer_id.ljust(20, b"-")


def said(kind: int, *numbers: int, data: bytes = b"") -> bytes:
    payload = struct.pack(f">{len(numbers)}I", *numbers) + data
    return struct.pack(">IB", 1 + len(payload), kind) + payload


BEYOND = {
    "request": said(HAVE_NONE) + said(REQUEST, FILM.count, 0, 16384),
    "far request": said(HAVE_NONE) + said(REQUEST, 2**32 - 1, 0, 16384),
    "cancel": said(HAVE_NONE) + said(CANCEL, FILM.count, 0, 16384),
    "have": said(HAVE, FILM.count),
    "piece": said(HAVE_NONE) + said(PIECE, FILM.count, 0, data=b"abc"),
    "reject": said(HAVE_NONE) + said(REJECT, FILM.count, 0, 16384),
    "bitfield": said(BITFIELD, data=b"\xff" * (FILM.count // 8 + 2)),
}


async def serves(world: World, torrent: Torrent) -> None:
    """The node lives, and gives a block to whoever asks properly."""
    hand = await greeted(world, torrent, "10.0.0.9")
    await unchoked(hand)
    await hand.send(REQUEST, 1, 0, 16384)
    with trio.fail_after(10):
        assert await hand.expect(PIECE) == struct.pack(">II", 1, 0) + FILM.block(1, 0)


@pytest.mark.parametrize("behind", BEYOND.values(), ids=BEYOND)
async def test_nonsense_in_the_first_segment_of_an_incoming_peer_ends_only_it(
    behind: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()
    async with world.seed(FILM) as torrent:
        hand = await dial(world, SEED)
        await hand.raw(hello(b"-HW0001-early") + behind)
        with trio.fail_after(5):
            await hand.closed()
        assert len(await drop_reasons(world)) == 1
        await serves(world, torrent)


@pytest.mark.parametrize("behind", BEYOND.values(), ids=BEYOND)
async def test_nonsense_in_the_first_segment_of_a_peer_we_dialled_ends_only_it(
    behind: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()

    async def odd(hand: Hand) -> None:
        await hand.raw(hello(b"-HW0001-early") + behind)
        await hand.closed()

    async with (
        listening(world, ODD, odd),
        listening(world, HAND, HandSeed(FILM, pause=0.5)),
        world.node(LEECH) as node,
    ):
        torrent = await node.get(FILM.metainfo)
        torrent.add_peers([HostPort(ODD, PORT)])
        assert len(await drop_reasons(world)) == 1
        torrent.add_peers([HostPort(HAND, PORT)])
        with trio.fail_after(60):
            await torrent.completed()
    assert content(world.storages[LEECH], len(FILM.data)) == FILM.data


@pytest.mark.parametrize("behind", BEYOND.values(), ids=BEYOND)
async def test_nonsense_before_the_metadata_ends_only_that_peer(
    behind: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()

    async def odd(hand: Hand) -> None:
        await hand.raw(hello(b"-HW0001-early") + behind)
        await hand.closed()

    async with (
        listening(world, ODD, odd),
        listening(world, HAND, HandSeed(FILM, pause=0.5)),
        world.node(LEECH) as node,
    ):
        torrent = await node.get(FILM.magnet(ODD))
        await trio.sleep(30)
        torrent.add_peers([HostPort(HAND, PORT)])
        with trio.fail_after(60):
            await torrent.completed()
    assert content(world.storages[LEECH], len(FILM.data)) == FILM.data
    odd_ones = [drop for drop in world.records.of(PeerDropped) if drop.address.host == ODD]
    assert odd_ones
    assert all("closed by the peer" not in drop.why for drop in odd_ones)


async def test_what_comes_with_the_handshake_is_treated_as_if_it_came_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Requests of a choked peer are refused, its interest is heard, and it is unchoked in turn."""
    world = World()
    async with world.seed(FILM):
        hand = await dial(world, SEED)
        asks = said(REQUEST, 0, 0, 16384)
        await hand.raw(hello(b"-HW0001-early") + said(HAVE_NONE) + asks + said(INTERESTED))
        with trio.fail_after(30):
            assert len(await hand._exactly(68)) == 68
            await hand.expect(HAVE_ALL)
            assert await hand.expect(REJECT) == asks[5:]
            await hand.expect(1)
            await hand.raw(asks)
            assert await hand.expect(PIECE) == bytes(8) + FILM.block(0, 0)


async def test_requests_before_the_metadata_are_refused_once_it_is_here(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    refused: list[bytes] = []
    asks = said(REQUEST, 3, 0, 16384)

    async def eager(hand: Hand) -> None:
        await hand.raw(hello(b"-HW0001-early") + said(HAVE_NONE) + asks)
        await hand._exactly(68)
        refused.append(await hand.expect(REJECT))
        await hand.closed()

    async with (
        listening(world, ODD, eager),
        listening(world, HAND, HandSeed(FILM)),
        world.node(LEECH) as node,
    ):
        torrent = await node.get(FILM.magnet(ODD))
        await trio.sleep(5)
        assert not refused
        torrent.add_peers([HostPort(HAND, PORT)])
        with trio.fail_after(60):
            await torrent.completed()
        await trio.sleep(1)
    assert refused == [asks[5:]]
