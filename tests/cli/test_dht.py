"""`dhtnode dht`, with and without a running node."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dht_torrent.cli.main import cli


@dataclass
class Running:
    listen: str
    state: Path
    id: str
    listen6: str | None


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("node"), "127.0.0.1:0") as node:
        yield node


@contextmanager
def running(state: Path, *listen: str) -> Iterator[Running]:
    """A network's first node, in a process of its own."""
    command = [sys.executable, "-m", "dht_torrent", "--bootstrap", "none", "--dht-unlimited"]
    options = [*(f"--listen={address}" for address in listen), "--state-dir", str(state)]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ready = process.stdout.readline()
        match = re.fullmatch(r"ready listen=(\S+) control=\S+ id=(\w+)(?: listen6=(\S+))?\n", ready)
        assert match is not None, process.stderr.read()
        yield Running(match[1], state, match[2], match[3])
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert "rate limits are lifted" in said


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="dhtnode")


def alone(node: Running, tmp_path: Path, *args: object) -> Result:
    """Without a node of its own state directory: through a short-lived one."""
    return run("dht", *args, "--bootstrap", node.listen, "--state-dir", tmp_path / "none")


def through(node: Running, *args: object) -> Result:
    return run("dht", *args, "--state-dir", node.state)


def test_a_short_lived_node_asks_and_puts(node: Running, tmp_path: Path) -> None:
    ping = alone(node, tmp_path, "ping", node.listen, "--json")
    assert json.loads(ping.stdout)["id"] == node.id
    assert alone(node, tmp_path, "lookup", "00" * 20).stdout == f"{node.id}  {node.listen}\n"
    assert node.listen in alone(node, tmp_path, "table").stdout
    put = alone(node, tmp_path, "put", "hello")
    assert put.exit_code == 0
    assert "stored on 1 node\n" in put.stderr
    got = alone(node, tmp_path, "get", put.stdout.strip())
    assert (got.exit_code, got.stdout) == (0, "hello\n")
    assert alone(node, tmp_path, "size").stdout == "2 nodes\n"
    assert through(node, "size").stdout == "1 nodes\n"  # nobody short-lived is a contact


def test_a_node_in_both_dhts_is_asked_as_one(tmp_path: Path) -> None:
    with running(tmp_path, "127.0.0.1:0", "[::1]:0") as both:
        assert both.listen6 is not None
        assert both.listen6.startswith("[::1]:")
        status = run("status", "--state-dir", tmp_path).stdout
        assert f"listening: {both.listen} and {both.listen6}\n" in status
        assert "dht IPv6:  0 good contacts" in status
        table = json.loads(through(both, "table", "--json").stdout)
        assert table["id"] == both.id
        assert len(set(table["ids"])) == 2
        for listen, address in (("127.0.0.1:0", both.listen), ("[::1]:0", both.listen6)):
            where = ("--bootstrap", address, "--listen", listen, "--state-dir", tmp_path / "none")
            assert address in run("dht", "lookup", "00" * 20, *where).stdout
        put = through(both, "put", "hello")
        alone6 = ("--bootstrap", both.listen6, "--state-dir", tmp_path / "none")
        got = run("dht", "get", put.stdout.strip(), *alone6)
        assert (got.exit_code, got.stdout) == (0, "hello\n")


def test_a_running_node_is_asked(node: Running, tmp_path: Path) -> None:
    key = tmp_path / "key"
    first = through(node, "put", "one", "--key", key, "--json")
    assert "made a new key" in first.stderr
    assert key.stat().st_mode & 0o777 == 0o600
    facts = json.loads(first.stdout)
    through(node, "put", "d1:a1:be", "--bencoded", "--key", key)
    assert through(node, "get", "--key", facts["key"]).stdout == '2  {"a": "b"}\n'
    assert through(node, "get", facts["target"], "--seq", "2").exit_code == 1
    shown = json.loads(through(node, "get", facts["target"], "--all", "--json").stdout)
    assert [item["seq"] for item in shown["items"]] == [2]
    salted = through(node, "put", "three", "--key", key, "--salt", "s", "--seq", "9")
    assert salted.exit_code == 0
    assert through(node, "get", "--key", facts["key"], "--salt", "s").stdout == "9  three\n"
    assert through(node, "peers", "00" * 20).stdout == ""
    elsewhere = through(node, "ping", "[::1]:1")
    assert elsewhere.exit_code == 2
    assert "no IPv6 socket" in elsewhere.stderr
    assert through(node, "scrape", "00" * 20).stdout.startswith("seeds 0  downloaders 0")


def test_the_sequence_number_zero_is_a_number(node: Running, tmp_path: Path) -> None:
    def short_lived(node: Running, *args: object) -> Result:
        return alone(node, tmp_path, *args)

    for ask, salt in ((through, "a"), (short_lived, "b")):
        mutable = ("--key", tmp_path / "key", "--salt", salt)
        first = ask(node, "put", "first", *mutable, "--seq", "0", "--json")
        key = ("--key", json.loads(first.stdout)["key"], "--salt", salt)
        assert ask(node, "get", *key).stdout == "0  first\n"
        known = ask(node, "get", *key, "--seq", "0")
        assert (known.exit_code, known.stderr) == (1, "dhtnode: no node has a newer one\n")
        assert ask(node, "put", "second", *mutable, "--seq", "1").exit_code == 0
        ask(node, "put", "third", *mutable, "--seq", "2", "--cas", "0")
        assert ask(node, "get", *key).stdout == "1  second\n"


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        (["lookup", "zz"], 2, "target must be 40 hex digits"),
        (["get"], 2, "either TARGET or --key"),
        (["put", "x", "--salt", "s"], 2, "give --key as well"),
        (["put", "x" * 1000], 2, "at most 1000 bytes"),
        (["put", "x", "--key", "/"], 2, "directory"),
        (["ping", "nowhere"], 2, "expected HOST:PORT"),
    ],
)
def test_bad_input_is_one_line(
    node: Running, tmp_path: Path, args: list[str], code: int, why: str
) -> None:
    for result in (through(node, *args), alone(node, tmp_path, *args)):
        assert result.exit_code == code
        (line,) = result.stderr.splitlines()
        assert line.startswith("dhtnode: ")
        assert why in line


def test_a_key_file_that_holds_something_else_is_left_alone(node: Running, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("my diary")
    result = through(node, "put", "x", "--key", key)
    assert result.exit_code == 2
    assert key.read_text() == "my diary"


def test_without_a_node_to_ask_that_is_said(tmp_path: Path) -> None:
    result = run("dht", "size", "--bootstrap", "none", "--state-dir", tmp_path)
    assert result.exit_code == 1
    assert "no node is running" in result.stderr


def test_a_short_lived_node_does_not_go_past_its_proxy(node: Running, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        proxy = f"socks5://127.0.0.1:{closed.getsockname()[1]}"
        result = alone(node, tmp_path, "ping", node.listen, "--proxy", proxy)
    assert result.exit_code == 1
    why = "there is no DHT behind the proxy: the proxy cannot be reached: Connection refused"
    assert result.stderr == f"dhtnode: {why}\n"


def test_a_short_lived_node_asks_nobody_whom_the_ip_filter_forbids(
    node: Running, tmp_path: Path
) -> None:
    rules = tmp_path / "filter"
    rules.write_text("127.0.0.0/8\n")
    began = time.monotonic()
    more = ["--ip-filter", rules, "--bootstrap", "none", "--state-dir", tmp_path / "none"]
    result = run("dht", "ping", node.listen, *more)
    assert result.exit_code == 1
    assert "no answer" in result.stderr
    assert time.monotonic() - began < 10  # it does not wait for one
