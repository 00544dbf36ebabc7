"""The user's command runs when a download is complete: without a shell, bounded, and told of in the
log. These tests run it, in real time."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.engine import on_complete
from dht_torrent.engine.on_complete import OnComplete
from dht_torrent.engine.torrent.housekeeping import NodeRules
from dht_torrent.ids import InfoHash
from tests.helpers.engine import LEECH, World, sample

HASH = InfoHash(bytes(20))
PATIENCE = 20.0


def torrent(name: str = "Album; rm -rf $HOME `x`") -> Any:
    return SimpleNamespace(
        core=SimpleNamespace(
            name=name,
            metainfo=None,
            place=SimpleNamespace(path=lambda _: Path("/downloads") / name),
            totals=SimpleNamespace(downloaded=1234),
            context=SimpleNamespace(info_hash=HASH),
            keeping=SimpleNamespace(labels=("a", "b")),
        )
    )


def commands(*command: str, timeout: float = PATIENCE, at_once: int = 2) -> OnComplete:
    return OnComplete(
        command, {HASH: torrent()}, at_once=at_once, timeout=timeout, clock=lambda: 0.0
    )


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", text)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name.endswith("on_complete")]


async def logged(caplog: pytest.LogCaptureFixture, *words: str) -> None:
    with trio.fail_after(PATIENCE):
        while not any(all(word in line for word in words) for line in lines(caplog)):
            await trio.sleep(0.01)


async def ran(one: OnComplete, caplog: pytest.LogCaptureFixture, *words: str) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        one.completed(HASH)
        await logged(caplog, *words)
        nursery.cancel_scope.cancel()


async def test_it_finds_what_it_needs_in_its_environment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("DHTNODE_RPC_AUTH", "owner:secret")
    monkeypatch.setenv("MINE", "yes")
    out = tmp_path / "out"
    text = "import json, os, sys; json.dump([sys.argv, dict(os.environ)], open(sys.argv[1], 'w'))"
    await ran(commands(*python(text + "; print('done')"), str(out), "$HOME; x"), caplog, "done")
    arguments, seen = json.loads(out.read_text())
    assert arguments == ["-c", str(out), "$HOME; x"]  # no shell has read it
    assert {key: value for key, value in seen.items() if key.startswith("TR_TORRENT")} == {
        "TR_TORRENT_BYTES_DOWNLOADED": "1234",
        "TR_TORRENT_DIR": "/downloads",
        "TR_TORRENT_HASH": "00" * 20,
        "TR_TORRENT_LABELS": "a,b",
        "TR_TORRENT_NAME": "Album; rm -rf $HOME `x`",
    }
    assert seen.keys() >= {"TR_APP_VERSION", "TR_TIME_LOCALTIME", "MINE"}
    assert not [key for key in seen if key.startswith("DHTNODE")]


async def test_what_it_writes_goes_to_the_log_and_not_more_than_so_much(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(on_complete, "MAX_OUTPUT", 1000)
    text = (
        "import os, sys\n"
        "os.write(2, b'one\\ntwo\\x1b[31m\\xff\\n')\n"
        "for _ in range(100): os.write(1, b'x' * 65536)\n"
        "sys.exit(3)"
    )
    await ran(commands(*python(text)), caplog, "the command failed: exit code 3")
    told = lines(caplog)
    assert any(line.endswith(": one") for line in told)
    assert any(": two[31m" in line for line in told)
    assert sum(map(len, told)) < 2000


async def test_a_program_that_is_not_there_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    await ran(commands("/no/such/program"), caplog, "could not be run")


async def test_one_that_takes_too_long_is_ended_with_all_it_started(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    child = tmp_path / "child"
    text = (
        "import subprocess, sys, time\n"
        f"one = subprocess.Popen([{sys.executable!r}, '-S', '-c', 'import time; time.sleep(99)'])\n"
        f"open({str(child)!r}, 'w').write(str(one.pid))\n"
        "time.sleep(99)"
    )
    one = commands(*python(text), timeout=PATIENCE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        one.completed(HASH)
        with trio.fail_after(PATIENCE):
            while not child.exists() or not child.read_text():
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()  # as the time limit does
    await ended(int(child.read_text()))


def is_zombie(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


async def ended(pid: int) -> None:
    with trio.fail_after(PATIENCE):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            if is_zombie(pid):  # nobody has waited for it yet
                return
            await trio.sleep(0.01)


async def test_the_time_it_may_take_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    text = "import time; time.sleep(99)"
    await ran(commands(*python(text), timeout=0.05), caplog, "took too long")


async def test_what_it_leaves_behind_does_not_hold_up_the_next(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(on_complete, "LINGER", 0.05)
    text = (
        "import subprocess, sys\n"
        "one = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(20)'])\n"
        "print(one.pid)\n"
        "sys.exit(1)"
    )
    await ran(commands(*python(text)), caplog, "exit code 1")
    pid = next(int(last) for line in lines(caplog) if (last := line.split()[-1]).isdigit())
    os.kill(pid, 9)  # it was left running


async def test_only_so_many_wait_and_run_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(on_complete, "WAITING", 3)
    text = (
        "import os, sys\n"
        "path = sys.argv[1]\n"
        "os.close(os.open(path, os.O_CREAT | os.O_EXCL))\n"  # fails while another runs
        "os.unlink(path)\n"
        "print('alone')"
    )
    one = commands(*python(text), str(tmp_path / "lock"), at_once=1)
    for _ in range(5):
        one.completed(HASH)
    one.completed(InfoHash(b"x" * 20))  # removed meanwhile
    assert sum("not run" in line for line in lines(caplog)) == 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        with trio.fail_after(PATIENCE):
            while sum(line.endswith(": alone") for line in lines(caplog)) < 3:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert not any("failed" in line for line in lines(caplog))


async def test_it_runs_once_for_a_download_and_never_for_what_was_here(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[InfoHash] = []
    monkeypatch.setattr(OnComplete, "completed", lambda _, info_hash: told.append(info_hash))
    world, one, mine = World(), sample(), sample(seed=2)
    world.storage(LEECH, mine.metainfo).write(0, mine.data)
    async with world.seed(one):
        for _ in range(2):
            async with world.node(LEECH, state_dir=tmp_path, on_complete=["x"]) as node:
                for text in (one.magnet("10.0.0.1"), mine.metainfo):
                    got = await node.get(text)
                    with trio.fail_after(60):
                        await got.completed()
                    await got.recheck()
                    with trio.fail_after(60):
                        await got.completed()
    assert told == [one.metainfo.info_hash]


def test_no_rule_that_clients_may_change_is_a_command() -> None:
    assert not [rule.name for rule in fields(NodeRules) if "complete" in rule.name]
