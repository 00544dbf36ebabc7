"""Swarms in memory: everybody gets everything, as fast as the rates allow, and always the same."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from functools import partial

import pytest

from dht_torrent.config import TorrentConfig
from dht_torrent.lab.run import run
from dht_torrent.lab.studies.spread import Spread, SpreadPlan, spread
from dht_torrent.storage import MemoryStorage

KIB = 1024
PLAN = SpreadPlan(
    leeches=4, size=512 * KIB, piece_length=32 * KIB, seeds=[64 * KIB], up=64 * KIB, down=256 * KIB
)


def spread_of(plan: SpreadPlan, seed: int = 1) -> Spread:
    return run(partial(spread, plan=plan), seed=seed)


def test_every_leech_completes_and_none_sooner_than_the_seed_could_send_one_copy() -> None:
    found = spread_of(PLAN)
    times = found.seconds()
    assert len(times) == 4
    assert 8.0 < times[0] <= times[-1] < 4 * 8.0
    assert found.seeds_uploaded >= PLAN.size
    sent = found.seeds_uploaded + sum(leech.uploaded for leech in found.leeches)
    received = sum(leech.downloaded for leech in found.leeches)
    assert received <= sent
    assert received - sum(leech.wasted for leech in found.leeches) == 4 * PLAN.size


def test_the_same_seed_gives_the_same_swarm_and_another_one_another() -> None:
    first = asdict(spread_of(PLAN))
    assert asdict(spread_of(PLAN)) == first
    assert asdict(spread_of(PLAN, seed=2)) != first


def test_if_no_leech_gives_the_seed_sends_every_copy_itself() -> None:
    found = spread_of(replace(PLAN, free_riders=4))
    assert found.seconds() == []
    assert found.seconds(gives=False)[-1] == pytest.approx(4 * 8.0, rel=0.1)
    assert all(leech.uploaded == 0 for leech in found.leeches)
    assert found.seeds_uploaded == pytest.approx(4 * PLAN.size, rel=0.01)


def test_only_the_free_riders_give_nothing() -> None:
    found = spread_of(replace(PLAN, free_riders=1, leeches=5))
    assert sorted(leech.uploaded == 0 for leech in found.leeches) == [False] * 4 + [True]
    assert all((leech.uploaded > 0) == leech.gives for leech in found.leeches)


def test_a_leech_that_is_not_complete_in_time_has_no_time() -> None:
    found = spread_of(replace(PLAN, patience=4.0))
    assert [leech.seconds for leech in found.leeches] == [None] * 4
    assert all(0 < leech.downloaded < PLAN.size for leech in found.leeches)


def test_the_leeches_policy_is_the_one_of_the_plan() -> None:
    blind = TorrentConfig(unchoke_slots=0, optimistic_slots=5)
    base = replace(PLAN, leeches=6, size=256 * KIB)
    usual = spread_of(base)
    assert spread_of(replace(base, torrent=blind)) != usual
    assert spread_of(replace(base, sequential=True)) != usual


def test_a_copy_that_differs_does_not_go_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MemoryStorage.write

    def careless(self: MemoryStorage, offset: int, data: bytes | bytearray | memoryview) -> None:
        spoil = len(data) < PLAN.size and random.Random(offset).random() < 0.5
        whole(self, offset, bytes(len(data)) if spoil else data)

    monkeypatch.setattr(MemoryStorage, "write", careless)
    with pytest.raises(RuntimeError, match="differs"):
        spread_of(replace(PLAN, leeches=1))
