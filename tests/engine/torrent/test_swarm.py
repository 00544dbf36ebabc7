"""The exchange of pieces: silent peers, turns, and what is announced when."""

from __future__ import annotations

import contextlib
import random
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import PeerConfig, TorrentConfig
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.errors import StorageError
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address, InfoHash
from dht_torrent.lab.run import run
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import MemoryStorage, Storage
from dht_torrent.torrent.picker import Picker
from dht_torrent.torrent.pipeline import Pipeline
from dht_torrent.trace import PieceDone
from tests.helpers.engine import (
    BITFIELD,
    CHOKE,
    HAND,
    HAVE,
    HAVE_ALL,
    HAVE_NONE,
    INTERESTED,
    KIB,
    LEECH,
    NOT_INTERESTED,
    PIECE,
    PORT,
    REQUEST,
    SEED,
    UNCHOKE,
    Hand,
    HandSeed,
    World,
    content,
    entered,
    greeted,
    listening,
    sample,
    unchoked,
)
from tests.helpers.raw_peer import stall

# -- silence --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "fast"), [(1, True), (1, False), (4, True), (8, True)])
async def test_peers_that_unchoke_and_never_send_do_not_stall_the_download(
    seed: int, fast: bool, autojump_clock: MockClock
) -> None:
    world, one = World(seed, latency=0.01), sample(512 * KIB)
    stallers = [HandSeed(one, answer=stall, fast=fast) for _ in range(4)]
    hosts = [f"10.0.2.{number}" for number in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        for host, staller in zip(hosts, stallers, strict=True):
            await stack.enter_async_context(listening(world, host, staller))
        await stack.enter_async_context(listening(world, HAND, HandSeed(one, pause=0.1)))
        node = await stack.enter_async_context(world.node(LEECH))
        torrent = await node.get(one.magnet(*hosts, HAND))
        with trio.fail_after(2 * PeerConfig().snub_timeout):
            await torrent.completed()
        assert all(staller.requests for staller in stallers)


async def test_a_snubbing_peer_is_asked_for_one_block_at_a_time(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample(512 * KIB)
    staller = HandSeed(one, answer=stall)
    async with listening(world, HAND, staller), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(HAND))
        await entered(torrent, "downloading")
        await trio.sleep(PeerConfig().snub_timeout + 3)
        (peer,) = behind(torrent).core.connections.peers.values()
        assert peer.snubs_us
        asked = len(staller.requests)
        assert asked == PeerConfig().min_outstanding + 1
        await trio.sleep(2.5 * PeerConfig().request_timeout)
        assert asked < len(staller.requests) <= asked + 2
        # One block, and all is forgiven.
        staller.answer = lambda piece, begin, data: data
        with trio.fail_after(2 * PeerConfig().request_timeout):
            await torrent.completed()


async def test_a_peer_that_chokes_in_the_middle_gives_its_blocks_back(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()

    async def moody(hand: Hand) -> None:
        """Takes requests, then chokes, without BEP 6 and without a word."""
        await hand.hello(one.metainfo.info_hash, b"moody", fast=False)
        await hand.send(BITFIELD, data=b"\xff")
        await hand.send(UNCHOKE)
        await hand.expect(REQUEST)
        await hand.send(CHOKE)
        await hand.closed()

    async with (
        listening(world, HAND, moody),
        listening(world, SEED, HandSeed(one, pause=0.05)),
        world.node(LEECH) as node,
    ):
        torrent = await node.get(one.magnet(HAND, SEED))
        with trio.fail_after(10):
            await torrent.completed()


async def test_nothing_gathers_of_a_peer_that_has_choked_us(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "gather", lambda _, outstanding: outstanding)
    world, one = World(), sample()
    async with world.node(LEECH) as node:
        torrent = await node.get(one.metainfo)
        await entered(torrent, "downloading")
        hand = await greeted(world, torrent, SEED, to=LEECH, fast=False)
        await hand.send(BITFIELD, data=b"\xff")
        await hand.send(UNCHOKE)
        await hand.expect(REQUEST)
        (peer,) = behind(torrent).core.connections.peers.values()
        assert peer.gather > 0
        await hand.send(CHOKE)
        await trio.sleep(1)
        assert peer.gather == 0


# -- turns ----------------------------------------------------------------------------------------


async def interested(world: World, torrent: Torrent, count: int) -> list[Hand]:
    """So many connections that have nothing and want all."""
    hands = [await greeted(world, torrent, f"10.0.1.{number}") for number in range(count)]
    for hand in hands:
        await hand.send(HAVE_NONE)
        await hand.send(INTERESTED)
    return hands


async def test_a_seed_serves_four_in_turn_and_one_by_chance(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        hands = await interested(world, torrent, 8)
        await trio.sleep(11)
        peers = list(behind(torrent).core.connections.peers.values())
        assert sum(not peer.am_choking for peer in peers) == TorrentConfig().unchoke_slots + 1
        assert sum(peer.optimistic for peer in peers) == 1
        # The optimistic slot moves: in a few minutes everybody had a turn.
        served = set()
        for _ in range(60):
            served |= {peer.key for peer in peers if not peer.am_choking}
            for hand in hands:
                await hand.raw(bytes(4))
            await trio.sleep(10)
            assert sum(not peer.am_choking for peer in peers) == 5
        assert served == {peer.key for peer in peers}


async def test_a_newcomer_gets_a_free_slot_at_once(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        for number in range(4):
            hand = await greeted(world, torrent, f"10.0.1.{number}")
            await hand.send(HAVE_NONE)
            await hand.send(INTERESTED)
            since = trio.current_time()
            await hand.expect(UNCHOKE)
            assert trio.current_time() - since < 0.1


async def test_a_peer_that_leaves_or_wants_no_more_frees_its_slot_at_once(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        hands = await interested(world, torrent, 7)
        await trio.sleep(0.1)
        peers = list(behind(torrent).core.connections.peers.values())
        waiting = [number for number, peer in enumerate(peers) if peer.am_choking]
        assert len(waiting) == 2
        served = [number for number in range(7) if number not in waiting]
        await hands[served[0]].send(NOT_INTERESTED)
        hands[served[1]].stream.close()
        await trio.sleep(0.1)
        assert not any(peers[number].am_choking for number in waiting)


# -- what is announced, and when ------------------------------------------------------------------


class SlowToWrite(MemoryStorage):
    """Remembers, at each write, how many pieces the watching peer had heard of."""

    def __init__(self, metainfo: Metainfo, heard: Callable[[], int]) -> None:
        super().__init__(metainfo.geometry)
        self.heard_before: list[int] = []
        self._heard = heard

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.heard_before.append(self._heard())
        super().write(offset, data)


async def test_a_piece_is_announced_after_it_was_written_and_never_before(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    haves: list[int] = []
    storages: list[SlowToWrite] = []

    def open_storage(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        storages.append(SlowToWrite(metainfo, lambda: len(haves)))
        return storages[-1]

    async with (
        listening(world, HAND, HandSeed(one, pause=0.1)),
        world.node(LEECH, open_storage=open_storage) as node,
        trio.open_nursery() as nursery,
    ):
        torrent = await node.get(one.metainfo)
        await entered(torrent, "downloading")
        watcher = await greeted(world, torrent, SEED, to=LEECH)

        async def watch() -> None:
            while True:
                haves.append(struct.unpack(">I", await watcher.expect(HAVE))[0])

        nursery.start_soon(watch)
        behind(torrent).core.connections.found([Address(HAND, PORT)], "user")
        await torrent.completed()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert sorted(haves) == list(range(one.count))
    # When the n-th piece was written, at most the n before it had been heard of.
    (storage,) = storages
    assert storage.heard_before == list(range(one.count))


async def test_a_piece_that_could_not_be_written_is_not_announced(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    storage = world.storage(LEECH, one.metainfo)
    async with listening(world, HAND, HandSeed(one)), world.node(LEECH) as node:
        torrent = await node.get(one.metainfo)
        await entered(torrent, "downloading")
        watcher = await greeted(world, torrent, SEED, to=LEECH)
        storage.fail_at = 1
        behind(torrent).core.connections.found([Address(HAND, PORT)], "user")
        kinds = [kind for kind, _ in await watcher.heard(30)]
        assert HAVE not in kinds
        await entered(torrent, "error")
        assert torrent.error == "injected: this write fails"
        assert torrent.why == torrent.error
        with pytest.raises(StorageError, match="this write fails"):
            await torrent.completed()
        assert world.records.of(PieceDone) == []
        await torrent.resume()
        with trio.fail_after(30):
            await torrent.completed()
        assert content(storage, len(one.data)) == one.data


async def test_a_full_disk_is_tried_again_and_nothing_is_had_before(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    storage = world.storage(LEECH, one.metainfo)
    async with listening(world, HAND, HandSeed(one)), world.node(LEECH) as node:
        torrent = await node.get(one.metainfo)
        await entered(torrent, "downloading")
        storage.space = 3 * one.piece_length + 100  # somebody else filled it since it was looked at
        behind(torrent).core.connections.found([Address(HAND, PORT)], "user")
        await entered(torrent, "error")
        assert torrent.error == "no space left in memory"
        assert torrent.why == "no space left in memory; trying again by itself"
        done = [record.index for record in world.records.of(PieceDone)]
        assert len(done) == 3
        for index in done:
            start = index * one.piece_length
            assert storage.read(start, one.piece_length) == one.block(index, 0, one.piece_length)
        since = trio.current_time()
        await trio.sleep(TorrentConfig().disk_retry + 5)
        assert torrent.error == "163840 bytes are needed and 0 are free"  # still full
        storage.space = None
        await entered(torrent, "seeding", 300)
        assert trio.current_time() - since < 3 * TorrentConfig().disk_retry
        assert content(storage, len(one.data)) == one.data


async def test_a_read_that_fails_stops_the_torrent_and_ships_nothing(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        world.storages[SEED].fail_at = 1
        await hand.send(REQUEST, 0, 0, BLOCK)
        assert PIECE not in [kind for kind, _ in await hand.heard(10)]
        await entered(torrent, "error")
        assert torrent.error == "injected: this read fails"


# -- what peers are told --------------------------------------------------------------------------


async def test_interest_ends_when_a_peer_has_nothing_more_for_us(
    autojump_clock: MockClock,
) -> None:
    """Also when it chokes us: or we would hold a place in its queue for nothing."""
    world, one = World(), sample()
    async with listening(world, HAND, HandSeed(one)), world.node(LEECH) as node:
        torrent = await node.get(one.metainfo, sequential=True)
        await entered(torrent, "downloading")
        hand = await greeted(world, torrent, SEED, to=LEECH, fast=False)
        await hand.send(BITFIELD, data=b"\x80")
        await hand.expect(INTERESTED)
        behind(torrent).core.connections.found([Address(HAND, PORT)], "user")
        with trio.fail_after(10):
            await hand.expect(NOT_INTERESTED)


@pytest.mark.parametrize("fast", [True, False])
async def test_a_seed_says_what_it_has_in_the_form_the_peer_knows(
    fast: bool, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent, fast=fast)
        assert await hand.receive() == ((HAVE_ALL, b"") if fast else (BITFIELD, b"\xff"))


# -- many nodes -----------------------------------------------------------------------------------


async def swarm_of_eight(
    rng: random.Random, size: int
) -> tuple[list[tuple[InfoHash, int]], float, float]:
    """One seed and seven leeches, 20 ms apart, a megabyte a second each. Returns the pieces in the
    order they were done, the seed's share of all bytes, and the seconds it took."""
    world, one = World(rng.randrange(1000), latency=0.02), sample(size)
    hosts = [f"10.0.3.{number}" for number in range(8)]
    for host in hosts:
        world.net.host(host).uplink.rate = 1024 * KIB
    async with contextlib.AsyncExitStack() as stack:
        seed = await stack.enter_async_context(world.seed(one, hosts[0]))
        leeches = []
        for number, host in enumerate(hosts[1:], 1):
            node = await stack.enter_async_context(world.node(host))
            leeches.append(await node.get(one.magnet(*hosts[:number])))
        since = trio.current_time()
        with trio.fail_after(300):
            for leech in leeches:
                await leech.completed()
        seconds = trio.current_time() - since
        for host in hosts:
            assert content(world.storages[host], len(one.data)) == one.data
        sent = [torrent.uploaded for torrent in (seed, *leeches)]
    done = [(record.info_hash, record.index) for record in world.records.of(PieceDone)]
    assert Counter(done) == dict.fromkeys(done, 7)
    return done, sent[0] / sum(sent), seconds


def test_a_swarm_of_eight_completes_and_the_leeches_serve_each_other() -> None:
    _, share, seconds = run(swarm_of_eight, 2048 * KIB, seed=3)
    assert share < 0.6
    # The seed alone, serving all in turn, would take fourteen seconds.
    assert seconds < 14


def test_a_swarm_runs_the_same_every_time() -> None:
    assert run(swarm_of_eight, 512 * KIB, seed=5) == run(swarm_of_eight, 512 * KIB, seed=5)


# -- our bugs -------------------------------------------------------------------------------------


async def test_a_bug_of_ours_ends_the_run(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, one = World(), sample()

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Picker, "next_requests", broken)
    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(60):
        async with listening(world, HAND, HandSeed(one)), world.node(LEECH) as node:
            await (await node.get(one.magnet(HAND))).completed()
    assert caught.group_contains(ZeroDivisionError)
