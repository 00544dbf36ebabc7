"""The study of similarity, small: what it says makes sense, and it always says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scripts import rows, run, study

NAME = "lab_similar.py"
SMALL = "--entries 200 --pairs 16 --holders 100"


def small(out: Path, *flags: str, hash_seed: str = "0") -> Any:
    return study(NAME, out, *SMALL.split(), *flags, hash_seed=hash_seed)


def test_what_has_much_in_common_is_found_and_each_search_has_a_row(tmp_path: Path) -> None:
    out = tmp_path / "similar.csv"
    figures = small(out)["figures"]
    searches = rows(out)
    assert len(searches) == figures["pairs"] == 16
    assert figures["entries"] == 200
    assert figures["recall_80"] == 1
    assert figures["near_precision"] == 1
    assert 0 < figures["estimate_error"] < 0.08
    assert figures["records_mean"] <= 20
    for row in searches:
        assert row["kind"] in ("0.8", "0.5", "any")
        assert row["place"] == "" or 1 <= int(row["place"]) <= 10
        assert bool(row["place"]) == bool(row["kinship"])


def test_it_says_the_same_in_every_process(tmp_path: Path) -> None:
    one, other = (small(tmp_path / f"{n}.csv", hash_seed=str(n)) for n in (1, 2))
    assert one["figures"] == other["figures"]


@pytest.mark.parametrize(
    "flags", ["--holders 7", "--entries 5 --pairs 6", "--loss 0.6", "--entries 1000001"]
)
def test_what_cannot_be_studied_is_refused(flags: str) -> None:
    done = run(NAME, *flags.split())
    assert done.returncode == 2
    assert done.stdout == ""
