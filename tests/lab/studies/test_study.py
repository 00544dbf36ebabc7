"""What all studies share: flags that are checked, rows that say where they come from, figures."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.lab.studies.study import (
    Study,
    commit,
    exit_code,
    parser,
    positive,
    quantile,
    seconds,
    share,
    writable,
)
from tests.helpers.scripts import SCRIPTS


def study(*flags: str) -> Study:
    made = parser("What is asked?", nodes=10, lookups=5)
    made.add_argument("--loss", type=share, default=0.0)
    return Study(made.parse_args(flags))


def test_a_row_says_what_was_measured_with_which_seed_flags_and_code(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    made = study("--seed", "7", "--loss", "0.25", "--out", str(out))
    made.row(n=10, found=True, seconds=1 / 3)
    made.row(n=20, found=False, hops=None)
    made.report()
    with out.open() as file:
        first, second = csv.DictReader(file)
    assert (first["n"], first["found"], first["seconds"], first["hops"]) == (
        "10",
        "True",
        "0.333333",
        "",
    )
    assert (second["n"], second["found"], second["seconds"]) == ("20", "False", "")
    for row in (first, second):
        assert row["seed"] == "7"
        assert json.loads(row["config"]) == {"lookups": 5, "loss": 0.25, "nodes": 10}
        assert row["commit"] == commit()


def test_the_files_name_is_not_part_of_what_is_written(tmp_path: Path) -> None:
    outs = [tmp_path / "one.csv", tmp_path / "another.csv"]
    for out in outs:
        made = study("--out", str(out))
        made.row(n=1)
        made.report()
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_where_no_file_can_be_made_that_is_found_out_before_the_work(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "rows.csv"):
        with pytest.raises(argparse.ArgumentTypeError, match="folder"):
            writable(str(path))
    assert writable("rows.csv") == Path("rows.csv")


def test_a_file_that_cannot_be_written_costs_the_rows_and_not_the_figures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = study("--out", "/dev/full")
    made.row(n=1)
    made.figures["found"] = 1.0
    with pytest.raises(SystemExit, match="/dev/full: No space left") as ended:
        made.report()
    assert ended.value.code != 0
    assert capsys.readouterr().out == "found  1.0\n"


def test_a_reader_of_the_figures_may_stop_early(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    made = study("--json")
    with os.fdopen(writer, "w") as pipe:  # closing it must not complain either
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as ended:
            made.report()
    assert ended.value.code == 1


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("lab_*.py")))
def test_ctrl_c_ends_every_study_without_a_word(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trio, "run", lambda *args, **options: interrupted())
    takes_nodes = "--nodes" in (SCRIPTS / name).read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [name, "--nodes", "50"] if takes_nodes else [name])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
    assert ended.value.code == 130
    out, err = capsys.readouterr()
    assert (out, err.strip()) == ("", "")


def test_json_is_one_object_with_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    made = study("--json")
    made.figures["found"] = 0.123456789
    made.figures["none"] = math.nan
    made.report()
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["figures"] == {"found": 0.123457, "none": None}
    assert said["config"]["nodes"] == 10
    assert err.endswith(" s\n")  # wall-clock time is no part of the result


def test_figures_for_people_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    made = study()
    made.figures.update(found=1.0, hops_p95=4)
    made.report()
    assert capsys.readouterr().out.splitlines() == ["found     1.0", "hops p95  4"]


def test_progress_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with study().progress("nodes", 3) as done:
        done(1)
        done(3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip() == ""


@pytest.mark.parametrize(
    ("reads", "text"),
    [
        (positive, "0"),
        (positive, "-3"),
        (positive, "1.5"),
        (share, "-0.1"),
        (share, "1.1"),
        (share, "nan"),
        (seconds, "-1"),
        (seconds, "inf"),
        (seconds, "nan"),
        (seconds, "soon"),
    ],
)
def test_a_bad_number_is_refused(reads: Callable[[str], float], text: str) -> None:
    with pytest.raises((ValueError, argparse.ArgumentTypeError)):
        reads(text)


def test_good_numbers_are_read() -> None:
    assert (positive("12"), share("0.2"), share("1"), seconds("0"), seconds("2.5")) == (
        12,
        0.2,
        1.0,
        0.0,
        2.5,
    )


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_a_value_that_so_many_do_not_exceed(values: list[float], part: float) -> None:
    found = quantile(values, part)
    assert found in values
    assert sum(value <= found for value in values) >= part * len(values) * (1 - 1e-9)
    assert sum(value < found for value in values) < part * len(values)


def test_a_quantile_of_nothing_is_nan() -> None:
    assert math.isnan(quantile([], 0.5))


def interrupted_in_a_group() -> None:
    raise BaseExceptionGroup("a nursery's", [KeyboardInterrupt()])


def misused() -> None:
    parser("", nodes=1, lookups=1).parse_args(["--nodes", "0"])


def interrupted() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_a_script_quietly() -> None:
    assert exit_code(interrupted) == 130
    assert exit_code(interrupted_in_a_group) == 130
    assert exit_code(lambda: None) == 0
    assert exit_code(lambda: 1) == 1


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: print(1 // 0))  # noqa: T201 - never reached
    with pytest.raises(SystemExit):
        exit_code(misused)
