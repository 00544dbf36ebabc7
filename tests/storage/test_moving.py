"""Content on its way to another place: what is copied, what is removed, and what is left alone."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.errors import StorageError
from dht_torrent.storage import moving
from dht_torrent.storage.moving import Carrying, Layout, number_of, rename
from dht_torrent.syscalls import rename_new
from tests.helpers.content import make_file, make_tree, read_tree

FILES = {"a": 3000, "cd1/b": 2000, "cd1/c": 0}
LONG_AGO = 1_000_000_000_123_456_789
MEMORY = Path("/dev/shm")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    make_tree(tmp_path / "old" / "album", FILES)
    return tmp_path / "old"


def layout(base: Path) -> Layout:
    return Layout(base, [("album", *name.split("/")) for name in FILES])


def carrying(old: Path, new: Path) -> Carrying:
    new.mkdir(exist_ok=True)
    return Carrying(layout(old), layout(new), range(len(FILES)), "ab" * 20)


def gather(one: Carrying) -> int:
    for number in one.numbers:
        at, whole = one.gather(number, 0)
        while not whole:
            at, whole = one.gather(number, at)
    return one.settle()


def refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch)


def test_all_is_at_the_old_place_until_all_is_at_the_new_one(old: Path, tmp_path: Path) -> None:
    new, before = tmp_path / "new", read_tree(old)
    one = carrying(old, new)
    one.check()
    assert one.size() == 5000
    number = gather(one)
    assert read_tree(old) == before
    assert [path.name for path in new.iterdir()] == [f".{'ab' * 20}.moving"]
    assert one.landed(number) is False
    one.land(number)
    assert one.landed(number) is True
    assert read_tree(old) == read_tree(new) == before
    assert one.clear() == []
    assert list(old.iterdir()) == []
    assert read_tree(new) == before


@pytest.mark.skipif(
    not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK), reason="there is no other file system"
)
def test_it_goes_to_another_file_system(old: Path) -> None:
    before = read_tree(old)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        new = Path(folder)
        if new.stat().st_dev == old.stat().st_dev:
            pytest.skip("it is the same one")
        one = carrying(old, new)
        one.check()
        assert not one.at_once()
        assert one.size() == 5000
        number = gather(one)
        one.land(number)
        assert one.clear() == []
        assert read_tree(new) == before
        assert list(old.iterdir()) == []


def test_a_copy_has_the_holes_the_time_and_the_mode_of_its_source(
    tmp_path: Path, no_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "VISIT", 1 << 20)
    old, size = tmp_path / "old", (8 << 20) + 5
    file = old / "album"
    old.mkdir()
    with file.open("wb") as sparse:
        sparse.truncate(size)
        sparse.seek(3 << 20)
        sparse.write(b"x" * 100_000)
    file.chmod(0o640)
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    (tmp_path / "new").mkdir()
    target = Layout(tmp_path / "new", [("album",)])
    one = Carrying(Layout(old, [("album",)]), target, [0], "ab")
    one.land(gather(one))
    copy = tmp_path / "new" / "album"
    assert copy.read_bytes() == file.read_bytes()
    info = copy.stat()
    assert (info.st_size, info.st_mtime_ns, info.st_mode & 0o777) == (size, LONG_AGO, 0o640)
    assert info.st_blocks * 512 < 2 << 20
    assert one.clear() == []
    assert not file.exists()


def test_a_copy_that_was_cut_off_goes_on_and_a_whole_one_is_left(
    old: Path, tmp_path: Path, no_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "VISIT", 1000)
    one = carrying(old, tmp_path / "new")
    assert one.gather(0, 0) == (1000, False)
    assert one.gather(1, 0) == (1000, False)
    assert one.gather(1, 1000) == (2000, True)
    begun = (one.hidden / "a").stat()
    whole = (one.hidden / "cd1" / "b").stat()
    again = carrying(old, tmp_path / "new")
    written = Written(monkeypatch)
    number = gather(again)
    assert written.spans == [(1000, 1000), (2000, 1000)]
    assert (again.hidden / "a").stat().st_ino == begun.st_ino
    after = (again.hidden / "cd1" / "b").stat()
    assert (after.st_ino, after.st_ctime_ns) == (whole.st_ino, whole.st_ctime_ns)
    again.land(number)
    assert read_tree(tmp_path / "new") == read_tree(old)


class Written:
    """Where copies are written to, and how much."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spans: list[tuple[int, int]] = []
        real = os.pwrite

        def pwrite(fd: int, data: bytes, at: int) -> int:
            count = real(fd, data, at)
            self.spans.append((at, count))
            return count

        monkeypatch.setattr(os, "pwrite", pwrite)


class Killed(BaseException):
    """The process ends here."""


class Deadly:
    """Calls to the system, of which one is the last."""

    NAMES = ("pwrite", "ftruncate", "fsync", "utime", "mkdir", "unlink", "rmdir", "open")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: float = float("inf")
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))
        monkeypatch.setattr(moving, "rename_new", self._counted(rename_new))

    def _counted(self, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            if real.__name__ == "pwrite" and self.left < 1:  # half of it is written
                real(args[0], args[1][: len(args[1]) // 2], args[2])
                raise Killed
            return real(*args, **kwargs)

        return call


def move(old: Path, new: Path, number: int | None) -> int | None:
    """As `engine.torrent.moving` does it, after however many processes were killed in it. Returns
    the number that the record has then."""
    one = carrying(old, new)
    if one.landed(number):
        assert one.clear() == []
        return number
    if number is None:
        return gather(one)
    one.land(number)
    assert one.clear() == []
    return number


@given(
    kills=st.lists(st.integers(0, 60), max_size=6),
    damage=st.lists(st.tuples(st.integers(0, 2999), st.booleans()), max_size=3),
)
@settings(deadline=None, max_examples=150)
def test_nothing_is_lost_wherever_a_process_is_killed(
    kills: list[int], damage: list[tuple[int, bool]]
) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        old, new = Path(folder, "old"), Path(folder, "new")
        make_tree(old / "album", FILES)
        before = read_tree(old)
        new.mkdir()
        refuse_links(patch)
        patch.setattr(moving, "VISIT", 700)
        deadly = Deadly(patch)
        number: int | None = None
        for kill in (*kills, None, None):
            deadly.left = float("inf") if kill is None else kill
            with contextlib.suppress(Killed):
                number = move(old, new, number)
                number = move(old, new, number)
            deadly.left = float("inf")
            there = new / "album"
            found = {**read_tree(old), **({} if not there.exists() else read_tree(new))}
            assert {name: found.get(name) for name in before} == before, "each is at one place"
            assert not there.exists() or read_tree(new) == before, "all of it, or nothing"
            for at, cut in damage:  # what a power cut makes of a copy that was not flushed
                half = new / f".{'ab' * 20}.moving" / "a"
                if (
                    half.exists()
                    and half.stat().st_mtime_ns != (old / "album/a").stat().st_mtime_ns
                ):
                    with half.open("r+b") as file:
                        if cut:
                            file.truncate(min(at, half.stat().st_size))
                        elif at < half.stat().st_size:
                            file.seek(at)
                            file.write(bytes(min(500, half.stat().st_size - at)))
        assert read_tree(new) == before
        assert list(old.iterdir()) == []


def test_a_second_name_of_another_file_is_not_written_to(
    old: Path, tmp_path: Path, no_links: None
) -> None:
    other = make_file(tmp_path / "other", 1000)
    before = other.read_bytes()
    one = carrying(old, tmp_path / "new")
    one.hidden.mkdir()
    subprocess.run(["ln", other, one.hidden / "a"], check=True)  # as os.link refuses
    one.land(gather(one))
    assert read_tree(tmp_path / "new") == read_tree(old)
    assert other.read_bytes() == before


def test_what_changed_at_the_old_place_since_it_was_copied_stays(
    old: Path, tmp_path: Path, no_links: None
) -> None:
    one = carrying(old, tmp_path / "new")
    one.land(gather(one))
    before = (old / "album" / "a").stat()
    (old / "album" / "a").write_bytes(b"x" * 3000)  # of the same size
    os.utime(old / "album" / "a", ns=(before.st_mtime_ns + 1, before.st_mtime_ns + 1))
    (tmp_path / "new" / "album" / "cd1" / "b").unlink()
    assert one.clear() == [old / "album" / "a", old / "album" / "cd1" / "b"]
    assert set(read_tree(old / "album")) == {"a", "cd1/b"}


SECOND = LONG_AGO // 10**9 * 10**9
"""As a file system has it that counts in seconds."""


@pytest.mark.parametrize(
    ("time", "goes"),
    [
        (LONG_AGO, True),
        (SECOND, True),
        (SECOND - 10**9, True),
        (SECOND + 10**9, True),
        (SECOND - 2 * 10**9, False),
        (SECOND + 3 * 10**9, False),
        (LONG_AGO + 1, False),
    ],
)
def test_a_file_system_that_counts_in_seconds_will_do(
    time: int, goes: bool, old: Path, tmp_path: Path, no_links: None
) -> None:
    os.utime(old / "album" / "a", ns=(LONG_AGO, LONG_AGO))
    one = carrying(old, tmp_path / "new")
    one.land(gather(one))
    os.utime(tmp_path / "new" / "album" / "a", ns=(time, time))
    assert one.clear() == ([] if goes else [old / "album" / "a"])


def test_a_disk_that_is_away_is_neither_place(old: Path, tmp_path: Path) -> None:
    one = carrying(old, tmp_path / "new")
    assert one.landed(None) is False
    number = gather(one)
    (tmp_path / "new").rename(tmp_path / "away")
    assert one.landed(number) is None
    (tmp_path / "away").rename(tmp_path / "new")
    assert one.landed(number) is False
    one.land(number)
    # What somebody else puts there is not taken for it.
    (tmp_path / "new" / "album").rename(tmp_path / "mine")
    make_tree(tmp_path / "new" / "album", FILES)
    assert one.landed(number) is None


def test_only_what_is_all_ours_goes_by_one_rename(old: Path, tmp_path: Path) -> None:
    one = carrying(old, tmp_path / "new")
    assert one.at_once()
    make_file(old / "album" / "cd1" / "x", 1)
    assert not one.at_once()
    (old / "album" / "cd1" / "x").unlink()
    (old / "album" / "empty").mkdir()
    assert not one.at_once()
    (old / "album" / "empty").rmdir()
    (old / "album" / "a").unlink()
    (old / "album" / "a").symlink_to("/etc/passwd")
    with pytest.raises(StorageError, match="links inside content are never followed"):
        gather(one)
    one.give_up()
    assert read_tree(tmp_path / "new") == {}


def test_giving_up_removes_what_was_gathered_and_nothing_else(old: Path, tmp_path: Path) -> None:
    one, before = carrying(old, tmp_path / "new"), read_tree(old)
    gather(one)
    make_file(one.hidden / "cd1" / "theirs", 5)
    one.give_up()
    assert set(read_tree(tmp_path / "new")) == {f"{one.hidden.name}/cd1/theirs"}
    assert read_tree(old) == before
    one.give_up()


def test_a_name_is_never_taken_from_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    (tmp_path / "b").write_text("theirs")
    with pytest.raises(StorageError, match="something is there already"):
        rename(tmp_path / "a", tmp_path / "b")
    with pytest.raises(StorageError, match="missing"):
        rename(tmp_path / "x", tmp_path / "c")
    rename(tmp_path / "a", tmp_path / "c")
    assert (number_of(tmp_path / "a"), (tmp_path / "c").read_text()) == (None, "mine")


def test_where_case_does_not_count_it_can_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("mine")
    os.link(tmp_path / "a", tmp_path / "A")  # as it looks there
    rename(tmp_path / "a", tmp_path / "A")
    assert (tmp_path / "A").read_text() == "mine"
    (tmp_path / "B").write_text("theirs")
    with pytest.raises(StorageError):
        rename(tmp_path / "A", tmp_path / "B")
