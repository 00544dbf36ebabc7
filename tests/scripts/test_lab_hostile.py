"""The study of hostile nodes, small."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parent.parent.parent / "scripts" / "lab_hostile.py"


def study(*flags: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PATH), *flags],
        env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("flags", "rows"),
    [
        ("--nodes 50 --hostile 0.2 --paths 4 --lookups 2", 2 * 2),
        ("--nodes 50 --kind eclipse --eclipse 8 --keys 1 --lookups 1", 2 * (2 * 1 + 1)),
    ],
    ids=["mixed", "eclipse"],
)
def test_the_same_seed_writes_the_same_file_in_another_process(
    flags: str, rows: int, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    first = study(*flags.split(), "--json", "--out", str(one), hash_seed="1")
    second = study(*flags.split(), "--json", "--out", str(other), hash_seed="2")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert one.read_bytes() == other.read_bytes()
    with one.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert len(written) == rows
    assert {row["method"] for row in written} == {"get", "get_peers"}
    figures = json.loads(first.stdout)["figures"]
    shares = [value for name, value in figures.items() if "found" in name or "alarms" in name]
    assert all(0 <= share <= 1 for share in shares)
    assert any(value == 1 for name, value in figures.items() if "found" in name)


@pytest.mark.parametrize(
    "flags",
    [
        ("--hostile", "1.5"),
        ("--hostile", "0.99"),
        ("--hostile", ","),
        ("--kind", "friendly"),
        ("--paths", "0"),
        ("--subnets", "100000"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags: tuple[str, ...]) -> None:
    refused = study(*flags)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("lab_hostile.py: error: ")
