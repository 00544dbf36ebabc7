"""What belongs to the user: nothing of it is written over, deleted or fetched again unasked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node, bencode
from dht_torrent.config import DiskConfig, TorrentConfig
from dht_torrent.engine.resume import Resume
from dht_torrent.engine.state import StateDir
from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStorage, Storage
from dht_torrent.trace import PieceDone
from tests.helpers.content import read_tree
from tests.helpers.engine import (
    KIB,
    LEECH,
    PORT,
    HandSeed,
    Sample,
    World,
    entered,
    listening,
)

PIECE = 32 * KIB


def album(
    files: dict[str, int], *, seed: int = 1, name: str = "album", more: bytes = b""
) -> Sample:
    """A torrent of these files, relative path and size, of random bytes."""
    data = random.Random(seed).randbytes(sum(files.values()))
    entries: list[bencode.Value] = [
        {b"length": size, b"path": [part.encode() for part in path.split("/")]}
        for path, size in files.items()
    ]
    return of({b"files": entries}, data, name, more)


def film(
    size: int = 8 * PIECE, *, seed: int = 1, name: str = "film.bin", more: bytes = b""
) -> Sample:
    """A torrent of one file."""
    data = random.Random(seed).randbytes(size)
    return of({b"length": size}, data, name, more)


def of(fields: dict[bytes, bencode.Value], data: bytes, name: str, more: bytes) -> Sample:
    pieces = [hashlib.sha1(data[at : at + PIECE]).digest() for at in range(0, len(data), PIECE)]
    info: dict[bytes, bencode.Value] = {
        **fields,
        b"name": name.encode(),
        b"piece length": PIECE,
        b"pieces": b"".join(pieces),
    }
    if more:
        info[b"source"] = more  # another infohash, with the same content
    return Sample(data, PIECE, bencode.encode(info))


class Place:
    """A node on real files, and hand-written seeds of whatever it is to fetch."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        self.got = folder / "got"
        self.got.mkdir()
        self.state = folder / "state"
        self.folder = folder
        self.fetched: list[int] = []

    @contextlib.asynccontextmanager
    async def node(self, *seeds: Sample, pause: float = 0.0, **changes: Any) -> AsyncIterator[Node]:
        def in_files(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
            config = DiskConfig(inline=True)
            if shared:
                return FileStorage(path.parent, metainfo, config, content=path, writable=False)
            return FileStorage(path, metainfo, config)

        options: dict[str, Any] = {"state_dir": self.state, "download_dir": self.got} | changes
        async with contextlib.AsyncExitStack() as stack:
            for number, one in enumerate(seeds):
                handle = HandSeed(one, pause=pause)
                await stack.enter_async_context(listening(self.world, host(number), handle))
            yield await stack.enter_async_context(
                self.world.node(LEECH, open_storage=in_files, **options)
            )

    def pieces(self) -> list[int]:
        """Those that were fetched since the last call."""
        done = [record.index for record in self.world.records.of(PieceDone)]
        self.world.records.all.clear()
        return done


def host(number: int) -> str:
    return f"10.0.3.{number}"


def link(one: Sample, number: int = 0) -> str:
    return f"{one.magnet()}&x.pe={host(number)}:{PORT}"


async def completes(torrent: Any, seconds: float = 120) -> None:
    with trio.fail_after(seconds):
        await torrent.completed()


async def fails(torrent: Any, *says: str) -> str:
    """It stops with an error of one line, which says all this."""
    await entered(torrent, "error", 120)
    text = str(torrent.error)
    assert "\n" not in text
    for words in says:
        assert words in text
    return text


# -- a file has one owner --------------------------------------------------------------------------

FOREIGN: dict[str, Callable[[Sample], bytes]] = {
    "something else": lambda one: b"mine" * 1000,
    "something else of the same length": lambda one: bytes(b ^ 1 for b in one.data),
    "something else, and longer": lambda one: b"mine" * len(one.data),
    "longer": lambda one: one.data + b"!",
    "edited in one place": lambda one: one.data[:100] + b"?" + one.data[101:],
    "edited at its end": lambda one: one.data[:-1] + bytes([one.data[-1] ^ 1]),
    "a beginning and then something else": lambda one: one.data[: 3 * PIECE] + b"x" * 10,
    "nothing but zeros": lambda one: bytes(len(one.data)),
    "a single byte": lambda one: b"x",
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("restart", [False, True])
async def test_what_lies_there_and_is_something_else_is_never_written(
    kind: str, restart: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = film(name="report.pdf"), Place(tmp_path)
    mine = FOREIGN[kind](one)
    report = place.got / "report.pdf"
    report.write_bytes(mine)
    before = report.stat()
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        text = await fails(torrent, str(report), "--output")
        assert "--overwrite" in text
        with pytest.raises(StorageError):
            await torrent.completed()
        for act in (torrent.resume, torrent.recheck, torrent.pause, torrent.resume):
            await act()
            await trio.sleep(100)
            assert torrent.state in ("error", "paused")
    if restart:
        async with place.node(one) as node:
            await fails(next(iter(node.torrents.values())), str(report))
    after = report.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert read_tree(place.got) == {"report.pdf": mine}
    assert place.pieces() == []


async def test_it_goes_elsewhere_when_told_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    one, place = film(name="report.pdf"), Place(tmp_path)
    (place.got / "report.pdf").write_bytes(b"mine")
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await fails(torrent)
        assert await node.get(link(one), output=tmp_path / "new" / "place") is torrent
        await completes(torrent)
        assert torrent.path == tmp_path / "new" / "place" / "report.pdf"
    assert read_tree(place.got) == {"report.pdf": b"mine"}
    assert read_tree(tmp_path / "new") == {"place/report.pdf": one.data}


async def test_it_goes_on_when_what_was_in_the_way_is_moved(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = film(name="report.pdf"), Place(tmp_path)
    report = place.got / "report.pdf"
    edited = one.data[:-1] + b"?"  # all pieces but one verify
    report.write_bytes(edited)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await fails(torrent)
        report.rename(place.got / "mine.pdf")
        assert await node.get(link(one)) is torrent
        await completes(torrent)
    assert read_tree(place.got) == {"mine.pdf": edited, "report.pdf": one.data}


@pytest.mark.parametrize("when", ["at once", "afterwards", "before the metadata is known"])
@pytest.mark.parametrize("kind", FOREIGN)
async def test_overwrite_replaces_it(
    kind: str, when: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = film(name="report.pdf"), Place(tmp_path)
    report = place.got / "report.pdf"
    report.write_bytes(FOREIGN[kind](one))
    os.link(report, tmp_path / "another name")
    async with place.node(one) as node:
        torrent = await node.get(
            one.magnet() if when == "before the metadata is known" else link(one),
            overwrite=when != "afterwards",
        )
        if when == "afterwards":
            await fails(torrent)
            assert await node.get(link(one), overwrite=True) is torrent
        if when == "before the metadata is known":
            await trio.sleep(100)
            await node.get(link(one))
        await completes(torrent)
        assert report.read_bytes() == one.data
        removal = await torrent.remove(delete_data=True)
        assert (removal.deleted, removal.left) == (1, ())
    # What had another name as well is whole there.
    assert read_tree(tmp_path)["another name"] == FOREIGN[kind](one)


async def test_to_insist_once_is_not_to_insist_for_ever(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = film(), Place(tmp_path)
    async with place.node(one) as node:
        torrent = await node.get(link(one), overwrite=True)
        await completes(torrent)
        await torrent.pause()
        (place.got / "film.bin").unlink()
        (place.got / "film.bin").write_bytes(b"mine")
        await torrent.resume()
        await fails(torrent, "replaced by something else")
        await torrent.recheck()
        await fails(torrent, "something else")
    assert read_tree(place.got) == {"film.bin": b"mine"}


INTERRUPTED: dict[str, Callable[[Sample], bytes]] = {
    "cut short": lambda one: one.data[: 3 * PIECE],
    "cut short in a piece": lambda one: one.data[: 3 * PIECE] + bytes(77),
    "zeros at its end": lambda one: one.data[: 3 * PIECE] + bytes(len(one.data) - 3 * PIECE),
    "zeros at its beginning": lambda one: bytes(5 * PIECE) + one.data[5 * PIECE :],
    "zeros in between": lambda one: one.data[:PIECE] + bytes(PIECE) + one.data[2 * PIECE :],
    "empty": lambda one: b"",
    "complete": lambda one: one.data,
}


@pytest.mark.parametrize("kind", INTERRUPTED)
async def test_an_interrupted_download_is_continued_without_a_record(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = film(), Place(tmp_path)
    there = INTERRUPTED[kind](one)
    (place.got / "film.bin").write_bytes(there)
    missing = [
        index
        for index in range(one.count)
        if there[index * PIECE : (index + 1) * PIECE] != one.block(index, 0, PIECE)
    ]
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        assert sorted(place.pieces()) == missing
        removal = await torrent.remove(delete_data=True)  # it was there before us
        assert removal.deleted == 0
        assert [left.path for left in removal.left] == [str(place.got / "film.bin")]
    assert read_tree(place.got) == {"film.bin": one.data}


async def test_holes_are_as_good_as_zeros(tmp_path: Path, autojump_clock: MockClock) -> None:
    one, place = film(), Place(tmp_path)
    with (place.got / "film.bin").open("wb") as file:
        file.seek(5 * PIECE)
        file.write(one.data[5 * PIECE : 6 * PIECE])
        file.truncate(len(one.data))
    async with place.node(one) as node:
        await completes(await node.get(link(one)))
        assert sorted(place.pieces()) == [0, 1, 2, 3, 4, 6, 7]
    assert read_tree(place.got) == {"film.bin": one.data}


# Files b and c lie in one piece with the end of a; e is empty.
MANY = {"a": 3 * PIECE - 1000, "b": 300, "e": 0, "sub/c": 500, "sub/d": 2 * PIECE}


async def test_one_foreign_file_of_many_stops_it_all_before_the_first_write(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    for name in ("a", "b", "e", "sub/c", "sub/d"):
        folder = tmp_path / name.replace("/", "-")
        folder.mkdir()
        one, place = album(MANY), Place(folder)
        mine = place.got / "album" / name
        mine.parent.mkdir(parents=True)
        mine.write_bytes(b"mine")
        async with place.node(one) as node:
            torrent = await node.get(link(one))
            await fails(torrent, str(mine))
        assert read_tree(place.got) == {f"album/{name}": b"mine"}


async def test_a_whole_file_whose_neighbours_are_absent_is_adopted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its last piece lies in the others, too, and cannot verify before they are here."""
    one, place = album(MANY), Place(tmp_path)
    (place.got / "album").mkdir()
    whole = one.data[: MANY["a"]]
    (place.got / "album" / "a").write_bytes(whole)
    before = (place.got / "album" / "a").stat()
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        assert sorted(place.pieces()) == [2, 3, 4]
        removal = await torrent.remove(delete_data=True)
        assert (removal.deleted, removal.left_files) == (4, 1)
    assert (place.got / "album" / "a").stat().st_mtime_ns == before.st_mtime_ns
    assert read_tree(place.got) == {"album/a": whole}
    assert not (place.got / "album" / "sub").exists()


async def test_a_byte_that_no_hash_vouched_for_is_not_written_over(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The end of the file lies in a piece with others, and somebody changed it: found out when
    that piece is here, and left alone."""
    one, place = album(MANY), Place(tmp_path)
    (place.got / "album").mkdir()
    edited = one.data[: MANY["a"] - 1] + bytes([one.data[MANY["a"] - 1] ^ 1])
    (place.got / "album" / "a").write_bytes(edited)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await fails(torrent, "album/a", "something else")
        await trio.sleep(300)
        assert torrent.state == "error"
    assert (place.got / "album" / "a").read_bytes() == edited


async def test_a_file_that_is_not_wanted_is_left_alone_until_it_is(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = album({"a": 2 * PIECE, "b": 2 * PIECE, "c": 2 * PIECE}), Place(tmp_path)
    mine = place.got / "album" / "b"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    async with place.node(one) as node:
        torrent = await node.get(link(one), select=[(0, 0)])
        await completes(torrent)
        with pytest.raises(StorageError, match="album/b holds something else"):
            await node.get(link(one), select=[(1, 2)])
        assert [file.selected for file in torrent.files()] == [True, False, False]
        assert torrent.state == "seeding"
        await node.get(link(one), select=[(2, 2)])
        await completes(torrent)
        assert mine.read_bytes() == b"mine"
        await node.get(link(one), select=[(1, 1)], overwrite=True)
        await completes(torrent)
    assert b"".join(read_tree(place.got).values()) == one.data


async def test_a_file_that_appears_while_we_download_is_left_alone(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = album({"a": 8 * PIECE, "b": 2 * PIECE}), Place(tmp_path)
    async with place.node(one, pause=0.5) as node:
        torrent = await node.get(link(one), sequential=True)
        while not (place.got / "album" / "a").exists():
            await trio.sleep(0.1)
        (place.got / "album" / "b").write_bytes(b"mine")
        await fails(torrent, "album/b")
    assert (place.got / "album" / "b").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["folder", "link", "dangling link", "pipe"])
async def test_what_is_not_a_file_is_left_alone(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = film(), Place(tmp_path)
    spot, precious = place.got / "film.bin", tmp_path / "precious"
    precious.write_bytes(b"precious")
    match kind:
        case "folder":
            spot.mkdir()
        case "link":
            spot.symlink_to(precious)
        case "dangling link":
            spot.symlink_to(tmp_path / "nowhere")
        case _:
            os.mkfifo(spot)
    async with place.node(one) as node:
        torrent = await node.get(link(one), overwrite=True)
        await fails(torrent, str(spot), "not a regular file")
        removal = await torrent.remove(delete_data=True)
        assert (removal.deleted, removal.left_files) == (0, 1)
    assert precious.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()
    assert [path.name for path in place.got.iterdir()] == ["film.bin"]


# -- two torrents ----------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("through", ["the same folder", "a link", "dots"])
async def test_two_torrents_never_write_one_file(
    known: bool, through: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, two, place = (
        film(seed=1, name="report.pdf"),
        film(seed=2, name="report.pdf"),
        Place(tmp_path),
    )
    (tmp_path / "link").symlink_to(place.got)
    other = {
        "the same folder": place.got,
        "a link": tmp_path / "link",
        "dots": place.got / ".." / "got",
    }[through]
    async with place.node(one, two, pause=0.2) as node:
        first = await node.get(one.metainfo if known else link(one, 0))
        second = await node.get(two.metainfo if known else link(two, 1), output=other)
        if known:
            await node.get(link(one, 0))
            await node.get(link(two, 1))
        while "error" not in (first.state, second.state):
            await trio.sleep(0.1)
        loser, winner = (first, second) if first.state == "error" else (second, first)
        await fails(loser, "belongs to another torrent, report.pdf", winner.id[:8], "--output")
        await completes(winner)
        with contextlib.suppress(StorageError):
            await node.get(loser.magnet, overwrite=True)
        await fails(loser, "belongs to another torrent")
        data = one.data if winner is first else two.data
        assert (place.got / "report.pdf").read_bytes() == data
        await node.get(loser.magnet, output=tmp_path / "elsewhere")
        await completes(loser)
        assert winner.state == "seeding"
    both = {(place.got / "report.pdf").read_bytes(), *read_tree(tmp_path / "elsewhere").values()}
    assert both == {one.data, two.data}


async def test_a_shared_file_is_never_the_target_of_a_download(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = film(name="report.pdf"), Place(tmp_path)
    mine = place.got / "report.pdf"
    mine.write_bytes(b"mine" * 50_000)
    async with place.node(one) as node:
        shared = await node.share(mine)
        await completes(shared)
        torrent = await node.get(link(one))
        await fails(torrent, "belongs to another torrent, report.pdf", shared.id[:8])
        await node.get(link(one), overwrite=True)
        await fails(torrent, "belongs to another torrent")
        await trio.sleep(200)
        assert shared.state == "seeding"
        assert (await torrent.remove(delete_data=True)).deleted == 0
    assert read_tree(place.got) == {"report.pdf": b"mine" * 50_000}


async def test_a_download_may_go_into_a_shared_folder_beside_what_is_there(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, two, place = film(), film(seed=2, name="mine.txt"), Place(tmp_path)
    (place.got / "sub").mkdir()
    (place.got / "sub" / "mine.txt").write_bytes(b"mine")
    async with place.node(one, two) as node:
        shared = await node.share(place.got)
        await completes(shared)
        await completes(await node.get(link(one, 0), output=place.got / "sub"))
        torrent = await node.get(link(two, 1), output=place.got / "sub")
        await fails(torrent, "sub/mine.txt belongs to another torrent, got")
    assert (place.got / "sub" / "mine.txt").read_bytes() == b"mine"


async def test_the_same_content_under_another_infohash_is_read_and_never_written(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, two, place = film(), film(more=b"elsewhere"), Place(tmp_path)
    assert one.metainfo.info_hash != two.metainfo.info_hash
    async with place.node(one, two, pause=0.1) as node:
        first = await node.get(link(one, 0))
        while first.state != "downloading":
            await trio.sleep(0.1)
        second = await node.get(link(two, 1))
        await fails(second, "belongs to another torrent")
        await completes(first)
        place.pieces()
        await node.get(link(two, 1))
        await completes(second)
        assert place.pieces() == []
        assert (await second.remove(delete_data=True)).left[0].why == "this torrent did not make it"
        second = await node.get(link(two, 1))
        await completes(second)
        removal = await first.remove(delete_data=True)
        assert removal.deleted == 0
        assert "film.bin" in removal.left[0].why
        await trio.sleep(100)
        assert second.state == "seeding"
    assert read_tree(place.got) == {"film.bin": one.data}


async def test_the_owner_of_a_file_does_not_change_over_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, two, place = film(), film(more=b"elsewhere"), Place(tmp_path)
    async with place.node(one, two, pause=0.2) as node:
        second = await node.get(two.metainfo, paused=True)  # the older one ...
        first = await node.get(link(one, 0))
        await trio.sleep(3)
        assert 0 < first.progress < 1
        await first.pause()
        known = second.id
    async with place.node(one, two) as node:
        second = node.find(known)
        await node.get(link(two, 1))  # ... and the first one to go on
        await fails(second, "belongs to another torrent")
        await node.get(link(one, 0))
        await completes(node.find(first.id))


# -- rm --data -------------------------------------------------------------------------------------


async def test_what_it_made_is_deleted_and_nothing_else(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = album(MANY), Place(tmp_path)
    mine = place.got / "album" / "sub" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    (place.got / "album" / "empty").mkdir()
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        removal = await torrent.remove(delete_data=True)
        assert (removal.deleted, removal.left) == (5, ())
    assert read_tree(place.got) == {"album/sub/notes.txt": b"mine"}
    assert (place.got / "album" / "empty").is_dir()


@pytest.mark.parametrize("open_first", [False, True])
async def test_what_it_made_is_known_after_a_restart(
    open_first: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = album(MANY), Place(tmp_path)
    (place.got / "album").mkdir()
    (place.got / "album" / "a").write_bytes(one.data[: MANY["a"]])
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        if not open_first:
            await torrent.pause()
            await entered(torrent, "paused")
    async with place.node(one) as node:
        torrent = node.find(torrent.id)
        if open_first:
            await completes(torrent)
        removal = await torrent.remove(delete_data=True)
        assert (removal.deleted, removal.left_files) == (4, 1)
        assert removal.left[0].path == str(place.got / "album" / "a")
    assert list(read_tree(place.got)) == ["album/a"]


async def test_a_record_of_an_older_version_deletes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It does not say what was made: all of it may have been there before."""
    one, place = film(), Place(tmp_path)
    async with place.node(one, pause=0.3) as node:
        torrent = await node.get(link(one))
        await trio.sleep(4)
        assert 0 < torrent.progress < 1
    with StateDir(place.state) as state:
        (record,) = state.load_all()[0]
        state.save(replace(record, made=None, begun=b"", stamped_at=None, mount=None))
    async with place.node(one) as node:
        torrent = node.find(torrent.id)
        await completes(torrent)  # it goes on
        removal = await torrent.remove(delete_data=True)
        assert (removal.deleted, removal.left_files) == (0, 1)
    assert read_tree(place.got) == {"film.bin": one.data}


@pytest.mark.parametrize("torn", [False, True])
async def test_what_was_made_since_the_last_record_is_known_after_a_crash(
    torn: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The record of before the first write says what is going to be made."""
    one, place = album({"a": 3 * PIECE, "b": 2 * PIECE + 9, "c": 2 * PIECE}), Place(tmp_path)
    folder = place.got / "album"
    folder.mkdir()
    (folder / "c").write_bytes(one.data[-2 * PIECE :])  # this was there before
    saved = tmp_path / "as it was"
    async with place.node(one, pause=0.2) as node:
        torrent = await node.get(link(one), sequential=True)
        while not (folder / "a").exists():
            await trio.sleep(0.05)
        shutil.copytree(place.state, saved)
        while torrent.progress < 0.5:
            await trio.sleep(0.1)
    shutil.rmtree(place.state)
    saved.rename(place.state)
    if torn:  # the last piece was being written when the power went
        (folder / "b").write_bytes(one.data[3 * PIECE : 3 * PIECE + 1000])
    async with place.node(one) as node:
        torrent = node.find(torrent.id)
        await completes(torrent)
        removal = await torrent.remove(delete_data=True)
        assert (removal.deleted, removal.left_files) == (2, 1)
    assert read_tree(place.got) == {"album/c": one.data[-2 * PIECE :]}


async def test_what_appears_in_a_claimed_place_after_a_crash_is_not_written_over(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = album({"a": 3 * PIECE, "b": 2 * PIECE}), Place(tmp_path)
    saved = tmp_path / "as it was"
    async with place.node(one, pause=0.3) as node:
        torrent = await node.get(link(one), sequential=True)
        while not (place.got / "album" / "a").exists():
            await trio.sleep(0.05)
        shutil.copytree(place.state, saved)
    shutil.rmtree(place.state)
    saved.rename(place.state)
    (place.got / "album" / "b").write_bytes(b"mine" * 1000)
    async with place.node(one) as node:
        torrent = node.find(torrent.id)
        await fails(torrent, "album/b", "something else")
        removal = await torrent.remove(delete_data=True)
        assert [Path(left.path).name for left in removal.left] == ["b"]
    assert read_tree(place.got) == {"album/b": b"mine" * 1000}


@pytest.mark.parametrize("running", [False, True])
async def test_what_was_changed_since_is_left(
    running: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = album({"a": 2 * PIECE, "b": 2 * PIECE, "c": 2 * PIECE}), Place(tmp_path)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        await trio.sleep(1)  # until the node has looked at what it wrote
        if not running:
            await torrent.pause()
            await entered(torrent, "paused")
        folder = place.got / "album"
        (folder / "a").write_bytes(b"mine")  # replaced
        with (folder / "b").open("r+b") as file:  # edited
            file.write(b"mine")
        removal = await torrent.remove(delete_data=True)
        assert removal.deleted == 1
        assert {Path(left.path).name for left in removal.left} == {"a", "b"}
        assert {left.why for left in removal.left} == {"it changed since this torrent wrote it"}
    assert sorted(read_tree(place.got)) == ["album/a", "album/b"]


@pytest.mark.parametrize("edited", [False, True])
async def test_a_recheck_under_way_does_not_change_whose_the_files_are(
    edited: bool, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = album({"a": 2 * PIECE, "b": 2 * PIECE}), Place(tmp_path)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        await trio.sleep(1)
        if edited:
            (place.got / "album" / "a").write_bytes(b"mine")
        await torrent.recheck()  # nothing is believed from now on
        removal = await torrent.remove(delete_data=True)
        assert [Path(left.path).name for left in removal.left] == ["a"] * edited
    assert sorted(read_tree(place.got)) == ["album/a"] * edited


async def test_shared_content_stays_and_that_is_said(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    place = Place(tmp_path)
    (place.got / "mine").write_bytes(b"mine")
    async with place.node() as node:
        shared = await node.share(place.got / "mine")
        removal = await shared.remove(delete_data=True)
        assert removal.deleted == 0
        assert [(left.path, left.why) for left in removal.left] == [
            (str(place.got / "mine"), "shared where it is")
        ]
    assert read_tree(place.got) == {"mine": b"mine"}


# -- what is gone ----------------------------------------------------------------------------------


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("when", ["running", "paused", "stopped"])
@pytest.mark.parametrize("what", ["one file", "the folder", "a mount's folder"])
async def test_what_is_gone_is_waited_for_and_never_fetched_again(
    complete: bool, when: str, what: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = album({"a": 4 * PIECE, "b": 4 * PIECE}), Place(tmp_path)
    gone = {
        "one file": place.got / "album" / "a",
        "the folder": place.got / "album",
        "a mount's folder": place.got,
    }[what]
    away = tmp_path / "away"
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(place.node(one, pause=0.2))
        torrent = await node.get(link(one), sequential=True)
        if complete:
            await completes(torrent)
        else:
            await trio.sleep(3)
            assert 0 < torrent.progress < 1
        if when == "paused":
            await torrent.pause()
            await entered(torrent, "paused")
        if when == "stopped":
            await stack.aclose()
        gone.rename(away)
        if what == "a mount's folder":
            gone.mkdir()
        if when == "stopped":
            node = await stack.enter_async_context(place.node(one, pause=0.2))
            torrent = node.find(torrent.id)
        elif when == "paused":
            await torrent.resume()
        await fails(torrent, "missing", "album" if what != "one file" else "a")
        place.pieces()
        await trio.sleep(1000)
        assert torrent.state == "error"
        assert place.pieces() == []
        if what == "one file":
            assert sorted(read_tree(place.got)) in (["album/b"], [])
        else:
            assert read_tree(place.got) == {}
            if what == "a mount's folder":
                gone.rmdir()
        away.rename(gone)
        await trio.sleep(TorrentConfig().missing_check_interval + 1)
        assert torrent.state != "error"
        await completes(torrent)
        assert len(place.pieces()) < 8
        assert not complete or torrent.downloaded < 9 * PIECE
    assert b"".join(read_tree(place.got).values()) == one.data


async def test_recheck_has_it_fetched_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    one, place = film(), Place(tmp_path)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        (place.got / "film.bin").unlink()
        await fails(torrent, "missing", "recheck")
        await torrent.recheck()
        await completes(torrent)
        assert (await torrent.remove(delete_data=True)).deleted == 1


async def test_a_shared_folder_that_was_moved_is_waited_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    place = Place(tmp_path)
    mine = place.got / "mine"
    mine.mkdir()
    (mine / "a").write_bytes(b"a" * 50_000)
    (mine / "b").write_bytes(b"b" * 50_000)
    async with place.node() as node:
        shared = await node.share(mine)
        await completes(shared)
        (mine / "b").rename(tmp_path / "b")
        await fails(shared, "missing", "b")
        await shared.recheck()
        await fails(shared, "missing", "b")
        (tmp_path / "b").rename(mine / "b")
        await entered(shared, "seeding", 20)
        mine.rename(place.got / "moved")
        await fails(shared, "missing")
        assert await node.share(place.got / "moved") is not shared  # another name: another torrent
        (place.got / "elsewhere").mkdir()
        (place.got / "moved").rename(place.got / "elsewhere" / "mine")
        assert await node.share(place.got / "elsewhere" / "mine") is shared
        await entered(shared, "seeding", 20)


async def test_nothing_is_written_where_a_disk_was_mounted_before(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a byte had come, so no file tells that the disk is gone; where it was mounted does."""
    one, place = film(), Place(tmp_path)
    mounted = [str(place.got)]
    monkeypatch.setattr(FileStorage, "mounted_at", lambda storage: mounted[0])
    async with place.node() as node:
        torrent = await node.get(one.metainfo)
        await trio.sleep(50)
    mounted[0] = "/"
    async with place.node(one) as node:
        torrent = node.find(torrent.id)
        await fails(torrent, f"nothing is mounted at {place.got}")
        with contextlib.suppress(StorageError):
            await node.get(link(one))
        await trio.sleep(300)
        await fails(torrent, "mounted")
        assert read_tree(place.got) == {}
        mounted[0] = str(place.got)
        await trio.sleep(TorrentConfig().missing_check_interval + 1)
        await completes(torrent)
    assert read_tree(place.got) == {"film.bin": one.data}


async def test_another_file_system_below_a_running_download_gets_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    one, place = album({"a": 4 * PIECE, "b": 4 * PIECE}), Place(tmp_path)
    storages: list[FileStorage] = []
    real = FileStorage.create

    def noted(storage: FileStorage, needed: int | None = None) -> None:
        real(storage, needed)
        storages.append(storage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileStorage, "create", noted)
        async with place.node(one, pause=0.3) as node:
            torrent = await node.get(link(one), sequential=True)
            while not (place.got / "album" / "a").exists():
                await trio.sleep(0.1)
            folder = storages[0]._folder
            assert folder.device is not None
            folder.device += 1  # as if another one were there now
            await fails(torrent, "another file system")
    assert not (place.got / "album" / "b").exists()


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("year", [1970, 2100, 2400])
async def test_a_file_of_any_date_is_hashed_once_and_recorded_once(
    year: int, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    mine = place.got / "mine"
    mine.write_bytes(b"m" * 200_000)
    then = (year - 1970) * 31_556_952
    os.utime(mine, (then, then))
    saves: list[str] = []
    reads: list[int] = []
    save, read_into = StateDir.save, FileStorage.read_into

    def counted_save(state: StateDir, resume: Resume) -> None:
        saves.append(resume.magnet)
        save(state, resume)

    def counted_read(storage: FileStorage, offset: int, *buffers: memoryview) -> None:
        reads.append(offset)
        read_into(storage, offset, *buffers)

    monkeypatch.setattr(StateDir, "save", counted_save)
    monkeypatch.setattr(FileStorage, "read_into", counted_read)
    async with place.node() as node:
        shared = await node.share(mine)
        await completes(shared)
        await trio.sleep(100)
        saves.clear()
        await trio.sleep(3600)
        assert saves == []
    for _ in range(2):
        saves.clear()
        async with place.node() as node:
            await completes(node.find(shared.id))
            await trio.sleep(3600)
            assert len(saves) <= 2  # at the start
    assert reads == []  # `share` hashed it, and that was enough
