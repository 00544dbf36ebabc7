"""How many hops, messages and seconds does a lookup take, and does it find what was stored?

    python scripts/lab_lookup.py --nodes 1000 --lookups 500 --out lookups.csv
    python scripts/lab_lookup.py --nodes 3000 --bootstraps 8 --settle 500
    python scripts/lab_lookup.py --dead 0.5     python scripts/lab_lookup.py --loss 0.2
    python scripts/lab_lookup.py --scale --lookups 300

NODES full nodes on virtual time bootstrap; then random ones announce torrents and put items, by
turns, and others look for them. With --scale there are no nodes: the same lookup code runs through
virtual networks of 1,000, 10,000, ... up to ten million (or the number given), whose answers are
computed from a sorted list of ids.

Rows: n (nodes), kind (peers: an announce; item: an immutable one), found, hops (from the searcher's
table to the farthest of the closest nodes: 1 if they were in it), asked and answered (nodes, with
retries), seconds (virtual, to the end of the search) and first (to the first value), stored (nodes
that confirmed the store: the k closest, and all others where the closest should be), overlap (of
the k nodes the search ended at, those the store chose; only for peers, for a search for an item
ends where one is found) and right (of the k nodes truly closest, those the store chose). With
--scale found means that the k closest that were found are the k closest there are, and right says
how many of them are.

Figures beside those: depth_min (splits of the deepest bucket), contacts_min and contacts_median
(live, in the tables, before the first value), datagrams_per_node (up to then).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence

import trio

from dht_torrent.lab.population.virtual import MOST, SIZES, LookupOutcome, VirtualNetwork
from dht_torrent.lab.run import collecting_rarely, run
from dht_torrent.lab.studies.lookups import LookupPlan, LookupStudy, Search, Tables
from dht_torrent.lab.studies.study import (
    Study,
    exit_code,
    parser,
    positive,
    quantile,
    seconds,
    share,
)

MOST_LOSS = 0.9


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    study = Study(args)
    if args.scale is None:
        run(measure, study, args, seed=args.seed, is_last=True)
    else:
        with collecting_rarely():
            scale(study, args)
    study.report()


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__ or "", nodes=1000, lookups=500)
    made.add_argument("--latency", type=seconds, default=0.05, metavar="S", help="one way, average")
    made.add_argument("--loss", type=share, default=0.0, help="share of datagrams lost")
    made.add_argument("--dead", type=share, default=0.0, help="share of nodes that vanish first")
    made.add_argument("--paths", type=positive, help="disjoint ways of stores and retries")
    made.add_argument("--bootstraps", type=positive, help="all come in through so many nodes")
    made.add_argument(
        "--settle", type=seconds, default=0.0, metavar="S", help="between bootstrap and first value"
    )
    made.add_argument(
        "--scale", type=positive, nargs="?", const=SIZES[-1], metavar="MAX", help="virtual networks"
    )
    args = made.parse_args(argv)
    for name in ("nodes", "loss", "dead", "bootstraps", "settle"):
        if args.scale is not None and getattr(args, name) != made.get_default(name):
            made.error(f"--{name} is nothing to --scale, whose networks are computed")
    if args.scale is not None and not 1 < args.scale <= MOST:
        made.error(f"--scale must be from 2 to {MOST}")
    if args.loss > MOST_LOSS:
        made.error(
            f"--loss is {MOST_LOSS} at most: beyond, nodes look for their first contact for ever"
        )
    if args.scale is None and args.nodes - int(args.dead * args.nodes) < 2:
        made.error("--nodes without the --dead must be at least 2")
    return args


async def measure(rng: random.Random, study: Study, args: argparse.Namespace) -> None:
    plan = LookupPlan(
        nodes=args.nodes,
        lookups=args.lookups,
        latency=args.latency,
        loss=args.loss,
        dead=args.dead,
        paths=args.paths,
        bootstraps=args.bootstraps,
        settle=args.settle,
    )
    async with trio.open_nursery() as nursery:
        lab = LookupStudy(plan, rng, nursery)
        with study.progress("nodes", plan.nodes) as done:
            tables = await lab.build(done)
        datagrams = lab.wire.stats.datagrams
        with study.progress("lookups", plan.lookups) as done:
            searches = await lab.search_all(done)
        nursery.cancel_scope.cancel()
    for search in searches:
        study.row(
            n=args.nodes,
            kind=search.kind,
            found=search.found,
            hops=search.hops,
            asked=search.asked,
            answered=search.answered,
            seconds=search.seconds,
            first=search.first,
            stored=search.stored,
            overlap=search.overlap,
            right=search.right,
        )
    study.figures.update(searched(searches), **known(tables))
    study.figures["datagrams_per_node"] = datagrams / args.nodes


def searched(searches: Sequence[Search]) -> dict[str, float]:
    """The figures of what was looked for."""
    overlaps = [search.overlap for search in searches if search.overlap is not None]
    ways: dict[str, Sequence[float]] = {
        "hops": [search.hops for search in searches],
        "asked": [search.asked for search in searches],
        "seconds": [search.seconds for search in searches],
        "first": [search.first for search in searches if search.first is not None],
    }
    return {
        "found": sum(search.found for search in searches) / len(searches),
        **{
            f"{name}_p{percent}": quantile(values, percent / 100)
            for name, values in ways.items()
            for percent in (50, 95)
        },
        "overlap_mean": mean(overlaps),
        "overlap_p5": quantile(overlaps, 0.05),
        "stored_mean": mean([search.stored for search in searches]),
        "right_mean": mean([search.right for search in searches]),
    }


def known(tables: Tables) -> dict[str, float]:
    """The figures of what nodes know."""
    return {
        "depth_min": min(tables.depth),
        "contacts_min": min(tables.contacts),
        "contacts_median": quantile(tables.contacts, 0.5),
    }


def scale(study: Study, args: argparse.Namespace) -> None:
    """Lookups in virtual networks of every size up to the largest wanted."""
    sizes = [size for size in SIZES if size < args.scale] + [args.scale]
    with study.progress("lookups", len(sizes) * args.lookups) as done:
        for place, size in enumerate(sizes):
            network = VirtualNetwork(size, args.seed, latency=args.latency)
            outcomes = []
            for number in range(args.lookups):
                outcomes.append(network.lookup(number, paths=args.paths or 1))
                done(place * args.lookups + number + 1)
            record(study, size, outcomes)


def record(study: Study, size: int, outcomes: Sequence[LookupOutcome]) -> None:
    for outcome in outcomes:
        study.row(
            n=size,
            kind="virtual",
            found=outcome.right == outcome.wanted,
            hops=outcome.hops,
            asked=outcome.asked,
            answered=outcome.answered,
            seconds=outcome.seconds,
            right=outcome.right,
        )
    study.figures[f"{size}_exact"] = mean([outcome.right == outcome.wanted for outcome in outcomes])
    for name, values in (
        ("hops", [outcome.hops for outcome in outcomes]),
        ("asked", [outcome.asked for outcome in outcomes]),
        ("seconds", [outcome.seconds for outcome in outcomes]),
    ):
        for percent in (50, 95):
            study.figures[f"{size}_{name}_p{percent}"] = quantile(values, percent / 100)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


if __name__ == "__main__":
    sys.exit(exit_code(main))
