"""Pieces too large for the memory come by way of the disk, and nothing else is different."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import TorrentConfig
from dht_torrent.engine.torrent.stages import Active, Failed
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.geometry import BLOCK
from dht_torrent.storage import MemoryStorage
from dht_torrent.torrent.endgame import ENDGAME_DEPTH
from dht_torrent.torrent.picker import Picker
from dht_torrent.trace import PeerBanned, PieceFailed
from tests.helpers.engine import (
    HAND,
    KIB,
    LEECH,
    SEED,
    HandSeed,
    Sample,
    World,
    content,
    listening,
    sample,
)
from tests.helpers.raw_peer import poison

BATCH = 4 * BLOCK
SMALL = TorrentConfig(max_piece_in_memory=64 * KIB, spill_batch=BATCH, max_open_bytes=512 * KIB)
"""Larger pieces than 64 KiB are spilled."""


def large(size: int = 2048 * KIB + 700, *, seed: int = 1) -> Sample:
    return sample(size, 512 * KIB, seed=seed)


def picker(torrent: Torrent) -> Picker:
    stage = behind(torrent).core.stage
    assert isinstance(stage, Active)
    return stage.swarm.picker


async def completed(torrent: Torrent, seconds: float = 120) -> None:
    with trio.fail_after(seconds):
        await torrent.completed()


async def completed_at_last(torrent: Torrent) -> None:
    """It may fail, and then is told to go on."""
    with trio.fail_after(600):
        while torrent.progress < 1:
            await trio.sleep(1)
            if isinstance(behind(torrent).core.stage, Failed):
                await torrent.resume()


async def test_large_pieces_are_fetched_from_many_and_are_never_in_memory(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, one = World(latency=0.01), large()
    hosts = [f"10.0.1.{number}" for number in range(3)]
    most = 0
    received = Picker.received

    def watched(self: Picker, *args: object) -> object:
        nonlocal most
        outcome = received(self, *args)  # type: ignore[arg-type]
        most = max(most, self._assembly.memory._node.used)
        assert not any(
            len(piece.buffer) for piece in self._assembly.open.values() if piece.index < 4
        )
        return outcome

    monkeypatch.setattr(Picker, "received", watched)
    async with (
        world.seed(one, hosts[0]),
        world.seed(one, hosts[1]),
        world.seed(one, hosts[2]),
        world.node(LEECH, torrent=SMALL) as node,
    ):
        torrent = await node.get(one.magnet(*hosts))
        await completed(torrent)
        assert content(world.storages[LEECH], len(one.data)) == one.data
        assert torrent.wasted <= 3 * ENDGAME_DEPTH * BLOCK
        assert 0 < most <= 512 * KIB + 2 * BATCH
        assert node._context.piece_memory.used == 0
        assert not picker(torrent).spills()


async def test_a_liar_in_a_large_piece_is_found_by_its_blocks(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.01), large()
    good = [f"10.0.1.{number}" for number in range(2)]
    async with (
        # So slow that others help with its pieces: of one that it sent alone the hash tells all.
        listening(world, HAND, HandSeed(one, answer=poison, pause=0.05)),
        listening(world, good[0], HandSeed(one)),
        listening(world, good[1], HandSeed(one)),
        world.node(LEECH, torrent=SMALL) as node,
    ):
        torrent = await node.get(one.magnet(HAND, *good))
        await completed(torrent)
        failed = world.records.of(PieceFailed)
        assert any(
            len(record.senders) > 1 for record in failed
        )  # whom the hash alone tells nothing of
        assert {record.address.host for record in world.records.of(PeerBanned)} == {HAND}
        assert content(world.storages[LEECH], len(one.data)) == one.data


async def test_of_a_large_piece_nothing_counts_before_all_of_it_is_verified(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), large(512 * KIB)
    given = 0

    def until_the_last(index: int, begin: int, data: bytes) -> bytes | None:
        nonlocal given
        given += 1
        return None if given == 32 else data

    async with (
        listening(world, SEED, HandSeed(one, answer=until_the_last)),
        world.node(LEECH, torrent=SMALL) as node,
    ):
        torrent = await node.get(one.magnet(SEED))
        with trio.fail_after(60):
            while given < 32:
                await trio.sleep(0.1)
        await trio.sleep(1)
        assert torrent.progress == 0
        assert picker(torrent).spills()
        assert world.storages[LEECH].stamps() == (None,)
        here = behind(torrent).core.content
        assert here is not None
        assert not any((await here.vouch()).have)
        await torrent.pause()
        await trio.sleep(1)
        assert node._context.piece_memory.used == 0
        await torrent.resume()
        await completed(torrent)
        assert content(world.storages[LEECH], len(one.data)) == one.data


@pytest.mark.parametrize("fail_at", range(1, 14))
async def test_a_disk_that_fails_anywhere_is_tried_again(
    fail_at: int, autojump_clock: MockClock
) -> None:
    world, one = World(), large(1024 * KIB)
    async with world.seed(one), world.node(LEECH, torrent=SMALL) as node:
        storage = world.storage(LEECH, one.metainfo)
        storage.fail_at = fail_at
        torrent = await node.get(one.magnet(SEED))
        await completed_at_last(torrent)
        assert storage.fail_at is None
        assert content(storage, len(one.data)) == one.data
        assert node._context.piece_memory.used == 0


async def test_a_disk_that_is_full_of_unverified_pieces_says_so_at_the_start(
    autojump_clock: MockClock,
) -> None:
    """Two of them may lie there twice."""
    world, one = World(), large(2048 * KIB)
    async with world.seed(one), world.node(LEECH, torrent=SMALL) as node:
        storage = world.storage(LEECH, one.metainfo)
        storage.space = 3072 * KIB - 1
        torrent = await node.get(one.magnet(SEED))
        with trio.fail_after(60):
            while not isinstance(behind(torrent).core.stage, Failed):
                await trio.sleep(0.1)
        assert "3145728 bytes are needed and 3145727 are free" in str(torrent.error)
        storage.space += 1
        await completed_at_last(torrent)
        assert storage.space == 1024 * KIB


async def test_a_node_short_of_memory_gets_all_its_torrents(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a piece open, on the disk if need be; and the bound is kept."""
    world = World(latency=0.01)
    count, limit = 6, 300 * KIB
    samples = [sample(1024 * KIB, 128 * KIB, seed=number) for number in range(count)]
    plenty = TorrentConfig(spill_batch=BATCH)
    async with (
        world.node(SEED) as seed,
        world.node(LEECH, torrent=plenty, piece_memory=limit) as node,
    ):
        for one in samples:
            world.storage(SEED, one.metainfo).write(0, one.data)
            await seed.get(one.metainfo)
        torrents = [await node.get(one.magnet(SEED)) for one in samples]
        most, spilled = 0, False
        memory = node._context.piece_memory
        charge = memory.charge

        def watched(change: int) -> None:
            nonlocal most
            charge(change)
            most = max(most, memory.used)

        monkeypatch.setattr(memory, "charge", watched)
        with trio.fail_after(600):
            while any(torrent.progress < 1 for torrent in torrents):
                spilled = spilled or any(
                    isinstance(behind(one).core.stage, Active) and picker(one).spills()
                    for one in torrents
                )
                await trio.sleep(0.01)
        assert spilled
        assert limit / 2 < most <= limit + count * BATCH
        assert memory.used == 0
        for one in samples:
            assert content(world.storage(LEECH, one.metainfo), len(one.data)) == one.data


async def test_scratch_space_is_given_up_when_no_piece_needs_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, one = World(), large(1024 * KIB)
    live: list[object] = []
    made = 0
    scratch = MemoryStorage.scratch

    def noted(self: MemoryStorage) -> object:
        nonlocal made
        made += 1
        new = scratch(self)
        close = new.close

        def closing() -> None:
            live.remove(new)
            close()

        monkeypatch.setattr(new, "close", closing)
        live.append(new)
        return new

    monkeypatch.setattr(MemoryStorage, "scratch", noted)
    async with world.seed(one), world.node(LEECH, torrent=SMALL) as node:
        torrent = await node.get(one.magnet(SEED))
        await completed(torrent)
        await trio.sleep(1)
        assert torrent.progress == 1
        assert made > 0
        assert not live
