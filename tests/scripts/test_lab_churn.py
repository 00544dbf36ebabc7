"""The study of churn, small: what it says makes sense, and it says the same in every process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scripts import rows, run, study

NAME = "lab_churn.py"
SMALL = "--nodes 24 --lookups 40 --hours 0.2 --median-life 600 --values 9 --publishing 3"


def small(out: Path, *flags: str, hash_seed: str = "0") -> Any:
    return study(NAME, out, *SMALL.split(), *flags, hash_seed=hash_seed)


def about(what: str, path: Path) -> list[dict[str, str]]:
    return [row for row in rows(path) if row["what"] == what]


def test_values_are_found_under_churn_and_each_lookup_has_a_row(tmp_path: Path) -> None:
    out = tmp_path / "churn.csv"
    found = small(out)
    figures = found["figures"]
    lookups = about("lookup", out)
    assert 35 <= len(lookups) == figures["all_lookups"] <= 40
    assert figures["all_found"] == sum(row["found"] == "True" for row in lookups) / len(lookups)
    assert figures["all_found"] >= 0.9
    assert {row["kind"] for row in lookups} == {"immutable", "mutable", "announce"}
    for row in lookups:
        assert 2 <= float(row["minute"]) <= 12
        assert 0 <= float(row["age"]) <= float(row["minute"])
        assert 0 <= float(row["dead_share"]) <= 1
        assert 0 <= float(row["seconds"]) < 120
        assert (row["seed"], json.loads(row["config"])["median_life"]) == ("1", 600)
    assert figures["leaves"] >= figures["joins"] > 5
    tables = about("tables", out)
    assert [float(row["minute"]) for row in tables] == [0, 10]
    assert float(tables[0]["dead_share"]) == 0
    assert 0 < float(tables[1]["dead_share"]) < 1
    assert all(float(row["good"]) > 8 for row in tables)


def test_the_same_seed_gives_the_same_file_in_another_process(tmp_path: Path) -> None:
    flags = ["--publishers=churn", "--sessions=weibull", "--median-life=120", "--nodes=16"]
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    figures = [
        small(out, *flags, hash_seed=str(number))["figures"] for number, out in enumerate(files)
    ]
    assert figures[0] == figures[1]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(about("lookup", files[0])) > 15


@pytest.mark.parametrize(
    "flag", ["--nodes=9", "--median-life=0", "--hours=inf", "--sessions=gauss"]
)
def test_a_bad_flag_is_refused(flag: str) -> None:
    done = run(NAME, flag)
    assert done.returncode == 2
    assert flag.split("=")[0] in done.stderr.splitlines()[-1]
