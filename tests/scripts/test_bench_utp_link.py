"""The benchmark of uTP over a line: what is compared arrives, and the relay is the line it says."""

from __future__ import annotations

import importlib
import json
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("relay")


def way(relay: Any, **changes: Any) -> Any:
    line = {"rate": 1e6, "delay": 0.1, "queue": 10_500, "loss": 0.0, "reordered": 0.0, "late": 0.05}
    more = {"mtu": 1500, "rng": random.Random(1), "out": socket.socket}
    return relay.Way(**(line | more | changes))


def test_a_datagram_waits_for_those_before_it_and_takes_its_time(relay: Any) -> None:
    line = way(relay)
    assert [line.leaves_at(972, 5.0) for _ in range(2)] == pytest.approx([5.101, 5.102])
    assert line.leaves_at(972, 6.0) == pytest.approx(6.101)
    assert line.carried == 3000


def test_what_is_too_long_or_finds_the_queue_full_vanishes(relay: Any) -> None:
    line = way(relay)
    assert line.leaves_at(1473, 5.0) is None
    assert [line.leaves_at(972, 5.0) is None for _ in range(12)] == 10 * [False] + 2 * [True]
    assert (line.lost, line.overflowed) == (1, 2)


def test_shares_are_lost_and_late(relay: Any) -> None:
    line = way(relay, rate=1e12, queue=1 << 40, loss=0.1, reordered=0.2)
    times = [line.leaves_at(972, 5.0) for _ in range(10_000)]
    assert 900 < times.count(None) < 1100
    late = [time - 5.1 for time in times if time is not None and time > 5.1001]
    assert 1600 < len(late) < 2000
    assert max(late) < 0.051


@pytest.mark.parametrize("line", [[], ["--rate", "50", "--trip", "10", "--loss", "0.01"]])
def test_each_pair_copies_all_of_it(tmp_path: Path, line: list[str]) -> None:
    pytest.importorskip("libtorrent")
    asked = ["--size", "1MiB", "--rounds", "1", "--dir", str(tmp_path), "--json", *line]
    told = subprocess.run(
        [sys.executable, str(BENCH / "utp_link.py"), *asked],
        capture_output=True,
        timeout=120,
        check=True,
    )
    runs = json.loads(told.stdout)["runs"]
    assert [run["contestant"] for run in runs] == [
        "libtorrent->libtorrent",
        "ours->ours",
        "ours->libtorrent",
        "libtorrent->ours",
        "plain->plain",
        "plain->libtorrent",
        "libtorrent->plain",
    ]
    assert all((run["line"] is None) == (not line) for run in runs)
    assert all(run["line"]["back"]["carried"] > 1 << 20 for run in runs if run["line"])
