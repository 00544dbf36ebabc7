"""A daemon under stress keeps within bounds and leaves nothing; one that did not would be seen."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.helpers.scripts import load, run

NAME = "soak.py"


def test_a_short_soak_finds_nothing_wrong() -> None:
    done = run(NAME, "--minutes", "0.1", "--torrents", "12", "--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    said = json.loads(done.stdout)
    assert said["faults"] == []
    assert max(sample["torrents"] for sample in said["samples"]) >= 10
    assert max(sample["connections"] for sample in said["samples"]) >= 1
    assert {"share", "get", "peer stalling", "fetched from it"} <= said["done"].keys()
    assert said["after"]["torrents"] == 0


@pytest.mark.parametrize("name", ["rss", "descriptors", "tasks", "threads"])
def test_what_grows_after_it_should_have_settled_is_a_fault(name: str) -> None:
    soak = load(NAME)
    flat = [soak.Sample(second, 50 << 20, 100, 50, 4, 300) for second in range(0, 900, 2)]
    assert soak.growth(flat, 300.0) == []
    step = 2 * soak.ALLOWED[name] / 600
    growing = [
        replace(s, **{name: int(getattr(s, name) + step * max(0.0, s.seconds - 300))}) for s in flat
    ]
    (fault,) = soak.growth(growing, 300.0)
    assert fault.startswith(f"{name} grew from")
    early = [replace(s, **{name: int(getattr(s, name) + step * min(s.seconds, 300))}) for s in flat]
    assert soak.growth(early, 300.0) == []


def test_too_short_a_run_proves_nothing_and_says_so() -> None:
    assert load(NAME).growth([], 300.0) == ["too few samples to tell whether anything grew"]


@pytest.mark.parametrize("name", ["torrents", "connections", "tasks", "sockets", "threads"])
def test_what_is_left_at_the_end_is_a_fault(name: str) -> None:
    soak = load(NAME)
    before = soak.Sample(1.0, 50 << 20, 18, 10, 2, 30)
    assert soak.left_over(before, before) == []
    after = replace(before, **{name: getattr(before, name) + 1})
    assert soak.left_over(before, after) == [f"1 {name} left over"]


@pytest.mark.parametrize("flags", ["--minutes 0", "--minutes nan", "--torrents 0", "--torrents x"])
def test_flags_that_make_no_sense_are_refused_in_a_line(
    flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        load(NAME).main(flags.split())
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]
