"""The variants differ as their names say, and what they show is what the field has long known."""

from __future__ import annotations

from functools import partial

import pytest

from dht_torrent.lab.run import run
from dht_torrent.lab.studies.ablations import COMPARED, VARIANTS, Result, figures, plan, sizes
from dht_torrent.lab.studies.spread import Leech, Spread, spread

KIB = 1024


def swarm(variant: str, leeches: int) -> Result:
    size = 256 * KIB
    one = plan(VARIANTS[variant], leeches, size=size, piece_length=16 * KIB, up=64 * KIB)
    return Result(variant, leeches, 1, size, run(partial(spread, plan=one), seed=1))


def result(
    variant: str, leeches: int, *seconds: float, riders: tuple[float, ...] = (), seed: int = 1
) -> Result:
    crowd = [Leech(True, one) for one in seconds] + [Leech(False, one) for one in riders]
    return Result(variant, leeches, seed, 100, Spread(crowd, 250))


@pytest.mark.parametrize("pair", COMPARED)
def test_two_variants_that_are_compared_differ_in_one_thing(pair: tuple[str, str]) -> None:
    one, other = (VARIANTS[name] for name in pair)
    assert (one.seeds, one.pace) == (other.seeds, other.pace)
    same = [
        one.free_riders == other.free_riders,
        one.sequential == other.sequential,
        one.allowed_fast == other.allowed_fast,
        one.torrent == other.torrent,
    ]
    assert same.count(False) == 1


def test_sizes_double_up_to_the_largest() -> None:
    assert sizes(VARIANTS["swarm"], 32) == [2, 4, 8, 16, 32]
    assert sizes(VARIANTS["server"], 20) == [2, 4, 8, 16, 20]
    assert sizes(VARIANTS["swarm"], 1) == [1]
    assert sizes(VARIANTS["rarest"], 64) == [16]
    assert sizes(VARIANTS["rarest"], 3) == [3]


def test_a_plan_has_the_rates_of_its_variant() -> None:
    made = plan(VARIANTS["tit_for_tat"], 16, size=100, piece_length=10, up=1000)
    assert list(made.seeds) == [2000]
    assert (made.up, made.down, made.free_riders) == (500, 2000, 4)


def test_figures_are_medians_over_seeds() -> None:
    runs = [result("swarm", 2, 5.0, last, seed=seed) for seed, last in enumerate((10, 30, 20))]
    assert figures(runs) == {"swarm_2_last": 20, "swarm_2_copies": 2.5}


def test_growth_is_an_exponent_and_seconds_per_doubling() -> None:
    ends = [("server", 2, 10.0), ("server", 8, 40.0), ("swarm", 2, 10.0), ("swarm", 8, 14.0)]
    found = figures([result(variant, leeches, last) for variant, leeches, last in ends])
    assert found["server_exponent"] == pytest.approx(1.0)
    assert found["server_seconds_per_doubling"] == pytest.approx(15.0)
    assert found["swarm_seconds_per_doubling"] == pytest.approx(2.0)
    assert found["server_over_swarm"] == pytest.approx(40 / 14)


def test_givers_and_riders_are_told_apart() -> None:
    found = figures([result("tit_for_tat", 4, 10.0, 12.0, 14.0, riders=(24.0,))])
    assert found["tit_for_tat_4_giver"] == 12.0
    assert found["tit_for_tat_4_rider"] == 24.0
    assert found["tit_for_tat_rider_over_giver"] == 2.0
    assert found["tit_for_tat_4_last"] == 24.0


def test_what_ran_alone_is_compared_with_nothing() -> None:
    assert not any("over" in name for name in figures([result("in_order", 4, 1.0)]))


def test_a_swarm_is_faster_than_a_server_and_leaves_the_seed_less_to_do() -> None:
    shared, alone = swarm("swarm", 6), swarm("server", 6)
    assert alone.last == pytest.approx(6 * 4.0, rel=0.1)
    assert shared.last < alone.last / 2
    assert shared.copies < alone.copies / 2


def test_rarest_first_needs_less_of_a_slow_seed_than_pieces_in_order() -> None:
    rarest, in_order = swarm("rarest", 6), swarm("in_order", 6)
    assert rarest.last < 0.8 * in_order.last
    assert rarest.copies < 0.8 * in_order.copies


def test_the_endgame_does_not_wait_for_the_slowest() -> None:
    assert swarm("endgame", 4).last < 0.7 * swarm("no_endgame", 4).last
