"""The study of following, small: all know soon, none goes back, and every process says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.scripts import load, rows, start

NAME = "lab_follow.py"
SMALL = "--nodes 16 --followers 3 --versions 4 --gap 16 --attackers 1 --json"


def test_all_know_soon_none_goes_back_and_every_process_says_the_same(tmp_path: Path) -> None:
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    processes = [
        start(NAME, *SMALL.split(), "--out", str(out), PYTHONHASHSEED=str(number))
        for number, out in enumerate(files)
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0] == said[1]
    assert files[0].read_bytes() == files[1].read_bytes()
    figures = json.loads(said[0])["figures"]
    assert figures["known"] == 1
    assert figures["seconds_max"] <= 900
    assert (figures["went_back"], figures["reused"], figures["split"]) == (0, 0, 0)
    assert figures["stale"] > 0  # there was something to withstand
    found = rows(files[0])
    assert {row["kind"] for row in found} == {"plain", "lost", "two writers"}
    assert len(found) <= 4 * 3


@pytest.mark.parametrize("words", ["--attackers 21", "--gap 0", "--nodes 0", "--versions x"])
def test_bad_flags_are_refused(words: str) -> None:
    with pytest.raises(SystemExit) as caught:
        load(NAME).arguments(words.split())
    assert caught.value.code == 2
