"""Memory is given back when its use ends, not when the cyclic garbage collector comes round: these
tests run without it.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import struct
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import open_node
from dht_torrent.config import PeerConfig, TorrentConfig
from dht_torrent.engine.torrent import peer as engine_peer
from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.content import Content
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.disk import TorrentDisk
from dht_torrent.engine.torrent.extensions import Extensions
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.session import Session
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.engine.torrent.swarm import Swarm
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.engine.upkeep import TRIM_INTERVAL
from dht_torrent.errors import StorageError
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address
from dht_torrent.peer import connection as peer_connection
from dht_torrent.peer.connection import Connection
from dht_torrent.storage import FileStorage
from dht_torrent.torrent import pieces
from dht_torrent.torrent.picker import Picker
from tests.helpers.content import make_file
from tests.helpers.engine import (
    HAND,
    HAVE_ALL,
    KIB,
    LEECH,
    PIECE,
    PORT,
    REQUEST,
    SEED,
    UNCHOKE,
    Hand,
    World,
    entered,
    greeted,
    listening,
    sample,
    unchoked,
)
from tests.helpers.nodes import local_config
from tests.helpers.waiting import until

LARGE = 1024
"""Bytes from which a buffer counts."""


STATM = Path("/proc/self/statm")


class Buffers:
    """Every bytearray made by the modules that hold what peers send and get."""

    def __init__(self) -> None:
        self._made: dict[int, weakref.ref[bytearray]] = {}

    def note(self, buffer: bytearray) -> None:
        self._made[id(buffer)] = weakref.ref(buffer)

    def alive(self) -> list[int]:
        """Sizes of those that are large and still there."""
        buffers = [ref() for ref in self._made.values()]
        return [len(buffer) for buffer in buffers if buffer is not None and len(buffer) >= LARGE]


@pytest.fixture
def buffers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Buffers]:
    """With the cyclic collector off."""
    made = Buffers()

    class Noted(bytearray):
        def __init__(self, *args: int) -> None:
            super().__init__(*args)
            made.note(self)

    for module in (pieces, peer_connection, engine_peer):
        monkeypatch.setattr(module, "bytearray", Noted, raising=False)
    gc.collect()
    gc.disable()
    try:
        yield made
    finally:
        gc.enable()


def living(*kinds: type) -> list[str]:
    """Names of the objects of these kinds that are there, dead ones on cycles included."""
    return [type(thing).__name__ for thing in gc.get_objects() if type(thing) in kinds]


async def time_to_trim() -> None:
    await trio.sleep(2.5 * TRIM_INTERVAL)


async def test_a_finished_download_keeps_no_buffer(
    buffers: Buffers, autojump_clock: MockClock
) -> None:
    world, one = World(), sample(1024 * KIB, 64 * KIB)
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(SEED))
        with trio.fail_after(60):
            await torrent.completed()
        assert buffers.alive()  # spare ones, for the next download
        await time_to_trim()
        assert buffers.alive() == []
        assert living(Peer) == []


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells what a process holds now")
async def test_the_buffer_for_what_comes_takes_no_memory_before_it_comes() -> None:
    def held() -> int:
        return int(STATM.read_text().split()[1]) * mmap.PAGESIZE

    world, before = World(), held()
    async with world.node(LEECH, peer=PeerConfig(receive_buffer=256 << 20)) as node:
        assert len(node._context.buffer) == 256 << 20
        assert held() - before < 64 << 20


async def test_a_removed_torrent_is_gone_at_once(
    buffers: Buffers, autojump_clock: MockClock
) -> None:
    world, one = World(), sample(1024 * KIB, 64 * KIB)
    async with world.node(LEECH) as node:
        async with world.seed(one):
            torrent = await node.get(one.magnet(SEED))
            with trio.fail_after(60):
                await torrent.completed()
        await trio.sleep(1)
        await node.remove(torrent)
        before = weakref.ref(torrent)
        del torrent
        await trio.sleep(1)
        assert before() is None
        kinds = (Torrent, Supervisor, TorrentCore, Session, Extensions, Connections)
        assert living(*kinds, Content, Swarm, Picker, Peer, Connection) == []


async def test_many_downloads_share_their_spare_buffers(
    buffers: Buffers, autojump_clock: MockClock
) -> None:
    world, most = World(), 512 * KIB
    async with world.node(LEECH, torrent=TorrentConfig(max_open_bytes=most)) as node:
        for seed in range(4):
            one = sample(1024 * KIB, (16 << seed) * KIB, seed=seed)
            world.storages.clear()
            async with world.seed(one):
                torrent = await node.get(one.magnet(SEED))
                with trio.fail_after(60):
                    await torrent.completed()
        spare = node._context.piece_memory.spare
        assert spare.held <= most
        assert sum(size for size in buffers.alive() if size == 128 * KIB) >= most / 2


@pytest.mark.parametrize("ending", ["pause", "remove", "error", "dropped", "poison"])
async def test_a_download_that_ends_in_its_middle_keeps_no_buffer(
    ending: str, buffers: Buffers, autojump_clock: MockClock
) -> None:
    world, one = World(), sample(1024 * KIB, 128 * KIB)
    hands: list[Hand] = []

    async def half(hand: Hand) -> None:
        """Gives whole blocks, then one half of one."""
        hands.append(hand)
        await hand.hello(one.metainfo.info_hash)
        await hand.send(HAVE_ALL)
        await hand.send(UNCHOKE)
        for _ in range(20):
            index, begin, length = struct.unpack(">III", await hand.expect(REQUEST))
            data = one.block(index, begin, length)
            if ending == "poison" and index == 0:
                data = bytes(length)
            await hand.send(PIECE, index, begin, data=data)
        index, begin, length = struct.unpack(">III", await hand.expect(REQUEST))
        head = struct.pack(">IBII", 9 + length, PIECE, index, begin)
        await hand.raw(head + one.block(index, begin, length // 2))
        await trio.sleep_forever()

    async with listening(world, HAND, half), world.node(LEECH) as node:
        torrent = await node.get(one.metainfo)
        torrent.add_peers([(HAND, 6881)])  # type: ignore[list-item]
        with trio.fail_after(60):
            while torrent.downloaded < 20 * BLOCK and not (ending == "poison" and torrent.wasted):
                await trio.sleep(0.1)
        await trio.sleep(1)
        if ending == "pause":
            await torrent.pause()
        elif ending == "remove":
            await node.remove(torrent)
        elif ending == "error":
            world.storages[LEECH].fail_at = 1
            await torrent.recheck()
            await trio.sleep(1)
        elif ending == "dropped":
            for hand in hands:
                hand.stream.close()
        await trio.sleep(0.5)
        if ending in ("pause", "remove", "dropped"):
            assert living(Peer) == []
        if ending in ("pause", "remove"):
            assert living(Swarm, Picker) == []
            await time_to_trim()
            assert buffers.alive() == []


async def test_a_failing_disk_keeps_no_buffer(buffers: Buffers, autojump_clock: MockClock) -> None:
    world, one = World(), sample(1024 * KIB, 64 * KIB)
    world.storage(LEECH, one.metainfo).fail_at = 5
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(SEED))
        await entered(torrent, "error")
        await time_to_trim()
        assert torrent.state == "error"
        assert buffers.alive() == []


async def test_a_peer_that_stops_reading_leaves_no_send_buffer(
    buffers: Buffers, autojump_clock: MockClock
) -> None:
    world, one = World(), sample(2048 * KIB, 64 * KIB)
    async with world.seed(one) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        for index in range(one.count):
            for begin in range(0, 64 * KIB, BLOCK):
                await hand.send(REQUEST, index, begin, BLOCK)
        await trio.sleep(1)
        assert buffers.alive()
        hand.stream.close()
        await time_to_trim()
        assert living(Peer, Connection) == []
        assert buffers.alive() == []


async def test_a_torrent_stopped_while_it_sends_leaves_no_send_buffer(
    buffers: Buffers, autojump_clock: MockClock
) -> None:
    world, one = World(), sample(2048 * KIB, 64 * KIB)
    async with world.seed(one) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        for index in range(one.count):
            for begin in range(0, 64 * KIB, BLOCK):
                await hand.send(REQUEST, index, begin, BLOCK)
        await trio.sleep(1)
        await torrent.pause()
        await time_to_trim()
        assert living(Peer, Connection, Swarm) == []
        assert buffers.alive() == []


async def test_an_error_that_is_shown_holds_no_frames(autojump_clock: MockClock) -> None:
    world, one = World(), sample(1024 * KIB, 64 * KIB)
    world.storage(LEECH, one.metainfo).fail_at = 5
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(SEED))
        await entered(torrent, "error")
        frames = []
        for _ in range(3):
            with pytest.raises(StorageError, match="injected") as caught:
                await torrent.completed()
            frames.append(len(caught.traceback))
        assert frames == [2, 2, 2]  # this one and that of `completed`, however often it is raised


async def test_downloads_to_real_files_leave_nothing_on_a_cycle(
    tmp_path: Path, buffers: Buffers
) -> None:
    async with (
        open_node(local_config(tmp_path / "seed")) as seed,
        open_node(local_config(tmp_path / "got")) as node,
    ):
        for number in range(3):
            content = make_file(tmp_path / f"{number}.bin", 4 << 20, seed=number)
            shared = await seed.share(content)
            magnet = f"{shared.magnet}&x.pe=127.0.0.1:{seed.address.port}"
            with trio.fail_after(20):
                torrent = await node.get(magnet)
                await torrent.completed()
            await node.remove(torrent, delete_data=True)
            await seed.remove(shared)
            gone = weakref.ref(torrent), weakref.ref(shared)
            del torrent, shared
            await until(lambda: [ref() for ref in gone] == [None, None], "both are gone")  # noqa: B023
        kinds = (
            TorrentCore,
            Extensions,
            Connections,
            Content,
            Swarm,
            Picker,
            Peer,
            Connection,
            FileStorage,
            TorrentDisk,
        )
        with contextlib.suppress(AssertionError):
            await until(lambda: living(*kinds) == [], "what they were made of is gone")
        assert living(*kinds) == []
        for pool in (node._context.piece_memory.spare, node._context.send_buffers):
            pool.trim()
            pool.trim()
        for pool in (seed._context.piece_memory.spare, seed._context.send_buffers):
            pool.trim()
            pool.trim()
        assert buffers.alive() == []


async def test_a_peer_that_never_answers_a_dial_leaves_nothing_on_a_cycle(
    buffers: Buffers, autojump_clock: MockClock
) -> None:
    """Encrypted or not, it takes the connection and says nothing until the time is up."""
    world, one = World(), sample()
    host = world.net.host(HAND)
    listener = await host.listen(Address(HAND, PORT))
    async with world.node(LEECH, encryption="prefer") as node, trio.open_nursery() as nursery:
        streams = []

        async def take() -> None:
            while True:
                streams.append(await listener.accept())

        nursery.start_soon(take)
        torrent = await node.get(one.magnet(HAND))
        await trio.sleep(55)
        assert len(streams) >= 2
        assert not torrent.peers()
        assert living(Connection) == []
        nursery.cancel_scope.cancel()
