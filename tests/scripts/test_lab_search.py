"""The study of search, small: it makes sense, and says the same in every process."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.helpers.scripts import rows, run, start, study

NAME = "lab_search.py"
SMALL = (
    "--count 60 --publishers 6 --queries 80 --holders 200 --searchers 3 --cold --warm --prefixes 5 "
    "--writers 4 --kill 0.3 --kill-again 0.3 --vandal 0.1 --seed 7"
)
MEASURED = {"recall_50", "precision_10", "gets_p50", "gets_p90", "rounds_p95", "writes_per_entry"}


def test_the_study_says_the_same_in_every_process(tmp_path: Path) -> None:
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    processes = [
        start(NAME, *SMALL.split(), "--json", "--out", str(out), PYTHONHASHSEED=str(number))
        for number, out in enumerate(files)
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0] == said[1]
    assert files[0].read_bytes() == files[1].read_bytes()

    figures = json.loads(said[0])["figures"]
    assert figures.keys() >= MEASURED
    assert figures["titles"] == 60
    assert figures["recall_50"] >= 0.97
    assert figures["precision_10"] == figures["verified"] == 1.0
    assert 1 <= figures["gets_p50"] <= 3
    assert figures["gets_p50"] <= figures["gets_p90"] <= 14
    assert figures["rounds_p95"] <= 5
    assert 0.3 < figures["writes_per_entry"] <= 1.6
    assert figures["killed_recall_50"] >= 0.95
    assert figures["repaired_recall_50"] >= 0.97
    assert figures["killed_again_recall_50"] >= 0.95
    assert figures["repaired_again_recall_50"] >= 0.97
    assert figures["vandal_recall_50"] < figures["epoch_recall_50"]
    assert figures["epoch_recall_50"] >= 0.97
    assert not any(value for name, value in figures.items() if name.endswith("forged"))
    assert figures["warm_gets_mean"] < figures["gets_mean"] < figures["cold_gets_mean"]
    assert figures["cold_recall_50"] >= 0.97
    assert figures["prefix_cold_gets_max"] <= 14
    assert figures["size_ranges_whole"] == figures["word_ranges_whole"] == 1.0
    assert (figures["written_at_once"], figures["lost_after_a_period"]) == (200, 0)
    phases = dict.fromkeys(row["phase"] for row in rows(files[0]))
    assert list(phases) == [
        *("first", "cold", "warm", "prefix cold", "prefix warm", "killed", "repaired"),
        *("killed_again", "repaired_again", "vandal", "epoch"),
    ]


def test_the_model_is_held_against_full_nodes(tmp_path: Path) -> None:
    flags = "--compare 30 --count 20 --publishers 3 --queries 20"
    figures = study(NAME, tmp_path / "both.csv", *flags.split())["figures"]
    assert abs(figures["recall_difference"]) <= 0.1
    assert 0.8 < figures["gets_ratio"] < 1.25
    assert [row["phase"] for row in rows(tmp_path / "both.csv")] == ["first"] * 20 + ["model"] * 20


def test_first_results_are_timed(tmp_path: Path) -> None:
    figures = study(NAME, tmp_path / "first.csv", "--first", "30")["figures"]
    assert figures["found"] == 1.0
    assert 0 < figures["first_p50"] <= figures["first_p95"] < 3


def test_titles_come_from_a_file(tmp_path: Path) -> None:
    titles = tmp_path / "titles.tsv.gz"
    titles.write_bytes(gzip.compress(b"one\tfirst of all\ntwo\tsecond of all\n"))
    said = study(NAME, tmp_path / "rows.csv", "--titles", str(titles), "--queries", "5")
    assert said["figures"]["titles"] == 2
    assert said["figures"]["recall_50"] == 1.0
    assert said["config"]["titles"] == "titles.tsv.gz"


@pytest.mark.parametrize(
    "flags",
    [
        *("--titles=none.tsv", "--publishers=0", "--queries=0", "--holders=7", "--loss=0.6"),
        *(
            "--searchers=0",
            "--kill=1",
            "--kill-again=1",
            "--vandal=2",
            "--compare=1",
            "--first=19",
            "--first=5001",
        ),
    ],
)
def test_a_bad_flag_is_refused(flags: str) -> None:
    done = run(NAME, flags)
    assert done.returncode == 2
    assert flags.split("=")[0] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
