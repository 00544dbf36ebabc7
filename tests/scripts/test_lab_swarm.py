"""The study of swarms, small: what it says makes sense, and it says the same in every process."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "lab_swarm.py"
SMALL = "--nodes 4 --size 96KiB --piece 16KiB"


def run(*flags: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *SMALL.split(), *flags],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lab_swarm_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_variant_runs_and_each_leech_has_a_row(tmp_path: Path) -> None:
    out = tmp_path / "swarm.csv"
    done = run("--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (2 + 4) + 8 * 4
    for row in rows:
        assert float(row["seconds"]) > 0
        assert int(row["downloaded"]) >= 96 * 1024
        assert (row["gives"] == "False") <= (row["uploaded"] == "0")
        assert float(row["copies"]) >= 1
        assert (row["seed"], json.loads(row["config"])["size"]) == ("1", 96 * 1024)
    figures = said["figures"]
    assert figures["server_over_swarm"] > 1
    assert figures["server_4_copies"] == pytest.approx(4, rel=0.05)
    assert figures["server_exponent"] == pytest.approx(1, abs=0.2)
    assert figures["no_endgame_over_endgame"] > 1
    last = max(float(row["seconds"]) for row in rows if row["variant"] == "in_order")
    assert figures["in_order_4_last"] == last


def test_the_same_seed_gives_the_same_file_in_another_process(tmp_path: Path) -> None:
    flags = "--variants swarm tit_for_tat --nodes 3 --runs 2"
    files = []
    for hash_seed in ("1", "2"):
        out = tmp_path / f"{hash_seed}.csv"
        assert run(*flags.split(), "--out", str(out), hash_seed=hash_seed).returncode == 0
        files.append(out.read_text())
    assert files[0] == files[1]
    assert {row["run"] for row in csv.DictReader(files[0].splitlines())} == {"1", "2"}


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
        "--piece 100",
        "--variants superseeding",
        "--lookups 3",
    ],
)
def test_flags_that_make_no_sense_are_refused_in_a_line(
    script: ModuleType, flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(flags.split())
    assert ended.value.code == 2
    said, complaints = capsys.readouterr()
    assert said == ""
    assert "error: " in complaints.splitlines()[-1]
