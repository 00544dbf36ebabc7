"""`dhtnode stream`: what is played, and by what."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from dht_torrent.cli.stream import chosen
from dht_torrent.daemon.client import connect
from dht_torrent.errors import InputError
from tests.cli.test_main import Process, daemon, run, the_line

PLAYER = "import sys, urllib.request as r; sys.stderr.buffer.write(r.urlopen(sys.argv[1]).read())"
"""Plays to stderr."""


@pytest.mark.parametrize(
    ("player", "why"),
    [
        ("no-such-player --fs", "no program no-such-player"),
        ("mpv 'an open quote", "no closing quotation"),
        ("", "needs a command"),
        ("/", "no program /"),
    ],
)
def test_a_player_that_cannot_be_started_is_told_before_anything_is_fetched(
    player: str, why: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    result = run("stream", "ab" * 20, "--player", player, "--state-dir", state)
    assert result.exit_code == 2
    assert why in the_line(result)
    assert not state.exists()


def test_the_largest_that_can_be_played_is_chosen() -> None:
    files = [
        {"index": 0, "path": "sample.mkv", "size": 10},
        {"index": 2, "path": "film.ts", "size": 700},
        {"index": 3, "path": "extras.iso", "size": 9000},
    ]
    assert chosen(files, None) == 2
    assert chosen(files[2:], None) == 3
    assert chosen(files, 0) == 0
    for nothing, number in ((files, 1), ([], None), ([], 0)):
        with pytest.raises(InputError):
            chosen(nothing, number)


def test_the_running_node_plays_what_it_has(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(b"a film" * 100)
    state = tmp_path / "state"
    with daemon(state, "--bootstrap", "none", "--web", "127.0.0.1:0"):
        with connect(state) as client:
            shared = client.share(film)
        player = shlex.join([sys.executable, "-c", PLAYER])
        with Process("stream", shared["id"], "--state-dir", state, "--player", player) as process:
            code, out, err = process.end()
    assert (code, err) == (0, "a film" * 100)
    assert re.search(rf"/stream/{shared['id']}/0\?token=\w+\n$", out)


def test_a_node_without_a_page_says_how_it_could_play(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(os.urandom(100))
    state = tmp_path / "state"
    with daemon(state):
        with connect(state) as client:
            shared = client.share(film)
        told = run("stream", shared["id"], "--state-dir", state)
    assert told.exit_code == 2
    assert "--web ADDR:PORT" in the_line(told)
