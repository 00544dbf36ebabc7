"""People are told what stands in the way of a torrent."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.helpers.engine import LEECH, World, dial, sample


async def test_why_says_what_is_missing(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.node(LEECH, bootstrap=["10.9.9.9"]) as node:
        torrent = await node.get(one.magnet())
        await trio.sleep(60)
        assert torrent.why == "DHT: 0 of 1 bootstrap nodes answered"
        hand = await dial(world, LEECH)
        await hand.hello(torrent.info_hash)
        await trio.sleep(1)
        assert torrent.why == "1 peers, none has sent the metadata yet"
        assert torrent.summary().why == torrent.why
