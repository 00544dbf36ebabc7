"""The benchmark of the RPC measures what it says, and says why when it cannot."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "rpc.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("bench_rpc", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_rpc", module)
    spec.loader.exec_module(module)
    return module


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--torrents", "3", "--rounds", "2", "--no-settle", *options],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
    )


def test_it_asks_our_daemon_for_all_torrents(bench: Any) -> None:
    done = run("--alone", "--finished", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {(run["asked"], run["daemon"]) for run in found["runs"]} == {
        (asked, "ours") for asked in bench.ASKED
    }
    assert all(run["torrents"] == 3 for run in found["runs"])
    assert all(run["seconds"] > 0 and run["size"] > 300 for run in found["runs"])
    assert len(found["runs"]) == 2 * len(bench.ASKED)


def test_ours_is_told_over_theirs_as_a_table(bench: Any) -> None:
    runs = [
        bench.Run(asked, daemon, seconds, 1000, 2000)
        for asked in bench.ASKED
        for daemon, seconds in (("ours", 0.03), ("transmission", 0.02))
    ]
    used = {(asked, name): 0.01 for asked in bench.ASKED for name in ("ours", "transmission")}
    told = bench.report(runs, used)
    assert "all fields: 1.50" in told
    assert len(told.splitlines()) == 2 + 2 * len(bench.ASKED) + 1


def test_a_daemon_that_ended_is_told_with_what_it_said_last(bench: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with bench.running([sys.executable, "-c", "print('out of memory')"], log) as pid:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        rpc = bench.Rpc(bench.free_port(), pid, log)
        with pytest.raises(SystemExit, match=r"Refused.* has ended.*out of memory"):
            rpc.call("session-get")


def test_what_makes_no_sense_is_refused() -> None:
    assert "at least one torrent" in run("--rounds", "0").stderr
