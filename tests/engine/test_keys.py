"""The keys a node publishes under."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dht_torrent.dht.items import SigningKey
from dht_torrent.engine.keys import DEFAULT, PUBLISHER, KeyStore, read_seed, write_seed
from dht_torrent.errors import InputError, StorageError

SEED = bytes(range(32))
NAMES = [DEFAULT, PUBLISHER, "a.b-C_9"]


@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_was_made_is_read_again_and_is_its_owners_alone(
    tmp_path: Path, name: str
) -> None:
    store = KeyStore(tmp_path / "state")
    assert store.read(name) is None
    made = store.make(name, SEED)
    again = store.read(name)
    assert again is not None
    assert again.public == made.public == SigningKey(SEED).public
    path = store.path(name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text() == SEED.hex() + "\n"  # as `dht put --key` has it
    assert [one for one in path.parent.iterdir() if one.is_file()] == [path]


def test_the_publishers_key_is_where_it_was_before_there_were_others(tmp_path: Path) -> None:
    assert KeyStore(tmp_path).path(PUBLISHER) == tmp_path / "publisher.key"
    assert KeyStore(tmp_path).path(DEFAULT) == tmp_path / "keys" / "default.key"


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_never_replaced(tmp_path: Path, name: str) -> None:
    store = KeyStore(tmp_path)
    made = store.make(name, SEED)
    with pytest.raises(InputError, match="already"):
        store.make(name, bytes(32))
    with pytest.raises(InputError, match="not replaced"):
        write_seed(store.path(name), bytes(32))
    assert store.read_or_make(name, bytes(32)).public == made.public
    assert read_seed(store.path(name)) == SEED
    assert [one for one in store.path(name).parent.iterdir() if one.suffix == ".tmp"] == []


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31, "00" * 33, "\x00" * 64, "00" * 600])
def test_what_is_not_a_key_is_said_and_left_alone(tmp_path: Path, text: str) -> None:
    store = KeyStore(tmp_path)
    path = store.path(PUBLISHER)
    path.write_text(text)
    with pytest.raises(InputError, match="64 hex digits"):
        store.read(PUBLISHER)
    with pytest.raises(InputError, match="64 hex digits"):
        store.read_or_make(PUBLISHER, SEED)
    assert path.read_text() == text


def test_a_key_that_cannot_be_read_or_written_is_a_storage_error(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.path(PUBLISHER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        store.read(PUBLISHER)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot make"):
        KeyStore(tmp_path / "file" / "below").make(PUBLISHER, SEED)
    with pytest.raises(StorageError, match="cannot write"):
        write_seed(tmp_path / "nowhere" / "key", SEED)


def test_what_an_interrupted_write_left_is_cleared_away(tmp_path: Path) -> None:
    path = KeyStore(tmp_path).path(PUBLISHER)
    path.with_name(path.name + ".tmp").write_text("half")
    KeyStore(tmp_path).make(PUBLISHER, SEED)
    assert path.read_text() == SEED.hex() + "\n"
    assert not path.with_name(path.name + ".tmp").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", "a b", "a" * 65, "x\n", "ä"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="a key's name"):
        KeyStore(tmp_path).make(name, SEED)
    assert list(tmp_path.iterdir()) == []


def test_all_keys_are_listed_and_those_that_others_may_read_are_marked(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    assert store.all() == []
    for number, name in enumerate(NAMES):
        store.make(name, bytes([number]) * 32)
    store.path(DEFAULT).chmod(0o640)
    (tmp_path / "keys" / "notes.txt").touch()
    found = {one.name: one for one in store.all()}
    assert sorted(found) == sorted(NAMES)
    for number, name in enumerate(NAMES):
        assert found[name].public == SigningKey(bytes([number]) * 32).public
        assert found[name].path == store.path(name)
        assert found[name].open_to_others is (name == DEFAULT)
