"""The study of durability, small: it makes sense, and says the same in every process."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from dht_torrent.lab.run import run as run_in_the_lab
from tests.helpers.scripts import load, rows, run, start

NAME = "lab_durability.py"
SMALL = "--nodes 12 --lookups 16 --hours 1 --step 30 --median-life 1800 --keepers 0 2 --json"


def test_values_last_longer_the_more_keep_them_and_the_same_in_every_process(
    tmp_path: Path,
) -> None:
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    processes = [
        start(NAME, *SMALL.split(), "--out", str(out), PYTHONHASHSEED=str(number))
        for number, out in enumerate(files)
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0] == said[1]
    assert files[0].read_bytes() == files[1].read_bytes()

    found = rows(files[0])
    assert len(found) == 3 * 3 * 2  # ages, kinds, numbers of keepers
    share = {(row["kind"], row["keepers"], row["age"]): float(row["found"]) for row in found}
    left = {(row["kind"], row["keepers"], row["age"]): float(row["keepers_left"]) for row in found}
    for kind in ("immutable", "mutable", "announce"):
        assert share[kind, "0", "0"] == share[kind, "2", "0"] == 1
        assert left[kind, "0", "0"] == 0 < left[kind, "2", "60"] <= left[kind, "2", "0"] <= 2
    assert share["announce", "0", "60"] == 0  # it has expired
    at_last = {
        keepers: sum(found for (_, n, age), found in share.items() if (n, age) == (keepers, "60"))
        for keepers in ("0", "2")
    }
    assert at_last["2"] > at_last["0"]
    figures = json.loads(said[0])["figures"]
    assert len(figures) == 6
    assert figures["1800_s_announce_0_keepers_minutes"] < 60


def test_lookups_side_by_side_are_all_counted() -> None:
    """Of ten values each node finds every one, in its own time."""
    script = load(NAME)

    class Slow:
        async def find(self, dht: object) -> bool:
            await trio.sleep(script.LOOKING)
            return True

    class Population:
        network = SimpleNamespace(nodes={1: None})

        def settled(self) -> list[int]:
            return [1]

    async def main(rng: random.Random) -> list[int]:
        groups = [script.Group("announce", 0, [(Slow(), [])] * 10) for _ in range(2)]
        found: list[int] = await script.look_up(rng, Population(), groups)
        return found

    assert run_in_the_lab(main) == [10, 10]


@pytest.mark.parametrize("flag", ["--keepers=-1", "--step=1", "--median-life=nan"])
def test_a_bad_flag_is_refused(flag: str) -> None:
    done = run(NAME, flag)
    assert done.returncode == 2
    assert flag.split("=")[0] in done.stderr.splitlines()[-1]
