"""Files that somebody puts into a folder become torrents, once, and nothing else happens."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.config import DiskConfig
from dht_torrent.engine import watch_folder
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.watch_folder import WatchFolder
from dht_torrent.errors import StorageError
from dht_torrent.magnet import Magnet
from dht_torrent.metainfo import Metainfo
from tests.helpers.engine import LEECH, World, sample

IDS = [f"{number:040x}" for number in (1, 2, 3)]
ONE = sample()
LATER = 1e10
"""When any file was written long ago."""


class Added:
    """What was to be added."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.refuses: Exception | None = None

    async def __call__(self, source: Magnet | Metainfo) -> None:
        await trio.lowlevel.checkpoint()
        if self.refuses is not None:
            raise self.refuses
        self.ids.append(source.info_hash.hex())


@pytest.fixture
def added() -> Added:
    return Added()


@pytest.fixture
def now() -> list[float]:
    return [LATER]


@pytest.fixture
def watched(tmp_path: Path, added: Added, now: list[float]) -> WatchFolder:
    disk = Disk(DiskConfig(inline=True))
    return WatchFolder(tmp_path, added, disk, interval=5, clock=lambda: now[0])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def looks(watched: WatchFolder, times: int = 2) -> None:
    for _ in range(times):
        await watched.look()


async def test_torrents_and_magnets_are_added_once_and_renamed(
    tmp_path: Path, watched: WatchFolder, added: Added, autojump_clock: MockClock
) -> None:
    (tmp_path / "a.torrent").write_bytes(ONE.metainfo.to_torrent())
    (tmp_path / "b.MAGNET").write_text(f"\n  magnet:?xt=urn:btih:{IDS[0]}  \nmore\n")
    (tmp_path / "c.magnet").write_text(IDS[1])
    (tmp_path / "notes.txt").write_text(IDS[2])
    await looks(watched, 1)
    assert added.ids == []  # they may still be written
    await looks(watched, 3)
    assert added.ids == [ONE.metainfo.info_hash.hex(), *IDS[:2]]
    assert names(tmp_path) == ["a.torrent.added", "b.MAGNET.added", "c.magnet.added", "notes.txt"]
    (tmp_path / "c.magnet").write_text(IDS[1])
    await looks(watched)
    assert added.ids[3:] == [IDS[1]]
    assert "c.magnet.2.added" in names(tmp_path)
    assert (tmp_path / "c.magnet.added").exists()


async def test_a_file_is_read_when_it_is_whole(
    tmp_path: Path, watched: WatchFolder, added: Added, now: list[float], autojump_clock: MockClock
) -> None:
    whole, path = ONE.metainfo.to_torrent(), tmp_path / "a.torrent"
    for size in (50, 100, 150):
        path.write_bytes(whole[:size])
        await looks(watched, 1)
    now[0] = path.stat().st_mtime + 9.9
    await looks(watched)  # unchanged, but whoever writes it may only pause
    assert names(tmp_path) == ["a.torrent"]
    path.write_bytes(whole)
    await looks(watched)
    assert names(tmp_path) == ["a.torrent.added"]
    assert len(added.ids) == 1


HOSTILE: dict[str, tuple[str, bytes]] = {
    "cut": ("a.torrent", ONE.metainfo.to_torrent()[:200]),
    "empty": ("a.torrent", b""),
    "no torrent": ("a.torrent", b"<html>"),
    "too large": ("a.magnet", b"magnet:?xt=urn:btih:" + b"a" * 100_000),
    "no link": ("a.magnet", b"http://127.0.0.1/x.torrent"),
    "a file": ("a.magnet", b"/etc/passwd"),
    "no text": ("a.magnet", b"\xff\xfe\x00"),
    "blanks": ("a.magnet", b"\n\n \n"),
    "deep": ("a.torrent", b"d1:a" + b"l" * 100_000),
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_what_is_no_torrent_is_refused_with_the_reason_in_the_log(
    kind: str,
    tmp_path: Path,
    watched: WatchFolder,
    added: Added,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    name, data = HOSTILE[kind]
    (tmp_path / name).write_bytes(data)
    with caplog.at_level(logging.WARNING):
        await looks(watched, 4)
    assert names(tmp_path) == [f"{name}.invalid"]
    assert added.ids == []
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{name} was not added: ")
    assert len(line) < 500


async def test_a_large_file_is_not_read(
    tmp_path: Path, watched: WatchFolder, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setitem(watch_folder._LIMITS, ".torrent", 1000)
    with (tmp_path / "a.torrent").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    await looks(watched)
    assert names(tmp_path) == ["a.torrent.invalid"]


async def test_links_pipes_folders_and_hidden_files_are_left_alone(
    tmp_path: Path, watched: WatchFolder, added: Added, autojump_clock: MockClock
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(IDS[0])
    (tmp_path / "link.magnet").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe.magnet")
    (tmp_path / "folder.torrent").mkdir()
    (tmp_path / ".hidden.magnet").write_text(IDS[1])
    before = names(tmp_path)
    await looks(watched, 3)
    assert (names(tmp_path), added.ids) == (before, [])


async def test_what_the_node_refuses_is_invalid_and_the_next_one_is_added(
    tmp_path: Path, watched: WatchFolder, added: Added, autojump_clock: MockClock
) -> None:
    (tmp_path / "a.magnet").write_text(IDS[0])
    added.refuses = StorageError("no")
    await looks(watched)
    added.refuses = None
    (tmp_path / "b.magnet").write_text(IDS[1])
    await looks(watched)
    assert names(tmp_path) == ["a.magnet.invalid", "b.magnet.added"]


async def test_what_cannot_be_renamed_is_not_added_again(
    tmp_path: Path,
    watched: WatchFolder,
    added: Added,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    def fails(*_: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(watch_folder, "rename_new", fails)
    (tmp_path / "a.magnet").write_text(IDS[0])
    await looks(watched, 5)
    assert added.ids == IDS[:1]
    (tmp_path / "a.magnet").write_text(IDS[1] + "\n")  # it is another by now
    await looks(watched, 3)
    assert added.ids == IDS[:2]
    monkeypatch.setattr(watch_folder, "_NAMES", 3)
    monkeypatch.setattr(watch_folder, "rename_new", _taken)
    (tmp_path / "b.magnet").write_text(IDS[2])
    await looks(watched, 5)
    assert added.ids == IDS


def _taken(*_: object) -> None:
    raise FileExistsError


async def test_a_folder_of_thousands_is_taken_in_bit_by_bit(
    tmp_path: Path,
    watched: WatchFolder,
    added: Added,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    monkeypatch.setattr(watch_folder, "MAX_AT_ONCE", 2)
    for number in range(5):
        (tmp_path / f"{number}.magnet").write_text(IDS[0])
    await looks(watched)
    assert len(added.ids) == 2
    await looks(watched)
    assert len(added.ids) == 5
    monkeypatch.setattr(watch_folder, "MAX_ENTRIES", 0)
    (tmp_path / "x.magnet").write_text(IDS[0])
    await looks(watched, 3)
    assert len(added.ids) == 5


async def test_a_folder_that_is_not_there_is_told_of_once_and_looked_for(
    tmp_path: Path, added: Added, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    folder = tmp_path / "later"
    disk = Disk(DiskConfig(inline=True))
    watched = WatchFolder(folder, added, disk, interval=5, clock=lambda: LATER)
    await looks(watched, 3)
    assert len(caplog.records) == 1
    folder.mkdir()
    (folder / "a.magnet").write_text(IDS[0])
    await looks(watched)
    assert added.ids == IDS[:1]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with World().node(LEECH, watch_folder=tmp_path) as node:
        yield node


async def test_a_node_looks_every_few_seconds(
    tmp_path: Path, node: Node, autojump_clock: MockClock
) -> None:
    (tmp_path / "a.torrent").write_bytes(ONE.metainfo.to_torrent())
    await trio.sleep(12)
    assert node.find(ONE.metainfo.info_hash.hex()).name == "film.bin"
    assert names(tmp_path) == ["a.torrent.added"]


async def test_what_was_added_before_keeps_nothing_new_from_being_seen(
    watched: WatchFolder, added: Added, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_folder, "MAX_ENTRIES", 3)
    for number in range(20):  # of years
        (tmp_path / f"{number}.torrent.added").touch()
        (tmp_path / f"{number}.torrent.invalid").touch()
        (tmp_path / f"{number}.nfo").touch()
    (tmp_path / "x.magnet").write_text(IDS[0])
    await looks(watched)
    assert added.ids == [IDS[0]]
