"""Hostile folders: no planted link is followed, and only regular files count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dht_torrent.errors import StorageError
from dht_torrent.storage.folder import Folder, FolderWalk
from tests.helpers.content import read_tree
from tests.helpers.storages import ALBUM, CONTENT, opened, single


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder outside the download, which must look the same afterwards."""
    folder = tmp_path / "victim"
    (folder / "d").mkdir(parents=True)
    for name in ("c", "d/e", "f"):
        (folder / name).write_bytes(b"precious")
    before = read_tree(folder)
    yield folder
    assert read_tree(folder) == before


@pytest.mark.parametrize("planted", ["album", "album/b", "album/b/d", "album/b/c", "album/f"])
def test_a_planted_link_is_never_followed(tmp_path: Path, victim: Path, planted: str) -> None:
    root = tmp_path / "downloads"
    link = root / planted
    link.parent.mkdir(parents=True)
    targets = {"album/b/c": victim / "c", "album/f": victim / "f", "album/b/d": victim / "d"}
    link.symlink_to(targets.get(planted, victim))
    storage = opened(root, ALBUM)
    with pytest.raises(StorageError):
        storage.write(0, CONTENT)
    with pytest.raises(StorageError):
        storage.read(0, len(CONTENT))
    storage.stamps()
    storage.delete(range(len(storage.access)))
    assert link.is_symlink()


def test_a_dangling_link_makes_no_file(tmp_path: Path) -> None:
    root = tmp_path / "downloads"
    root.mkdir()
    (root / "film.bin").symlink_to(tmp_path / "elsewhere")
    storage = opened(root, single(10))
    with pytest.raises(StorageError, match="link"):
        storage.write(0, b"x" * 10)
    assert storage.stamps() == (None,)
    assert not (tmp_path / "elsewhere").exists()


def test_the_download_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    (tmp_path / "downloads").symlink_to(tmp_path / "big disk")
    storage = opened(tmp_path / "downloads", single(10))
    storage.write(0, b"x" * 10)
    storage.close()
    assert read_tree(tmp_path / "big disk") == {"film.bin": b"x" * 10}


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_only_regular_files_count(tmp_path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(tmp_path / "film.bin")
    else:
        (tmp_path / "film.bin").mkdir()
    storage = opened(tmp_path, single(10))
    with pytest.raises(StorageError):
        storage.write(0, b"x" * 10)
    with pytest.raises(StorageError):
        storage.read(0, 10)
    assert storage.stamps() == (None,)
    storage.delete(range(len(storage.access)))
    assert (tmp_path / "film.bin").exists()


def test_what_is_not_a_regular_file_is_neither_read_nor_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        for write in (False, True):
            with pytest.raises(StorageError, match="not a regular file"):
                Folder(tmp_path).open_file(("pipe",), write=write)
    finally:
        os.close(reader)


def test_a_walk_opens_a_folder_once_for_the_files_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path)
    opened: list[object] = []
    closed: list[int] = []
    real_open, real_close = os.open, os.close

    def open_(path: object, *args: int, **kwargs: int) -> int:
        opened.append(path)
        return real_open(path, *args, **kwargs)  # type: ignore[arg-type]

    def close(fd: int) -> None:
        closed.append(fd)
        real_close(fd)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "close", close)
    with FolderWalk(folder) as walk:
        fds = [folder.make_file(("a", "b", name), walk) for name in ("x", "y", "z")]
        # Each of the two is looked for, and looked for again when it is made.
        assert opened == [tmp_path, "a", "a", "b", "b", "x", "y", "z"]
        fds.append(folder.make_file(("a", "w"), walk))
        assert opened[8:] == [tmp_path, "a", "w"]
        with pytest.raises(FileNotFoundError):
            walk.open_folder(("none",), create=False)
        fds.append(folder.open_file(("a", "w"), write=False, walk=walk))
    for fd in fds:
        os.close(fd)
    assert len(closed) == len(opened) - 3  # those that were absent when they were looked for
    assert folder.made == {("a",), ("a", "b")}


def test_a_walk_looks_again_whether_the_disk_is_the_same_before_it_makes_anything(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "a").mkdir()
    with FolderWalk(folder) as walk:
        walk.open_folder(("a",), create=False)
        folder.device = -1
        with pytest.raises(StorageError, match="another file system"):
            folder.make_file(("a", "x"), walk)
