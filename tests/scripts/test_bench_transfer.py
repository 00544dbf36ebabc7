"""The benchmarks of transfers measure what they say, and say what they were measured on."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("libtorrent")

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def figures(script: str, *flags: str) -> Any:
    command = [sys.executable, str(BENCH / script), *flags, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=120, check=True)
    return json.loads(done.stdout)


@contextlib.contextmanager
def sleeping() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield process.pid
    finally:
        process.communicate(b"\n")


# -- what they are made of ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config_args", "said"),
    [
        ("'--prefix=/usr' '--enable-optimizations' '--with-lto'", "with PGO, LTO"),
        ("'--enable-optimizations'", "with PGO"),
        ("'--prefix=/usr' '--with-lto'", "PGO not said, LTO"),
        ("'--enable-shared'", "PGO not said"),
        ("", "build unknown"),
    ],
)
def test_the_interpreter_s_build_is_said(bench: Any, config_args: str, said: str) -> None:
    assert bench("machine").build_of(config_args) == said


def test_the_machine_is_said_in_one_line(bench: Any) -> None:
    line = bench("machine").machine(1.25)
    assert line.startswith(f"Python {sys.version_info.major}.")
    assert "load 1.2 before and " in line
    assert "\n" not in line


def test_what_a_program_has_used_is_read_past_any_name(bench: Any, tmp_path: Path) -> None:
    used_by, ticks = bench("programs").used_by, os.sysconf("SC_CLK_TCK")
    (tmp_path / "7").mkdir()
    fields = ["S", *(["0"] * 10), str(3 * ticks), str(ticks), *(["0"] * 30)]
    (tmp_path / "7" / "stat").write_text(f"7 (a) 9 (b) {' '.join(fields)}\n")
    (tmp_path / "7" / "status").write_text("Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n")
    assert used_by(7, tmp_path) == (4.0, 2 << 20)
    assert used_by(8, tmp_path) == (0.0, 0)


def test_a_program_in_a_worker_s_place_says_what_it_has_used(bench: Any) -> None:
    programs = bench("programs")
    waited: list[bool] = []
    with sleeping() as pid:
        one = programs.Driven(
            programs.Started(("127.0.0.1", 4000), lambda: waited.append(True), pid)
        )
        assert one.expect("ready")["port"] == 4000
        one.go()
        done = one.expect("done")
        assert waited == [True]
        assert 0 <= done["seconds"] < 60
        assert 0 <= done["cpu"] < 60
        assert one.stop()["event"] == "stopped"
        with pytest.raises(bench("peers").WorkerError, match="cannot be told"):
            one.go([("127.0.0.1", 1)])


def test_ratios_are_taken_within_one_cache(bench: Any) -> None:
    transfer = bench("transfer")
    runs = [
        transfer.Run(contestant, seconds, 1.0, 1.0, 10**6, 10**6, cache)
        for cache, baseline in (("warm", 1.0), ("cold", 4.0))
        for contestant, seconds in (
            (transfer.BASELINE, baseline),
            ("ours->ours", baseline / 2),
        )
    ]
    lines = transfer.table(runs, 10**8).splitlines()[2:]
    assert [line.split()[-5] for line in lines] == ["1.00", "2.00", "1.00", "2.00"]
    assert [line[:30].strip() for line in lines] == [
        *(transfer.BASELINE, "ours->ours"),
        *(f"{transfer.BASELINE}, cold", "ours->ours, cold"),
    ]


def test_ours_is_told_over_other_programs_in_the_same_role(bench: Any) -> None:
    transfer = bench("transfer")
    runs = [
        transfer.Run(contestant, seconds, 1.0, 1.0, 10**6, 10**6, cache)
        for contestant, cache, seconds in (
            ("ours->libtorrent", "warm", 2.0),
            ("aria2->libtorrent", "warm", 3.0),
            ("libtorrent->ours", "warm", 1.0),
            ("libtorrent->ours", "cold", 4.0),
            ("libtorrent->transmission", "cold", 10.0),
            ("libtorrent->aria2", "warm", 0.5),
            ("transmission->libtorrent", "cold", 10.0),
        )
    ]
    assert transfer.duels(runs) == [
        "ours over aria2 as a seed: 1.50",
        "ours over aria2 as a leech: 0.50",
        "ours over transmission as a leech, cold: 2.50",
    ]


def test_dropping_pages_leaves_the_content_alone(bench: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 100_000)
    bench("peers").drop_pages(tmp_path)
    assert (tmp_path / "b").read_bytes() == b"b" * 100_000


def test_ours_is_told_over_the_script_of_libtorrent(bench: Any) -> None:
    command = bench("command")
    runs = [
        command.Run(name, seconds, 0.5)
        for name, seconds in zip(command.COMMANDS * 2, (1.0, 3.0, 1.0, 3.0), strict=True)
    ]
    assert command.report(runs, 10**8).endswith("dhtnode get over libtorrent script: 3.00")


# -- whole runs ------------------------------------------------------------------------------------


def test_a_transfer_is_measured_warm_and_cold() -> None:
    said = figures(
        "transfer.py",
        *("--size", "1MiB", "--rounds", "1", "--cache", "warm", "cold", "--only", "ours->ours"),
    )
    assert [(run["contestant"], run["cache"]) for run in said["runs"]] == [
        *(("ours->ours", "warm"), ("ours->ours", "cold"))
    ]
    assert all(run["seconds"] > 0 and run["leech_cpu"] > 0 for run in said["runs"])
    assert "load" in said["machine"]


def test_a_sparse_file_is_transferred_too() -> None:
    flags = ("--size", "3MiB", "--sparse", "--rounds", "1", "--only", "ours->ours")
    (run,) = figures("transfer.py", *flags)["runs"]
    assert run["leech_rss"] > 10 << 20


def test_a_sparse_file_takes_no_place(bench: Any, tmp_path: Path) -> None:
    path = bench("peers").make_sparse(tmp_path, 3 << 20)
    assert path.read_bytes() == bytes(3 << 20)
    assert path.stat().st_blocks == 0


def test_a_whole_command_is_measured() -> None:
    began = time.monotonic()
    said = figures("command.py", "--size", "1MiB", "--rounds", "1")
    took = time.monotonic() - began
    assert [run["command"] for run in said["runs"]] == ["dhtnode get", "libtorrent script"]
    assert all(0 < run["seconds"] < took and run["cpu"] > 0 for run in said["runs"])
