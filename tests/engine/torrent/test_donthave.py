"""Peers that lose pieces (BEP 54)."""

from __future__ import annotations

import contextlib
import struct

import trio
from trio.testing import MockClock

from dht_torrent.engine.torrent.torrent import behind
from tests.helpers.engine import (
    EXTENDED,
    HAVE_ALL,
    LEECH,
    REQUEST,
    UNCHOKE,
    World,
    drop_reasons,
    greeted,
    sample,
)

FILM = sample()
LOST = 7
"""The number that our node takes lt_donthave messages under."""


async def test_what_a_peer_was_asked_of_a_piece_it_lost_others_are_asked_for(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(FILM.metainfo)
        await trio.sleep(1)
        first = await greeted(world, torrent, "10.0.0.7", to=LEECH, extended=True)
        await first.send(HAVE_ALL)
        await first.send(UNCHOKE)
        asked = struct.unpack(">III", await first.expect(REQUEST))[0]
        await first.send(EXTENDED, data=struct.pack(">BI", LOST, asked))
        await first.heard(1)
        second = await greeted(world, torrent, "10.0.0.8", to=LEECH, extended=True)
        await second.send(HAVE_ALL)
        await second.send(UNCHOKE)
        # Alone in having it, it is asked for it first.
        assert struct.unpack(">III", await second.expect(REQUEST))[0] == asked
        peers = {
            peer.address.host: peer for peer in behind(torrent).core.connections.peers.values()
        }
        assert not peers["10.0.0.7"].is_seed
        assert peers["10.0.0.7"].piece_total == FILM.count - 1


async def test_a_peer_that_loses_and_gains_all_the_time_is_closed(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(FILM.metainfo)
        await trio.sleep(1)
        hand = await greeted(world, torrent, "10.0.0.7", to=LEECH, extended=True)
        with contextlib.suppress(OSError):
            for _ in range(20):
                await hand.send(HAVE_ALL)
                await hand.send(EXTENDED, data=struct.pack(">BI", LOST, 0))
        assert await drop_reasons(world) == ["changes all the time what it has"]
