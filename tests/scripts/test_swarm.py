"""The swarm on loopback: whatever goes wrong, honest leeches end with perfect copies."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.scripts import load, rows, start

NAME = "swarm.py"


@contextlib.contextmanager
def started(tmp_path: Path, flags: str) -> Iterator[subprocess.Popen[str]]:
    """The script in a process of its own, which does not outlive the block."""
    with start(NAME, *flags.split(), TMPDIR=str(tmp_path)) as process:
        try:
            yield process
        finally:
            process.kill()


def test_honest_leeches_complete_though_others_vanish_lie_and_take(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    flags = "--nodes 10 --size 4MiB --kill 0.25 --free-riders 0.25 --poisoners 1 --json"
    with started(tmp_path, f"{flags} --out {out}") as process:
        said, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    figures = json.loads(said)["figures"]
    assert (figures["honest_leeches"], figures["perfect_copies"]) == (4, 4)
    assert figures["vanished"] == 2
    found = rows(out)
    nodes = [row for row in found if row["what"] == "node"]
    kinds = Counter(row["kind"] for row in nodes)
    assert kinds == {"seed": 1, "poisoner": 1, "leech": 4, "killed": 2, "free rider": 2}
    for row in nodes:
        if row["kind"] == "leech":
            assert row["identical"] == "True"
            assert 0 < float(row["seconds"]) <= figures["last_seconds"]
            assert int(row["downloaded"]) - int(row["wasted"]) >= 4 << 20
        elif row["kind"] == "free rider":
            assert row["uploaded"] == "0"
        elif row["kind"] == "killed":
            assert row["seconds"] == ""
    moments = [row for row in found if row["what"] == "second"]
    assert moments
    assert int(moments[-1]["complete"]) >= 4
    assert int(moments[-1]["alive"]) == 8
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_leech_without_a_copy_in_time_is_named_and_the_exit_code_is_one(tmp_path: Path) -> None:
    with started(tmp_path, "--nodes 3 --size 1MiB --up 10K --patience 0") as process:
        said, complaints = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "perfect copies" in said
    assert "node 1: not complete in time" in complaints
    assert "node 2: not complete in time" in complaints
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_at_once_and_leaves_nothing(
    tmp_path: Path, which: signal.Signals
) -> None:
    with started(tmp_path, "--nodes 4 --size 4MiB --up 10K") as process:
        assert process.stderr is not None
        assert "complete" in process.stderr.readline()  # it runs
        process.send_signal(which)
        said, complaints = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said == ""
    assert complaints.splitlines()[-1] == "stopped; nothing is left behind"
    assert "Traceback" not in complaints
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags",
    [
        "--nodes 1",
        "--nodes 0",
        "--nodes 1000000000",
        "--seeds 0",
        "--nodes 4 --poisoners 3",
        "--poisoners -1",
        "--kill 1",
        "--nodes 5 --kill 0.5 --free-riders 0.5",
        "--kill 1.5",
        "--free-riders nan",
        "--size 0",
        "--size 900T",
        "--patience -1",
        "--up fast",
        "--up 10T",
    ],
)
def test_flags_that_make_no_sense_are_refused_in_a_line(
    tmp_path: Path,
    flags: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        load(NAME).main(flags.split())
    assert ended.value.code == 2
    said, complaints = capsys.readouterr()
    assert said == ""
    assert "error: " in complaints.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
