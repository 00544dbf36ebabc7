"""The study of poisoners, small: it makes sense, and says the same in every process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.scripts import load, rows, study

NAME = "lab_poison.py"
SMALL = ("--pieces", "12", "--poisoners", "3")


def test_each_run_has_a_row_and_each_row_its_figures(tmp_path: Path) -> None:
    out = tmp_path / "poison.csv"
    figures = study(NAME, out, *SMALL, "--rows", "public", "thirty", "--runs", "2")["figures"]
    found = rows(out)
    assert [(row["row"], row["run"]) for row in found] == [
        ("public", "1"),
        ("public", "2"),
        ("thirty", "1"),
        ("thirty", "2"),
    ]
    assert figures["public_completed"] == figures["thirty_completed"] == 2
    assert figures["public_honest_bans"] == figures["thirty_honest_bans"] == 0
    assert (figures["public_bans"], figures["thirty_bans"]) == (3, 9)
    assert all(float(row["seconds"]) > 0 and float(row["base"]) > 0 for row in found)


def test_the_same_seed_gives_the_same_file_in_another_process(tmp_path: Path) -> None:
    files = []
    for hash_seed in ("1", "2"):
        out = tmp_path / f"{hash_seed}.csv"
        study(NAME, out, *SMALL, "--rows", "returning_loopback", hash_seed=hash_seed)
        files.append(out.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    "flags", ["--runs 0", "--runs 100000", "--poisoners 5000", "--pieces 9999", "--rows nobody"]
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
