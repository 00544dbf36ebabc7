"""How long does a value last in the DHT after the node that put it has left?

    python scripts/lab_durability.py --median-life 900 3600 --keepers 0 1 3 --out durability.csv

In a DHT of NODES full nodes that come and go, on virtual time, LOOKUPS values of each kind
(immutable items, mutable items, announces) and for each number of keepers are put. Then those who
put them leave all at once, and each value is looked up at every age, once, from a node drawn at
random. Keepers are nodes like all others, and leave like them; until then they put the item again
by themselves, or announce the torrent too, every quarter of an hour, as its next peers. An announce
counts as found when any peer is named that ever announced it, be it gone or not: the question is
what the DHT keeps. Without keepers nothing lasts longer than its holders, nor than its time to live
(two hours for items, three quarters of an hour for announces).

Rows: median_life (seconds), age (minutes since the publisher left), kind, keepers, values (looked
up), found (share of them), keepers_left (those still there, on average).
Figures: for each of these groups, to which age at least 95 % of its values were always found (-1:
not even at first).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from dht_torrent.lab import run
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.churn import LAWS, Churn, Sessions, duration
from dht_torrent.lab.population.dhtnet import DhtNet
from dht_torrent.lab.studies.study import Study, exit_code, parser
from dht_torrent.lab.studies.values import KINDS, Kind, Value, announce_again, make, put

LATENCY = (0.01, 0.05)
"""Seconds one way."""
WARM_UP = 900.0
"""Seconds of churn before anything is put, so that tables hold the dead they usually hold."""
PUTTING = 120.0
"""Seconds over which values are put ..."""
PATIENCE = 180.0
"""... and after which their publishers leave, at last."""
LOOKING = 60.0
"""Seconds over which the lookups of one age are spread."""
LASTING = 0.95
MAX_KEEPERS = 64


@dataclass(slots=True)
class Group:
    """Values of a kind with so many keepers each."""

    kind: Kind
    keepers: int
    values: list[tuple[Value, list[int]]] = field(default_factory=list)
    """Each with who keeps it."""


async def simulate(
    rng: random.Random,
    args: argparse.Namespace,
    study: Study,
    life: float,
    tick: Callable[[], None],
) -> None:
    """One network; its rows go to the study."""
    async with trio.open_nursery() as nursery:
        network = DhtNet(rng, nursery, FakeNetwork(rng, latency=LATENCY))
        await network.grow(args.nodes)
        groups = [Group(kind, keepers) for kind in KINDS for keepers in args.keepers]
        publishers = [await network.add() for _ in groups]
        churn = Churn(network, Sessions.of(args.sessions, life), rng, stay=publishers)
        await nursery.start(churn.run)
        await trio.sleep(WARM_UP)
        for group, publisher in zip(groups, publishers, strict=True):
            for _ in range(args.lookups):
                value = make(group.kind, rng)
                able = [number for number in churn.settled() if number not in publishers]
                keepers = rng.sample(able, min(group.keepers, len(able)))
                group.values.append((value, keepers))
                nursery.start_soon(put_later, network, publisher, value, False, rng)
                for keeper in keepers:
                    nursery.start_soon(put_later, network, keeper, value, True, rng)
        await trio.sleep(PUTTING + PATIENCE)
        for publisher in publishers:
            network.kill(publisher)
        began = trio.current_time()
        for age in range(0, int(60 * args.hours) + 1, args.step):
            await trio.sleep_until(began + 60 * age)
            for group, found in zip(groups, await look_up(rng, churn, groups), strict=True):
                everyone = [number for _, keepers in group.values for number in keepers]
                study.row(
                    median_life=life,
                    age=age,
                    kind=group.kind,
                    keepers=group.keepers,
                    values=len(group.values),
                    found=found / len(group.values),
                    keepers_left=sum(number in network.nodes for number in everyone)
                    / len(group.values),
                )
            tick()
        nursery.cancel_scope.cancel()


async def put_later(
    network: DhtNet, number: int, value: Value, keep: bool, rng: random.Random
) -> None:
    """Put it some time soon, and keep it there if that is wanted."""
    await trio.sleep(rng.uniform(0, PUTTING))
    if number not in network.nodes:
        return
    await put(network, number, value, keep=keep)
    if keep:
        await announce_again(network, number, value)


async def look_up(rng: random.Random, churn: Churn, groups: Sequence[Group]) -> list[int]:
    """Look up each value once; how many of each group were found."""
    network = churn.network
    found = [0] * len(groups)

    async def look(place: int, value: Value, keepers: list[int], moment: float) -> None:
        await trio.sleep(moment)
        askers = [number for number in churn.settled() if number not in keepers]
        if askers and await value.find(network.nodes[rng.choice(askers)]):
            found[place] += 1

    async with trio.open_nursery() as nursery:
        for place, group in enumerate(groups):
            for value, keepers in group.values:
                nursery.start_soon(look, place, value, keepers, rng.uniform(0, LOOKING))
    return found


def summarise(study: Study) -> None:
    lasted: dict[str, int] = {}
    over: dict[str, None] = {}
    for row in study.rows:
        name = f"{row['median_life']:g}_s_{row['kind']}_{row['keepers']}_keepers_minutes"
        lasted.setdefault(name, -1)
        if float(row["found"] or 0) < LASTING:
            over[name] = None
        elif name not in over:
            lasted[name] = int(row["age"] or 0)
    study.figures.update(lasted)


def keepers(text: str) -> int:
    """For argparse."""
    number = int(text)
    if not 0 <= number <= MAX_KEEPERS:
        raise argparse.ArgumentTypeError(f"must be from 0 to {MAX_KEEPERS}")
    return number


def minutes(text: str) -> int:
    """For argparse."""
    number = int(text)
    if not 5 <= number <= 60:
        raise argparse.ArgumentTypeError("must be from 5 to 60")
    return number


def main(argv: Sequence[str] | None = None) -> None:
    flags = parser(__doc__ or "", nodes=200, lookups=20)
    flags.add_argument(
        "--median-life",
        type=duration,
        nargs="+",
        default=[900.0, 3600.0, 12000.0],
        metavar="SECONDS",
        help="default 900 3600 12000",
    )
    flags.add_argument("--sessions", choices=LAWS, default="exponential")
    flags.add_argument(
        "--keepers", type=keepers, nargs="+", default=[0, 1, 3], help="default 0 1 3"
    )
    flags.add_argument("--hours", type=duration, default=3.0, help="virtual ones; default 3")
    flags.add_argument(
        "--step", type=minutes, default=15, metavar="MINUTES", help="between ages; default 15"
    )
    args = flags.parse_args(argv)
    study = Study(args)
    ages = int(60 * args.hours) // args.step + 1
    ticks = 0
    with study.progress("ages", ages * len(args.median_life)) as done:

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            done(ticks)

        for life in args.median_life:
            run.run(partial(simulate, args=args, study=study, life=life, tick=tick), seed=args.seed)
    summarise(study)
    study.report()


if __name__ == "__main__":
    sys.exit(exit_code(main))
