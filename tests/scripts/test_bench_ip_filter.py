"""The benchmark of IP filters measures what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "ip_filter.py"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--ranges", "500", "--rounds", "1", *options],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(SCRIPT.parents[2]), "PATH": ""},
    )


def test_it_gives_the_figures_of_each_format() -> None:
    done = run("--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"P2P", "DAT", "plain", "CIDR", "IPv6"}
    for figures in found.values():
        assert set(figures) == {"load_seconds", "lookup_us", "kept_mb"}
        assert all(value > 0 for value in figures.values())


def test_a_person_gets_a_table() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
    assert "at least one range" in run("--rounds", "0").stderr
