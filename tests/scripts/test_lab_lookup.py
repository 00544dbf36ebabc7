"""The study of lookups, small: its figures make sense, and it says the same in every process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.scripts import rows, run, study

NAME = "lab_lookup.py"


def test_full_nodes_find_what_others_stored(tmp_path: Path) -> None:
    out = tmp_path / "lookups.csv"
    figures = study(NAME, out, "--nodes", "40", "--lookups", "10")["figures"]
    found = rows(out)
    assert len(found) == 10
    assert figures["found"] == 1.0
    assert {row["n"] for row in found} == {"40"}
    assert {row["kind"] for row in found} == {"peers", "item"}
    assert 1 <= figures["hops_p50"] <= figures["hops_p95"] <= 4
    assert 0.05 <= figures["first_p50"] <= figures["seconds_p50"] <= figures["seconds_p95"] < 2
    assert 7 <= figures["overlap_p5"] <= figures["overlap_mean"] <= 8
    assert figures["right_mean"] == 8
    assert 8 <= figures["contacts_min"] <= figures["contacts_median"] < 40
    assert 20 < figures["datagrams_per_node"] < 400
    assert max(int(row["hops"]) for row in found) >= figures["hops_p95"]


def test_virtual_networks_are_walked_to_the_end(tmp_path: Path) -> None:
    out = tmp_path / "scale.csv"
    figures = study(NAME, out, "--scale", "30000", "--lookups", "8")["figures"]
    assert [row["n"] for row in rows(out)] == ["1000"] * 8 + ["10000"] * 8 + ["30000"] * 8
    assert {row["right"] for row in rows(out)} == {"8"}
    for size in (1000, 10_000, 30_000):
        assert figures[f"{size}_exact"] == 1.0
        assert 1 <= figures[f"{size}_hops_p50"] <= figures[f"{size}_hops_p95"] <= 6
        assert 8 <= figures[f"{size}_asked_p50"] <= 60
    assert figures["1000_asked_p50"] < figures["30000_asked_p50"]


@pytest.mark.parametrize(
    "flags",
    [
        "--nodes 20 --lookups 6 --loss 0.1 --dead 0.2 --bootstraps 3 --paths 2 --settle 10",
        "--scale 2000 --lookups 6 --latency 0.1",
    ],
)
def test_the_same_seed_gives_the_same_file_in_another_process(tmp_path: Path, flags: str) -> None:
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    figures = [
        study(NAME, out, *flags.split(), hash_seed=str(number))["figures"]
        for number, out in enumerate(files, 1)
    ]
    assert figures[0] == figures[1]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    "flag",
    [
        "--nodes=0",
        "--nodes=1",
        "--loss=2",
        "--loss=1",
        "--dead=-1",
        "--dead=1",
        "--latency=nan",
        "--scale=1",
        "--loss=0.1 --scale=1000",
        "--scale=99999999999",
        "--out=/",
        "--out=/no-such-folder/rows.csv",
    ],
)
def test_a_bad_flag_is_refused(flag: str) -> None:
    done = run(NAME, *flag.split())
    assert done.returncode == 2
    assert flag.split("=")[0] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
