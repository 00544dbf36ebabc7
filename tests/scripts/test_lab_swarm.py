"""The study of swarms, small: what it says makes sense, and it says the same in every process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.scripts import load, rows, study

NAME = "lab_swarm.py"
SMALL = ("--nodes", "4", "--size", "96KiB", "--piece", "16KiB")


def test_every_variant_runs_and_each_leech_has_a_row(tmp_path: Path) -> None:
    out = tmp_path / "swarm.csv"
    figures = study(NAME, out, *SMALL)["figures"]
    found = rows(out)
    assert len(found) == 2 * (2 + 4) + 8 * 4
    for row in found:
        assert float(row["seconds"]) > 0
        assert int(row["downloaded"]) >= 96 * 1024
        assert (row["gives"] == "False") <= (row["uploaded"] == "0")
        assert float(row["copies"]) >= 1
        assert (row["seed"], json.loads(row["config"])["size"]) == ("1", 96 * 1024)
    assert figures["server_over_swarm"] > 1
    assert figures["server_4_copies"] == pytest.approx(4, rel=0.05)
    assert figures["server_exponent"] == pytest.approx(1, abs=0.2)
    assert figures["no_endgame_over_endgame"] > 1
    last = max(float(row["seconds"]) for row in found if row["variant"] == "in_order")
    assert figures["in_order_4_last"] == last


def test_the_same_seed_gives_the_same_file_in_another_process(tmp_path: Path) -> None:
    flags = "--variants swarm tit_for_tat --nodes 3 --runs 2"
    files = []
    for hash_seed in ("1", "2"):
        out = tmp_path / f"{hash_seed}.csv"
        study(NAME, out, *SMALL, *flags.split(), hash_seed=hash_seed)
        files.append(out)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert {row["run"] for row in rows(files[0])} == {"1", "2"}


@pytest.mark.parametrize(
    "flags",
    [
        "--size 0",
        "--size lots",
        "--nodes 0",
        "--nodes 1000000000",
        "--nodes 1000 --size 1GiB",
        "--runs 1000000000",
        "--up 10T",
        "--up 100",
        "--piece 100",
        "--variants superseeding",
        "--lookups 3",
    ],
)
def test_flags_that_make_no_sense_are_refused_in_a_line(
    flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        load(NAME).main(flags.split())
    assert ended.value.code == 2
    said, complaints = capsys.readouterr()
    assert said == ""
    assert "error: " in complaints.splitlines()[-1]
