"""Finding and reading files of this disk: never more than was asked for, and never a fault."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dht_torrent.geometry import PAD, Span
from dht_torrent.storage import Descriptors
from dht_torrent.storage.local import LocalFile, LocalReader, find_files
from tests.helpers.content import make_file, make_tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "folder", {"a": 10, "sub/b": 20, "sub/deep/c": 30, "empty": 0})


def names(root: Path, most: int = 100, *, apart: str = "") -> dict[str, int]:
    found = find_files(str(root), most, apart=apart)
    return {"/".join(file.path): file.length for file in found.files}


# -- finding ------------------------------------------------------------------------------------


def test_all_files_with_content_are_found_by_their_paths(folder: Path) -> None:
    assert names(folder) == {"a": 10, "sub/b": 20, "sub/deep/c": 30}
    found = find_files(str(folder), 100)
    assert [file.location for file in found.files] == [
        str(folder.joinpath(*file.path)) for file in found.files
    ]
    assert found.trouble is None


def test_a_file_is_found_by_its_name(folder: Path) -> None:
    assert names(folder / "sub" / "b") == {"b": 20}


def test_a_source_may_be_a_link_to_what_it_means(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(folder)
    assert names(tmp_path / "latest") == names(folder)
    (tmp_path / "file").symlink_to(folder / "a")
    assert names(tmp_path / "file") == {"file": 10}


def test_links_are_followed_to_files_inside_and_nowhere_else(folder: Path, tmp_path: Path) -> None:
    outside = make_file(tmp_path / "folder-outside", 5)
    (folder / "inside").symlink_to("sub/b")
    (folder / "outside").symlink_to(outside)
    (folder / "up").symlink_to("..")
    (folder / "round").symlink_to("sub")
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere").symlink_to("nothing")
    assert names(folder) == {"a": 10, "sub/b": 20, "sub/deep/c": 30, "inside": 20}
    inside = next(f for f in find_files(str(folder), 100).files if f.path == ("inside",))
    assert inside.location == str(folder / "sub" / "b")


def test_pipes_and_sockets_are_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        assert names(folder) == {"a": 10, "sub/b": 20, "sub/deep/c": 30}
    assert find_files(str(folder / "pipe"), 100).trouble == (
        f"{folder / 'pipe'} is neither a file nor a folder"
    )


def test_what_lies_where_the_download_goes_is_left_out(folder: Path) -> None:
    assert names(folder, apart=str(folder / "sub")) == {"a": 10}
    assert names(folder, apart=str(folder / "su")) == names(folder)
    assert names(folder / "sub", apart=str(folder)) == {}
    assert names(folder / "a", apart=str(folder / "a")) == {}
    (folder / "link").symlink_to("sub/b")
    assert names(folder, apart=str(folder / "sub")) == {"a": 10}


def test_what_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    found = find_files(str(tmp_path / "nothing"), 100)
    assert found.files == []
    assert found.trouble == f"{tmp_path / 'nothing'}: No such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_told_and_the_rest_is_found(folder: Path) -> None:
    (folder / "sub").chmod(0)
    try:
        found = find_files(str(folder), 100)
    finally:
        (folder / "sub").chmod(0o700)
    assert [file.path for file in found.files] == [("a",)]
    assert found.trouble == f"{folder / 'sub'}: Permission denied"


def test_a_folder_that_vanishes_meanwhile_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def vanishing(path: str) -> object:
        if path.endswith("deep"):
            raise FileNotFoundError(2, "No such file or directory", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    found = find_files(str(folder), 100)
    assert [file.path for file in found.files] == [("a",), ("sub", "b")]
    assert found.trouble == f"{folder / 'sub' / 'deep'}: No such file or directory"


def test_a_huge_folder_is_looked_into_as_far_as_allowed(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "huge", {f"{number:03d}": 1 for number in range(50)})
    found = find_files(str(root), 20)
    assert len(found.files) == 20
    assert found.trouble == f"{root}: holds more than 20 files, the rest was left out"
    assert len(find_files(str(root), 51).files) == 50


def test_a_search_ends_when_it_is_told_to(folder: Path) -> None:
    asked = iter([False, True])
    found = find_files(str(folder), 100, stop=lambda: next(asked))
    assert [file.path for file in found.files] == [("a",)]
    assert found.trouble is not None
    assert "took too long" in found.trouble


# -- reading ------------------------------------------------------------------------------------


def reader(*paths: Path) -> LocalReader:
    files = [LocalFile(str(path), (path.name,), 1) for path in paths]
    return LocalReader(files, Descriptors(2))


def test_ranges_of_several_files_are_read_end_to_end(folder: Path) -> None:
    a, c = (folder / "a").read_bytes(), (folder / "sub/deep/c").read_bytes()
    spans = [Span(0, 2, 5), Span(PAD, 0, 4), Span(1, 10, 20)]
    whole = a[2:7] + bytes(4) + c[10:30]
    subject = reader(folder / "a", folder / "sub/deep/c")
    for begin in range(len(whole)):
        for end in (begin + 1, begin + 7, len(whole)):
            buffer = bytearray(b"\xff" * (min(end, len(whole)) - begin))
            assert subject.read(spans, begin, memoryview(buffer))
            assert buffer == whole[begin:end]
    assert not subject.read(spans, 0, memoryview(bytearray(len(whole) + 1)))
    assert subject.trouble is None
    subject.close()


def test_a_file_that_shrank_is_told_once(folder: Path) -> None:
    subject = reader(folder / "a", folder / "gone")
    assert not subject.read([Span(0, 5, 6)], 0, memoryview(bytearray(6)))
    assert not subject.read([Span(1, 0, 6)], 0, memoryview(bytearray(6)))
    assert subject.trouble == f"{folder / 'a'}: has become shorter"


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_has_taken_the_place_of_a_file_is_not_read(folder: Path, kind: str) -> None:
    place = folder / "a"
    place.unlink()
    if kind == "fifo":
        os.mkfifo(place)  # which must not be waited for
    elif kind == "link":
        place.symlink_to("sub/b")
    else:
        place.mkdir()
    pool = Descriptors(2)
    subject = LocalReader([LocalFile(str(place), ("a",), 1)], pool)
    assert not subject.read([Span(0, 0, 1)], 0, memoryview(bytearray(1)))
    assert subject.trouble is not None
    assert len(pool) == 0
