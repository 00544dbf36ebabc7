"""A torrent's whole life: from a bare link to a seed, through pauses, errors and restarts."""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Config, Node, open_node
from dht_torrent.config import DiskConfig, PeerConfig, TorrentConfig
from dht_torrent.engine.torrent.disk import TorrentDisk
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.errors import InputError, MetainfoError, StorageError
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address, InfoHash, parse_info_hash
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage import FileStamp, FileStorage, MemoryStorage, Storage
from dht_torrent.trace import PeerConnected, PieceDone
from tests.helpers.engine import (
    EXTENDED,
    HAND,
    HAVE_NONE,
    INTERESTED,
    KIB,
    LEECH,
    PORT,
    REQUEST,
    SEED,
    UNCHOKE,
    HandSeed,
    Sample,
    World,
    content,
    entered,
    greeted,
    listening,
    sample,
)
from tests.helpers.storages import hashed

ROUTER = "10.0.0.100"


def many_files(count: int = 4, size: int = 64 * KIB) -> Sample:
    """A folder of `count` files, each two pieces long."""
    data = random.Random(5).randbytes(count * size)
    return Sample(data, 32 * KIB, hashed(data, [size] * count, 32 * KIB).info)


def done(world: World) -> list[int]:
    """Pieces, in the order they were verified."""
    return [record.index for record in world.records.of(PieceDone)]


# -- from a link to a seed ------------------------------------------------------------------------


async def test_a_bare_infohash_becomes_a_seed_through_the_dht(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.03), sample()
    async with (
        world.node(ROUTER),
        world.seed(one, bootstrap=[ROUTER]) as shared,
        world.node(LEECH, bootstrap=[ROUTER]) as node,
    ):
        torrent = await node.get(shared.id)
        assert torrent.summary().state == "metadata"
        assert torrent.progress == 0
        with trio.fail_after(60):
            await torrent.completed()
        assert torrent.state == "seeding"
        assert torrent.progress == 1
        assert torrent.name == "film.bin"
        assert torrent.why is None
        assert content(world.storages[LEECH], len(one.data)) == one.data
        assert set(node.status().peers_by_source) <= {"dht", "incoming"}


async def test_a_magnet_that_names_a_peer_needs_no_dht(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(SEED))
        with trio.fail_after(10):
            path = await torrent.completed()
        assert path.name == "film.bin"
        assert content(world.storages[LEECH], len(one.data)) == one.data


async def test_names_in_a_magnet_are_never_resolved(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    world.net.names["seed.example"] = [SEED]
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet("seed.example"))
        await trio.sleep(300)
        assert torrent.state == "metadata"
        assert world.records.of(PeerConnected) == []


async def test_a_second_magnet_brings_its_peers_along(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet())
        await trio.sleep(30)
        assert torrent.state == "metadata"
        assert await node.get(one.magnet(SEED)) is torrent
        with trio.fail_after(10):
            await torrent.completed()


async def test_only_what_is_selected_is_fetched_and_a_second_magnet_adds_to_it(
    autojump_clock: MockClock,
) -> None:
    """BEP 53."""
    world, album = World(), many_files()
    async with world.seed(album), world.node(LEECH) as node:
        torrent = await node.get(album.magnet(SEED) + "&so=1")
        with trio.fail_after(10):
            await torrent.completed()
        assert sorted(done(world)) == [2, 3]
        assert torrent.size == 64 * KIB
        assert torrent.progress == 1
        assert [file.selected for file in torrent.files()] == [False, True, False, False]
        assert [file.progress for file in torrent.files()] == [0, 1, 0, 0]
        assert await node.get(album.magnet() + "&so=3") is torrent
        assert torrent.progress == 0.5
        with trio.fail_after(90):
            await torrent.completed()
        assert sorted(done(world)) == [2, 3, 6, 7]
        await node.get(album.magnet(), select=[(0, 0)])
        with trio.fail_after(90):
            await torrent.completed()
        assert sorted(done(world)) == [0, 1, 2, 3, 6, 7]


async def test_sequential_means_in_order(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with listening(world, HAND, HandSeed(one, pause=0.05)), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(HAND), sequential=True)
        await torrent.completed()
        assert done(world) == list(range(one.count))


async def test_a_peer_that_fetches_the_metadata_gets_pieces_over_the_same_connection(
    autojump_clock: MockClock,
) -> None:
    world, one = World(latency=0.01), sample()
    async with world.seed(one), world.node(LEECH) as node:
        await (await node.get(one.magnet(SEED))).completed()
        assert world.net.stats.connections == 1


async def test_two_that_lack_the_metadata_wait_together_for_one_who_has_it(
    autojump_clock: MockClock,
) -> None:
    """A peer connected before either side knew the metadata takes part afterwards."""
    world, one = World(), sample()
    async with world.node(LEECH) as first, world.node("10.0.0.7") as second:
        early = await first.get(one.magnet())
        late = await second.get(one.magnet(LEECH))
        await trio.sleep(5)
        assert (
            len(behind(early).core.connections.peers)
            == len(behind(late).core.connections.peers)
            == 1
        )
        async with world.seed(one) as seed:
            behind(early).core.connections.found([Address(SEED, PORT)], "user")
            with trio.fail_after(60):
                await early.completed()
                await late.completed()
            assert seed.uploaded == len(one.data)  # the other had it all from the first


# -- metadata -------------------------------------------------------------------------------------


async def test_nine_liars_cannot_keep_the_metadata_from_us(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.02), sample(4096 * KIB, 16 * KIB)
    other = sample(4096 * KIB, 16 * KIB, seed=2)
    liars = [HandSeed(one, info=other.info) for _ in range(5)]  # as long, but wrong
    liars += [HandSeed(one, size=len(one.info) - 7), HandSeed(one, size=len(one.info) + 20_000)]
    liars += [HandSeed(one, size=1 << 40), HandSeed(one, info=one.info[:-1] + b"x")]
    hosts = [f"10.0.2.{number}" for number in range(9)]
    async with trio.open_nursery() as nursery:
        for host, liar in zip(hosts, liars, strict=True):
            await nursery.start(serve, world, host, liar)
        async with listening(world, HAND, HandSeed(one)), world.node(LEECH) as node:
            torrent = await node.get(one.magnet(*hosts, HAND))
            with trio.fail_after(30):
                while torrent.metainfo is None:
                    await trio.sleep(0.1)
            assert torrent.metainfo.info == one.info
        nursery.cancel_scope.cancel()


async def serve(
    world: World,
    host: str,
    handle: HandSeed,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    async with listening(world, host, handle):
        task_status.started()
        await trio.sleep_forever()


@pytest.mark.parametrize(
    "hostile",
    [
        b"d6:lengthi-1e4:name1:x12:piece lengthi16384e6:pieces20:%be" % bytes(20),
        b"d6:lengthi1e4:name1:x12:piece lengthi0e6:pieces20:%be" % bytes(20),
        b"d6:lengthi99999999e4:name1:x12:piece lengthi16384e6:pieces20:%be" % bytes(20),
        b"d5:filesld6:lengthi1e4:pathl%beee4:name1:x12:piece lengthi16384e6:pieces20:%be"
        % (b"2:.." * 101, bytes(20)),
        b"l" * 5000 + b"e" * 5000,
        b"not bencoded at all",
    ],
)
async def test_metadata_with_the_right_hash_may_still_be_hostile(
    hostile: bytes, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    info_hash = hashlib.sha1(hostile).digest()

    class Liar(Sample):
        @property
        def metainfo(self) -> Metainfo:
            return named(parse_info_hash(info_hash))

    liar = HandSeed(Liar(one.data, one.piece_length, one.info), info=hostile)
    async with listening(world, HAND, liar), world.node(LEECH) as node:
        torrent = await node.get(f"magnet:?xt=urn:btih:{info_hash.hex()}&x.pe={HAND}:{PORT}")
        await entered(torrent, "error", 120)
        assert isinstance(torrent.error, str)
        assert torrent.error
        with pytest.raises(MetainfoError):
            await torrent.completed()
        assert torrent.metainfo is None
        # It is nobody else's trouble.
        assert (await node.get(one.metainfo)).state in {"checking", "metadata", "downloading"}


def named(info_hash: InfoHash) -> Metainfo:
    """Something that has this infohash, and is otherwise of no use."""
    return replace(from_info(sample().info), info_hash=info_hash)


# -- what users ask -------------------------------------------------------------------------------


async def test_pause_closes_everything_and_resume_goes_on(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    slow = HandSeed(one, pause=0.5)
    async with listening(world, HAND, slow), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(HAND))
        await trio.sleep(5)
        before = len(done(world))
        assert 0 < before < one.count
        await torrent.pause()
        await entered(torrent, "paused")
        assert node.status().connections == 0
        await trio.sleep(100)
        assert len(done(world)) == before
        assert torrent.progress == before / one.count
        await torrent.resume()
        with trio.fail_after(60):
            await torrent.completed()
        # What was here already was not fetched again.
        assert sorted(done(world)) == list(range(one.count))
        assert content(world.storages[LEECH], len(one.data)) == one.data


async def test_a_pause_at_any_moment_can_be_undone(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.02), sample()
    dice = random.Random(4)
    async with listening(world, HAND, HandSeed(one, pause=0.02)), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(HAND))
        for _ in range(30):
            await trio.sleep(dice.choice([0, 0, 0.01, 0.05]))
            await torrent.pause()
            if dice.random() < 0.5:
                await trio.sleep(dice.choice([0, 0.01]))
            await torrent.resume()
        with trio.fail_after(120):
            await torrent.completed()
        assert content(world.storages[LEECH], len(one.data)) == one.data


async def test_recheck_finds_what_is_broken_and_fetches_it_again(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.seed(one), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(SEED))
        await torrent.completed()
        world.storages[LEECH].write(5 * one.piece_length + 77, b"?")
        await torrent.recheck()
        with trio.fail_after(90):
            await torrent.completed()
        assert done(world)[one.count :] == [5]
        assert content(world.storages[LEECH], len(one.data)) == one.data


async def test_what_cannot_be_rechecked_is_said(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get(sample().magnet())
        with pytest.raises(InputError, match="metadata is not known yet"):
            await torrent.recheck()


# -- restarts, on real files ----------------------------------------------------------------------


class OnDisk:
    """A node with its content and state in real files."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.film = folder / "got" / "film.bin"

    def open(self) -> contextlib.AbstractAsyncContextManager[Node]:
        def in_files(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
            return FileStorage(path, metainfo, DiskConfig(inline=True))

        return self.world.node(
            LEECH,
            open_storage=in_files,
            state_dir=self.folder / "state",
            download_dir=self.folder / "got",
        )


async def test_a_download_goes_on_after_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    place = OnDisk(world, tmp_path)
    async with listening(world, HAND, HandSeed(one, pause=0.2)):
        async with place.open() as node:
            torrent = await node.get(one.magnet(HAND), sequential=True)
            await trio.sleep(2)
            before, taken = done(world), torrent.downloaded
            assert 0 < len(before) < one.count
        async with place.open() as node:
            (torrent,) = node.torrents.values()
            with trio.fail_after(60):
                await torrent.completed()
            assert sorted(done(world)) == list(range(one.count))
            assert torrent.downloaded >= taken
            assert torrent.sequential
        assert place.film.read_bytes() == one.data
        async with place.open() as node:
            (torrent,) = node.torrents.values()
            with trio.fail_after(5):
                await torrent.completed()
            assert torrent.state == "seeding"
    assert sorted(done(world)) == list(range(one.count))


async def test_a_paused_torrent_is_paused_after_a_restart_and_can_be_removed_with_its_data(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    place = OnDisk(world, tmp_path)
    async with listening(world, HAND, HandSeed(one)):
        async with place.open() as node:
            torrent = await node.get(one.magnet(HAND))
            await torrent.completed()
            await torrent.pause()
        async with place.open() as node:
            (torrent,) = node.torrents.values()
            await trio.sleep(10)
            assert torrent.state == "paused"
            await node.remove(torrent, delete_data=True)
            assert not place.film.exists()
            assert not node.torrents
            with pytest.raises(InputError, match="no such torrent"):
                await node.remove(torrent)
        async with place.open() as node:
            assert not node.torrents


async def test_remove_without_data_leaves_the_files(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    place = OnDisk(world, tmp_path)
    async with listening(world, HAND, HandSeed(one)), place.open() as node:
        torrent = await node.get(one.magnet(HAND))
        await torrent.completed()
        await node.remove(torrent)
        assert place.film.read_bytes() == one.data
        again = await node.get(one.magnet(HAND))
        with trio.fail_after(10):
            await again.completed()
        assert len(done(world)) == one.count  # found on disk, not fetched


async def test_a_file_changed_while_the_node_was_down_is_fetched_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    place = OnDisk(world, tmp_path)
    async with listening(world, HAND, HandSeed(one)):
        async with place.open() as node:
            await (await node.get(one.magnet(HAND))).completed()
        with place.film.open("r+b") as file:
            file.seek(3 * one.piece_length)
            file.write(b"garbage")
        async with place.open() as node:
            (torrent,) = node.torrents.values()
            with trio.fail_after(90):
                await torrent.completed()
        assert done(world)[one.count :] == [3]
        assert place.film.read_bytes() == one.data


@pytest.mark.parametrize("gone", [False, True])
async def test_a_file_changed_behind_our_back_stops_the_torrent_and_recheck_repairs_it(
    gone: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    place = OnDisk(world, tmp_path)
    async with listening(world, HAND, HandSeed(one)), place.open() as node:
        torrent = await node.get(one.magnet(HAND))
        await torrent.completed()
        await trio.sleep(130)  # its own writes are no surprise
        assert torrent.state == "seeding"
        if gone:
            place.film.unlink()
        else:
            with place.film.open("r+b") as file:
                file.write(b"garbage")
        await entered(torrent, "error", 70)
        if gone:
            assert torrent.error == (
                f"missing: {place.film}; goes on by itself when it is back, "
                "recheck to fetch it again"
            )
        else:
            assert torrent.error == "changed on disk: film.bin; recheck to go on"
        assert node.status().connections == 0
        await torrent.recheck()
        with trio.fail_after(90):
            await torrent.completed()
        assert place.film.read_bytes() == one.data
        assert sorted(done(world)[one.count :]) == (list(range(one.count)) if gone else [0])


class HalfWritten(MemoryStorage):
    """Each write stops half way until somebody has looked at the files twice."""

    def __init__(self, metainfo: Metainfo) -> None:
        super().__init__(metainfo.geometry)
        self.looks = 0
        self._looked = threading.Condition()

    def stamps(self) -> tuple[FileStamp | None, ...]:
        stamps = super().stamps()
        with self._looked:
            self.looks += 1
            self._looked.notify_all()
        return stamps

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        half = len(view) // 2
        with self._looked:
            super().write(offset, view[:half])
            enough = self.looks + 2
            assert self._looked.wait_for(lambda: self.looks >= enough, 10)
            super().write(offset + half, view[half:])


async def test_a_look_at_the_files_in_the_middle_of_our_own_write_raises_no_alarm() -> None:
    """With real threads: a slow disk under a download is the common case."""
    world, one = World(), sample(64 * KIB)
    storages: list[HalfWritten] = []

    def open_storage(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        storages.append(HalfWritten(metainfo))
        return storages[-1]

    with trio.fail_after(20):
        async with (
            listening(world, HAND, HandSeed(one)),
            world.node(
                LEECH,
                open_storage=open_storage,
                disk=DiskConfig(threads=3),
                torrent=TorrentConfig(file_check_interval=0.005),
            ) as node,
        ):
            torrent = await node.get(one.magnet(HAND))
            await torrent.completed()
            assert storages[0].looks >= 2
            assert content(storages[0], len(one.data)) == one.data


async def test_bytes_that_are_served_are_the_ones_that_were_verified(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        hand = await greeted(world, torrent, extended=True)
        await hand.send(HAVE_NONE)
        assert b"ut_metadata" in await hand.expect(EXTENDED)
        await hand.send(INTERESTED)
        await hand.expect(UNCHOKE)
        await hand.send(REQUEST, 1, 0, BLOCK)
        with trio.fail_after(PeerConfig().send_timeout):
            assert (await hand.expect(7))[8:] == one.block(1, 0)


async def test_a_file_that_vanishes_right_after_the_last_write_is_missed(
    tmp_path: Path,
) -> None:
    one = sample()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "film.bin").write_bytes(one.data)
    local = replace(
        Config(bootstrap=[], listen="127.0.0.1:0"), torrent=TorrentConfig(file_check_interval=0.05)
    )
    async with open_node(local) as seed, open_node(local) as node:
        shared = await seed.share(tmp_path / "shared" / "film.bin", piece_length=32 * KIB)
        magnet = f"{shared.magnet}&x.pe={seed.address}"
        torrent = await node.get(magnet, output=tmp_path)
        with trio.fail_after(20):
            path = await torrent.completed()
            path.unlink()
            await entered(torrent, "error")
        assert "film.bin" in (torrent.error or "")
        await torrent.recheck()
        with trio.fail_after(20):
            await torrent.completed()
        assert path.read_bytes() == one.data


async def test_get_of_what_is_here_looks_at_the_disk_first(tmp_path: Path) -> None:
    one = sample()
    (tmp_path / "film.bin").write_bytes(one.data)
    async with open_node(Config(bootstrap=[], listen="127.0.0.1:0")) as node:
        torrent = await node.share(tmp_path / "film.bin")
        await torrent.completed()
        (tmp_path / "film.bin").unlink()
        assert await node.get(torrent.magnet) is torrent
        with trio.fail_after(20), pytest.raises(StorageError, match="missing"):
            await torrent.completed()


async def test_a_file_that_does_not_exist_cannot_be_selected(tmp_path: Path) -> None:
    one = sample()
    async with open_node(Config(bootstrap=[], listen="127.0.0.1:0")) as node:
        with pytest.raises(InputError, match="no file 5"):
            await node.get(one.metainfo, select=[(5, 5)], output=tmp_path)
        assert not node.torrents
        torrent = await node.get(one.metainfo, output=tmp_path)
        with pytest.raises(InputError, match="no file 5"):
            await node.get(one.metainfo, select=[(5, 5)])
        await torrent.remove()
        assert not node.torrents


async def test_a_torrent_paused_before_a_restart_shows_what_it_has_and_get_resumes_it(
    tmp_path: Path,
) -> None:
    one = sample()
    (tmp_path / "film.bin").write_bytes(one.data)
    config = Config(bootstrap=[], listen="127.0.0.1:0", state_dir=tmp_path / "state")
    async with open_node(config) as node:
        torrent = await node.get(one.metainfo, output=tmp_path)
        with trio.fail_after(20):
            await torrent.completed()
            await torrent.pause()
            await entered(torrent, "paused")
    async with open_node(config) as node:
        torrent = node.find(torrent.id)
        with trio.fail_after(20):
            await entered(torrent, "paused")
            assert torrent.progress == 1
            assert await node.get(one.metainfo) is torrent
            await torrent.completed()
        assert torrent.state == "seeding"


async def test_what_is_not_looked_at_yet_is_told_while_it_is_checked(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, one = World(), sample()
    size, plain = len(one.data), TorrentDisk.check

    async def slow(self: TorrentDisk, wanted: Any = None, *, progress: Any = None) -> set[int]:
        for done in range(5):
            progress(done, 4)
            await trio.sleep(1)
        return await plain(self, wanted, progress=progress)

    async with world.seed(one) as torrent:
        assert torrent.unchecked == 0
        monkeypatch.setattr(TorrentDisk, "check", slow)
        await torrent.recheck()
        await entered(torrent, "checking")
        seen = []
        while torrent.state != "seeding":
            seen.append((torrent.unchecked, torrent.verified))
            await trio.sleep(0.5)
        assert [left for left, _ in dict.fromkeys(seen)][:5] == [
            size,
            size * 3 // 4,
            size // 2,
            size // 4,
            0,
        ]
        assert (torrent.unchecked, torrent.verified) == (0, size)
