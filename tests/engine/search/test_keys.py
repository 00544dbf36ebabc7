"""The key a node publishes under."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dht_torrent.engine.search.keys import NAME, make_key, read_key
from dht_torrent.errors import InputError, StorageError

SEED = bytes(range(32))


def test_a_key_that_was_made_is_read_again_and_is_its_owners_alone(tmp_path: Path) -> None:
    assert read_key(tmp_path) is None
    made = make_key(tmp_path, SEED)
    again = read_key(tmp_path)
    assert again is not None
    assert again.public == made.public
    path = tmp_path / NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == SEED.hex() + "\n"  # as `dht put --key` has it
    assert [one.name for one in tmp_path.iterdir()] == [NAME]


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    made = make_key(tmp_path, SEED)
    with pytest.raises(StorageError, match=NAME):
        make_key(tmp_path, bytes(32))
    again = read_key(tmp_path)
    assert again is not None
    assert again.public == made.public


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31, "00" * 33, "\x00" * 64, "00" * 600])
def test_what_is_not_a_key_is_said_and_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(InputError, match="64 hex digits"):
        read_key(tmp_path)
    assert (tmp_path / NAME).read_text() == text


def test_a_key_that_cannot_be_read_or_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        read_key(tmp_path)
    with pytest.raises(StorageError):
        make_key(tmp_path / "nowhere", SEED)


def test_what_an_interrupted_write_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.tmp").write_text("half")
    make_key(tmp_path, SEED)
    assert [one.name for one in tmp_path.iterdir()] == [NAME]
