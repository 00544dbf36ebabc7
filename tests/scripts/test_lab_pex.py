"""The study of peer exchange, small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.scripts import load, rows, study

NAME = "lab_pex.py"
SMALL = ("--nodes", "4", "--liars", "2", "--size", "128KiB", "--up", "16KiB")


def test_each_variant_has_its_rows_and_figures(tmp_path: Path) -> None:
    out = tmp_path / "pex.csv"
    figures = study(NAME, out, *SMALL)["figures"]
    assert [row["variant"] for row in rows(out)] == ["honest"] * 3 + ["silent"] * 3 + ["liars"] * 3
    for name in ("honest", "silent", "liars"):
        assert figures[f"{name}_known"] == 3
        assert figures[f"{name}_complete"] == 3
        assert 0 < figures[f"{name}_median"] <= figures[f"{name}_last"]
    assert figures["liars_over_silent"] < 1.1


@pytest.mark.parametrize(
    "flags",
    [
        *("--nodes 1", "--nodes 201", "--liars 101", "--invented 1001", "--runs 1001"),
        *("--size 1GiB", "--up 100", "--up 10T", "--piece 100"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    flags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        load(NAME).main([*flags.split(), "--out", str(tmp_path / "x.csv")])
    assert exit_info.value.code == 2
    assert "error: " in capsys.readouterr().err
