"""Sketches of what is on this disk, made while it is hashed and afterwards."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

pytest.importorskip("numpy")

from dht_torrent.engine.search import sketching
from dht_torrent.engine.search.sketching import Sketching, file_ids, sketch_files, traits_of
from dht_torrent.errors import InputError
from dht_torrent.search import chunks
from dht_torrent.search.similar import MAX_FILE_IDS, Kinship, likeness
from dht_torrent.search.sketch import similarity
from dht_torrent.storage.making import make

SIZES = {"a": 10, "b/c": 70_000, "b/d": 3_000_001, "empty": 0, "e": 64 * 1024, "z/y/x": 1_500_000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    for name, size in SIZES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(name).randbytes(size))
    return root


def files_of(root: Path) -> list[tuple[Path, int]]:
    return [(path, path.stat().st_size) for path in sorted(root.rglob("*")) if path.is_file()]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("piece_length", [16 * 1024, 512 * 1024, 4 * 1024 * 1024])
def test_a_sketch_does_not_depend_on_pieces_and_threads(
    folder: Path, piece_length: int, threads: int
) -> None:
    made = Sketching()
    metainfo = make(folder, piece_length=piece_length, threads=threads, sampler=made)
    assert metainfo.pieces == make(folder, piece_length=piece_length).pieces
    content = made.content()
    assert content is not None
    assert content == sketch_files(files_of(folder)).content
    assert content == traits_of(folder).content


def test_the_order_of_files_does_not_matter(folder: Path) -> None:
    files = files_of(folder)
    assert sketch_files(files).content == sketch_files(files[::-1]).content


def test_an_edited_copy_is_a_near_duplicate_and_a_part_is_related(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    for path, _ in files_of(folder):
        there = copy / path.relative_to(folder)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())
    edited = (copy / "b/d").read_bytes()
    (copy / "b/d").write_bytes(edited[:2000] + b"something new" + edited[2000:])
    whole = traits_of(folder)
    assert likeness(whole, traits_of(copy)).kinship is Kinship.NEAR_DUPLICATE
    (copy / "b/d").unlink()
    alike = likeness(whole, traits_of(copy))
    assert alike.content is not None
    assert 0.3 < alike.content < 0.8
    assert alike.same_files == 3


def test_a_file_has_the_same_id_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    single = tmp_path / "other name"
    single.write_bytes((folder / "b/d").read_bytes())
    alike = likeness(traits_of(single), traits_of(folder))
    assert alike.kinship is Kinship.SAME_FILE
    changed = bytearray(single.read_bytes())
    changed[-1] ^= 1
    single.write_bytes(changed)
    assert likeness(traits_of(single), traits_of(folder)).same_files == 0


def test_ids_are_of_the_largest_and_each_once(tmp_path: Path) -> None:
    for n in range(9):
        (tmp_path / str(n)).write_bytes(bytes(20_000 + n // 2))
    assert len(file_ids(files_of(tmp_path))) == 4  # of sizes; the largest has no twin
    assert MAX_FILE_IDS == 6


def test_without_numpy_there_are_ids_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sketch_files(files_of(folder))
    monkeypatch.setattr(chunks, "is_available", lambda: False)
    assert sketching.sketching() is None
    assert sketch_files(files_of(folder)) == sketching.Sketched(None, whole.file_ids)
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    with pytest.raises(InputError, match=r"pip install 'dht-torrent\[similar\]'"):
        Sketching()


def test_what_cannot_be_read_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        sketch_files([(tmp_path / "nothing", 5)])
    with pytest.raises(InputError, match="size"):
        sketch_files([(folder / "a", 5)])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="size"):
        sketch_files([(tmp_path / "pipe", 5)])
    with pytest.raises(InputError, match="cancelled"):
        sketch_files(files_of(folder), lambda: True)


def test_a_copy_that_begins_elsewhere_is_still_similar(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(6_000_000)
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(data)
    other.write_bytes(b"a header of some length" * 40 + data)
    alike = similarity(traits_of(one).content, traits_of(other).content)
    assert alike is not None
    assert alike > 0.8
