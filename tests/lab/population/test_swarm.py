"""Real nodes on loopback, and every role does its part."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import trio

from dht_torrent.errors import InputError
from dht_torrent.lab.population.swarm import Cast, Kind, LabSwarm, Second

MIB = 1 << 20


def quiet(moment: Second) -> None:
    """Nobody looks."""


async def run(cast: Cast, folder: Path, patience: float = 30.0) -> LabSwarm:
    swarm = LabSwarm(cast, folder, random.Random(1))
    with trio.fail_after(40):
        await swarm.run(patience, quiet)
    return swarm


def test_roles_are_shares_of_the_leeches() -> None:
    cast = Cast(nodes=50, size=1, seeds=2, poisoners=3, kill=0.2, free_riders=0.4)
    kinds = cast.kinds(random.Random(1))
    assert Counter(kinds) == {
        Kind.SEED: 2,
        Kind.POISONER: 3,
        Kind.KILLED: 9,
        Kind.FREE_RIDER: 18,
        Kind.LEECH: 18,
    }
    assert kinds[:5] == [Kind.SEED] * 2 + [Kind.POISONER] * 3
    assert cast.kinds(random.Random(1)) == kinds != cast.kinds(random.Random(2))


@pytest.mark.parametrize(
    "cast",
    [
        Cast(nodes=1, size=1),
        Cast(nodes=5, size=1, seeds=0),
        Cast(nodes=5, size=1, poisoners=4),
        Cast(nodes=5, size=1, poisoners=-1),
        Cast(nodes=5, size=1, kill=1.0),
        Cast(nodes=5, size=1, kill=0.5, free_riders=0.5),
        Cast(nodes=1 << 40, size=1),
        Cast(nodes=5, size=1 << 60),
    ],
)
def test_a_swarm_that_cannot_be_is_refused(cast: Cast, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        LabSwarm(cast, tmp_path, random.Random(1))
    assert list(tmp_path.iterdir()) == []


async def test_leeches_find_the_seed_in_the_dht_and_copy_it(tmp_path: Path) -> None:
    swarm = await run(Cast(nodes=4, size=2 * MIB), tmp_path)
    assert swarm.wrong == []
    leeches = swarm.of(Kind.LEECH)
    assert all(leech.identical and leech.seconds is not None for leech in leeches)
    assert all(leech.counts[0] >= 2 * MIB for leech in leeches)
    assert not any(member.alive or member.vanished for member in swarm.members)
    (seed,) = swarm.of(Kind.SEED)
    assert seed.counts[0] == 0
    assert 2 * MIB <= seed.counts[1] <= 3 * 2 * MIB + MIB
    last = swarm.history[-1]
    assert (last.complete, last.alive) == (3, 4)


@pytest.mark.parametrize("up", [None, 1_500_000])
async def test_liars_are_banned_and_nobody_else_and_no_copy_suffers(
    tmp_path: Path, up: int | None
) -> None:
    """How often depends on how long it takes: a liar comes back from another port."""
    swarm = await run(Cast(nodes=5, size=4 * MIB, poisoners=2, up=up), tmp_path)
    assert swarm.wrong == []
    assert swarm.bans >= 1
    assert swarm.unjust_bans == 0
    assert any(leech.counts[2] > 0 for leech in swarm.of(Kind.LEECH))


async def test_a_node_that_is_to_vanish_does_so_before_it_is_complete(tmp_path: Path) -> None:
    swarm = await run(Cast(nodes=7, size=4 * MIB, kill=0.5), tmp_path)
    assert swarm.wrong == []
    killed = swarm.of(Kind.KILLED)
    assert len(killed) == 3
    assert all(member.vanished and member.seconds is None for member in killed)
    assert all(0 < member.pieces < 4 * MIB // (256 * 1024) for member in killed)


async def test_free_riders_upload_nothing_and_are_not_waited_for(tmp_path: Path) -> None:
    swarm = await run(Cast(nodes=6, size=2 * MIB, free_riders=0.4), tmp_path)
    assert swarm.wrong == []
    riders = swarm.of(Kind.FREE_RIDER)
    assert len(riders) == 2
    assert all(rider.counts[1] == 0 for rider in riders)


async def test_a_leech_without_a_copy_is_wrong_and_says_why(tmp_path: Path) -> None:
    swarm = await run(Cast(nodes=3, size=MIB, up=10_000), tmp_path, patience=0.0)
    assert swarm.wrong == swarm.of(Kind.LEECH)
    assert all("not complete in time" in leech.trouble for leech in swarm.wrong)


async def test_a_copy_that_differs_is_found(tmp_path: Path) -> None:
    swarm = LabSwarm(Cast(nodes=2, size=MIB), tmp_path, random.Random(1))
    (leech,) = swarm.of(Kind.LEECH)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(swarm.run, 30.0, quiet)
        with trio.fail_after(30):
            while leech.seconds is None:
                await trio.lowlevel.checkpoint()
        assert leech.torrent is not None
        assert leech.torrent.path is not None
        leech.torrent.path.write_bytes(b"spoiled")
    assert swarm.wrong == [leech]
    assert leech.trouble == "its copy differs from the content"
