"""Condensing: nothing is lost that a drawing says, and nothing is made up."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from dht_torrent.lab.studies.results import (
    Results,
    Row,
    column,
    condense,
    pooled,
    read,
    values,
    write,
)
from dht_torrent.lab.studies.study import Cell

STAMP: Row = {"seed": 1, "config": json.dumps({"nodes": 50, "loss": 0.1}), "commit": "1234567"}


def rows(*measured: Mapping[str, Cell]) -> list[Row]:
    return [{**row, **STAMP} for row in measured]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    whole = rows(
        {"kind": "item", "found": True, "hops": 3, "seconds": 0.25},
        {"kind": "peer", "found": False, "hops": None, "seconds": 1e-06},
    )
    write(tmp_path / "a.csv", whole)
    assert read(tmp_path / "a.csv") == whole


def test_a_commit_that_looks_like_a_number_stays_as_it_is(tmp_path: Path) -> None:
    for commit in ("0012345", "12345e7"):
        write(tmp_path / "a.csv", [{**STAMP, "commit": commit}])
        assert read(tmp_path / "a.csv")[0]["commit"] == commit


def test_a_group_keeps_mean_and_quantiles_of_numbers_and_the_share_of_truths() -> None:
    measured = rows(*({"n": 9, "hops": hops, "found": hops < 15} for hops in range(1, 21)))
    (group,) = condense(measured, ["n"])
    assert group == {
        "n": 9,
        "count": 20,
        "hops_mean": 10.5,
        "hops_p05": 1,
        "hops_p50": 10,
        "hops_p95": 19,
        "hops_max": 20,
        "found": 0.7,
        **STAMP,
    }


def test_groups_come_in_the_order_in_which_they_were_measured() -> None:
    measured = rows({"n": 20}, {"n": 3}, {"n": 20}, {"n": 100})
    assert [(g["n"], g["count"]) for g in condense(measured, ["n"])] == [(20, 2), (3, 1), (100, 1)]


def test_two_runs_are_never_one_group() -> None:
    measured = [*rows({"n": 1}), {"n": 1, **STAMP, "seed": 2}, {"n": 1, **STAMP, "commit": "b"}]
    assert len(condense(measured, ["n"])) == 3


def test_time_is_cut_into_steps() -> None:
    measured = rows(*({"minute": minute / 2, "found": True} for minute in range(50)))
    groups = condense(measured, ["minute/10"])
    assert [(g["minute"], g["count"]) for g in groups] == [(0, 20), (10, 20), (20, 10)]


def test_what_a_group_never_measured_is_absent_and_texts_are_left_out() -> None:
    measured = rows({"what": "a", "hops": None, "note": "x"}, {"what": "b", "hops": 2, "note": "y"})
    first, second = condense(measured, ["what"])
    assert not {"hops_mean", "note"} & set(first)
    assert second["hops_mean"] == 2
    assert math.isnan(column([first], "hops_mean")[0])


def test_what_the_study_was_told_may_be_a_column() -> None:
    told: Row = {**STAMP, "config": json.dumps({"nodes": 70, "n": 5})}
    groups = condense([*rows({"n": 1}), {"n": 2, **told}], ["nodes", "n"])
    assert [(group["nodes"], group["n"]) for group in groups] == [(50, 1), (70, 2)]


def test_results_are_picked_by_their_values(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", rows({"n": 1, "m": 5}, {"n": 2, "m": 6}, {"n": 1, "m": 7}))
    results = Results(tmp_path)
    assert column(results.rows("a", n=1), "m") == [5, 7]
    assert values(results.rows("a"), "n") == [1, 2]
    assert results.rows("a", n=3) == []


def test_groups_are_pooled_as_if_they_had_been_one() -> None:
    measured = rows(*({"n": n % 3, "found": n > 4, "hops": n} for n in range(20)))
    (whole,) = condense(measured, [])
    groups = condense(measured, ["n"])
    for name in ("found", "hops_mean"):
        assert pooled(groups, name) == pytest.approx(whole[name], abs=1e-3)
    assert math.isnan(pooled([], "found"))


def test_each_command_is_named_once_and_with_its_commit(tmp_path: Path) -> None:
    typed = "python scripts/lab_lookup.py --nodes 50"
    write(tmp_path / "a.csv", [{"command": typed, **row} for row in rows({"n": 1}, {"n": 2})])
    assert Results(tmp_path).commands("a") == f"{typed}  # 1234567"


def test_a_folder_in_the_environment_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_RESULTS", str(tmp_path / "other"))
    results = Results("results")
    assert results.folder == tmp_path / "other"
    assert results.figure("hops") == tmp_path / "figures" / "hops.svg"
    assert (tmp_path / "figures").is_dir()
