"""Swarms that find themselves by peer exchange alone, and liars among them; small ones here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import median

from dht_torrent.lab.run import run
from dht_torrent.lab.studies.exchange import Exchange, ExchangePlan, exchange

KIB = 1024
PLAN = ExchangePlan(
    nodes=12, size=1024 * KIB, piece_length=16 * KIB, up=32 * KIB, down=128 * KIB, look_at=60.0
)


def exchange_of(plan: ExchangePlan, seed: int = 1) -> Exchange:
    return run(partial(exchange, plan=plan), seed=seed)


def test_a_peer_that_knows_one_other_soon_knows_all_of_them() -> None:
    plan = replace(PLAN, nodes=24, size=256 * KIB)
    found = exchange_of(plan)
    assert len(found.seconds) == plan.nodes - 1
    assert min(found.known) >= 20


def test_liars_that_invent_a_thousand_peers_a_minute_change_little() -> None:
    slower, last = [], []  # over the same swarm without: who is unchoked when is a matter of luck
    for seed in (1, 2, 3):
        quiet = exchange_of(replace(PLAN, liars=4, invented=0), seed)
        liars = exchange_of(replace(PLAN, liars=4), seed)
        assert liars.told >= 4 * PLAN.nodes
        assert min(liars.known) == PLAN.nodes - 1
        slower.append(median(liars.seconds) / median(quiet.seconds))
        last.append(liars.seconds[-1] / quiet.seconds[-1])
    assert median(slower) <= 1.1
    assert median(last) <= 1.1


def test_the_same_seed_gives_the_same_exchange() -> None:
    small = replace(PLAN, nodes=6, liars=1, size=512 * KIB)
    assert exchange_of(small) == exchange_of(small)
    assert exchange_of(small) != exchange_of(small, seed=2)
