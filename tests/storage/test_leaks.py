"""Whatever is asked of the storage, and however it fails, no descriptor stays open afterwards."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dht_torrent.errors import InputError, StorageError
from dht_torrent.storage.folder import Folder
from dht_torrent.storage.making import make
from tests.helpers.storages import ALBUM, CONTENT, opened


def open_below(root: Path) -> list[str]:
    """Descriptors of files and folders there, named or not."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target == str(root) or target.startswith(f"{root}/"):
            found.append(target)
    return found


def attempt(call: Callable[[], object]) -> None:
    try:
        got = call()
    except (StorageError, InputError, OSError):
        return
    if type(got) is int:
        os.close(got)


def test_folders_are_closed_behind_every_file(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "d")
    os.mkfifo(tmp_path / "d" / "pipe")
    calls: list[Callable[[], object]] = [
        lambda: folder.open_file(("d", "file"), write=False),
        lambda: folder.open_file(("d", "pipe"), write=False),
        lambda: folder.open_file(("d", "absent"), write=True),
        lambda: folder.open_file(("link", "file"), write=True),
        lambda: folder.open_file(("d", "file", "below"), write=True),
        lambda: folder.make_file(("d", "file")),
        lambda: folder.make_file(("new", "deep", "file")),
        folder.make_unnamed,
        lambda: folder.open_folder(("d", "e"), create=False),
        lambda: folder.open_folder(("d", "absent"), create=False),
        lambda: folder.stat_all([("d", "file"), None, ("d", "e", "x"), ("no", "x"), ("link", "a")]),
        lambda: folder.remove(("d", "absent"), folder=False),
        lambda: folder.remove(("d", "pipe"), folder=False),
        lambda: folder.remove(("d",), folder=True),
        lambda: folder.remove(("d", "file"), folder=False),
    ]
    for call in calls:
        attempt(call)
        assert open_below(tmp_path) == []
    folder.device = -1  # another disk is there now
    with pytest.raises(StorageError, match="another file system") as caught:
        folder.open_folder(("d",), create=True)
    assert caught.value.missing
    assert open_below(tmp_path) == []


def test_an_unnamed_file_that_keeps_its_name_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    from dht_torrent.storage import folder as folder_module

    monkeypatch.setattr(folder_module, "_UNNAMED", None)
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse)
        with pytest.raises(StorageError, match="not permitted"):
            Folder(tmp_path).make_unnamed()
    assert open_below(tmp_path) == []


def test_a_scratch_file_closes_once(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.create()
    storage.close()
    scratch = storage.scratch()
    assert len(open_below(tmp_path)) == 1
    scratch.close()
    assert open_below(tmp_path) == []
    other = os.open(os.devnull, os.O_RDONLY)  # may have the number it had
    scratch.close()
    os.fstat(other)
    os.close(other)


def test_a_closed_storage_and_a_finished_hashing_hold_nothing(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.create()
    storage.write(0, CONTENT)
    storage.read(0, 1000)
    storage.try_read_into(0, memoryview(bytearray(20)), memoryview(bytearray(20000)))
    storage.next_data(0, len(CONTENT))
    storage.blank(1, 0, 100)
    storage.sync()
    storage.delete([0])
    assert len(open_below(tmp_path)) == 0
    storage.read(10, 1000)
    storage.close()
    assert open_below(tmp_path) == []
    make(tmp_path / "album", threads=2)
    assert open_below(tmp_path) == []
    with pytest.raises(InputError, match="cancelled"):
        make(tmp_path / "album", cancelled=lambda: True)
    assert open_below(tmp_path) == []


def test_files_and_folders_get_the_permissions_of_the_users_mask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        storage = opened(tmp_path, ALBUM)
        storage.create()
        storage.write(0, CONTENT)
        storage.close()
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
        assert modes["a"] == modes["f"] == 0o640
        assert modes["album"] == modes["d"] == 0o750
        fd = Folder(tmp_path).make_unnamed()
        assert os.fstat(fd).st_mode & 0o777 == 0o600
        os.close(fd)
    finally:
        os.umask(before)
