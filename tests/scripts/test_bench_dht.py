"""The benchmark measures what it says, with and without a compiler."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parent.parent.parent / "scripts" / "bench"


def figures(script: str, *flags: str) -> Any:
    command = [sys.executable, str(BENCH / script), *flags, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True)
    return json.loads(done.stdout)


GENERATORS = [["--no-compiler"], *([[]] if shutil.which("cc") else [])]


@pytest.mark.parametrize("flags", GENERATORS)
def test_every_query_is_answered_and_counted(flags: list[str]) -> None:
    said = figures(
        "dht.py",
        *("--only", "ours", "--rounds", "1", "--seconds", "0.2", "--announces", "500"),
        *("--stored", "300", "--village", "20", "--sources", "1", "50", *flags),
    )
    assert list(said["speed"]) == [
        *("warm, 1 source", "warm, 50 sources"),
        *("cold, 1 source", "cold, 50 sources"),
    ]
    for title, of_case in said["speed"].items():
        speed = of_case["ours"]
        assert speed["per_second"] > 100
        assert 0 < speed["p50_ms"] <= speed["p99_ms"]
        assert speed["refused"] == speed["lost"] == 0
        # What is stored is what is asked for; nothing is where nobody has announced.
        assert (speed["with_values"] > 0.9) == title.startswith("warm")
        assert (speed["with_values"] == 0) == title.startswith("cold")
    assert said["memory"]["ours"]["stored"] >= 500


def test_many_nodes_are_measured() -> None:
    said = figures("nodes.py", "--nodes", "12", "--lookups", "3", "--npm", "/nowhere")
    ours = said["figures"]["ours"]
    assert ours["found"] == 3
    assert ours["start_ms"] > 0
    assert 0 < ours["first_p50_ms"] <= ours["first_p95_ms"]


def test_wrong_flags_are_refused() -> None:
    for flags in (
        ["--mix", "1:2"],
        ["--outstanding", "0"],
        ["--announces", "-1"],
        ["--sources", "0"],
    ):
        command = [sys.executable, str(BENCH / "dht.py"), *flags]
        assert subprocess.run(command, capture_output=True, timeout=30).returncode == 2
