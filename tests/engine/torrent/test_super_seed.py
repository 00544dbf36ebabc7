"""Super seeding in a running swarm (BEP 16)."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.engine.torrent.torrent import Torrent
from tests.helpers.engine import (
    BITFIELD,
    HAND,
    HAVE,
    HAVE_ALL,
    HAVE_NONE,
    INTERESTED,
    KIB,
    LEECH,
    PIECE,
    REJECT,
    REQUEST,
    SEED,
    UNCHOKE,
    Hand,
    Sample,
    World,
    content,
    entered,
    greeted,
    sample,
)


@contextlib.asynccontextmanager
async def super_seeding(world: World, one: Sample) -> AsyncIterator[Torrent]:
    async with world.seed(one) as torrent:
        await torrent.set_super_seed(True)
        await trio.sleep(1)  # it begins anew, as those who are connected know that all is here
        await entered(torrent, "seeding")
        assert torrent.summary().super_seed
        yield torrent


LEECHES = [f"10.0.1.{number}" for number in range(1, 9)]


async def completed(nodes: Sequence[Node], one: Sample, seconds: float) -> None:
    """Everybody knows everybody, and fetches all."""
    hosts = [node.address.host for node in nodes]
    torrents = [await node.get(one.magnet(SEED, *hosts)) for node in nodes]
    with trio.fail_after(seconds):
        for torrent in torrents:
            await torrent.completed()


@pytest.mark.parametrize("seed", range(3))
async def test_eight_leeches_complete_while_each_piece_leaves_the_seed_about_once(
    seed: int, autojump_clock: MockClock
) -> None:
    world, one = World(seed, latency=0.02, rate=1_000_000), sample(4096 * KIB, seed=seed)
    async with super_seeding(world, one) as torrent, contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(world.node(host)) for host in LEECHES]
        await completed(nodes, one, 120)
        for host in LEECHES:
            assert content(world.storages[host], len(one.data)) == one.data
        assert len(one.data) <= torrent.uploaded <= 1.2 * len(one.data)


def haves(messages: Sequence[tuple[int, bytes]]) -> list[int]:
    return [struct.unpack(">I", payload)[0] for kind, payload in messages if kind == HAVE]


async def newcomer(world: World, torrent: Torrent, ip: str = HAND) -> tuple[Hand, list[int]]:
    """Says that it has nothing and wants all. Returns what it is told of within seconds."""
    hand = await greeted(world, torrent, ip)
    await hand.send(HAVE_NONE)
    await hand.send(INTERESTED)
    messages = await hand.heard(3)
    kinds = [kind for kind, _ in messages]
    assert HAVE_NONE in kinds
    assert not {HAVE_ALL, BITFIELD} & set(kinds)
    assert UNCHOKE in kinds
    return hand, haves(messages)


async def fetched(hand: Hand, index: int, one: Sample) -> None:
    """The whole piece, block by block."""
    size = one.metainfo.geometry.piece_size(index)
    for begin in range(0, size, 16 * KIB):
        await hand.send(REQUEST, index, begin, min(16 * KIB, size - begin))
        assert (await hand.expect(PIECE))[8:] == one.block(index, begin)


async def test_a_newcomer_is_told_of_two_pieces_and_may_have_no_other(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample(1024 * KIB)
    async with super_seeding(world, one) as torrent:
        hand, told = await newcomer(world, torrent)
        assert len(told) == 2
        hidden = next(index for index in range(32) if index not in told)
        await hand.send(REQUEST, hidden, 0, 16 * KIB)
        await hand.expect(REJECT)
        await fetched(hand, told[0], one)


async def test_who_claims_to_have_what_it_was_offered_earns_nothing_by_it(
    autojump_clock: MockClock,
) -> None:
    """And what it claims to have besides is no testimony for anybody."""
    world, one = World(), sample(1024 * KIB)
    async with super_seeding(world, one) as torrent:
        other, _ = await newcomer(world, torrent, LEECH)  # one that can be a witness
        liar, told = await newcomer(world, torrent)
        for index in told:
            await fetched(liar, index, one)
        assert haves(await liar.heard(5)) == []
        for index in told:
            await liar.send(HAVE, index)
        assert haves(await liar.heard(5)) == []
        # Seen at another host it counts: the first is given the next piece.
        await other.send(HAVE, told[0])
        assert len(haves(await liar.heard(5))) == 1


async def test_a_lone_leech_does_not_wait_for_witnesses(autojump_clock: MockClock) -> None:
    world, one = World(rate=1_000_000, latency=0.02), sample(2048 * KIB)
    async with super_seeding(world, one) as torrent, world.node(LEECH) as leech:
        await completed([leech], one, 30)
        assert content(world.storages[LEECH], len(one.data)) == one.data
        await trio.sleep(5)
        assert not torrent.summary().super_seed, "everything is elsewhere: it has ended by itself"
        assert torrent.state == "seeding"


async def test_turned_off_everybody_hears_of_all_that_it_lacks(autojump_clock: MockClock) -> None:
    world, one = World(), sample(1024 * KIB)
    async with super_seeding(world, one) as torrent:
        hand, told = await newcomer(world, torrent)
        await torrent.set_super_seed(False)
        rest = haves(await hand.heard(3))
        assert sorted([*told, *rest]) == list(range(one.metainfo.geometry.piece_count))
        assert not torrent.summary().super_seed
        await fetched(hand, rest[-1], one)


async def test_it_is_remembered_over_a_restart(autojump_clock: MockClock, tmp_path: Path) -> None:
    world, one = World(), sample(1024 * KIB)
    async with world.seed(one, state_dir=tmp_path) as torrent:
        await torrent.set_super_seed(True)
        await entered(torrent, "seeding")
    async with world.node(SEED, state_dir=tmp_path) as node:
        (torrent,) = node.torrents.values()
        await entered(torrent, "seeding")
        assert torrent.summary().super_seed
        _, told = await newcomer(world, torrent)
        assert len(told) == 2
