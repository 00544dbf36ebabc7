"""What a user finds of a link that is followed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dht_torrent.engine.following.place import LinkPlace
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import InfoHash

ONE, TWO = InfoHash(b"\1" * 20), InfoHash(b"\2" * 20)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def version(place: LinkPlace, info_hash: InfoHash, text: str) -> None:
    (place.prepare(info_hash) / "page").write_text(text)


def test_current_is_the_version_that_was_switched_to(tmp_path: Path) -> None:
    place = LinkPlace(tmp_path / "a" / "b")
    place.check()
    version(place, ONE, "one")
    place.switch(ONE)
    assert place.is_at(ONE)
    assert (place.current / "page").read_text() == "one"
    version(place, TWO, "two")
    assert (place.current / "page").read_text() == "one"
    place.switch(TWO)
    assert (place.is_at(ONE), place.is_at(TWO)) == (False, True)
    assert (place.current / "page").read_text() == "two"
    assert names(place.root) == ["current", "versions"]
    place.check()
    place.root.rename(tmp_path / "moved")  # it may move as a whole
    assert (tmp_path / "moved" / "current" / "page").read_text() == "two"


def test_whoever_reads_meanwhile_always_finds_a_version(tmp_path: Path) -> None:
    place = LinkPlace(tmp_path)
    version(place, ONE, "one")
    version(place, TWO, "two")
    place.switch(ONE)
    done = threading.Event()
    found: list[str] = []
    failed: list[OSError] = []

    def read() -> None:
        while not done.is_set():
            try:
                found.append((place.current / "page").read_text())
            except OSError as error:
                failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        place.switch(TWO)
        place.switch(ONE)
    done.set()
    reader.join()
    assert failed == []
    assert set(found) <= {"one", "two"}


def test_what_an_interrupted_switch_left_does_not_matter(tmp_path: Path) -> None:
    place = LinkPlace(tmp_path)
    version(place, ONE, "one")
    (tmp_path / ".current.next").symlink_to("versions/nowhere")
    place.switch(ONE)
    assert place.is_at(ONE)
    assert names(tmp_path) == ["current", "versions"]


def in_the_way(path: Path, what: str) -> None:
    if what == "folder":
        path.mkdir()
    elif what == "file":
        path.write_text("mine")
    else:
        path.symlink_to(what)


@pytest.mark.parametrize(
    "what", ["folder", "file", "elsewhere", "/versions/x", "versions", "a/b/c"]
)
def test_what_this_program_did_not_make_is_never_replaced(tmp_path: Path, what: str) -> None:
    place = LinkPlace(tmp_path)
    version(place, ONE, "one")
    in_the_way(place.current, what)
    before = place.current.lstat()
    with pytest.raises(InputError, match="choose another"):
        place.check()
    with pytest.raises(StorageError, match="did not make it"):
        place.switch(ONE)
    place.leave()
    assert place.current.lstat() == before


def test_a_version_goes_with_its_folder_unless_something_is_left(tmp_path: Path) -> None:
    place = LinkPlace(tmp_path)
    version(place, ONE, "mine")
    place.clear(ONE)
    assert (place.folder(ONE) / "page").read_text() == "mine"
    place.prepare(TWO)
    place.clear(TWO)
    assert not place.folder(TWO).exists()
    place.clear(TWO)
    (place.folder(ONE) / "page").unlink()
    place.clear(ONE)
    place.leave()
    assert names(tmp_path) == []


def test_what_lies_elsewhere_is_linked_to_and_stays_there(tmp_path: Path) -> None:
    place = LinkPlace(tmp_path / "out")
    content = tmp_path / "film.bin"
    content.write_text("mine")
    place.adopt(ONE, content)
    place.adopt(ONE, content)
    place.switch(ONE)
    assert (place.current / "film.bin").read_text() == "mine"
    (tmp_path / "moved").mkdir()
    content = content.rename(tmp_path / "moved" / "film.bin")
    place.adopt(ONE, content)
    assert (place.current / "film.bin").read_text() == "mine"
    place.clear(ONE)
    place.leave()
    assert content.read_text() == "mine"
    assert names(tmp_path / "out") == []
    version(place, TWO, "page")
    with pytest.raises(StorageError, match="in the way"):
        place.adopt(TWO, tmp_path / "page")
    (lies,) = place.folder(TWO).iterdir()
    place.adopt(TWO, lies)  # it is where it is to be
    assert not lies.is_symlink()


def test_trouble_of_the_disk_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        place = LinkPlace(root)
        with pytest.raises(InputError, match="choose another --output"):
            place.check()
        with pytest.raises(StorageError):
            place.prepare(ONE)
        with pytest.raises(StorageError):
            place.switch(ONE)
