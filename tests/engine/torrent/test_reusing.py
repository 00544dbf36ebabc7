"""What is on this disk already is copied and not fetched; whatever is wrong with it, a download
ends as it would without."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.config import DiskConfig, TorrentConfig
from dht_torrent.engine.torrent.stages import Active
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.errors import InputError, StorageError
from dht_torrent.metainfo import LocalHints, Metainfo
from dht_torrent.storage import FileStorage, Storage
from dht_torrent.storage.local import LocalReader, find_files
from dht_torrent.storage.making import make
from dht_torrent.torrent.piece_states import State
from tests.helpers.content import KIB, differences, make_file, make_tree, read_tree
from tests.helpers.engine import LEECH, SEED, HandSeed, Sample, World, entered, listening

PIECE = 32 * KIB


def released(path: Path, piece_length: int = PIECE) -> Sample:
    """What lies there, as a torrent."""
    metainfo = make(path, piece_length=piece_length)
    return Sample(b"".join(ordered(path)), piece_length, metainfo.info)


def ordered(path: Path) -> Sequence[bytes]:
    found = read_tree(path)
    return [found[name] for name in sorted(found, key=os.fsencode)]


def on_disk(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
    return FileStorage(
        path.parent if shared else path,
        metainfo,
        DiskConfig(),
        content=path if shared else None,
        writable=not shared,
    )


class Copy:
    """A node that fetches, with a seed that has it all and counts what it is asked for."""

    def __init__(self, node: Node, seed: HandSeed, output: Path) -> None:
        self.node = node
        self.seed = seed
        self.output = output

    async def get(self, *sources: Path, again: bool = False) -> Torrent:
        torrent = await self.node.get(
            self.seed.sample.magnet(SEED), output=self.output, sources=sources
        )
        with trio.fail_after(600):
            await torrent.completed()
        return torrent

    @property
    def asked(self) -> set[int]:
        """Pieces that peers were asked for."""
        return {piece for piece, _ in self.seed.requests}


@asynccontextmanager
async def copying(
    tmp_path: Path, sample: Sample, *, seed: HandSeed | None = None, **config: Any
) -> AsyncIterator[Copy]:
    world = World()
    seed = seed or HandSeed(sample)
    async with (
        listening(world, SEED, seed),
        world.node(LEECH, open_storage=on_disk, **config) as node,
    ):
        yield Copy(node, seed, tmp_path / "downloads")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder as it once was."""
    files = {"a.bin": 200_000, "b.bin": 300_001, "sub/c.bin": 150_002, "sub/tiny": 700}
    return make_tree(tmp_path / "album", files)


def changed_copy(old: Path, tmp_path: Path) -> Path:
    """The same folder, to be changed and released under the same name."""
    new = tmp_path / "next" / "album"
    shutil.copytree(old, new)
    return new


async def test_a_new_version_is_fetched_only_where_it_differs(
    old: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    new = changed_copy(old, tmp_path)
    make_file(new / "0-first", 10_001, seed=9)  # so that all pieces begin elsewhere
    with (new / "b.bin").open("r+b") as file:
        file.seek(150_000)
        file.write(b"changed")
    with (new / "a.bin").open("ab") as file:
        file.write(bytes(5_000))
    (new / "sub" / "c.bin").rename(new / "sub" / "renamed.bin")
    before = read_tree(old)
    sample = released(new)
    async with copying(tmp_path, sample) as copy:
        torrent = await copy.get(old)
        path = torrent.path
        assert path is not None
        assert differences(new, path) == []
        # The first piece, the end of a.bin, and one in the middle of b.bin.
        at = 10_001 + 205_000 + 150_000
        ends = {(10_001 + 200_000) // PIECE, (10_001 + 205_000) // PIECE}
        assert copy.asked == {0, at // PIECE, *ends}
        fetched = sum(map(sample.metainfo.geometry.piece_size, copy.asked))
        assert torrent.downloaded == fetched
        assert torrent.reused == len(sample.data) - fetched
        assert torrent.summary().reused == copy.node.status().reused == torrent.reused
        assert torrent.warning is None
    assert read_tree(old) == before


@pytest.mark.parametrize("into", ["middle", "end"])
async def test_what_follows_an_insertion_is_found_by_its_distance_from_the_end(
    old: Path, tmp_path: Path, autojump_clock: MockClock, into: str
) -> None:
    new = changed_copy(old, tmp_path)
    data = (new / "b.bin").read_bytes()
    at = {"middle": 100_000, "end": len(data)}[into]
    (new / "b.bin").write_bytes(data[:at] + b"inserted" + data[at:])
    async with copying(tmp_path, released(new)) as copy:
        torrent = await copy.get(old)
        assert torrent.path is not None
        assert differences(new, torrent.path) == []
        assert copy.asked == {(200_000 + at) // PIECE}


async def test_what_lies_between_two_insertions_is_found_by_a_sample(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    old = make_file(tmp_path / "album" / "image.bin", 120 * PIECE).parent
    new = changed_copy(old, tmp_path)
    data = (old / "image.bin").read_bytes()
    a, b, c = data[: 30 * PIECE], data[30 * PIECE : 80 * PIECE], data[80 * PIECE :]
    (new / "image.bin").write_bytes(a + b"first" + b[100:] + b"another" * 50 + c)
    small = TorrentConfig(max_open_bytes=4 * PIECE)
    async with copying(tmp_path, released(new), torrent=small) as copy:
        copy.seed.pause = 0.01
        torrent = await copy.get(old)
        assert torrent.path is not None
        assert differences(new, torrent.path) == []
        # The two pieces that are new, and what was asked for before the first of others was here.
        assert {30, 80} <= copy.asked
        assert len(copy.asked) <= 10
        assert torrent.reused > 110 * PIECE


async def test_another_torrent_of_this_node_is_a_source_by_itself(
    old: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    make_file(old / "d.bin", 111_111, seed=5)
    new = tmp_path / "compilation"
    new.mkdir()
    shutil.copy(old / "b.bin", new / "b.bin")
    make_file(new / "fresh.bin", 40_000, seed=7)
    shutil.copy(old / "d.bin", new / "other name.bin")  # found by its size alone
    sample = released(new)
    async with copying(tmp_path, sample) as copy:
        await copy.node.share(old)
        torrent = await copy.get()
        assert torrent.path is not None
        assert differences(new, torrent.path) == []
        assert copy.asked == set(range(300_001 // PIECE, 340_001 // PIECE + 1))


async def test_a_torrent_that_is_said_to_be_similar_is_looked_into_by_paths_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    old = make_tree(tmp_path / "thing-1.0", {"a.bin": 200_000, "b.bin": 100_000})
    new = tmp_path / "thing-1.1"
    shutil.copytree(old, new)
    with (new / "a.bin").open("ab") as file:
        file.write(b"more")
    plain = make(new, piece_length=PIECE)
    hints = LocalHints((make(old).info_hash,))
    hinting = make(new, piece_length=PIECE, hints=hints)
    data = b"".join(ordered(new))
    async with copying(tmp_path, Sample(data, PIECE, plain.info)) as copy:
        await copy.node.share(old)
        torrent = await copy.get()  # b.bin has its size and its name, a.bin its name only
        assert copy.asked == set(range(200_004 // PIECE + 1))
        await copy.node.remove(torrent, delete_data=True)
    async with copying(tmp_path, Sample(data, PIECE, hinting.info)) as copy:
        await copy.node.share(old)
        torrent = await copy.get()
        assert copy.asked == {200_000 // PIECE}
        assert torrent.path is not None
        assert differences(new, torrent.path) == []


async def test_a_single_file_is_found_in_a_file_of_any_name(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    source = make_file(tmp_path / "older-1.0.iso", 300_000)
    new = tmp_path / "newer-1.1.iso"
    new.write_bytes(source.read_bytes()[:200_000] + random.Random(3).randbytes(150_000))
    async with copying(tmp_path, released(new)) as copy:
        torrent = await copy.get(source)
        assert torrent.path is not None
        assert torrent.path.read_bytes() == new.read_bytes()
        assert min(copy.asked) == 200_000 // PIECE


async def test_pieces_larger_than_the_memory_are_reused_too(
    old: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    new = changed_copy(old, tmp_path)
    with (new / "b.bin").open("r+b") as file:
        file.seek(100_000)
        file.write(b"changed")
    small = TorrentConfig(max_piece_in_memory=16 * KIB)
    async with copying(tmp_path, released(new), torrent=small) as copy:
        torrent = await copy.get(old)
        assert torrent.path is not None
        assert differences(new, torrent.path) == []
        assert copy.asked == {300_000 // PIECE}


async def test_sources_are_remembered_across_a_restart(
    old: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    sample = released(old)
    state = tmp_path / "state"
    output = tmp_path / "downloads"
    async with World().node(LEECH, open_storage=on_disk, state_dir=state) as node:
        torrent = await node.get(sample.metainfo, output=output, sources=[old], paused=True)
    async with World().node(LEECH, open_storage=on_disk, state_dir=state) as node:
        (torrent,) = node.torrents.values()
        assert torrent.sources == (old,)
        await torrent.resume()
        with trio.fail_after(60):
            path = await torrent.completed()
        assert differences(old, path) == []
        assert torrent.reused == len(sample.data)
    async with World().node(LEECH, open_storage=on_disk, state_dir=state) as node:
        (torrent,) = node.torrents.values()
        assert (torrent.reused, torrent.downloaded) == (len(sample.data), 0)


async def test_after_a_restart_it_is_not_looked_for_once_more(
    old: Path, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = changed_copy(old, tmp_path)
    (new / "a.bin").write_bytes(bytes(200_000))
    sample = released(new)
    state, output = tmp_path / "state", tmp_path / "downloads"
    looks: list[str] = []

    def counted(source: str, *args: Any, **kwargs: Any) -> object:
        looks.append(source)
        return find_files(source, *args, **kwargs)

    monkeypatch.setattr("dht_torrent.engine.torrent.reusing.find_files", counted)
    for times in (1, 1):
        async with World().node(LEECH, open_storage=on_disk, state_dir=state) as node:
            if not node.torrents:
                await node.get(sample.metainfo, output=output, sources=[old])
            (torrent,) = node.torrents.values()
            await trio.sleep(60)
            assert torrent.state == "downloading"
            assert torrent.reused == len(sample.data) - 7 * PIECE
            assert looks == [str(old)] * times
    (output / "album" / "b.bin").write_bytes(bytes(300_001))
    async with World().node(LEECH, open_storage=on_disk, state_dir=state) as node:
        (torrent,) = node.torrents.values()
        await torrent.recheck()  # more may be missing now than there was
        await trio.sleep(60)
        assert looks == [str(old)] * 2
        assert torrent.state == "downloading"
        assert torrent.progress > 0.6


async def test_a_full_disk_is_waited_for_and_nothing_is_fetched_instead(
    old: Path, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, writes = FileStorage.write, 0

    def full(self: FileStorage, offset: int, data: bytes) -> None:
        nonlocal writes
        writes += 1
        if 5 <= writes < 8:
            raise StorageError("no space left", disk_full=True)
        write(self, offset, data)

    monkeypatch.setattr(FileStorage, "write", full)
    sample = released(old)
    async with copying(tmp_path, sample) as copy:
        torrent = await copy.node.get(sample.magnet(SEED), output=copy.output, sources=[old])
        await entered(torrent, "error")
        assert torrent.reused == 4 * PIECE
        while torrent.state != "seeding":
            await trio.sleep(60)
            assert trio.current_time() < 2000
        assert copy.asked == set()
        assert torrent.reused == len(sample.data)
        assert torrent.path is not None
        assert differences(old, torrent.path) == []


async def test_a_source_named_later_is_looked_into_at_once(
    old: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    sample = released(old)
    async with World().node(LEECH, open_storage=on_disk) as node:
        torrent = await node.get(sample.metainfo, output=tmp_path / "downloads")
        await trio.sleep(5)
        assert torrent.progress == 0
        assert await node.get(sample.metainfo, sources=[old]) is torrent
        with trio.fail_after(60):
            await torrent.completed()
        assert torrent.reused == len(sample.data)


async def test_a_source_named_meanwhile_lets_nothing_go_to_peers(
    old: Path, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = released(old)
    monkeypatch.setattr("dht_torrent.engine.torrent.reusing.SAVE_BATCH", PIECE)
    async with copying(tmp_path, sample) as copy:
        disk = copy.node._context.disk
        run = disk.run

        async def slow(work, *args, **kwargs):  # type: ignore[no-untyped-def]
            if work.__name__ in ("_reuse", "run"):  # a look takes as long as five pieces
                await trio.sleep(1 if work.__name__ == "_reuse" else 5)
            return await run(work, *args, **kwargs)

        monkeypatch.setattr(disk, "run", slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(copy.get, old)
            await trio.sleep(10)
            (torrent,) = copy.node.torrents.values()
            assert 0 < torrent.reused < len(sample.data)
            await copy.node.get(sample.magnet(SEED), sources=[tmp_path / "album" / "sub"])
        assert torrent.reused == len(sample.data)
        assert copy.asked == set()


async def test_files_that_are_selected_later_are_reused_too(
    old: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    sample = released(old)
    async with World().node(LEECH, open_storage=on_disk) as node:
        torrent = await node.get(
            sample.metainfo, output=tmp_path / "downloads", select=[(0, 0)], sources=[old]
        )
        with trio.fail_after(60):
            await torrent.completed()
        assert torrent.reused == 7 * PIECE
        await node.get(sample.metainfo)
        with trio.fail_after(60):
            await torrent.completed()
        assert torrent.reused == len(sample.data)


# -- sources that are not what they seem --------------------------------------------------------


async def test_a_source_that_is_not_there_is_refused(
    old: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    sample = released(old)
    async with World().node(LEECH, open_storage=on_disk) as node:
        for name in ("nothing", "pipe", "loop"):
            with pytest.raises(InputError, match=name):
                await node.get(sample.metainfo, sources=[tmp_path / name])
        with pytest.raises(InputError, match="/dev/zero"):
            await node.get(sample.metainfo, sources=["/dev/zero"])
        with pytest.raises(InputError, match="at most 32 sources"):
            await node.get(sample.metainfo, sources=[tmp_path / str(n) for n in range(33)])
        for inside in (old, old / "sub"):
            with pytest.raises(InputError, match="is where the download goes"):
                await node.get(sample.metainfo, output=old.parent, sources=[inside])
        assert not node.torrents


async def test_what_cannot_be_used_of_a_source_is_fetched(
    old: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    sample = released(old)
    source = tmp_path / "odd"
    source.mkdir()
    os.mkfifo(source / "a.bin")
    outside = tmp_path / "outside"
    shutil.copy(old / "b.bin", outside)
    (source / "b.bin").symlink_to(outside)
    (source / "sub").symlink_to(old / "sub")
    async with copying(tmp_path, sample) as copy:
        torrent = await copy.get(source)
        assert torrent.path is not None
        assert differences(old, torrent.path) == []
        assert torrent.reused == 0
        assert torrent.warning is None  # nothing that was found is missing


async def test_a_source_that_vanishes_or_shrinks_meanwhile_costs_a_line(
    old: Path, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "fleeting"
    shutil.copytree(old, source)
    read, reads = LocalReader.read, 0

    def fleeting(self: LocalReader, spans: object, begin: int, buffer: memoryview) -> bool:
        nonlocal reads
        reads += 1
        if reads == 3:
            (source / "b.bin").unlink()
            os.truncate(source / "sub" / "c.bin", 70_000)
            self.close()
        return read(self, spans, begin, buffer)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalReader, "read", fleeting)
    async with copying(tmp_path, released(old)) as copy:
        torrent = await copy.get(source)
        assert torrent.path is not None
        assert differences(old, torrent.path) == []
        assert 0 < torrent.reused < 400_000
        assert torrent.warning is not None
        assert "b.bin: No such file" in torrent.warning
        assert "\n" not in torrent.warning


async def test_a_source_that_changes_after_it_was_read_does_not_matter(
    old: Path, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LocalReader.read

    def changing(self: LocalReader, spans: object, begin: int, buffer: memoryview) -> bool:
        good = read(self, spans, begin, buffer)  # type: ignore[arg-type]
        for file in self._files:
            Path(file.location).write_bytes(bytes(file.length))
        return good

    source = tmp_path / "changing"
    shutil.copytree(old, source)
    monkeypatch.setattr(LocalReader, "read", changing)
    for most in (16 * KIB, 1024 * KIB):  # by way of scratch space, and not
        where = tmp_path / str(most)
        small = TorrentConfig(max_piece_in_memory=most)
        async with copying(where, released(old), torrent=small) as copy:
            torrent = await copy.get(source)
            assert torrent.path is not None
            assert differences(old, torrent.path) == []


async def test_a_folder_that_the_download_lies_in_is_a_source(
    old: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What is being written there is not."""
    new = tmp_path / "next" / "album-2"
    shutil.copytree(old, new)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    shutil.move(old, downloads / "album-1")
    async with copying(tmp_path, released(new)) as copy:
        torrent = await copy.get(downloads)
        assert torrent.path is not None
        assert torrent.path.parent == downloads
        assert differences(new, torrent.path) == []
        assert copy.asked == set()


# -- the swarm is not kept waiting --------------------------------------------------------------


async def test_peers_are_asked_meanwhile_for_what_nobody_has_here(
    old: Path, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = changed_copy(old, tmp_path)
    make_file(new / "z.bin", 100_000, seed=77)
    sample = released(new)
    release = trio.Event()
    async with copying(tmp_path, sample) as copy:
        disk = copy.node._context.disk
        run = disk.run

        async def slow(work, *args, **kwargs):  # type: ignore[no-untyped-def]
            if work.__name__ == "_reuse":
                await release.wait()
            return await run(work, *args, **kwargs)

        monkeypatch.setattr(disk, "run", slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(copy.get, old)
            await trio.sleep(20)
            first = (len(sample.data) - 100_000) // PIECE
            assert copy.asked == set(range(first, sample.count))
            (torrent,) = copy.node.torrents.values()
            assert torrent.why is None
            release.set()
        assert torrent.reused == first * PIECE


async def test_a_folder_is_not_looked_through_for_ever(
    old: Path, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = released(old)
    async with copying(tmp_path, sample, torrent=TorrentConfig(reuse_look=5)) as copy:
        disk = copy.node._context.disk
        run = disk.run

        async def slow(work, *args, **kwargs):  # type: ignore[no-untyped-def]
            if work.__qualname__ == "_Search.run":
                await trio.sleep(seconds)
            return await run(work, *args, **kwargs)

        monkeypatch.setattr(disk, "run", slow)
        await copy.node.share(old)
        seconds = 6
        torrent = await copy.get(old.parent)
        assert torrent.reused == 0
        assert torrent.warning is not None
        assert f"{old.parent}: took too long" in torrent.warning
        await copy.node.remove(torrent, delete_data=True)
        seconds = 4
        torrent = await copy.get()
        assert torrent.reused == len(sample.data)


async def test_a_disk_that_does_not_answer_holds_up_nothing(
    old: Path, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = released(old)
    async with copying(tmp_path, sample) as copy:
        disk = copy.node._context.disk
        run = disk.run

        async def dead(work, *args, **kwargs):  # type: ignore[no-untyped-def]
            if work.__name__ == "_reuse":
                await trio.sleep(100)
            return await run(work, *args, **kwargs)

        monkeypatch.setattr(disk, "run", dead)
        begun = trio.current_time()
        torrent = await copy.get(old)
        assert 30 <= trio.current_time() - begun < 60
        assert torrent.path is not None
        assert differences(old, torrent.path) == []
        await trio.sleep(200)  # what it says in the end is not news
        assert torrent.reused == 0
        assert differences(old, torrent.path) == []


async def test_a_file_that_is_another_one_is_not_waited_for_piece_by_piece(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_file(tmp_path / "album" / "a.bin", 100 * PIECE, seed=1).parent
    new = make_file(tmp_path / "next" / "album" / "a.bin", 100 * PIECE, seed=2).parent
    with (new / "a.bin").open("r+b") as file:
        file.seek(90 * PIECE)
        file.write((old / "a.bin").read_bytes()[90 * PIECE :])
    async with copying(tmp_path, released(new)) as copy:
        disk = copy.node._context.disk
        run = disk.run
        held: list[int] = []

        async def slow(work, *args, **kwargs):  # type: ignore[no-untyped-def]
            if work.__name__ == "_reuse":
                (torrent,) = copy.node.torrents.values()
                stage = behind(torrent).core.stage
                assert isinstance(stage, Active)
                states = map(stage.swarm.picker.state, range(100))
                held.append(sum(state is State.HELD for state in states))
                await trio.sleep(1)
            return await run(work, *args, **kwargs)

        monkeypatch.setattr("dht_torrent.engine.torrent.reusing.SAVE_BATCH", PIECE)
        monkeypatch.setattr(disk, "run", slow)
        copy.seed.pause = 0.5  # a block: a piece takes a second as well
        torrent = await copy.get(old)
        assert torrent.path is not None
        assert differences(new, torrent.path) == []
        assert held[:16] == list(range(100, 84, -1))
        assert held[16] == 1  # the one that is looked for
