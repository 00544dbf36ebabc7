"""The study of crawls, small: it finds what there is, and says the same in every process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.scripts import load, rows, study

NAME = "lab_crawl.py"
SMALL = ("--nodes", "60", "--torrents", "150", "--hours", "2")


def test_a_crawl_finds_what_there_is_and_the_same_in_another_process(tmp_path: Path) -> None:
    files, told = [], []
    for hash_seed in ("1", "2"):
        out = tmp_path / f"{hash_seed}.csv"
        told.append(study(NAME, out, *SMALL, hash_seed=hash_seed)["figures"])
        files.append(out.read_bytes())
    assert files[0] == files[1]
    assert told[0] == told[1]
    figures = told[0]
    assert figures["found_share"] >= 0.9
    assert figures["reachable_share"] >= 0.98
    assert figures["false"] == figures["asked_too_early"] == 0
    assert figures["peak"] <= 20
    assert figures["queries_s"] < 0.5
    first, second = rows(tmp_path / "1.csv")
    assert (first["hour"], second["hour"]) == ("1", "2")
    assert 0 < int(first["found"]) <= int(second["found"]) == figures["found"]


@pytest.mark.parametrize(
    "flags", ["--nodes 5", "--torrents 9999999", "--rate 21", "--rate 0", "--kinds nobody"]
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
