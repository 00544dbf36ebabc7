"""Names that a user gives to the files and folders of a torrent."""

from __future__ import annotations

import pytest

from dht_torrent.errors import InputError
from dht_torrent.torrent import naming
from dht_torrent.torrent.naming import find, rename, renamed
from tests.helpers.storages import single, torrent

ALBUM = torrent(("cd1/a", 5), ("cd1/b", 5), ("cd2/a", 5), (".pad/3", 3), ("c", 1), pads=(3,))


def paths(names: naming.Names) -> list[str]:
    return ["/".join(file.path) for file in renamed(ALBUM, names).files if not file.pad]


def test_a_name_belongs_to_what_it_was_given_to_whatever_else_is_renamed() -> None:
    key, names = rename(ALBUM, {}, "album/cd1/a", "first")
    assert key == ("cd1", "a")
    key, names = rename(ALBUM, names, "album/cd1", "one")
    assert key == ("cd1",)
    _, names = rename(ALBUM, names, "album", "mine")
    _, names = rename(ALBUM, names, "mine/one/first", "a.flac")
    assert paths(names) == ["one/a.flac", "one/b", "cd2/a", "c"]
    here = renamed(ALBUM, names)
    assert (here.name, here.info_hash, here.pieces) == ("mine", ALBUM.info_hash, ALBUM.pieces)
    assert [file.offset for file in here.files] == [file.offset for file in ALBUM.files]
    with pytest.raises(InputError, match="no 'album/cd1'"):
        find(ALBUM, names, "album/cd1")
    for path, name in (("mine/one", "cd1"), ("mine/cd1/a.flac", "a"), ("mine", "album")):
        _, names = rename(ALBUM, names, path, name)
    assert names == {}
    assert renamed(ALBUM, names) is ALBUM


def test_two_things_in_one_folder_never_have_one_name() -> None:
    _, names = rename(ALBUM, {}, "album/c", "d")
    _, names = rename(ALBUM, names, "album/cd2", "c")  # which is free now
    for path, name in (
        ("album/d", "cd1"),
        ("album/d", "C"),
        ("album/cd1", "D"),
        ("album/cd1/b", "A"),
    ):
        with pytest.raises(InputError, match="there already"):
            rename(ALBUM, names, path, name)
    rename(ALBUM, names, "album/cd1/b", "cd1")  # taken elsewhere only
    _, names = rename(ALBUM, names, "album/cd1", "CD1")  # its own name, in capitals
    assert paths(names) == ["CD1/a", "CD1/b", "c/a", "d"]


def test_a_single_file_is_its_own_root() -> None:
    film = single(10)
    key, names = rename(film, {}, "film.bin", "movie.bin")
    assert (key, renamed(film, names).name) == ((), "movie.bin")
    assert renamed(film, names).files[0].path == ("movie.bin",)
    for path in ("film.bin", "movie.bin/x", ""):
        with pytest.raises(InputError):
            rename(film, names, path, "x")


def test_pad_files_have_no_name_to_change() -> None:
    with pytest.raises(InputError):
        rename(ALBUM, {}, "album/.pad/3", "x")
    with pytest.raises(InputError):
        rename(ALBUM, {}, "album/.pad", "x")


def test_what_is_remembered_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "MAX_SIZE", 20)
    _, names = rename(ALBUM, {}, "album/cd1/a", "x" * 10)
    with pytest.raises(InputError, match="too many names"):
        rename(ALBUM, names, "album/cd2/a", "x" * 10)
    monkeypatch.undo()
    monkeypatch.setattr(naming, "MAX_NAMES", 1)
    with pytest.raises(InputError, match="too many names"):
        rename(ALBUM, names, "album/cd2/a", "x")
    deep = torrent(("/".join(["x" * 200] * 19) + "/0", 1))
    monkeypatch.undo()
    rename(deep, {}, "album", "y" * 200)
    _, names = rename(deep, {}, "album/" + "x" * 200, "z" * 240)
    with pytest.raises(InputError, match="longer than 4096"):
        rename(deep, names, "album", "y" * 240)
