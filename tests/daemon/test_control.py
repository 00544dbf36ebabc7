from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from dht_torrent.daemon.control import (
    MAX_SOCKET_PATH,
    Control,
    default_control,
    make_token,
    parse_control,
    read_control,
    read_token,
    remove_control,
    write_control,
)
from dht_torrent.errors import InputError
from dht_torrent.ids import Address
from dht_torrent.syscalls import UNSUPPORTED


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("127.7.7.7:0", Address("127.7.7.7", 0)),
        ("localhost:80", Address("127.0.0.1", 80)),
        ("[::1]:80", Address("::1", 80)),
    ],
)
def test_a_loopback_address_is_a_control_address(text: str, address: Address) -> None:
    assert parse_control(text) == Control(address=address)


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:80",
        "[::]:80",
        "192.168.1.1:80",
        "example.com:80",
        "8.8.8.8:80",
        "127.0.0.1",
        "127.0.0.1:x",
        "unix:",
        "unix:a\0b",
        "/tmp/socket",
        "",
    ],
)
def test_anything_others_could_reach_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_control(text)


def test_a_relative_socket_path_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_control("unix:sock") == Control(path=tmp_path / "sock")


@pytest.mark.parametrize("text", ["unix:/a b/c", "127.0.0.1:99", "[::1]:5"])
def test_the_control_file_says_where_the_node_answers(tmp_path: Path, text: str) -> None:
    control = parse_control(text)
    assert read_control(tmp_path) is None
    write_control(tmp_path, control)
    assert read_control(tmp_path) == control
    assert [entry.name for entry in tmp_path.iterdir()] == ["control"]
    remove_control(tmp_path, parse_control("127.0.0.1:1"))
    assert read_control(tmp_path) == control
    remove_control(tmp_path, control)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\0", b"evil.com:80", b"x" * 100_000])
def test_a_control_file_of_garbage_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "control").write_bytes(content)
    assert read_control(tmp_path) is None


def test_the_token_is_random_and_private(tmp_path: Path) -> None:
    first = make_token(tmp_path)
    second = make_token(tmp_path)
    assert first != second
    assert len(bytes.fromhex(second)) == 32
    assert read_token(tmp_path) == second
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_a_short_state_dir_holds_the_socket(tmp_path: Path) -> None:
    control, private = default_control(Path("/s"))
    assert control == Control(path=Path("/s/control.sock"))
    assert private is None


@pytest.mark.parametrize("code", sorted(UNSUPPORTED))
def test_a_file_system_without_sockets_gets_a_private_place_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    class Refused(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket, "socket", Refused)
    control, private = default_control(tmp_path)
    assert private is not None
    assert control.path == private / "control.sock"
    private.rmdir()


def test_looking_for_sockets_leaves_nothing_behind(tmp_path: Path) -> None:
    assert default_control(tmp_path) == (Control(path=tmp_path / "control.sock"), None)
    assert list(tmp_path.iterdir()) == []


def test_a_long_state_dir_gets_a_private_place_for_the_socket(tmp_path: Path) -> None:
    control, private = default_control(tmp_path / ("x" * MAX_SOCKET_PATH))
    assert private is not None
    assert control.path is not None
    assert control.path.parent == private
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    private.rmdir()
