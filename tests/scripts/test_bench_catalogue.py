"""The benchmark of the catalogue measures what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "catalogue.py"
SMALL = ["--rows", "3000", "--queries", "60", "--lines", "200", "--seed", "7"]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(SCRIPT.parents[2]), "PATH": ""},
    )


def test_it_gives_figures_as_one_json_object() -> None:
    done = run(*SMALL, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["figures"]) == {
        *("ingest_rows_per_second", "query_p95_ms", "imported_lines_per_second"),
        *("bytes_per_row", "peak_rss_mb"),
    }
    assert all(value > 0 for value in found["figures"].values())
    mix = found["queries"]["mix"]
    assert mix["queries"] == 60
    assert mix["empty"] < 15
    assert 0 < mix["p50_ms"] <= mix["p95_ms"] <= mix["max_ms"]
    assert mix["p95_ms"] == found["figures"]["query_p95_ms"]


def test_it_gives_a_table_for_people() -> None:
    done = run(*SMALL)
    assert done.returncode == 0, done.stderr
    assert "ingest: " in done.stdout
    assert "hardest: one letter" in done.stdout


@pytest.mark.parametrize("option", ["--rows", "--queries"])
def test_nothing_cannot_be_measured(option: str) -> None:
    assert run(option, "0").returncode == 2
