from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner, Result

from dht_torrent.cli.main import cli
from dht_torrent.metainfo import Magnet, parse_torrent

ID = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a"
MAGNET = f"magnet:?xt=urn:btih:{ID}&dn=thing"
ALONE = ("--bootstrap", "none", "--listen", "127.0.0.1:0")
PATIENCE = 60.0
"""Seconds after which a process of a test is killed."""


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="dhtnode")


def the_line(result: Result) -> str:
    """The one line on stderr of a command that failed."""
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("dhtnode: ")
    assert result.stdout == ""
    return line


# --- without a node ------------------------------------------------------------------------------


@pytest.fixture
def content(tmp_path: Path) -> Path:
    folder = tmp_path / "content"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(b"a" * 40_000)
    (folder / "sub" / "b").write_bytes(b"b" * 10)
    return folder


def test_create_writes_a_torrent_and_prints_its_magnet_link(content: Path, tmp_path: Path) -> None:
    made = run("create", content, "-o", tmp_path / "x.torrent", "--comment", "hello", "--private")
    assert made.exit_code == 0
    metainfo = parse_torrent((tmp_path / "x.torrent").read_bytes())
    assert Magnet.parse(made.stdout).info_hash == metainfo.info_hash
    assert metainfo.private
    facts = json.loads(run("show", tmp_path / "x.torrent", "--json").stdout)
    assert facts["id"] == metainfo.info_hash.hex()
    assert facts["size"] == 40_010
    assert facts["comment"] == "hello"
    assert [file["path"] for file in facts["files"]] == ["content/a", "content/sub/b"]
    text = run("show", tmp_path / "x.torrent").stdout
    assert "content/sub/b" in text
    assert facts["id"] in text


def test_create_says_which_torrents_have_files_in_common(content: Path, tmp_path: Path) -> None:
    run("create", content, "-o", tmp_path / "x.torrent")
    first = parse_torrent((tmp_path / "x.torrent").read_bytes())
    given = ("--similar", tmp_path / "x.torrent", "--similar", ID, "--collection", "things")
    assert run("create", content, "-o", tmp_path / "y.torrent", *given).exit_code == 0
    facts = json.loads(run("show", tmp_path / "y.torrent", "--json").stdout)
    assert facts["similar"] == [first.info_hash.hex(), ID]
    assert facts["collections"] == ["things"]
    assert "things" in run("show", tmp_path / "y.torrent").stdout


def test_create_leaves_nothing_half_done(content: Path, tmp_path: Path) -> None:
    result = run("create", content, "-o", tmp_path / "no" / "x.torrent")
    assert result.exit_code == 2
    assert "no/x.torrent: no such file" in the_line(result)
    run("create", content, "-o", tmp_path / "x.torrent")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["content", "x.torrent"]


def test_show_reads_a_magnet_link() -> None:
    facts = json.loads(run("show", f"{MAGNET}&so=0,2-3&x.pe=127.0.0.1:5", "--json").stdout)
    assert facts["id"] == ID
    assert facts["name"] == "thing"
    assert facts["select"] == [[0, 0], [2, 3]]
    assert facts["peers"] == ["127.0.0.1:5"]
    assert "0,2-3" in run("show", f"{MAGNET}&so=0,2-3").stdout


def test_nothing_from_a_stranger_moves_the_cursor() -> None:
    result = run("show", f"{MAGNET}%1b%5b2J")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "\x1b" not in run("show", "\x1b[2J").output


@pytest.mark.parametrize(
    "args",
    [
        ("show", "magnet:?dn=nothing"),
        ("show", "/no/such/file"),
        ("show", ""),
        ("get", "magnet:?xt=urn:btih:12"),
        ("get", "not-a-thing"),
        ("get", MAGNET, "--select", "2-1"),
        ("get", MAGNET, "--bootstrap", "nohost"),
        ("get", MAGNET, "--listen", "localhost:99999"),
        ("get", MAGNET, "--control", "0.0.0.0:80"),
        ("share", "/no/such/path"),
        ("create", "/no/such/path", "-o", "x.torrent"),
        ("--listen", "nonsense"),
        ("--bootstrap", "router:x"),
        ("--control", "8.8.8.8:1"),
        ("--limit-up", "fast"),
        ("get", MAGNET, "--limit-down", "-5"),
        ("limit", "--up", "1 furlong"),
        ("ls", "--control", "8.8.8.8:1"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    isolated = () if args[0] in ("show", "create") else ("--state-dir", str(tmp_path / "state"))
    result = run(*isolated, *args)
    assert result.exit_code == 2
    the_line(result)


@pytest.mark.parametrize(
    "args",
    [
        ("ls",),
        ("status", "--json"),
        ("peers", ID),
        ("files", ID),
        ("rm", ID, "--data"),
        ("pause", ID),
        ("resume", ID),
        ("recheck", ID),
        ("stop",),
        ("get", MAGNET, "--no-wait"),
    ],
)
def test_without_a_node_commands_say_so(args: tuple[str, ...], tmp_path: Path) -> None:
    before = run("--state-dir", tmp_path, *args)
    after = run(*args, "--state-dir", tmp_path)
    for result in (before, after):
        assert result.exit_code == 2
        assert "no" in the_line(result)
    assert before.stderr == after.stderr


def test_help_loads_nothing_slow() -> None:
    program = (
        "import sys, dht_torrent.cli.main as main, click\n"
        "context = click.Context(main.cli)\n"
        "names = main.cli.list_commands(context)\n"
        "assert names == sorted(names)\n"
        "for name in names:\n"
        "    assert main.cli.get_command(context, name).name == name\n"
        "main.cli.get_help(context)\n"
        "slow = 'trio rich httpx starlette hypercorn kademlia platformdirs asyncio'.split()\n"
        "print([name for name in slow if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout.strip() == b"[]"
    for command in ("get", "share", "ls", "status", "create", "show", "stop", "search"):
        assert command in run("--help").stdout
    assert run("--version").stdout.startswith("dhtnode")


# --- with nodes ----------------------------------------------------------------------------------


class Process:
    """`dhtnode` in a process of its own, where every warning is an error."""

    def __init__(
        self,
        *args: object,
        patience: float = PATIENCE,
        session: bool = False,
        env: dict[str, str] | None = None,
    ) -> None:
        """It is killed after `patience` seconds. In a session of its own it has no terminal."""
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "dht_torrent", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=session,
            env=env,
        )
        self._watchdog = threading.Timer(patience, self._process.kill)
        self._watchdog.start()

    def line(self) -> str:
        """The next line of its stdout."""
        return _readline(self._process.stdout)

    def error_line(self) -> str:
        """The next line of its stderr."""
        return _readline(self._process.stderr)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """Wait for the end, perhaps after a signal: exit code, the rest of stdout, stderr."""
        if number is not None:
            self._process.send_signal(number)
        out, err = self._process.communicate()
        self._watchdog.cancel()
        return self._process.returncode, out, err

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._watchdog.cancel()


def _readline(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().rstrip("\n")


READY = re.compile(r"ready listen=(127\.0\.0\.1:\d+) control=(\S+) id=([0-9a-f]{40})")


@contextmanager
def daemon(
    state: Path, *args: object, patience: float = PATIENCE
) -> Iterator[tuple[Process, re.Match[str]]]:
    """A running node that has said it is ready; it may run for `patience` seconds."""
    options = ("--listen", "127.0.0.1:0", "--state-dir", state, "--download-dir", state.parent)
    with Process(*options, *(args or ("--bootstrap", "none")), patience=patience) as process:
        line = process.line()
        ready = READY.fullmatch(line)
        assert ready is not None, line or process.end()
        yield process, ready


def ls(state: Path) -> list[dict[str, Any]]:
    result = run("ls", "--json", "--state-dir", state)
    assert result.exit_code == 0, result.stderr
    listed: list[dict[str, Any]] = json.loads(result.stdout)
    return listed


def test_a_node_says_it_is_ready_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with daemon(state) as (node, ready):
        assert ready[2] == f"unix:{state}/control.sock"
        assert ls(state) == []
        status = json.loads(run("status", "--json", "--state-dir", state).stdout)
        assert status["listen"] == ready[1]
        assert status["id"] == ready[3]
        assert "reachable:" in run("--state-dir", state, "status").stdout

        second = Process(*ALONE, "--state-dir", state)
        taken = Process("--bootstrap", "none", "--state-dir", tmp_path / "b", "--listen", ready[1])
        code, out, err = second.end()
        assert (code, out) == (2, "")
        assert re.fullmatch(r"dhtnode: another node is running.*\n", err)
        code, out, err = taken.end()
        assert (code, out) == (2, "")
        assert re.fullmatch(rf"dhtnode: cannot listen on {ready[1]}.*\n", err)

        assert node.end(signal.SIGTERM) == (0, "", "")
    assert not (state / "control").exists()
    assert not (state / "control.sock").exists()
    assert run("ls", "--state-dir", state).exit_code == 2


def test_commands_steer_a_running_node(tmp_path: Path, content: Path) -> None:
    state = tmp_path / "state"
    with daemon(state, "--bootstrap", "none", "--control", "127.0.0.1:0") as (node, ready):
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", ready[2])
        shared = run("share", content, "--torrent-out", tmp_path / "x", "--state-dir", state)
        assert shared.exit_code == 0, shared.stderr
        magnet = Magnet.parse(shared.stdout)
        torrent_id = magnet.info_hash.hex()
        assert parse_torrent((tmp_path / "x").read_bytes()).info_hash == magnet.info_hash
        (torrent,) = ls(state)
        assert torrent["id"] == torrent_id
        assert torrent["size"] == 40_010
        listed = run("files", torrent_id[:8], "--state-dir", state)
        assert "sub/b" in listed.stdout
        assert run("peers", torrent_id, "--json", "--state-dir", state).stdout == "[]\n"
        assert run("pause", torrent_id, "--state-dir", state).exit_code == 0
        assert ls(state)[0]["state"] == "paused"
        assert run("resume", torrent_id, "--state-dir", state).exit_code == 0
        waiting = run("get", MAGNET, "--no-wait", "--state-dir", state, "--output", tmp_path / "o")
        assert waiting.stdout.strip() == ID
        assert ID[:8] in run("status", "--state-dir", state).stdout
        removed = run("rm", ID[:6], "--json", "--state-dir", state)
        assert json.loads(removed.stdout) == {"removed": ID}
        gone = run("rm", ID, "--state-dir", state)
        assert gone.exit_code == 2
        assert "no such torrent" in the_line(gone)
        assert run("stop", "--state-dir", state).exit_code == 0
        assert node.end() == (0, "", "")
    with daemon(state) as (_, again):
        assert again[3] == ready[3]
        assert [t["id"] for t in ls(state)] == [torrent_id]


def test_a_torrent_is_kept_as_its_user_says(tmp_path: Path, content: Path) -> None:
    state = tmp_path / "state"

    def said(*args: object) -> Any:
        result = run(*args, "--json", "--state-dir", state)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    with daemon(state, "--bootstrap", "none") as (node, _):
        shared = run("share", content, "--state-dir", state)
        torrent_id = Magnet.parse(shared.stdout).info_hash.hex()
        assert said("label", torrent_id, "films", "to see")["labels"] == ["films", "to see"]
        assert said("label", torrent_id)["labels"] == []
        assert said("queue", torrent_id, "top")["id"] == torrent_id
        assert said("queue", torrent_id, "0")["id"] == torrent_id
        assert said("announce", torrent_id)["id"] == torrent_id
        said("limit", torrent_id, "--ratio", "1.5", "--idle", "none")
        assert [file["selected"] for file in said("files", torrent_id, "--skip", "1")] == [
            True,
            False,
        ]
        said("files", torrent_id, "--want", "1", "--high", "0")
        name = said("rename", torrent_id, content.name, "other")["name"]
        assert name == "other"
        place = tmp_path / "place"
        assert said("move", torrent_id, place)["path"] == str(place / "other")
        content.parent.mkdir(exist_ok=True)
        (place / "other").rename(content.parent / "other")
        there = said("move", torrent_id, content.parent, "--there-already")
        assert there["path"] == str(content.parent / "other")
        content = content.parent / "other"
        text = run("files", torrent_id, "--state-dir", state).stdout
        assert "yes, first" in text
        for wrong, line in (
            (("queue", torrent_id, "front"), "to must be a place from 0"),
            (("limit", torrent_id, "--ratio", "much"), "--ratio is a number"),
            (("limit", "--ratio", "2"), "--ratio and --idle are for one torrent"),
            (("files", torrent_id, "--want", "2"), "there is no file 2"),
            (("label", torrent_id, "a,b"), "a label has"),
            (("rename", torrent_id, f"{name}/x", "y"), "there is no"),
            (("rename", torrent_id, name, "a/b"), "cannot be the name"),
        ):
            failed = run(*wrong, "--state-dir", state)
            assert failed.exit_code == 2, wrong
            assert line in the_line(failed)
        failed = run("move", torrent_id, content, "--state-dir", state)
        assert (failed.exit_code, "lies inside" in the_line(failed)) == (1, True)
        assert node.end(signal.SIGTERM) == (0, "", "")


def test_limits_are_given_at_the_start_shown_and_changed(tmp_path: Path, content: Path) -> None:
    state = tmp_path / "state"

    def limit(*args: object) -> Any:
        result = run("limit", *args, "--json", "--state-dir", state)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    limits = ("--limit-up", "2M", "--limit-down", "1.5MiB", "--alt-limit-up", "7K")
    with daemon(state, "--bootstrap", "none", *limits) as (node, _):
        usual = {"alternative": False}
        assert limit() == {"limit_up": 2_000_000, "limit_down": 1_572_864, **usual}
        assert limit("--down", "none") == {"limit_up": 2_000_000, "limit_down": None, **usual}
        text = run("limit", "--state-dir", state).stdout
        assert text == "no limit down, 1.9 MiB/s up\n"
        assert text.strip() in run("status", "--state-dir", state).stdout
        shared = run("share", content, "--limit-up", "500K", "--state-dir", state)
        torrent_id = Magnet.parse(shared.stdout).info_hash.hex()
        assert limit(torrent_id[:8]) == {"limit_up": 500_000, "limit_down": None}
        assert limit(torrent_id[:8], "--up", 0, "--down", "16Ki")["limit_down"] == 16384
        assert limit() == {"limit_up": 2_000_000, "limit_down": None, **usual}
        other = limit("--alternative")
        assert other == {"limit_up": 7000, "limit_down": 50_000, "alternative": True}
        text = run("limit", "--state-dir", state).stdout
        assert text.endswith("up (the alternative limits)\n")
        assert limit("--usual") == {"limit_up": 2_000_000, "limit_down": None, **usual}
        failed = run("limit", torrent_id, "--usual", "--state-dir", state)
        assert failed.exit_code == 2
        assert "for the whole node" in the_line(failed)
        assert node.end(signal.SIGTERM) == (0, "", "")
    (torrent,) = restarted(state)
    assert (torrent["limit_up"], torrent["limit_down"]) == (None, 16384)


def restarted(state: Path) -> list[dict[str, Any]]:
    """What a node with this state lists when it has started again."""
    with daemon(state):
        return ls(state)


def test_share_and_get_without_a_node_run_their_own(tmp_path: Path, content: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with Process("share", content, *ALONE, "--state-dir", one) as sharing:
        magnet = sharing.line()
        torrent_id = Magnet.parse(magnet).info_hash.hex()
        assert [t["id"] for t in ls(one)] == [torrent_id]
        listen = json.loads(run("status", "--json", "--state-dir", one).stdout)["listen"]
        getting = Process(
            *("--bootstrap", listen, "--listen", "127.0.0.1:0"),
            *("get", magnet, "--state-dir", two, "--output", tmp_path / "got"),
        )
        code, out, err = getting.end()
        assert code == 0, err
        assert Path(out.strip()) == tmp_path / "got" / "content"
        assert "content: seeding 100.0% of 39.1 KiB" in err
        assert (tmp_path / "got" / "content" / "sub" / "b").read_bytes() == b"b" * 10
        assert (tmp_path / "got" / "content" / "a").read_bytes() == b"a" * 40_000
        code, out, err = sharing.end(signal.SIGINT)
        assert (code, out) == (0, "")
        assert re.fullmatch(r"published: everybody can now find content by .*\n", err)


def test_get_through_a_running_node_shows_it_and_ends_when_it_is_done(
    tmp_path: Path, content: Path
) -> None:
    seeding, getting = tmp_path / "one", tmp_path / "two"
    with daemon(seeding) as (_, seed), daemon(getting, "--bootstrap", seed[1]):
        magnet = run("share", content, "--state-dir", seeding).stdout.strip()
        got = run("get", magnet, "--state-dir", getting, "--output", tmp_path / "got")
        assert (got.exit_code, got.stdout) == (0, f"{tmp_path / 'got' / 'content'}\n"), got.stderr
        assert (tmp_path / "got" / "content" / "a").read_bytes() == b"a" * 40_000
        lines = got.stderr.splitlines()
        assert "seeding 100.0%" in lines[-1]
        assert len(lines) < 20


def test_what_is_here_already_is_copied_and_told(tmp_path: Path, content: Path) -> None:
    torrent, state = tmp_path / "x.torrent", tmp_path / "state"
    run("create", content, "-o", torrent)
    moved = content.rename(tmp_path / "older")
    wanted = ("get", torrent, "--from", tmp_path / "x.torrent", "--from", moved)
    told = "content: 39.1 KiB were here already, 0 B fetched"
    with Process(*ALONE, *wanted, "--state-dir", state, "--output", tmp_path / "a") as getting:
        code, out, err = getting.end()
        assert (code, out) == (0, f"{tmp_path / 'a' / 'content'}\n"), err
        assert told in err.splitlines()
    assert (tmp_path / "a" / "content" / "sub" / "b").read_bytes() == b"b" * 10
    with daemon(tmp_path / "other"):
        here = ("--state-dir", tmp_path / "other", "--output", tmp_path / "b")
        done = run(*wanted, *here)
        assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'b' / 'content'}\n"), done.stderr
        assert done.stderr.splitlines()[-1] == told
        status = run("status", "--state-dir", tmp_path / "other")
        assert "reused:    39.1 KiB\n" in status.stdout
        facts = json.loads(run("status", "--json", "--state-dir", tmp_path / "other").stdout)
        assert facts["reused"] == 40_010
        refused = run("get", ID, "--from", tmp_path / "nothing", *here)
        assert refused.exit_code == 2
        assert the_line(refused) == f"dhtnode: {tmp_path / 'nothing'}: No such file or directory"


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (("rm", ID), "the torrent was removed before it was complete"),
        (("stop",), "the node was stopped before the download was complete"),
    ],
)
def test_get_through_a_running_node_says_why_it_ends_early(
    tmp_path: Path, ending: tuple[str, ...], told: str
) -> None:
    state = tmp_path / "state"
    with daemon(state) as (node, _), Process("get", MAGNET, "--state-dir", state) as getting:
        while not ls(state):
            pass
        started = getting.error_line()
        assert "metadata" in started
        assert run(*ending, "--state-dir", state).exit_code == 0
        ended, out, err = getting.end()
        assert (ended, out) == (1, "")
        assert err.splitlines()[-1] == f"dhtnode: {told}"
        if ending == ("stop",):
            assert node.end()[0] == 0


def test_what_is_in_the_way_is_told_in_one_line_and_replaced_on_request(
    tmp_path: Path, content: Path
) -> None:
    one, two, got = tmp_path / "one", tmp_path / "two", tmp_path / "got"
    mine = got / "content" / "a"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with Process("share", content, *ALONE, "--state-dir", one) as sharing:
        magnet = sharing.line()
        listen = json.loads(run("status", "--json", "--state-dir", one).stdout)["listen"]
        wanted = ("get", f"{magnet}&x.pe={listen}", "--output", got, "--state-dir", two)
        alone = Process("--bootstrap", listen, "--listen", "127.0.0.1:0", *wanted)
        code, out, err = alone.end()
        assert (code, out) == (1, "")
        (line,) = [line for line in err.splitlines() if line.startswith("dhtnode: ")]
        assert line.startswith(f"dhtnode: {mine} holds something else; choose another --output")
        assert mine.read_bytes() == b"mine"
        with daemon(two, "--bootstrap", listen):
            refused = run(*wanted)
            assert refused.exit_code == 1
            assert line in refused.stderr
            assert mine.read_bytes() == b"mine"
            (got / "content" / "notes").write_bytes(b"mine, too")
            done = run(*wanted, "--overwrite")
            assert done.exit_code == 0, done.stderr
            assert mine.read_bytes() == b"a" * 40_000
            removed = run("rm", "--data", Magnet.parse(magnet).info_hash.hex(), "--state-dir", two)
            assert removed.stdout == "deleted 2 files\n"
        assert [path.name for path in got.rglob("*")] == ["content", "notes"]
        left = run("rm", "--data", Magnet.parse(magnet).info_hash.hex(), "--state-dir", one)
        assert left.stdout == f"deleted 0 files\nleft {content}: shared where it is\n"
    assert (content / "a").read_bytes() == b"a" * 40_000


def test_an_interrupted_get_ends_quietly_with_130(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Process("get", MAGNET, *ALONE, "--state-dir", state) as getting:
        assert getting._process.stderr is not None
        assert "thing" in getting._process.stderr.readline()
        code, out, err = getting.end(signal.SIGINT)
        assert (code, out) == (130, "")
        assert "Traceback" not in err


def test_a_killed_node_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    state = tmp_path / ("long" * 30) / "state"
    with daemon(state) as (node, ready):
        path = Path(ready[2].removeprefix("unix:"))
        assert len(os.fsencode(path)) < 108
        node.end(signal.SIGKILL)
    assert (state / "control").exists()
    assert "no node is running" in the_line(run("ls", "--state-dir", state))
    with daemon(state) as (node, ready):
        assert ready[2] == f"unix:{path}"
        assert ls(state) == []
        assert node.end(signal.SIGTERM) == (0, "", "")
    assert not path.parent.exists()


def test_a_taken_control_port_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        node = Process(*ALONE, "--state-dir", tmp_path, "--control", address)
        code, out, err = node.end()
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"dhtnode: cannot take control address {address}: .*\n", err)
