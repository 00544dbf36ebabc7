"""How soon do all who follow a link know its new version, and does any of them ever go back?

    python scripts/lab_follow.py --nodes 500 --followers 50 --versions 8
    python scripts/lab_follow.py --median-life 900 --attackers 5 --out rows.csv

In a DHT of NODES full nodes that come and go, on virtual time, VERSIONS versions of one link are
published (BEP 46), GAP minutes apart, and FOLLOWERS follow it: each minute for half an hour after a
change, then ever less often, down to each ten minutes. Publisher and followers are the very code of
a node. Followers leave with the nodes they are on; they come back some minutes later on another
node, with what they had written down.

Of four versions one is published by somebody who has lost its records and its clock, and one by two
at the same time who know nothing of each other. ATTACKERS put old items of the link, whose
signatures are right, on all nodes near it, each every two minutes.

Rows: version, kind (plain, lost, two writers), follower, seconds (until it knew; since the version
was published, or since the follower came back if that was later; empty: not before the next one).

Figures: known (share of all that knew within a quarter of an hour), seconds_p50, seconds_p95,
seconds_max, went_back (followers that took something older), reused (sequence numbers used twice
by one publisher), split (followers that ended with another version than the others), stale (old
items that followers dropped).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence

from dht_torrent.lab import run
from dht_torrent.lab.population.churn import duration
from dht_torrent.lab.studies.following import FollowPlan, FollowStudy
from dht_torrent.lab.studies.study import Study, exit_code, parser, positive, quantile

SOON = 900.0
"""Seconds in which all should know."""
MOST_ATTACKERS = 20


def attackers(text: str) -> int:
    """For argparse."""
    number = int(text)
    if not 0 <= number <= MOST_ATTACKERS:
        raise argparse.ArgumentTypeError(f"must be from 0 to {MOST_ATTACKERS}")
    return number


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    flags = parser(__doc__ or "", nodes=500)
    flags.add_argument("--followers", type=positive, default=50, help="default 50")
    flags.add_argument("--versions", type=positive, default=8, help="default 8")
    flags.add_argument("--gap", type=duration, default=90.0, metavar="MINUTES", help="default 90")
    flags.add_argument(
        "--median-life", type=duration, default=3600.0, metavar="SECONDS", help="default 3600"
    )
    flags.add_argument("--attackers", type=attackers, default=2, help="default 2")
    return flags.parse_args(argv)


async def simulate(
    rng: random.Random, args: argparse.Namespace, done: Callable[[int], None]
) -> FollowStudy:
    plan = FollowPlan(
        nodes=args.nodes,
        followers=args.followers,
        gaps=[60 * args.gap] * args.versions,
        median=args.median_life,
        attackers=args.attackers,
    )
    study = FollowStudy(plan, rng)
    await study.run(done)
    return study


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    study = Study(args)
    with study.progress("versions", args.versions) as done:
        found = run.run(simulate, args, done, seed=args.seed)
    for one in found.known:
        study.row(version=one.version, kind=one.kind, follower=one.follower, seconds=one.seconds)
    times = [one.seconds for one in found.known if one.seconds is not None]
    study.figures.update(
        known=sum(time <= SOON for time in times) / max(1, len(found.known)),
        seconds_p50=quantile(times, 0.5),
        seconds_p95=quantile(times, 0.95),
        seconds_max=max(times, default=None),
        went_back=sum(one.went_back for one in found.followers),
        reused=found.reused,
        split=found.split,
        stale=sum(one.versions.stale for one in found.followers),
    )
    study.report()


if __name__ == "__main__":
    sys.exit(exit_code(main))
