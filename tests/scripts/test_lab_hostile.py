"""The study of hostile nodes, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.scripts import rows, run

NAME = "lab_hostile.py"


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        ("--nodes 50 --hostile 0.2 --paths 4 --lookups 2", 2 * 2),
        ("--nodes 50 --kind eclipse --eclipse 8 --keys 1 --lookups 1", 2 * (2 * 1 + 1)),
    ],
    ids=["mixed", "eclipse"],
)
def test_the_same_seed_writes_the_same_file_in_another_process(
    flags: str, count: int, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    first = run(NAME, *flags.split(), "--json", "--out", str(one), hash_seed="1")
    second = run(NAME, *flags.split(), "--json", "--out", str(other), hash_seed="2")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert one.read_bytes() == other.read_bytes()
    written = rows(one)
    assert len(written) == count
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
    refused = run(NAME, *flags)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("lab_hostile.py: error: ")
