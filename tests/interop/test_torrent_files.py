"""A .torrent of ours and one of libtorrent's are the same torrent, and each reads the other's."""

from __future__ import annotations

from pathlib import Path

import libtorrent as lt
import pytest

from dht_torrent.metainfo import Magnet, parse_torrent
from dht_torrent.storage.making import make
from tests.helpers.content import KIB, make_file, make_tree
from tests.helpers.libtorrent_peer import create, info_hash_of

TREES = {
    "one file": {"a.bin": 100_000},
    "nested": {"a/b/c.bin": 50_000, "a/d.bin": 1, "e.bin": 70_000},
    "an empty file": {"a": 0, "b": 40_000, "c": 0},
    "not ASCII": {"Müsli/日本語.txt": 33_000, "Ä.bin": 10},
    "exact pieces": {"a": 32 * KIB, "b": 16 * KIB},
}


@pytest.mark.parametrize("files", TREES.values(), ids=TREES.keys())
def test_both_make_the_same_infohash_of_a_folder(tmp_path: Path, files: dict[str, int]) -> None:
    folder = make_tree(tmp_path / "folder", files)
    ours = make(folder, piece_length=16 * KIB)
    assert ours.info_hash == info_hash_of(create(folder, 16 * KIB))


@pytest.mark.parametrize("size", [1, 16 * KIB, 16 * KIB + 1, 1_000_000])
def test_both_make_the_same_infohash_of_a_file(tmp_path: Path, size: int) -> None:
    path = make_file(tmp_path / "file.bin", size)
    assert make(path, piece_length=16 * KIB).info_hash == info_hash_of(create(path, 16 * KIB))


def test_libtorrent_reads_our_torrent_file(tmp_path: Path) -> None:
    folder = make_tree(tmp_path / "folder", TREES["nested"])
    ours = make(folder, piece_length=16 * KIB, comment="made here")
    theirs = lt.load_torrent_buffer(ours.to_torrent())
    assert theirs.info_hashes.v1.to_bytes() == ours.info_hash
    assert theirs.ti is not None
    files = theirs.ti.layout()
    assert [
        (files.file_path(i).replace("\\", "/"), files.file_size(i))
        for i in range(files.num_files())
    ] == [("folder/" + "/".join(file.path), file.length) for file in ours.files]


def test_we_read_libtorrents_torrent_file(tmp_path: Path) -> None:
    folder = make_tree(tmp_path / "folder", TREES["nested"])
    theirs = create(folder, 16 * KIB)
    ours = parse_torrent(theirs)
    assert ours.info_hash == info_hash_of(theirs)
    assert {"/".join(file.path): file.length for file in ours.files} == TREES["nested"]


def test_each_reads_the_others_magnet_link(tmp_path: Path) -> None:
    path = make_file(tmp_path / "a file & more.bin", 20_000)
    ours = make(path)
    params = lt.load_torrent_buffer(ours.to_torrent())
    params.name = path.name
    theirs = Magnet.parse(lt.make_magnet_uri(params))
    assert (theirs.info_hash, theirs.name) == (ours.info_hash, ours.name)
    read = lt.parse_magnet_uri(str(ours.magnet()))
    assert (read.info_hashes.v1.to_bytes(), read.name) == (ours.info_hash, ours.name)
