"""`dhtnode top`: what it draws fits and is safe, and it ends when it should."""

from __future__ import annotations

import io
import os
import pty
import re
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from dht_torrent.cli import top
from dht_torrent.cli.main import cli
from dht_torrent.daemon.lines import plain
from dht_torrent.errors import ControlError, InputError
from tests.helpers.fake_node import FakeNode

HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold red]film[/] \u202e\r\nnext\x9b1m"


def torrent(number: int, **changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": f"{number:040x}",
        "name": f"film {number}",
        "state": "downloading",
        "progress": 0.5,
        "size": 3 << 30,
        "down_rate": 0.0,
        "up_rate": 0.0,
        "peers": 2,
        "eta": 90.0,
        "error": None,
        "why": None,
    }
    return told | changes


def peer(number: int, **changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "address": f"127.0.0.{number}:6881",
        "client": "libtorrent 2.0",
        "flags": "DE",
        "transport": "utp",
        "progress": 1.0,
        "down_rate": 1000.0 * number,
        "up_rate": 0.0,
    }
    return told | changes


def status(**changes: Any) -> dict[str, Any]:
    told = plain(FakeNode().status())
    assert isinstance(told, dict)
    dht = {"good": 120, "questionable": 7, "network_size": 1234567.0, "down": None}
    whole: dict[str, Any] = {
        "dht": dht,
        "dht6": None,
        "torrents": 2,
        "connections": 3,
        "warnings": [],
    }
    return {**told, "uptime": 3700.0, "faults": 0, **whole, **changes}


def drawn(seen: top.Snapshot, width: int = 100, height: int = 24) -> list[str]:
    """The lines on a terminal of that size, with all that would reach it."""
    output = io.StringIO()
    console = Console(
        file=output, width=width, height=height, force_terminal=True, color_system=None
    )
    console.print(top.screen(seen, width, height))
    return output.getvalue().splitlines()


def seen(count: int = 3, **changes: Any) -> top.Snapshot:
    torrents = [torrent(number) for number in range(count)]
    told: dict[str, Any] = {"status": status(), "torrents": torrents}
    return top.Snapshot(**told | changes)


def test_the_node_its_torrents_its_peers_and_the_dht_are_shown() -> None:
    text = "\n".join(drawn(seen(peers=[peer(1), peer(2)])))
    for part in (
        "up 1 h 1 min, 2 torrents, 3 peers",
        "DHT: 120 good contacts, 7 questionable, about 1,234,567 nodes in all",
        "STATE",
        "50.0%",
        "3.0 GiB",
        "1 min 30 s",
        "film 2",
        "127.0.0.2:6881",
        "libtorrent 2.0",
        "q quit",
    ):
        assert part in text, part


@pytest.mark.parametrize("width", [20, 40, 71, 72, 100, 200])
@pytest.mark.parametrize("height", [1, 5, 8, 13, 24, 60])
def test_it_fits_in_any_terminal(width: int, height: int) -> None:
    peers = [peer(number) for number in range(1, 20)]
    warnings = status(warnings=["w" * 300], dht6=status()["dht"])
    lines = drawn(seen(50, peers=peers, status=warnings, chosen=40), width, height)
    assert len(lines) <= max(height, top.HEAD + 2)
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= width for line in lines)


def test_the_chosen_torrent_is_always_among_those_shown() -> None:
    for chosen in (0, 7, 25, 49):
        text = "\n".join(drawn(seen(50, chosen=chosen)))
        assert f"film {chosen} " in text + " "


def test_names_of_strangers_are_shown_as_text() -> None:
    torrents = [torrent(1, name=HOSTILE, error=HOSTILE), torrent(2, why="[link=x]no peers[/link]")]
    peers = [peer(1, client=HOSTILE)]
    told = seen(torrents=torrents, peers=peers, status=status(warnings=[HOSTILE]))
    text = "\n".join(drawn(told, 200))
    assert "[bold red]film[/]" in text
    assert "[link=x]no peers[/link]" in text
    plain_text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", plain_text)
    assert len(text.splitlines()) == len(
        drawn(seen(2, peers=[peer(1)], status=status(warnings=["x"])))
    )


def test_those_that_move_come_first() -> None:
    torrents = [
        torrent(1, name="a", state="seeding"),
        torrent(2, name="z"),
        torrent(3, name="y", state="paused", up_rate=10.0),
        torrent(4, name="b"),
    ]
    assert [one["name"] for one in top.order(torrents)] == ["y", "b", "z", "a"]


# -- the loop -------------------------------------------------------------------------------------


class FakeClient:
    """A node with torrents that changes each time it is looked at."""

    def __init__(self, count: int = 3) -> None:
        self.looks = 0
        self.asked: list[str] = []
        self.count = count

    def status(self) -> dict[str, Any]:
        self.looks += 1
        return status(connections=self.looks)

    def torrents(self) -> list[dict[str, Any]]:
        return [torrent(number) for number in range(self.count)]

    def peers(self, torrent_id: str) -> list[dict[str, Any]]:
        self.asked.append(torrent_id)
        return [peer(1, client=f"of {int(torrent_id, 16)}")]


def run(client: Any, *pressed: str) -> str:
    """What was shown until the keys were at an end, which is `q`."""
    output = io.StringIO()
    console = Console(file=output, width=90, height=24, force_terminal=True, color_system=None)
    left = [*pressed, "q"]
    top.watch(client, console, lambda seconds: left.pop(0), 60.0)
    return output.getvalue()


def test_it_looks_again_after_each_pause_and_the_screen_is_as_before_at_the_end() -> None:
    client = FakeClient()
    shown = run(client, "", "")
    assert client.looks == 3
    assert "3 torrents" not in shown
    for number in (1, 2, 3):
        assert f"{number} peer" in shown
    assert shown.startswith("\x1b[?1049h")  # the other screen
    assert "\x1b[?1049l" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is there again


def test_keys_choose_the_torrent_whose_peers_are_shown() -> None:
    client = FakeClient()
    run(client, "j", "\x1b[B", "j", "k", "\x1b[A", "k", "x")
    assert [int(one, 16) for one in client.asked] == [0, 1, 2, 1, 0]


@pytest.mark.parametrize("key", ["q", "\x03", "\x04"])
def test_a_key_ends_it(key: str) -> None:
    client = FakeClient(0)
    run(client, key)
    assert (client.looks, client.asked) == (1, [])


def test_a_torrent_that_is_removed_meanwhile_or_a_node_that_goes_is_no_bug() -> None:
    class Removing(FakeClient):
        def peers(self, torrent_id: str) -> list[dict[str, Any]]:
            raise InputError("no such torrent")

    class Going(FakeClient):
        def status(self) -> dict[str, Any]:
            if self.looks:
                raise ControlError("the node is gone")
            return super().status()

    run(Removing(), "")
    with pytest.raises(ControlError, match="gone"):
        run(Going(), "")


def test_keys_are_read_as_they_are_pressed_and_the_terminal_is_as_before_afterwards() -> None:
    ours, theirs = pty.openpty()
    import termios

    before = termios.tcgetattr(theirs)
    with top.keys_of(theirs) as keys:
        assert keys(0.0) == ""
        for sent in ("j", "\x1b[A"):
            os.write(ours, sent.encode())
            assert keys(5.0) == sent
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_without_a_terminal_it_says_so_in_a_line() -> None:
    done = CliRunner().invoke(cli, ["top"], prog_name="dhtnode")
    assert done.exit_code == 2
    assert "top needs a terminal" in done.output
