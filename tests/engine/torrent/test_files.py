"""Which files are wanted, and how much, changed while a torrent is fetched: on a fake network."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Torrent
from dht_torrent.config import PeerConfig
from dht_torrent.engine.views import PieceState
from dht_torrent.errors import InputError, MetainfoError
from dht_torrent.ids import HostPort
from dht_torrent.trace import PieceDone
from tests.helpers.engine import KIB, LEECH, PORT, SEED, Sample, World, content
from tests.helpers.storages import hashed

SIZE = 256 * KIB
PIECES = 8
"""Of each of four files."""
CHOOSY = PeerConfig(allowed_fast=0)
"""Of a seed that gives nothing to whom it chokes: what it would give is its choice, not ours."""


def four_files() -> Sample:
    data = random.Random(8).randbytes(4 * SIZE)
    return Sample(data, 32 * KIB, hashed(data, [SIZE] * 4, 32 * KIB).info)


def done(world: World) -> list[int]:
    """Files of the pieces, in the order they were verified."""
    return [record.index // PIECES for record in world.records.of(PieceDone)]


async def completes(torrent: Torrent) -> None:
    with trio.fail_after(120):
        await torrent.completed()


async def test_an_important_file_comes_before_all_others_and_an_unimportant_one_after(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), four_files()
    async with world.seed(one, peer=CHOOSY), world.node(LEECH) as node:
        torrent = await node.get(one.metainfo, paused=True)
        await torrent.set_files(None, {2: 1, 0: -1})
        torrent.set_limits(down=200 * KIB)
        torrent.add_peers([HostPort(SEED, PORT)])
        await torrent.resume()
        await completes(torrent)
        order = done(world)
        assert order[:PIECES] == [2] * PIECES
        assert order[-PIECES:] == [0] * PIECES
        assert [file.priority for file in torrent.files()] == [-1, 0, 1, 0]


async def test_priorities_can_change_in_the_middle(autojump_clock: MockClock) -> None:
    world, one = World(), four_files()
    async with world.seed(one, peer=CHOOSY), world.node(LEECH) as node:
        torrent = await node.get(one.metainfo)
        torrent.set_limits(down=50 * KIB)
        torrent.set_sequential(True)
        torrent.add_peers([HostPort(SEED, PORT)])
        await trio.sleep(3)
        assert torrent.progress < 0.5
        await torrent.set_files(None, {3: 1})
        await completes(torrent)
        order = done(world)
        last_of_3 = max(at for at, file in enumerate(order) if file == 3)
        assert {1, 2} <= set(order[last_of_3 + 1 :])  # the others waited for it


async def test_what_is_not_wanted_any_more_is_not_asked_for_and_the_rest_completes(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), four_files()
    async with world.seed(one, peer=CHOOSY), world.node(LEECH) as node:
        torrent = await node.get(one.metainfo, paused=True)
        torrent.set_limits(down=100 * KIB)
        torrent.add_peers([HostPort(SEED, PORT)])
        await torrent.resume()
        await trio.sleep(2)
        await torrent.set_files([(1, 1)])
        assert torrent.size == SIZE
        await completes(torrent)
        assert torrent.state == "seeding"
        assert [file.selected for file in torrent.files()] == [False, True, False, False]
        assert world.storages[LEECH].read(SIZE, SIZE) == one.data[SIZE : 2 * SIZE]
        before = done(world)
        await trio.sleep(60)
        assert done(world) == before
        await torrent.set_files(None)
        assert torrent.summary().state == "downloading"
        await completes(torrent)
        assert content(world.storages[LEECH], len(one.data)) == one.data


async def test_wanting_no_more_than_is_here_completes_it_at_once(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), four_files()
    async with world.seed(one, peer=CHOOSY), world.node(LEECH) as node:
        torrent = await node.get(one.metainfo, select=[(0, 0)])
        torrent.add_peers([HostPort(SEED, PORT)])
        await completes(torrent)
        torrent.set_limits(down=KIB)
        await torrent.set_files([(0, 1)])
        assert torrent.state == "downloading"
        await torrent.set_files([(0, 0)])
        await completes(torrent)
        await torrent.set_files([])
        assert (torrent.size, torrent.state) == (0, "seeding")


async def test_what_cannot_be_is_refused_and_nothing_has_changed(
    autojump_clock: MockClock,
) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get(four_files().metainfo, select=[(0, 1)])
        with pytest.raises(MetainfoError, match="there is no file 4"):
            await torrent.set_files([(0, 4)], {1: 1})
        with pytest.raises(InputError, match="there is no file 4"):
            await torrent.set_files([(3, 3)], {4: 1})
        with pytest.raises(InputError, match="a priority is -1, 0 or 1"):
            await torrent.set_files([(3, 3)], {1: 2})
        assert torrent.select == ((0, 1),)
        assert {file.priority for file in torrent.files()} == {0}
        unknown = await node.get("ab" * 20)
        with pytest.raises(InputError, match="not known yet"):
            await unknown.set_files(None)


async def test_of_each_piece_is_told_how_far_it_is(autojump_clock: MockClock) -> None:
    world, one = World(), four_files()
    async with world.seed(one, peer=CHOOSY), world.node(LEECH) as node:
        torrent = await node.get(one.metainfo, paused=True)
        assert torrent.piece_states() == b""  # nobody has looked at the disk yet
        torrent.set_limits(down=50 * KIB)
        torrent.set_sequential(True)
        await torrent.resume()
        await trio.sleep(1)
        assert torrent.piece_states() == bytes([PieceState.MISSING] * 4 * PIECES)
        await torrent.pause()
        await trio.sleep(1)
        assert torrent.piece_states() == bytes([PieceState.MISSING] * 4 * PIECES)
        await torrent.set_files([(1, 2)])
        wanted = bytes(PIECES) + bytes([PieceState.MISSING] * 2 * PIECES) + bytes(PIECES)
        assert torrent.piece_states() == wanted
        torrent.add_peers([HostPort(SEED, PORT)])
        await torrent.resume()
        seen: set[int] = set()
        while torrent.progress < 1:
            states = torrent.piece_states()
            assert states[:PIECES] == states[-PIECES:] == bytes(PIECES)
            seen.update(states)
            verified = [bool(torrent.pieces()[i // 8] << i % 8 & 0x80) for i in range(len(states))]
            assert verified == [state == PieceState.HERE for state in states]
            await trio.sleep(0.1)
        assert seen == set(PieceState)
        assert set(torrent.piece_states()) == {PieceState.UNWANTED, PieceState.HERE}
        bare = await node.get("ab" * 20)
        assert bare.piece_states() == b""


async def test_files_may_be_chosen_while_it_is_about_to_be_checked(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), four_files()
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.metainfo)
        await torrent.set_files([(0, 1)])
        torrent.add_peers([HostPort(SEED, PORT)])
        await completes(torrent)
        for select in ([(1, 2)], None):
            await torrent.recheck()
            await torrent.set_files(select)
            await completes(torrent)
        assert [file.progress for file in torrent.files()] == [1.0] * 4
