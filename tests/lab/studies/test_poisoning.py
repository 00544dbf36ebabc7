"""A poisoner is found by the hash of what it sent, and nobody else is banned."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from dht_torrent.geometry import BLOCK
from dht_torrent.lab import run
from dht_torrent.lab.studies.poisoning import (
    ROWS,
    Outcome,
    PoisoningPlan,
    alone,
    figures,
    poisoning,
)


def outcome(plan: PoisoningPlan, seed: int = 1) -> Outcome:
    return run.run(partial(poisoning, plan=plan), seed=seed)


def small(row: str) -> PoisoningPlan:
    """Of a quarter of the pieces, which are a quarter as large: a sixteenth of the work."""
    plan = ROWS[row]
    return replace(
        plan, pieces=max(12, plan.pieces // 4), blocks=8, open_bytes=plan.open_bytes // 4
    )


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_poisoners_do_the_honest_seed_stays_and_the_download_ends(
    row: str, seed: int
) -> None:
    plan = small(row)
    found = outcome(plan, seed)
    assert found.honest_bans == 0
    assert found.seconds is not None
    # A piece alone of each poisoner, at the most one in company besides, and what was under way.
    lies = 2 * max(plan.poisoners, found.bans) + 8
    assert found.failed <= lies
    assert found.wasted <= 1.5 * lies * plan.blocks * BLOCK


@pytest.mark.parametrize("row", ["public", "fastest", "endgame", "whole_pieces"])
def test_poisoners_cost_little_time(row: str) -> None:
    plan = small(row)
    found, quiet = outcome(plan), outcome(alone(plan))
    assert found.seconds is not None
    assert quiet.seconds is not None
    assert (quiet.bans, quiet.failed, quiet.wasted) == (0, 0, 0)
    assert found.seconds < 1.5 * quiet.seconds


def test_a_liar_that_comes_back_by_new_ports_has_ever_fewer_chances() -> None:
    plan = replace(small("returning_loopback"), pieces=400, pause=0.1)
    found = outcome(plan)
    assert found.seconds is not None
    assert found.seconds > 300  # they come back twice a second, each of them
    assert found.honest_bans == 0
    assert 10 <= found.bans <= 20
    assert found.failed <= 30


def test_figures_say_what_the_runs_were() -> None:
    plan = PoisoningPlan(pieces=10, blocks=1)
    runs = [Outcome(2.0, BLOCK, 1, 0, 3), Outcome(None, 3 * BLOCK, 3, 1, 5)]
    base = [Outcome(1.0), Outcome(1.0)]
    assert figures("row", plan, runs, base) == {
        "row_completed": 1,
        "row_honest_bans": 1,
        "row_bans": 4,
        "row_waste": 0.2,
        "row_waste_most": pytest.approx(0.3),
        "row_time": 2.0,
        "row_time_most": 2.0,
    }
