"""Who owns a file: one writer, whatever the path is called, and nothing of the user's replaced."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.errors import StorageError
from dht_torrent.storage.owners import (
    CLOSED,
    FILL,
    KEEP,
    NEW,
    OWN,
    FoundFile,
    Owners,
    Place,
    decide,
    may_write,
)
from tests.helpers.examples import examples
from tests.helpers.storages import ALBUM, CONTENT, opened, single

A, B = b"a" * 20, b"b" * 20


def place(
    root: str,
    *files: str,
    folds: bool = False,
    links: Mapping[tuple[int, int], int] | None = None,
) -> Place:
    named = list(enumerate(files or ("",)))
    return Place(root, lambda: named, folds, links or {})


WRITES = {NEW, FILL, OWN}


@pytest.mark.parametrize("mine", [NEW, KEEP, FILL, OWN, CLOSED])
@pytest.mark.parametrize("theirs", [NEW, KEEP, FILL, OWN, CLOSED])
def test_a_file_has_one_writer_and_no_reader_has_it_changed(mine: int, theirs: int) -> None:
    owners = Owners()
    assert owners.claim(A, "other", place("/d/f"), bytearray([theirs])) == []
    conflicts = owners.claim(B, "this", place("/d/f"), bytearray([mine]))
    both_write = mine in WRITES and theirs in WRITES
    changes_what_is_read = mine in (NEW, FILL) and theirs == KEEP
    assert bool(conflicts) == (both_write or changes_what_is_read)
    if conflicts:
        assert conflicts == [(0, "other")]
        # Nothing was taken: a third one may read it as before.
        assert owners.others(B, place("/d/f"), bytearray([KEEP])) == {0: "other"}
        assert owners.others(A, place("/d/f"), bytearray([KEEP])) == {}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (place("/d/album", "a", "b"), place("/d/album", "b", "c"), True),
        (place("/d/album", "a", "sub/b"), place("/d/album/sub", "b"), True),
        (place("/d/album/a"), place("/d/album", "x", "a"), True),
        (place("/d/album", "a"), place("/d/album/a"), True),
        (place("/d", "album/sub/a"), place("/d/album/sub", "a"), True),
        (place("/d/album", "a"), place("/d/album", "b"), False),
        (place("/d/album", "a"), place("/d/album2", "a"), False),
        (place("/d/album", "a"), place("/d/alb", "um/a"), False),
        (place("/d/Film"), place("/d/film"), False),
        (place("/d/Film", folds=True), place("/d/film", folds=True), True),
        (place("/d/caf\u00e9", folds=True), place("/d/cafe\u0301", folds=True), True),
        (place("/d/x", "A/B", folds=True), place("/D/X", "a/b", folds=True), True),
        (place("/d/f", links={(1, 2): 0}), place("/e/g", links={(1, 2): 0}), True),
        (place("/d/f", links={(1, 2): 0}), place("/e/g", links={(1, 3): 0}), False),
    ],
)
def test_one_file_is_one_file_by_any_path(one: Place, other: Place, same: bool) -> None:
    for first, second in ((one, other), (other, one)):
        owners = Owners()
        count = 1 + max(number for number, _ in first.files())
        assert not owners.claim(A, "first", first, bytearray([OWN]) * count)
        count = 1 + max(number for number, _ in second.files())
        assert bool(owners.claim(B, "second", second, bytearray([NEW]) * count)) == same


def test_what_is_let_go_is_free_and_a_later_claim_is_not_let_go_by_an_older() -> None:
    owners = Owners()
    old, new = bytearray([OWN]), bytearray([OWN])
    owners.claim(A, "a", place("/d/f"), old)
    owners.claim(A, "a", place("/d/f"), new)
    owners.release(A, old)
    assert owners.claim(B, "b", place("/d/f"), bytearray([NEW]))
    owners.release(A, new)
    owners.release(A, new)
    assert not owners.claim(B, "b", place("/d/f"), bytearray([NEW]))


def test_a_file_that_is_made_is_known_as_such_to_others() -> None:
    """The claim looks at the storage's own list."""
    owners, access = Owners(), bytearray([CLOSED, NEW])
    owners.claim(A, "a", place("/d", "x", "y"), access)
    assert not owners.claim(B, "b", place("/d/x"), bytearray([NEW]))
    access[0] = OWN
    assert owners.claim(B, "b", place("/d/x"), bytearray([NEW]))


@settings(max_examples=examples(300))
@given(
    st.lists(
        st.tuples(
            st.sampled_from([bytes([n]) * 20 for n in range(5)]),
            st.sampled_from(["/d", "/d/a", "/d/a/b", "/e", "/d/ab"]),
            st.lists(st.sampled_from(["a", "b", "a/b", "a/b/c", "ab"]), min_size=1, unique=True),
            st.lists(st.sampled_from([NEW, KEEP, FILL, OWN, CLOSED]), min_size=5, max_size=5),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_however_they_come_and_go_no_file_has_two_writers(
    steps: list[tuple[bytes, str, list[str], list[int], bool]],
) -> None:
    owners = Owners()
    held: dict[bytes, dict[str, int]] = {}
    lists: dict[bytes, bytearray] = {}
    for owner, root, files, codes, leaves in steps:
        if leaves and owner in lists:
            owners.release(owner, lists[owner])
            held.pop(owner, None)
        access = bytearray(codes[: len(files)])
        mine = {f"{root}/{name}": code for name, code in zip(files, codes, strict=False)}
        refused = owners.claim(owner, owner.hex(), place(root, *files), access)
        held.pop(owner, None)
        clash = any(
            (code in WRITES and theirs[path] in WRITES)
            or (code in (NEW, FILL) and theirs[path] == KEEP)
            for theirs in held.values()
            for path, code in mine.items()
            if path in theirs
        )
        assert bool(refused) == clash
        if not refused:
            held[owner], lists[owner] = mine, access
        for path in {path for mine in held.values() for path in mine}:
            assert sum(mine.get(path) in WRITES for mine in held.values()) <= 1


def test_of_torrents_that_are_gone_nothing_is_kept() -> None:
    owners, access = Owners(), bytearray([OWN])
    for number in range(10):
        where = place(f"/d/{number}/f", links={(1, number): 0})
        assert not owners.claim(A, "a", where, access)
    owners.release(A, access)
    for held in (owners._claims, owners._at, owners._below, owners._linked):
        assert not held


# -- how a file may be written ---------------------------------------------------------------------


@st.composite
def finds(draw: st.DrawFn) -> FoundFile:
    pieces = draw(st.integers(0, 4))
    length = draw(st.integers(1, 1000)) if pieces else 0
    size = draw(st.none() | st.integers(0, 1200))
    verified = draw(st.integers(0, pieces)) if size else 0
    return FoundFile(
        length=length,
        size=size,
        odd=draw(st.booleans()) and size is None,
        made=draw(st.booleans()),
        begun=draw(st.booleans()),
        filled=draw(st.booleans()),
        known=draw(st.booleans()),
        changed=draw(st.booleans()),
        pieces=pieces,
        verified=verified,
    )


@settings(max_examples=examples(500))
@given(finds(), st.booleans(), st.booleans())
def test_nothing_of_the_users_may_be_replaced(found: FoundFile, edges: bool, alone: bool) -> None:
    edges = edges and alone  # all of it is blank only if what lies in it alone is
    verdict = decide(found, lambda all_of_it: edges if all_of_it else alone)
    if found.odd or (found.size or 0) > found.length:
        assert isinstance(verdict, str)
    elif found.size is None:
        assert verdict == NEW
    elif verdict == OWN:  # written at will: only what the torrent is known to have made
        assert found.made or (found.begun and found.verified)
    elif verdict == KEEP:
        assert found.verified == found.pieces
    elif verdict == FILL:  # guarded, byte by byte
        assert found.size == 0 or found.begun or found.filled or found.made or found.verified
    else:
        assert isinstance(verdict, str)
        assert "\n" not in verdict
    if isinstance(verdict, str) and not found.odd:
        assert "--output" in verdict
        assert "--overwrite" in verdict


@settings(max_examples=examples(200))
@given(
    st.integers(0, 9000),
    st.sampled_from(["foreign", "torn", "same", "zeros", "one byte"]),
    st.integers(0, 8999),
)
def test_a_guarded_write_destroys_no_byte(size: int, kind: str, at: int) -> None:
    new = random.Random(1).randbytes(9000)
    old = {
        "foreign": random.Random(2).randbytes(9000),
        "torn": bytes(byte if i % 7000 < 5000 else 0 for i, byte in enumerate(new)),
        "same": new,
        "zeros": bytes(9000),
        "one byte": new[:at] + bytes([new[at] ^ 1]) + new[at + 1 :],
    }[kind][: 9000 if kind == "same" else size]
    loses = any(a and a != b for a, b in zip(old, new, strict=False))
    for access in (KEEP, FILL, CLOSED):
        refuses = loses if access == FILL else old != new
        if refuses:
            with pytest.raises(StorageError, match=r"^f "):
                may_write(access, "f", old, new)
        else:
            assert may_write(access, "f", old, new) == (old != new)
    assert may_write(NEW, "f", old, new)
    assert may_write(OWN, "f", old, new)


WHOLE = {"verified": 4, "size": 100}
GONE = "was replaced by something else"
FOREIGN = "holds something else"


@pytest.mark.parametrize(
    ("facts", "blank", "edges", "expected"),
    [
        ({"size": None}, None, None, NEW),
        ({"size": None, "odd": True}, None, None, "is not a regular file"),
        ({"size": 101}, None, None, "is longer"),
        ({"size": 100}, None, None, FOREIGN),
        # All of it verifies.
        (WHOLE, None, None, KEEP),
        (WHOLE | {"filled": True}, None, None, KEEP),
        (WHOLE | {"made": True}, None, None, OWN),
        (WHOLE | {"made": True, "changed": True, "known": True}, None, None, OWN),
        (WHOLE | {"begun": True}, None, None, OWN),
        ({"begun": True, "length": 0, "size": 0, "pieces": 0}, None, None, KEEP),
        # The torrent made it.
        ({"made": True, "known": True}, None, None, OWN),
        ({"made": True, "known": True, "changed": True, "verified": 1}, None, None, OWN),
        ({"made": True, "known": True, "changed": True, "size": 0}, None, None, OWN),
        ({"made": True, "changed": True}, None, None, FILL),
        ({"made": True, "known": True, "changed": True}, True, True, OWN),
        ({"made": True, "known": True, "changed": True}, False, True, GONE),
        # It was absent when the torrent began to write.
        ({"begun": True, "verified": 1}, True, False, OWN),
        ({"begun": True, "verified": 1}, False, False, FILL),
        ({"begun": True}, None, None, FILL),
        # It was there before.
        ({"filled": True}, None, None, FILL),
        ({"size": 0}, None, None, FILL),
        ({"verified": 1}, True, False, FILL),
        ({"verified": 1}, False, False, FOREIGN),
    ],
)
def test_each_kind_of_file_is_written_as_the_rule_says(
    facts: dict[str, Any], blank: bool | None, edges: bool | None, expected: int | str
) -> None:
    """`blank`: what the disk says, if it is asked; `edges`: about which bytes."""
    asked: list[bool] = []

    def look(with_edges: bool) -> bool:
        asked.append(with_edges)
        assert blank is not None
        return blank

    known: dict[str, Any] = {"length": 100, "size": 50, "pieces": 4}
    verdict = decide(FoundFile(**(known | facts)), look)
    if isinstance(expected, str):
        assert isinstance(verdict, str)
        assert verdict.startswith(expected)
    else:
        assert verdict == expected
    assert asked == ([] if edges is None else [edges])


@pytest.mark.parametrize("byte", [1, 2, 255])
@pytest.mark.parametrize("at", [0, 1, 4095, 4096, 8191, 8999])
def test_any_single_byte_that_is_there_is_guarded(at: int, byte: int) -> None:
    old = bytearray(9000)
    old[at] = byte
    with pytest.raises(StorageError):
        may_write(FILL, "f", old, bytes(9000))
    with pytest.raises(StorageError):
        may_write(FILL, "f", bytes([byte]) * 9000, bytes(9000))
    assert may_write(FILL, "f", old, bytes([byte]) * 9000)


def test_what_is_not_the_torrents_to_write_to_is_told_as_such() -> None:
    with pytest.raises(StorageError, match="does not belong to this torrent"):
        may_write(CLOSED, "f", b"old", b"new")
    with pytest.raises(StorageError, match="holds something else"):
        may_write(KEEP, "f", b"old", b"new")


def test_of_several_names_of_files_only_the_common_ones_count() -> None:
    owners = Owners()
    mine = place("/d", "x", "y", links={(1, 2): 0, (1, 3): 1})
    theirs = place("/e", "z", links={(1, 3): 0})
    owners.claim(A, "a", theirs, bytearray([OWN]))
    assert owners.claim(B, "b", mine, bytearray([NEW, NEW])) == [(1, "a")]
    assert owners.claim(B, "b", mine, bytearray([NEW, CLOSED])) == []
    assert owners.others(B, mine, bytearray([NEW, NEW])) == {1: "a"}
    assert owners.others(B, mine, bytearray([NEW, CLOSED])) == {}
    assert owners.others(A, theirs, bytearray([OWN])) == {}


# -- on the disk -----------------------------------------------------------------------------------


def test_a_storage_makes_files_and_never_takes_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "film.bin").write_bytes(b"mine")
    storage = opened(tmp_path, single(100))
    storage.create()
    with pytest.raises(StorageError, match="not this torrent's"):
        storage.write(0, b"x" * 100)
    assert (tmp_path / "film.bin").read_bytes() == b"mine"
    assert storage.access[0] == NEW
    storage.close()


def test_a_file_that_is_kept_or_filled_is_never_cut_short(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(100)
    for access in (KEEP, FILL):
        (tmp_path / "film.bin").write_bytes(data + b"more of mine")
        storage = opened(tmp_path, single(100))
        storage.access[0] = access
        with pytest.raises(StorageError, match="longer"):
            storage.write(0, data)
        assert (tmp_path / "film.bin").read_bytes() == data + b"more of mine"
        storage.close()


def test_a_survey_tells_files_from_what_is_in_their_way(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    (folder / "b").mkdir(parents=True)
    (folder / "a").write_bytes(CONTENT[:10])
    (folder / "b" / "c").mkdir()
    os.link(folder / "a", tmp_path / "other name")
    (tmp_path / "way").symlink_to(tmp_path)
    storage = opened(tmp_path / "way", ALBUM)
    survey = storage.survey()
    assert survey.odd == {1}
    assert [stamp is None for stamp in survey.stamps] == [False, True, True, True, True]
    assert survey.place is not None
    assert survey.place.root == str(folder)
    assert list(survey.place.links.values()) == [0]
    assert survey.mount is not None
    assert str(tmp_path).startswith(survey.mount)
    assert storage.present([0])
    assert not storage.present([0, 4])
    storage.close()


def test_blank_is_what_has_no_byte_but_zeros(tmp_path: Path) -> None:
    with (tmp_path / "film.bin").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(500_000)
        file.write(b"x")
    storage = opened(tmp_path, single(1 << 20))
    assert storage.blank(0, 0, 400_000)
    assert storage.blank(0, 0, 500_000)
    assert not storage.blank(0, 0, 500_001)
    assert not storage.blank(0, 500_000, 1 << 20)
    assert storage.blank(0, 500_001, 1 << 20)
    assert storage.blank(0, 1 << 20, 2 << 20)
    (tmp_path / "film.bin").unlink()
    storage.close()
    assert storage.blank(0, 0, 1 << 20)
