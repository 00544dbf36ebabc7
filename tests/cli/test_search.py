"""`dhtnode search` and what goes with it, through a running node that knows what to find."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from dht_torrent.cli import results
from dht_torrent.cli.main import cli
from dht_torrent.daemon.search_api import result_facts
from dht_torrent.daemon.server import serve
from dht_torrent.engine.search.views import SearchQuery
from dht_torrent.errors import InputError, StorageError
from tests.helpers.fake_node import KEY, FakeNode, result

ID = f"{1:040x}"
NOW = 1_764_000_000.0
HOSTILE = "Film\x1b[2J\u202egpj.exe\u200b\nsecond\tline\x9b0m"
PATIENCE = 60.0
"""Seconds after which a process of a test has failed."""


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@contextlib.asynccontextmanager
async def served(node: Any, state: Path) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, node, None, state)
        yield
        nursery.cancel_scope.cancel()


async def run(node: Any, state: Path, *args: object, **options: Any) -> Result:
    """A command while `node` runs for `state`."""

    def invoke() -> Result:
        arguments = [*map(str, args), "--state-dir", str(state)]
        return CliRunner().invoke(cli, arguments, prog_name="dhtnode", **options)

    async with served(node, state):
        done = await trio.to_thread.run_sync(invoke)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def start(state: Path, *args: object, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "error", "-m", "dht_torrent", *map(str, args)]
    # What runs in the background ignores SIGINT, and so do its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([*command, "--state-dir", str(state)], **options)
    finally:
        signal.signal(signal.SIGINT, before)


# --- what is asked -------------------------------------------------------------------------------


async def test_what_is_asked_reaches_the_node(node: FakeNode, tmp_path: Path) -> None:
    await run(node, tmp_path, "search", "ubuntu", "24.04  server")
    await run(
        *(node, tmp_path, "search", "ub", "--prefix", "--size", "1G..2GiB"),
        *("--since", "2023-11-14T22:13:20+00:00", "--limit", 7, "--wait", "0.5", "--local"),
    )
    await run(node, tmp_path, "search", "--size", "..700M")
    await run(node, tmp_path, "search", "--since", "9999w")
    assert [query for query, _ in node.searches] == [
        SearchQuery(text="ubuntu 24.04  server"),
        SearchQuery(
            text="ub",
            prefix=True,
            min_size=10**9,
            max_size=2**31,
            since=1_700_000_000.0,
            limit=7,
            patience=0.5,
            network=False,
        ),
        SearchQuery(max_size=700_000_000),
        SearchQuery(since=0.0),
    ]


async def test_bytes_that_are_no_text_are_in_no_word(node: FakeNode, tmp_path: Path) -> None:
    await run(node, tmp_path, "search", "caf\udce9")
    assert node.searches[0][0].text == "caf?"


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((), "give words to search for"),
        ((" ",), "give words to search for"),
        (("--prefix", "--json"), "give words to search for"),
        (("a", "--size", "2G..1G"), "begins with the smaller one"),
        (("a", "--size", "large"), "not a size"),
        (("a", "--since", "soon"), "--since takes"),
        (("a", "--limit", "0"), "from 1 to 1000 results"),
        (("a", "--wait", "0"), "the network gets"),
        (("a", "--wait", "nan"), "the network gets"),
        (("a" * 1001,), "at most 1000 characters"),
    ],
)
def test_what_cannot_be_searched_for_is_one_line_before_any_node_starts(
    args: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(cli, ["search", *args, "--state-dir", str(tmp_path / "state")])
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (2, "")
    assert line.startswith("dhtnode: ")
    assert why in line
    assert not (tmp_path / "state").exists()


# --- what is found -------------------------------------------------------------------------------


async def test_on_a_pipe_each_result_is_a_line_with_tabs(node: FakeNode, tmp_path: Path) -> None:
    blank = dict.fromkeys(["size", "files", "published", "publisher", "peers", "seeds"])
    published = time.time() - 3 * 86400 - 5
    node.found = [
        result(1, name=HOSTILE, published=published),
        result(2, **blank, trust="unverified"),
    ]
    done = await run(node, tmp_path, "search", "film")
    assert (done.exit_code, done.stderr) == (0, "")
    one, two = (line.split("\t") for line in done.stdout.splitlines())
    assert one[:8] == [
        ID,
        "3.0 GiB",
        "2 files",
        "3 d ago",
        "7 peers",
        "verified",
        KEY[:16],
        f"magnet:?xt=urn:btih:{ID}",
    ]
    assert len(one) == 9
    assert all(c.isprintable() for c in one[8])
    assert two[1:7] == ["-", "-", "-", "-", "unverified", "-"]


async def test_json_is_an_object_on_each_line(node: FakeNode, tmp_path: Path) -> None:
    node.found = wanted = [result(1, name=HOSTILE), result(2)]
    done = await run(node, tmp_path, "search", "film", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [json.loads(json.dumps(result_facts(one))) for one in wanted]
    promised = {"id", "name", "size", "files", "verified", "publisher", "magnet"}
    assert promised <= found[0].keys()
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout


async def test_when_nothing_is_found_it_says_for_what(node: FakeNode, tmp_path: Path) -> None:
    args = ("search", "a\x1b[2J", "--size", "1G..2G", "--since", "2023-11-14T22:13")
    done = await run(node, tmp_path, *args)
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith('dhtnode: nothing found for "a\N{REPLACEMENT CHARACTER}[2J", ')
    assert "953.7 MiB to 1.9 GiB, published since 2023-11-14 22:13" in line
    done = await run(node, tmp_path, *args, "--json")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing found" in done.stderr


async def test_a_node_without_contacts_is_told_of(node: FakeNode, tmp_path: Path) -> None:
    node.found = [result(1)]
    node.dht_status.good = 0
    done = await run(node, tmp_path, "search", "a")
    assert done.exit_code == 0
    assert "no DHT node is known" in done.stderr
    done = await run(node, tmp_path, "search", "a", "--local")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("error", "code"), [(StorageError("damaged"), 1), (InputError("no words in that"), 2)]
)
async def test_what_ends_a_search_early_is_told(
    node: FakeNode, tmp_path: Path, error: Exception, code: int
) -> None:
    node.found = [result(1), error]
    done = await run(node, tmp_path, "search", "a")
    assert (done.exit_code, done.stderr) == (code, f"dhtnode: {error}\n")
    assert len(done.stdout.splitlines()) == 1


async def test_results_are_written_when_they_come_and_a_signal_ends_the_search(
    node: FakeNode, tmp_path: Path
) -> None:
    node.found = [result(1), 500.0]
    async with served(node, tmp_path):
        process = start(tmp_path, "search", "a", "--json", stdout=subprocess.PIPE)
        assert process.stdout is not None
        with trio.fail_after(PATIENCE):
            line = await trio.to_thread.run_sync(process.stdout.readline)
            assert json.loads(line)["id"] == ID
            process.send_signal(2)
            await trio.to_thread.run_sync(process.communicate)
            assert process.returncode == 130
            await node.searches[0][1].closed.wait()


async def test_a_reader_that_leaves_ends_the_search_quietly(node: FakeNode, tmp_path: Path) -> None:
    node.found = [one for number in range(400) for one in (result(number), 0.01)] + [500.0]
    async with served(node, tmp_path):
        process = start(
            tmp_path, "search", "a", "--limit", 1000, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        with trio.fail_after(PATIENCE):
            await trio.to_thread.run_sync(process.stdout.readline)
            process.stdout.close()
            assert process.stderr is not None
            assert await trio.to_thread.run_sync(process.stderr.read) == b""
            assert await trio.to_thread.run_sync(process.wait) == 0
            await node.searches[0][1].closed.wait()
        process.stderr.close()
    assert node.searches[0][1].taken < 400


# --- how it is shown -----------------------------------------------------------------------------


def test_a_block_says_who_vouches_and_how_many_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("NO_COLOR", "1")
    found = result(
        1, published=NOW - 2 * 86400, peers_at=NOW - 180, publishers=3, trusted=True, name="A film"
    )
    name, details, magnet = results.block(result_facts(found)).splitlines()
    assert name == "A film"
    assert details.split(", ") == [
        "    3.0 GiB",
        "2 files",
        "2 d ago",
        "7 peers (3 seeds) as DHT nodes estimate 3 min ago",
        "verified",
        f"published by {KEY[:16]} (trusted) and 2 more",
    ]
    assert magnet == f"    magnet:?xt=urn:btih:{ID}"
    unverified = result(1, trust="unverified", publisher=None, size=None, peers=None)
    shown = results.block(result_facts(unverified))
    assert "UNVERIFIED" in shown
    assert "size not known" in shown
    assert "peers not looked for" in shown
    assert "beginning" not in shown
    cut = result(1, trust="unverified", name="Ubuntu 22\u2026", name_is_cut=True)
    name, details, _ = results.block(result_facts(cut)).splitlines()
    assert name == "Ubuntu 22\u2026"
    assert "UNVERIFIED: anybody may have written this name, of which only the" in details
    strong = results.block(result_facts(result(1, trust="strong", publisher=None)))
    assert "the torrent's own name" in strong
    assert "published by" not in strong


@pytest.mark.parametrize("how", ["joined", "bep33", "get_peers", None, "\x1b[2J"])
def test_any_way_of_seeing_peers_can_be_shown(how: str | None) -> None:
    for changes in {}, {"peers_at": None}, {"seeds": None}, {"published": 1e12}:
        shown = results.block(result_facts(result(1, peers_how=how, **changes)))
        assert "\x1b[2J" not in shown


def test_nothing_from_a_stranger_moves_the_cursor() -> None:
    facts = result_facts(result(1, name=HOSTILE, magnet="magnet:\x1b[2J", publisher="\x1b[2J"))
    for text in results.block(facts), results.block(facts, number=1), results.plain_line(facts):
        plain = text.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\t", "")
        assert all(c.isprintable() for line in plain.split("\n") for c in line)
    assert len(results.block(facts).splitlines()) == 3
    assert "\n" not in results.plain_line(facts)


# --- choosing one to get -------------------------------------------------------------------------


class Terminal:
    """A command on a terminal of its own; only its stdout is a pipe."""

    def __init__(self, state: Path, *args: object) -> None:
        self._ours, theirs = pty.openpty()
        self.process = start(
            state, *args, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, close_fds=True
        )
        os.close(theirs)
        self.shown = ""

    async def until(self, text: str) -> None:
        while text not in self.shown:
            self.shown += (
                await trio.to_thread.run_sync(os.read, self._ours, 4096, abandon_on_cancel=True)
            ).decode()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    async def end(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        out = await trio.to_thread.run_sync(self.process.stdout.read)
        code = await trio.to_thread.run_sync(self.process.wait)
        self.process.stdout.close()
        with contextlib.suppress(OSError):  # the other end is closed: all was read
            while more := os.read(self._ours, 4096):
                self.shown += more.decode()
        os.close(self._ours)
        return code, out.decode()


async def test_get_asks_which_of_those_found(node: FakeNode, tmp_path: Path) -> None:
    node.found = [result(1, score=0.1), result(2, score=0.9, name=HOSTILE), result(3, score=0.5)]
    async with served(node, tmp_path):
        with trio.fail_after(PATIENCE):
            terminal = Terminal(tmp_path, "get", "search:ubuntu server", "--no-wait")
            await terminal.until("Which one? 1-3, or Enter for none: ")
            lines = f"\n{terminal.shown}"
            first, second, third = (lines.index(f"\n{number}  ") for number in (" 1", " 2", " 3"))
            assert first < second < third
            for wrong in "0", "4", "two", "\u0662", "99999999":
                terminal.type(f"{wrong}\n")
            terminal.type("2\n")
            code, out = await terminal.end()
    assert (code, out) == (0, f"{3:040x}\n")
    assert node.searches[0][0].text == "ubuntu server"
    assert node.calls[0][0] == "get"
    assert "\x1b[2J" not in terminal.shown


async def test_get_shows_what_nobody_vouches_for_last_and_says_so_when_it_is_chosen(
    node: FakeNode, tmp_path: Path
) -> None:
    loud = result(1, trust="unverified", name="Ubuntu 22\u2026", name_is_cut=True, score=0.9)
    node.found = [loud, result(2, score=0.1)]
    async with served(node, tmp_path):
        with trio.fail_after(PATIENCE):
            terminal = Terminal(tmp_path, "get", "search:ubuntu", "--no-wait")
            await terminal.until("Which one? 1-2, or Enter for none: ")
            assert terminal.shown.index("thing 2") < terminal.shown.index("Ubuntu 22\u2026")
            terminal.type("2\n")
            code, out = await terminal.end()
    assert (code, out) == (0, f"{1:040x}\n")
    assert "nobody vouches for that name" in terminal.shown


@pytest.mark.parametrize(("found", "said"), [(1, "nothing was chosen"), (0, "nothing found for")])
async def test_get_fetches_nothing_when_none_is_chosen(
    node: FakeNode, tmp_path: Path, found: int, said: str
) -> None:
    node.found = [result(number) for number in range(found)]
    async with served(node, tmp_path):
        with trio.fail_after(PATIENCE):
            terminal = Terminal(tmp_path, "get", "search:ubuntu")
            if found:
                await terminal.until("Which one? 1, or Enter for none: ")
                terminal.type("\n")
            code, out = await terminal.end()
    assert (code, out) == (1, "")
    assert said in terminal.shown
    assert not node.calls


@pytest.mark.parametrize(
    ("source", "why"), [("search:a b", "use `dhtnode search`"), ("search: ", "give words")]
)
async def test_get_asks_nobody_where_nobody_is(
    node: FakeNode, tmp_path: Path, source: str, why: str
) -> None:
    done = await run(node, tmp_path, "get", source)
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (2, "")
    assert why in line
    assert not node.searches


# --- publishing and publishers -------------------------------------------------------------------


async def test_publishing_is_begun_and_ended_by_commands(node: FakeNode, tmp_path: Path) -> None:
    node.add(f"magnet:?xt=urn:btih:{ID}")
    done = await run(node, tmp_path, "publish", ID[:39], "--tags", "a, b,,", "--json")
    assert json.loads(done.stdout)["published"]
    assert node.calls == [("publish", ID, ["a", "b"])]
    done = await run(node, tmp_path, "unpublish", ID)
    assert (done.exit_code, done.output) == (0, "")
    done = await run(node, tmp_path, "unpublish", ID, "--json")
    assert json.loads(done.stdout) == {"id": ID, "unpublished": False}
    assert done.stderr == f"dhtnode: {ID[:8]} was not published\n"
    done = await run(node, tmp_path, "unpublish", "ffff")
    assert done.exit_code == 2


async def test_publishers_are_judged_and_listed(node: FakeNode, tmp_path: Path) -> None:
    for command, listed in (
        ("trust", [["trusted", KEY]]),
        ("block", [["blocked", KEY]]),
        ("unblock", []),
        ("trust", [["trusted", KEY]]),
        ("untrust", []),
    ):
        done = await run(node, tmp_path, command, KEY)
        assert (done.exit_code, done.output) == (0, "")
        done = await run(node, tmp_path, "publishers")
        assert [line.split() for line in done.stdout.splitlines()[1:]] == listed
    done = await run(node, tmp_path, "block", "nonsense")
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 2
    assert "64 hex digits" in line
