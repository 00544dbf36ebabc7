"""How much does a polite crawl find? A node that samples a DHT of light nodes (BEP 51).

    python scripts/lab_crawl.py --out crawl.csv
    python scripts/lab_crawl.py --hostile 0.2 --kinds inventor bomber follower

One whole node of ours crawls 2,000 light nodes, which know 20,000 torrents between them, in a
network in memory and on virtual time. Each torrent is known to the eight nodes closest to it; a
sample is 20 of a node's torrents, drawn anew after its interval (10 minutes, an hour or six).
Peers give the metadata by BEP 9. A share of the nodes, and of the torrents' peers, is dead;
another share of the nodes does not know BEP 51. Each node sees to it that it is not asked before
its interval is over: one that is ends the run.

With --hostile, a share of the nodes lies: lengths (samples of other lengths), inventor (90 made-up
infohashes each time), hasty and eternal (an interval of 0 or 10^9 s), braggart (an absurd number of
torrents), follower (names ids next to each target, where nobody is), bomber (infohashes whose
peers send too much, too slowly, or anything but metadata).

The CSV has a row for each hour: found, nodes (asked so far), named, waiting, queries (of the hour)
and the outcomes of what was looked at. Of the figures `found_share` is of all torrents,
`reachable_share` of those that have a peer and are told of by an honest node; `false` counts
entries of no torrent there is; `queries_s` is the mean and `peak` the most queries of the crawl in
any one second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dht_torrent.lab import run
from dht_torrent.lab.population.sampled import HOSTILE
from dht_torrent.lab.studies.crawling import HOUR, CrawlingPlan, crawling
from dht_torrent.lab.studies.study import Study, exit_code, parser, positive, share

MAX_NODES = 20_000
MAX_TORRENTS = 200_000
MAX_HOURS = 24 * 7
OUTCOMES = ("found", "no_peers", "unreachable", "no_metadata", "too_large", "malformed")


def main(argv: Sequence[str] | None = None) -> None:
    flags = parser(__doc__ or "", nodes=2000)
    flags.add_argument("--torrents", type=positive, default=20_000, help="default 20000")
    flags.add_argument("--hours", type=positive, default=24, help="virtual ones; default 24")
    flags.add_argument("--rate", type=float, default=20.0, help="queries a second; default 20")
    flags.add_argument("--dead", type=share, default=0.05, help="of nodes and peers; default 0.05")
    flags.add_argument("--deaf", type=share, default=0.2, help="do not know BEP 51; default 0.2")
    flags.add_argument("--hostile", type=share, default=0.0, help="nodes that lie; default 0")
    flags.add_argument("--kinds", nargs="+", choices=HOSTILE, default=list(HOSTILE))
    args = flags.parse_args(argv)
    if not 20 <= args.nodes <= MAX_NODES or args.torrents > MAX_TORRENTS or args.hours > MAX_HOURS:
        flags.error(
            f"from 20 to {MAX_NODES} --nodes, at most --torrents {MAX_TORRENTS}"
            f" and --hours {MAX_HOURS}"
        )
    if not 0 < args.rate <= 20:
        flags.error("--rate is above 0 and at most 20")
    study = Study(args)
    plan = CrawlingPlan(
        nodes=args.nodes,
        torrents=args.torrents,
        hours=args.hours,
        rate=args.rate,
        dead=args.dead,
        deaf=args.deaf,
        hostile=args.hostile,
        kinds=args.kinds,
    )
    with study.progress("hours", args.hours) as done:
        outcome = run.run(crawling, plan, done, seed=args.seed)
    for hour, status in enumerate(outcome.hours, 1):
        study.row(
            hour=hour,
            nodes=status.nodes,
            named=status.named,
            waiting=status.waiting,
            queries=status.queries_hour,
            **{name: status.outcomes.get(name, 0) for name in OUTCOMES},
        )
    seconds = args.hours * HOUR
    study.figures |= {
        "found": outcome.found,
        "found_share": outcome.found / outcome.torrents,
        "reachable_share": outcome.found / max(1, outcome.reachable),
        "false": outcome.false,
        "nodes_that_told": outcome.nodes,
        "queries": outcome.queries,
        "queries_s": outcome.queries / seconds,
        "peak": outcome.peak,
        "datagrams_s": outcome.datagrams / seconds,
        "asked_too_early": 0,  # or the run would have ended
    }
    study.report()


if __name__ == "__main__":
    sys.exit(exit_code(main))
