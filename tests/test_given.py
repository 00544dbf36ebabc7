"""The library, the command line and the control API understand the same."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given as draw
from hypothesis import strategies as st
from trio.testing import MockClock

from dht_torrent import given
from dht_torrent.errors import InputError
from dht_torrent.ids import HostPort, InfoHash
from dht_torrent.metainfo import Magnet
from dht_torrent.storage.making import make
from tests.helpers.engine import LEECH, World

HASH = InfoHash(bytes(range(20)))
MAGNET = Magnet(HASH, "a & b", (HostPort("127.0.0.1", 5),), ((0, 1),))
BASE32 = base64.b32encode(HASH).decode()
SAME = [HASH.hex(), HASH.hex().upper(), BASE32, BASE32.lower()]
BLANKS = ["", " ", "\n", "\r\n", "\t", "\u00a0", "\ufeff", " \ufeff "]


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("text", [*SAME, str(MAGNET), str(MAGNET).replace("&", "&amp;")])
async def test_links_and_infohashes_are_read_alike_everywhere(
    text: str, blank: str, autojump_clock: MockClock
) -> None:
    expected = MAGNET if text.startswith("magnet") else Magnet(HASH)
    assert given.read(blank + text + blank) == expected
    assert given.read_link(blank + text + blank) == expected
    async with World().node(LEECH) as node:
        torrent = await node.get(blank + text + blank)
        assert torrent.magnet == expected


async def test_a_path_is_read_where_files_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    (tmp_path / "content").write_bytes(b"x" * 100)
    made = make(tmp_path / "content")
    file = tmp_path / "a b.torrent"
    file.write_bytes(made.to_torrent())
    odd = tmp_path / (" " + os.fsdecode(b"\xff"))
    odd.write_bytes(made.to_torrent())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for text in (str(file), f" {file}\n", file, "~/a b.torrent", "a b.torrent", odd, str(odd)):
        read = given.read(text)
        assert isinstance(read, given.TorrentFile)
        assert read.metainfo.info_hash == made.info_hash
        assert read.data == made.to_torrent()
        async with World().node(LEECH) as node:
            assert (await node.get(text)).info_hash == made.info_hash
        if isinstance(text, str):
            with pytest.raises(InputError, match="not a magnet link"):
                given.read_link(text)


def test_a_file_may_be_called_like_an_infohash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "content").write_bytes(b"x" * 100)
    (tmp_path / HASH.hex()).write_bytes(make(tmp_path / "content").to_torrent())
    monkeypatch.chdir(tmp_path)
    assert isinstance(given.read(HASH.hex()), given.TorrentFile)
    assert given.read_link(HASH.hex()) == Magnet(HASH)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "x", "\0", "a" * 41, "a" * 39, "g" * 40, "1" * 32, "0" * 33, "/", "~nobody/x"),
        *("x" * 5000, "magnet:", "magnet:?", "http://example.org/x.torrent", "gone.torrent"),
        *("\ud800", "/dev/null", "\u0660" * 40, "file:///etc/passwd"),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    for read in (given.read, given.read_link):
        with pytest.raises(InputError) as caught:
            read(text)
        assert "\n" not in str(caught.value)
        assert str(caught.value).isprintable()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        given.read(tmp_path / "gone")
    with pytest.raises(InputError, match=r"gone\.torrent: no such file"):
        given.read(str(tmp_path / "gone.torrent"))
    with pytest.raises(InputError, match="not a file"):
        given.read(tmp_path)
    os.mkfifo(tmp_path / "pipe.torrent")
    with pytest.raises(InputError, match="not a file"):
        given.read(str(tmp_path / "pipe.torrent"))


@draw(st.text(max_size=60) | st.text("magnet:?xt=urnbih&;% ", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (given.read, given.read_link):
        try:
            magnet = read(text)
        except InputError:
            continue
        assert isinstance(magnet, Magnet)
