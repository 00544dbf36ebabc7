"""The info dict between peers: how large it may be, and what people hear of one that is larger."""

from __future__ import annotations

from dataclasses import replace

import trio
from trio.testing import MockClock

from dht_torrent.bounds import MAX_INFO
from tests.helpers.engine import EXTENDED, LEECH, SEED, World, greeted, sample


async def test_metadata_of_six_megabytes_comes_by_magnet(autojump_clock: MockClock) -> None:
    small = sample()
    large = replace(small, info=small.info[:-1] + b"1:z6000000:" + bytes(6_000_000) + b"e")
    world = World()
    async with world.seed(large), world.node(LEECH) as node:
        torrent = await node.get(large.magnet(SEED))
        with trio.fail_after(600):
            await torrent.completed()
        assert torrent.metainfo is not None
        assert torrent.metainfo.info == large.info


async def test_metadata_that_is_too_large_is_said_in_words(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(sample().magnet())
        hand = await greeted(world, torrent, to=LEECH, extended=True)
        size = MAX_INFO + 1
        await hand.send(EXTENDED, data=b"\0d1:md11:ut_metadatai2ee13:metadata_sizei%dee" % size)
        await trio.sleep(5)
        assert torrent.why is not None
        assert f"the metadata has {size} bytes" in torrent.why
        assert "30 MiB" in torrent.why
