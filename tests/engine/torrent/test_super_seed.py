"""Super seeding in a running swarm (BEP 16)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.config import DiskConfig
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStorage, Storage
from tests.helpers.engine import (
    BITFIELD,
    EXTENDED,
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
    Sample,
    World,
    content,
    entered,
    greeted,
    sample,
)


async def hiding(torrent: Torrent) -> None:
    """Wait until it super-seeds."""
    with trio.fail_after(5):
        while torrent.summary().spread is None:
            await trio.sleep(0.01)
    assert torrent.summary().super_seed


@contextlib.asynccontextmanager
async def super_seeding(world: World, one: Sample) -> AsyncIterator[Torrent]:
    async with world.seed(one) as torrent:
        await torrent.set_super_seed(True)
        await hiding(torrent)
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


async def test_a_lone_leech_gets_everything_and_then_it_ends(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.02, rate=1_000_000), sample(1024 * KIB)
    async with super_seeding(world, one) as torrent, world.node(LEECH) as node:
        await completed([node], one, 20)
        assert torrent.uploaded == len(one.data)
        assert not torrent.summary().super_seed
        assert torrent.summary().spread is None


@pytest.mark.parametrize(
    ("liars", "ask", "seconds"),
    [(3, True, 120), (5, True, 120), (10, True, 300), (30, False, 120)],
)
async def test_liars_do_not_keep_leeches_from_completing(
    liars: int, ask: bool, seconds: float, autojump_clock: MockClock
) -> None:
    world, one = World(latency=0.02, rate=1_000_000), sample(1024 * KIB)
    async with super_seeding(world, one) as torrent, contextlib.AsyncExitStack() as stack:
        hands = [await greeted(world, torrent, f"10.0.2.{number}") for number in range(liars)]
        for number, hand in enumerate(hands):
            await hand.send(HAVE_NONE)
            for index in range(one.count):
                if index % liars != number:
                    await hand.send(HAVE, index)
            if ask:
                await hand.send(INTERESTED)
        nodes = [await stack.enter_async_context(world.node(host)) for host in LEECHES[:4]]
        await completed(nodes, one, seconds)
        assert torrent.uploaded <= 1.5 * len(one.data)


def indices(messages: Sequence[tuple[int, bytes]], kind: int) -> list[int]:
    return [int.from_bytes(payload[:4]) for got, payload in messages if got == kind]


@pytest.mark.parametrize("fast", [True, False])
async def test_a_newcomer_sees_a_peer_that_has_a_few_pieces_only(
    fast: bool, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    async with super_seeding(world, one) as torrent:
        hand = await greeted(world, torrent, fast=fast, extended=True)
        hello = await hand.expect(EXTENDED)
        assert b"11:upload_onlyi1e" not in hello
        await hand.send(BITFIELD, data=b"\0")
        await hand.send(INTERESTED)
        heard = await hand.heard(5)
        assert {kind for kind, _ in heard} & {HAVE_ALL, BITFIELD} == set()
        shown = indices(heard, HAVE)
        assert len(shown) == len(set(shown)) == 2
        hidden = next(index for index in range(one.count) if index not in shown)
        await hand.send(REQUEST, hidden, 0, 16384)
        await hand.send(REQUEST, shown[0], 0, 16384)
        heard = await hand.heard(1)
        assert indices(heard, PIECE) == [shown[0]]
        assert indices(heard, REJECT) == ([hidden] if fast else [])


async def test_turned_off_every_peer_is_told_of_everything(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with super_seeding(world, one) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        await hand.send(INTERESTED)
        shown = indices(await hand.heard(5), HAVE)
        await torrent.set_super_seed(False)
        assert not torrent.summary().super_seed
        told = indices(await hand.heard(5), HAVE)
        assert sorted(shown + told) == list(range(one.count))
        for index in told:
            await hand.send(REQUEST, index, 0, 16384)
        assert sorted(indices(await hand.heard(5), PIECE)) == sorted(told)
        # Whoever comes now is met as by any seed.
        assert HAVE_ALL in {
            kind for kind, _ in await (await greeted(world, torrent, "10.0.0.9")).heard(1)
        }


async def test_turned_on_it_closes_connections_that_know_too_much(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        hand = await greeted(world, torrent)
        await torrent.set_super_seed(True)
        with trio.fail_after(5):
            await hand.closed()
        await hiding(torrent)
        again = await greeted(world, torrent)
        assert HAVE_NONE in {kind for kind, _ in await again.heard(1)}


async def test_it_is_remembered_until_it_has_ended(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    state = tmp_path / "state"
    async with world.seed(one, state_dir=state) as torrent:
        await torrent.set_super_seed(True)
    async with world.node(SEED, state_dir=state) as node:
        (torrent,) = node.torrents.values()
        await hiding(torrent)
        async with world.node(LEECH) as leech:
            await completed([leech], one, 60)
    async with world.node(SEED, state_dir=state) as node:
        (torrent,) = node.torrents.values()
        await entered(torrent, "seeding")
        assert not torrent.summary().super_seed


async def test_the_rest_of_a_selection_does_not_starve_it(autojump_clock: MockClock) -> None:
    """A peer that has no use for what it is shown is shown more."""
    world, one = World(), sample(2048 * KIB)
    async with super_seeding(world, one) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        shown: list[int] = []
        for _ in range(5):
            shown += indices(await hand.heard(60), HAVE)
            await hand.raw(bytes(4))
        assert sorted(shown) == list(range(one.count))


def on_disk(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
    return FileStorage(path.parent, metainfo, DiskConfig(), content=path, writable=not shared)


async def test_sharing_with_super_seeding_and_without_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    (tmp_path / "film.bin").write_bytes(sample().data)
    world = World()
    async with world.node(SEED, open_storage=on_disk) as node:
        torrent = await node.share(tmp_path / "film.bin", super_seed=True)
        await hiding(torrent)
        assert await node.share(tmp_path / "film.bin") is torrent
        assert torrent.summary().super_seed
        await node.share(tmp_path / "film.bin", super_seed=False)
        assert not torrent.summary().super_seed
        assert torrent.summary().spread is None
        await node.share(tmp_path / "film.bin", super_seed=True)
        await hiding(torrent)
