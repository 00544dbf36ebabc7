"""A running node reads its configuration again."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from click.testing import CliRunner, Result

from dht_torrent.cli.main import cli
from dht_torrent.daemon.client import Client, connect
from tests.cli.test_main import ALONE, PATIENCE, Process


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="dhtnode")


def until_limit(client: Client, limit: int | None) -> None:
    end = time.monotonic() + PATIENCE
    while client.status()["limit_up"] != limit:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_node_takes_what_it_can_and_tells_the_rest(tmp_path: Path) -> None:
    state, path = tmp_path / "state", tmp_path / "config.toml"
    path.write_text('limit-up = "1K"\nlimit-down = "2K"\n')
    reload = ("reload", "--state-dir", state)
    options = ("--config", path, "--state-dir", state, "--limit-down", "3K")
    with Process(*ALONE, *options, session=True) as node:
        assert node.line().startswith("ready ")
        with connect(state) as client:
            assert (client.status()["limit_up"], client.status()["limit_down"]) == (1000, 3000)
            assert run(*reload).stdout == "nothing has changed\n"
            path.write_text(
                'limit-up = "4K"\nlimit-down = "5K"\npex = false\nlsd = true\nlog-level = "info"\n'
                'alt-limit-up = "9K"\nalt-hours = "never 09:00-17:00"\nmin-free = 7\nwatch = "."\n'
            )
            told = json.loads(run(*reload, "--json").stdout)
            live = {"limit-up", "log-level", "alt-limit-up", "alt-hours", "min-free"}
            assert set(told["applied"]) == live
            assert set(told["needs_restart"]) == {"pex", "watch"}
            assert (client.status()["limit_up"], client.status()["limit_down"]) == (4000, 3000)
            path.write_text('limit-up = "4K"\npex = false\nlog-level = "info"')
            told = json.loads(run(*reload, "--json").stdout)
            assert set(told["applied"]) == live - {"limit-up", "log-level"}
            assert run(*reload).stdout == "needs a restart: pex\n"

            path.write_text('limit-up = "6K"\nnonsense = 1')
            refused = run(*reload)
            assert refused.exit_code == 2
            assert refused.stderr == f"dhtnode: {path}:2: 'nonsense' is not an option\n"
            assert client.status()["limit_up"] == 4000

            # SIGHUP, of a process without a terminal.
            node.send(signal.SIGHUP)
            path.write_text('limit-up = "7K"')
            node.send(signal.SIGHUP)
            until_limit(client, 7000)
            path.write_text("= ")
            node.send(signal.SIGHUP)
            said = []
            # The first one may have found the file as it was before.
            error = f" ERROR dht_torrent.daemon.run: the configuration stays as it was: {path}:1: "
            while error not in (line := node.error_line()):
                said.append(line)
            assert "a restart is needed for pex" in "".join(said)
            assert client.status()["limit_up"] == 7000
            path.unlink()
            refused = run(*reload)
            assert (refused.exit_code, refused.stderr) == (2, f"dhtnode: {path}: no such file\n")
        assert node.end(signal.SIGTERM) == (0, "", "")


def test_the_node_of_one_command_has_nothing_to_read_again(tmp_path: Path) -> None:
    (tmp_path / "content").write_bytes(b"x" * 1000)
    state = tmp_path / "state"
    given = ("share", tmp_path / "content", "--no-publish", "--state-dir", state, *ALONE)
    with Process(*given, session=True) as node:
        assert node.line().startswith("magnet:")
        refused = run("reload", "--state-dir", state)
        assert refused.exit_code == 1
        assert "runs for one command" in refused.stderr
        assert node.end(signal.SIGHUP)[0] == 0  # it ends that node, as before


def test_a_file_that_appears_is_found(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DHTNODE_CONFIG"}
    environment["XDG_CONFIG_HOME"] = environment["HOME"] = str(tmp_path)
    state = tmp_path / "state"
    with Process(*ALONE, "--state-dir", state, env=environment) as node:
        assert node.line().startswith("ready ")
        for folder in (tmp_path, tmp_path / "Library" / "Application Support"):
            (folder / "dhtnode").mkdir(parents=True)
            (folder / "dhtnode" / "config.toml").write_text("seed-ratio = 2")
        assert run("reload", "--state-dir", state).stdout == "changed: seed-ratio\n"


IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "dht_torrent", *sys.argv[1:]])
"""


def test_a_node_in_a_terminal_ends_when_that_hangs_up(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    options = [*ALONE, "--state-dir", str(tmp_path / "state")]
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, *options],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        os.close(theirs)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
        os.close(ours)
        assert process.communicate() == ("", "")
        watchdog.cancel()
    assert process.returncode == 0
    assert not (tmp_path / "state" / "control").exists()
