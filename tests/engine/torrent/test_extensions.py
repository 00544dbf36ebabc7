"""The extension handshake: what we say of ourselves, and to whom."""

from __future__ import annotations

from trio.testing import MockClock

from tests.helpers.engine import EXTENDED, World, greeted, sample


async def test_extensions_are_offered_only_to_who_speaks_them(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        plain = await greeted(world, torrent, "10.0.0.8")
        assert EXTENDED not in [kind for kind, _ in await plain.heard(1)]
        hand = await greeted(world, torrent, extended=True)
        offer = await hand.expect(EXTENDED)
        assert b"13:metadata_sizei%de" % len(sample().info) in offer
