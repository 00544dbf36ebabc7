"""Content goes to another folder, or gets another name: whole, and with nothing of others lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.engine.resume import Resume
from dht_torrent.errors import DhtTorrentError, InputError, StorageError
from dht_torrent.ids import HostPort
from dht_torrent.storage import FileStorage, moving
from dht_torrent.storage.moving import Carrying
from dht_torrent.storage.owners import OWN
from tests.engine.torrent.test_ownership import PIECE, Place, album, completes, film, host, link
from tests.helpers.content import read_tree
from tests.helpers.engine import PORT, dial, entered

FILES = {"a.bin": 3 * PIECE, "cd1/b.bin": 2 * PIECE, "cd1/c.txt": 100}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is copied, as it is to another file system."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Carrying, "at_once", lambda _: False)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def record(node: Node) -> Resume:
    state = node._context.state
    assert state is not None
    (one,) = state.load_all()[0]
    return one


def contents(one: Any, names: dict[str, int] = FILES) -> dict[str, bytes]:
    """What each file holds."""
    found, at = {}, 0
    for name, size in names.items():
        found[name] = one.data[at : at + size]
        at += size
    return found


async def test_a_moved_torrent_is_all_there_and_goes_on_with_what_it_had(
    place: Place, autojump_clock: MockClock
) -> None:
    one, there = album(FILES), place.folder / "new" / "home"
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        place.pieces()
        await torrent.move(there)
        assert (torrent.folder, torrent.path) == (there, there / "album")
        assert await torrent.completed() == there / "album"
        assert read_tree(there / "album") == contents(one)
        assert read_tree(place.got) == {}
        assert list(place.got.iterdir()) == []  # the torrent's own folder has gone with it
        assert (record(node).content, record(node).shift) == (there, None)
    assert place.pieces() == []
    async with place.node() as node:
        torrent = next(iter(node.torrents.values()))
        await completes(torrent)
        assert torrent.path == there / "album"
        assert (await torrent.remove(delete_data=True)).deleted == 3
    assert read_tree(there) == {}


async def test_what_is_moved_is_on_the_disk_before(
    place: Place, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """In the other place nobody knows what was written, and all of it is believed."""
    one, there = album(FILES), place.folder / "new"
    flushed: set[int] = set()
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        with monkeypatch.context() as patch:
            patch.setattr(
                "dht_torrent.syscalls._fdatasync", lambda fd: flushed.add(os.fstat(fd).st_ino)
            )
            await torrent.move(there)
        assert flushed >= {path.stat().st_ino for path in there.rglob("*.*")} != set()


async def test_a_moved_download_fetches_the_rest_and_nothing_twice(
    place: Place, autojump_clock: MockClock
) -> None:
    one, there = album(FILES), place.folder / "new"
    async with place.node(one, pause=0.1) as node:
        torrent = await node.get(link(one))
        await entered(torrent, "downloading")
        while torrent.verified < 2 * PIECE:
            await trio.sleep(0.05)
        await torrent.move(there)
        assert torrent.left <= torrent.size - 2 * PIECE
        await completes(torrent)
    assert read_tree(there / "album") == contents(one)
    done = place.pieces()
    assert sorted(done) == sorted(set(done))
    assert read_tree(place.got) == {}


async def test_what_is_moved_across_file_systems_is_copied_and_keeps_its_times(
    place: Place, elsewhere: None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(moving, "VISIT", 20_000)
    one, there = album(FILES), place.folder / "new"
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        old = place.got / "album" / "a.bin"
        old.chmod(0o640)
        before = old.stat()
        seen: list[tuple[str, float]] = []

        async def watch() -> None:
            while True:
                seen.append((torrent.state, torrent.progress))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await torrent.move(there)
            nursery.cancel_scope.cancel()
        moved = [share for state, share in seen if state == "moving"]
        assert moved == sorted(moved)
        assert len({share for share in moved if 0 < share < 1}) >= 3
        after = (there / "album" / "a.bin").stat()
        assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)
        assert torrent.state in ("checking", "seeding")
        await completes(torrent)
    assert read_tree(there) == {f"album/{name}": data for name, data in contents(one).items()}
    assert list(place.got.iterdir()) == []
    assert not [name for name in os.listdir(there) if name.startswith(".")]  # noqa: PTH208


@pytest.mark.parametrize("copied", [False, True])
async def test_what_others_put_into_its_folder_stays_there(
    copied: bool, place: Place, request: pytest.FixtureRequest, autojump_clock: MockClock
) -> None:
    if copied:
        request.getfixturevalue("elsewhere")
    one, there = album(FILES), place.folder / "new"
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        (place.got / "album" / "cd1" / "notes.txt").write_text("mine")
        await torrent.move(there)
        await completes(torrent)
    assert read_tree(there / "album") == contents(one)
    assert read_tree(place.got) == {"album/cd1/notes.txt": b"mine"}


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_nothing_is_replaced_at_the_new_place(
    kind: str, copied: bool, place: Place, request: pytest.FixtureRequest, autojump_clock: MockClock
) -> None:
    if copied:
        request.getfixturevalue("elsewhere")
    one, there = album(FILES), place.folder / "new"
    there.mkdir()
    match kind:
        case "file":
            (there / "album").write_text("mine")
        case "folder":
            (there / "album").mkdir()
        case _:
            (there / "album").symlink_to(place.folder / "nowhere")
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        with pytest.raises(StorageError, match="something is there already"):
            await torrent.move(there)
        with pytest.raises(StorageError, match="lies inside"):
            await torrent.move(place.got / "album" / "cd1")
        assert torrent.folder == place.got
        assert await torrent.completed() == place.got / "album"
        assert record(node).shift is None
    assert read_tree(place.got / "album") == contents(one)
    assert os.listdir(there) == ["album"]  # noqa: PTH208


async def test_what_appears_at_the_new_place_while_it_is_copied_is_not_replaced(
    place: Place, elsewhere: None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    one, there = album(FILES), place.folder / "new"
    plain = Carrying.settle

    def appears(self: Carrying) -> int:
        (there / "album").mkdir()
        return plain(self)

    monkeypatch.setattr(Carrying, "settle", appears)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        with pytest.raises(StorageError, match="something is there already"):
            await torrent.move(there)
        assert "something is there already" in str(torrent.warning)
        assert await torrent.completed() == place.got / "album"
    assert read_tree(place.got / "album") == contents(one)
    assert os.listdir(there) == ["album"]  # noqa: PTH208


async def test_a_disk_without_room_is_told_of_before_anything_is_copied(
    place: Place, elsewhere: None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    one, there = album(FILES), place.folder / "new"
    monkeypatch.setattr(moving, "free_space", lambda _: 1000)
    monkeypatch.setattr(Carrying, "_is_elsewhere", lambda _: True)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        with pytest.raises(StorageError, match="bytes are needed and 1000 are free"):
            await torrent.move(there)
        await completes(torrent)
    assert os.listdir(there) == []  # noqa: PTH208


async def test_a_file_that_changes_while_it_is_copied_ends_the_move(
    place: Place, elsewhere: None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    one, there = album(FILES), place.folder / "new"
    plain = moving._copy_range

    def changes(source: int, target: int, at: int, end: int) -> None:
        plain(source, target, at, end)
        os.utime(place.got / "album" / "a.bin")

    monkeypatch.setattr(moving, "_copy_range", changes)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        with pytest.raises(StorageError, match="changed while it was copied"):
            await torrent.move(there)
    assert read_tree(place.got / "album") == contents(one)
    assert os.listdir(there) == []  # noqa: PTH208


async def test_a_file_of_two_torrents_does_not_move(
    place: Place, autojump_clock: MockClock
) -> None:
    one, other = film(name="a.bin"), film(name="a.bin", more=b"other")
    async with place.node(one, other) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        await completes(await node.get(link(other, 1)))
        for act in (torrent.move(place.folder / "new"), torrent.rename("a.bin", "b.bin")):
            with pytest.raises(StorageError, match=r"torrent a\.bin \(.*\) has it as well"):
                await act
        await completes(torrent)
    assert read_tree(place.got) == {"a.bin": one.data}


async def test_a_move_is_given_up_for_another(
    place: Place, elsewhere: None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    one = album(FILES)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        stuck = trio.Event()

        async def wait(*_: object) -> None:
            stuck.set()
            await trio.sleep_forever()

        plain = node._supervisor(torrent).mover._gather
        monkeypatch.setattr(node._supervisor(torrent).mover, "_gather", wait)
        await torrent.move(place.folder / "first", wait=False)
        await stuck.wait()
        assert torrent.state == "moving"
        await torrent.pause()
        assert torrent.state == "moving"
        monkeypatch.setattr(node._supervisor(torrent).mover, "_gather", plain)
        await torrent.move(place.folder / "second")
        await entered(torrent, "paused")
        assert torrent.path == place.folder / "second" / "album"
        assert torrent.warning is None
        await torrent.resume()
        await completes(torrent)
    assert read_tree(place.folder / "second" / "album") == contents(one)
    assert read_tree(place.folder / "first") == {}


async def test_a_removed_torrent_leaves_nothing_half_copied(
    place: Place, elsewhere: None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    one, there = album(FILES), place.folder / "new"
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        mover, stuck = node._supervisor(torrent).mover, trio.Event()
        plain = mover._gather

        async def wait(*args: Any) -> None:
            await plain(*args)
            stuck.set()
            await trio.sleep_forever()

        monkeypatch.setattr(mover, "_gather", wait)
        told: list[str] = []

        async def move() -> None:
            try:
                await torrent.move(there)
            except StorageError as error:
                told.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(move)
            await stuck.wait()
            assert os.listdir(there) != []  # noqa: PTH208
            assert (await torrent.remove()).deleted == 0
        assert ["was removed" in text for text in told] == [True]
    assert os.listdir(there) == []  # noqa: PTH208
    assert read_tree(place.got / "album") == contents(one)


# -- killed in between ----------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


WAYS = {
    "by one rename": ["check", "at_once", "land", "clear"],
    "by second names": ["check", "size", "gather", "settle", "land", "clear"],
    "by copies": ["check", "size", "gather", "settle", "land", "clear"],
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("way", "step"), [(way, one) for way in WAYS for one in WAYS[way]])
async def test_a_move_that_was_cut_off_goes_on_after_a_restart(
    way: str,
    step: str,
    after: bool,
    place: Place,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    if way == "by copies":
        request.getfixturevalue("elsewhere")
    elif way == "by second names":
        monkeypatch.setattr(Carrying, "at_once", lambda _: False)
    one, there = album(FILES), place.folder / "new"
    saved: dict[Path, bytes] = {}
    plain = getattr(Carrying, step)
    calls = 0

    def snapshot() -> None:
        saved.update({path: path.read_bytes() for path in place.state.rglob("*") if path.is_file()})

    def cut(self: Carrying, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        # The first look at the place is that of `Torrent.move`, before anything was promised.
        if step in ("gather", "check") and calls != 2:
            return plain(self, *args)
        if after:
            plain(self, *args)
        snapshot()  # what the next process finds: nothing is saved any more
        raise Killed

    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        await torrent.set_labels(["kept"])
        monkeypatch.setattr(Carrying, step, cut)
        place.pieces()
    with pytest.raises(BaseException):  # noqa: B017, PT012 - a group, or itself
        async with place.node() as node:
            torrent = next(iter(node.torrents.values()))
            await completes(torrent)
            await torrent.move(there)
    assert saved
    for path in list(place.state.rglob("*")):
        if path.is_file():
            path.unlink()
    for path, data in saved.items():
        path.write_bytes(data)
    monkeypatch.setattr(Carrying, step, plain)
    async with place.node() as node:
        torrent = next(iter(node.torrents.values()))
        await completes(torrent)
        moved = torrent.folder == there
        assert torrent.labels == ("kept",)
        assert torrent.warning is None
    home, other = (there, place.got) if moved else (place.got, there)
    assert read_tree(home / "album") == contents(one)
    assert not (other / "album").exists()
    assert not other.exists() or list(other.iterdir()) == []
    assert moved or step == "check"  # before that was in the record
    assert place.pieces() == []


# -- names ----------------------------------------------------------------------------------------


async def test_files_folders_and_the_root_get_other_names(
    place: Place, autojump_clock: MockClock
) -> None:
    one = album(FILES)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        await torrent.rename("album/cd1/b.bin", "first.bin")
        await torrent.rename("album/cd1", "disc 1")
        await torrent.rename("album", "My Album")
        await torrent.rename("My Album/disc 1/c.txt", "notes.txt")
        assert torrent.name == "My Album"
        assert torrent.summary().name == "My Album"
        assert [file.path for file in torrent.files()] == [
            "a.bin",
            "disc 1/first.bin",
            "disc 1/notes.txt",
        ]
        await completes(torrent)
        assert torrent.id == one.metainfo.info_hash.hex()
        assert torrent.metainfo == one.metainfo
        names = ["a.bin", "disc 1/first.bin", "disc 1/notes.txt"]
        expected = dict(zip(names, contents(one).values(), strict=True))
        assert read_tree(place.got) == {f"My Album/{name}": data for name, data in expected.items()}
        place.pieces()
    async with place.node() as node:
        torrent = next(iter(node.torrents.values()))
        await completes(torrent)
        assert torrent.path == place.got / "My Album"
        await torrent.rename("My Album/disc 1", "cd1")  # its own name again
        await torrent.rename("My Album", "album")
        await torrent.rename("album/cd1/first.bin", "b.bin")
        await torrent.rename("album/cd1/notes.txt", "c.txt")
        await torrent.move(place.folder / "new")
        await completes(torrent)
        assert record(node).names == {}
        await torrent.rename("album/a.bin", "x.bin")
        await torrent.move(place.got)
        await completes(torrent)
        assert (await torrent.remove(delete_data=True)).deleted == 3
    assert place.pieces() == []
    assert read_tree(place.got) == {}


async def test_what_is_not_on_the_disk_yet_comes_under_its_new_name(
    place: Place, autojump_clock: MockClock
) -> None:
    one = album(FILES)
    async with place.node(one) as node:
        torrent = await node.get(one.metainfo, paused=True)
        await torrent.rename("album/cd1/b.bin", "first.bin")
        await torrent.rename("album", "mine")
        assert not (place.got / "mine").exists()
        torrent.add_peers(link_peers())
        await torrent.resume()
        await completes(torrent)
    assert set(read_tree(place.got)) == {"mine/a.bin", "mine/cd1/first.bin", "mine/cd1/c.txt"}


def link_peers() -> list[Any]:
    return [HostPort(host(0), PORT)]


HOSTILE = [
    "",
    ".",
    "..",
    "a/b",
    "/etc",
    "a\0b",
    "con",
    "a:b",
    "x" * 300,
    "a\u202eb",
    "end.",
    "\ud800",
]


async def test_hostile_and_taken_names_are_refused(place: Place, autojump_clock: MockClock) -> None:
    one = album(FILES)
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        for name in HOSTILE:
            for path in ("album", "album/cd1", "album/cd1/b.bin"):
                with pytest.raises(InputError):
                    await torrent.rename(path, name)
        for path, name in (
            ("album/cd1/b.bin", "c.txt"),
            ("album/cd1/b.bin", "C.TXT"),
            ("album/cd1", "a.bin"),
            ("album/nothing", "x"),
            ("other", "x"),
            ("album/cd1/../a.bin", "x"),
            ("album/", "x"),
            ("", "x"),
        ):
            with pytest.raises(InputError):
                await torrent.rename(path, name)
        (place.got / "album" / "mine.txt").write_text("mine")
        (place.got / "taken").mkdir()
        for path, name in (("album/a.bin", "mine.txt"), ("album", "taken")):
            with pytest.raises(StorageError, match="something is there already"):
                await torrent.rename(path, name)
        await completes(torrent)
        assert record(node).names == {}
    assert read_tree(place.got / "album") == contents(one) | {"mine.txt": b"mine"}
    with pytest.raises(DhtTorrentError):
        async with place.node() as node:
            await (await node.get("ab" * 20)).rename("x", "y")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("path", ["album", "album/cd1", "album/cd1/b.bin"])
async def test_a_rename_that_was_cut_off_is_done_after_a_restart(
    path: str, after: bool, place: Place, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    one = album(FILES)
    saved: dict[Path, bytes] = {}
    plain = moving.rename

    def cut(source: Path, target: Path) -> None:
        if after:
            plain(source, target)
        saved.update({path: path.read_bytes() for path in place.state.rglob("*") if path.is_file()})
        raise Killed

    async with place.node(one) as node:
        await completes(await node.get(link(one)))
    monkeypatch.setattr("dht_torrent.engine.torrent.moving.rename", cut)
    with pytest.raises(BaseException):  # noqa: B017, PT012 - a group, or itself
        async with place.node() as node:
            torrent = next(iter(node.torrents.values()))
            await completes(torrent)
            place.pieces()
            await torrent.rename(path, "other")
    assert saved
    for file, data in saved.items():
        file.write_bytes(data)
    monkeypatch.setattr("dht_torrent.engine.torrent.moving.rename", plain)
    async with place.node() as node:
        torrent = next(iter(node.torrents.values()))
        await completes(torrent)
        assert torrent.path is not None
        got = read_tree(place.got)
        assert sorted(got.values()) == sorted(contents(one).values())
        assert any("other" in name.split("/") for name in got)
    assert place.pieces() == []


# -- shared content, and content that was moved by hand -------------------------------------------


async def test_what_is_shared_where_it_lies_can_be_moved_and_renamed(
    place: Place, autojump_clock: MockClock
) -> None:
    mine = place.folder / "mine" / "holiday"
    (mine / "day 1").mkdir(parents=True)
    (mine / "day 1" / "x.jpg").write_bytes(b"x" * PIECE)
    (mine / "y.jpg").write_bytes(b"y" * 10)
    async with place.node() as node:
        torrent = await node.share(mine)
        there = place.folder / "new"
        await torrent.move(there)
        await completes(torrent)
        await torrent.rename("holiday", "summer")
        await torrent.rename("summer/day 1", "monday")
        await completes(torrent)
        assert (torrent.folder, torrent.name) == (there, "summer")
    async with place.node() as node:
        torrent = next(iter(node.torrents.values()))
        await completes(torrent)
        assert torrent.path == there / "summer"
        removal = await torrent.remove(delete_data=True)
        assert removal.deleted == 0
    assert set(read_tree(there)) == {"summer/monday/x.jpg", "summer/y.jpg"}
    assert list((place.folder / "mine").iterdir()) == []


async def test_it_goes_on_with_what_its_user_has_moved_by_hand(
    place: Place, autojump_clock: MockClock
) -> None:
    one, there = album(FILES), place.folder / "new"
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        await torrent.rename("album/a.bin", "x.bin")
        there.mkdir()
        (place.got / "album").rename(there / "album")
        await torrent.look_in(there)
        await completes(torrent)
        assert torrent.path == there / "album"
        place.pieces()
        (place.got / "album").mkdir()
        (place.got / "album" / "x.bin").write_text("stays")
        await torrent.look_in(place.folder / "empty")
        await completes(torrent)
    assert len(place.pieces()) == one.count
    assert read_tree(place.got) == {"album/x.bin": b"stays"}
    assert set(read_tree(there / "album")) == {"x.bin", "cd1/b.bin", "cd1/c.txt"}


async def test_before_its_name_is_known_only_the_folder_changes(
    place: Place, autojump_clock: MockClock
) -> None:
    one, there = film(name="a.bin"), place.folder / "new"
    async with place.node(one) as node:
        torrent = await node.get(one.magnet())
        await torrent.move(there)
        assert torrent.folder == there
        torrent.add_peers(link_peers())
        await completes(torrent)
    assert read_tree(there) == {"a.bin": one.data}


async def test_peers_are_served_from_the_new_place(place: Place, autojump_clock: MockClock) -> None:
    one = film(name="a.bin")
    async with place.node(one) as node:
        torrent = await node.get(link(one))
        await completes(torrent)
        await torrent.move(place.folder / "new")
        await completes(torrent)
        hand = await dial(place.world, "10.0.0.2")
        await hand.hello(one.metainfo.info_hash)
        await hand.send(14)
        await hand.send(2)
        await hand.expect(1)
        await hand.send(6, 1, 0, 16384)
        assert (await hand.expect(7))[8:] == one.block(1, 0)


async def cut_off_after_landing(place: Place, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A move of which the process ended when all was at the new place; returns what was moved."""
    one, there = album(FILES), place.folder / "new"
    saved: dict[Path, bytes] = {}
    plain = Carrying.land

    def cut(self: Carrying, number: int) -> None:
        plain(self, number)
        saved.update({path: path.read_bytes() for path in place.state.rglob("*") if path.is_file()})
        raise Killed

    async with place.node(one) as node:
        await completes(await node.get(link(one)))
    monkeypatch.setattr(Carrying, "land", cut)
    with pytest.raises(BaseException):  # noqa: B017, PT012 - a group, or itself
        async with place.node() as node:
            torrent = next(iter(node.torrents.values()))
            await completes(torrent)
            await torrent.move(there)
    for file, data in saved.items():
        file.write_bytes(data)
    monkeypatch.setattr(Carrying, "land", plain)
    place.pieces()
    return one


async def test_a_move_whose_disk_is_away_waits_for_it(
    place: Place, elsewhere: None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    one = await cut_off_after_landing(place, monkeypatch)
    there, away = place.folder / "new", place.folder / "away"
    there.rename(away)
    async with place.node() as node:
        torrent = next(iter(node.torrents.values()))
        await entered(torrent, "error")
        assert "at neither place; goes on when it is back" in str(torrent.error)
        await trio.sleep(600)
        assert torrent.state == "error"
        assert read_tree(place.got / "album") == contents(one)  # what may be all there is
        away.rename(there)
        await entered(torrent, "seeding", 60)
        assert torrent.path == there / "album"
        assert torrent.warning is None
    assert read_tree(there / "album") == contents(one)
    assert list(place.got.iterdir()) == []
    assert place.pieces() == []


async def test_a_move_whose_disk_never_comes_back_is_replaced_by_another(
    place: Place, elsewhere: None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    one = await cut_off_after_landing(place, monkeypatch)
    (place.folder / "new").rename(place.folder / "lost")
    async with place.node() as node:
        torrent = next(iter(node.torrents.values()))
        await entered(torrent, "error")
        await torrent.move(place.folder / "third")
        await completes(torrent)
    assert read_tree(place.folder / "third" / "album") == contents(one)
    assert list(place.got.iterdir()) == []
    assert place.pieces() == []


async def test_a_download_that_filled_its_disk_goes_on_at_its_new_place(
    place: Place, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    one, there = album(FILES), place.folder / "new"
    full = True
    plain = FileStorage.write_many

    def write_many(self: FileStorage, parts: Any) -> Any:
        if full and self.path.parent == place.got and self.access.count(OWN):
            return 0, StorageError("the disk is full", disk_full=True)
        return plain(self, parts)

    monkeypatch.setattr(FileStorage, "write_many", write_many)
    async with place.node(one, pause=0.1) as node:
        torrent = await node.get(link(one))
        await entered(torrent, "error", 120)
        await torrent.move(there)
        await completes(torrent)
    assert read_tree(there / "album") == contents(one)
    assert read_tree(place.got) == {}
