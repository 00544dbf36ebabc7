"""Does a swarm find itself by peer exchange alone (BEP 11), and what do liars do to it?

    python scripts/lab_pex.py --out pex.csv
    python scripts/lab_pex.py --nodes 50 --liars 10 --runs 3 --json

Whole nodes in a network in memory, on virtual time. One node seeds, every other one is told of that
one alone, and there is no DHT. Three swarms for each run:

    honest      nobody else
    silent      --liars more that connect to everybody, want nothing and say nothing
    liars       the same, and each invents --invented peers a minute, to each node

The CSV has a row for each leech that was complete: variant, run (the seed of that one swarm),
seconds (virtual, until it was complete). Figures, of all runs: the fewest other nodes that anybody
knew after three minutes (`known`), the median and the last of the times, and the times with liars
over those without.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from statistics import median

from dht_torrent.bounds import MAX_MADE_PIECE, MIN_MADE_PIECE
from dht_torrent.engine.torrent.rate_limits import MAX_RATE
from dht_torrent.lab import run
from dht_torrent.lab.studies.exchange import ExchangePlan, exchange
from dht_torrent.lab.studies.study import Study, exit_code, parser, positive, size

MAX_NODES = 200
MAX_LIARS = 100
MAX_INVENTED = 1000
MAX_RUNS = 1000
MAX_MEMORY = 8 << 30
"""Bytes of all copies together."""
MIN_RATE = 1 << 10


def main(argv: Sequence[str] | None = None) -> None:
    flags = parser(__doc__ or "", nodes=50)
    flags.add_argument("--liars", type=positive, default=10, help="default 10")
    flags.add_argument("--invented", type=positive, default=1000, help="default 1000")
    flags.add_argument("--size", type=size, default=4 << 20, help="default 4MiB")
    flags.add_argument("--piece", type=size, default=32 << 10, help="default 32KiB")
    flags.add_argument("--up", type=size, default=64 << 10, help="bytes per second; default 64KiB")
    flags.add_argument("--runs", type=positive, default=1, help="seeds --seed and up; default 1")
    args = flags.parse_args(argv)
    if not 1 < args.nodes <= MAX_NODES or args.liars > MAX_LIARS or args.runs > MAX_RUNS:
        flags.error(f"2 to {MAX_NODES} --nodes, at most {MAX_LIARS} --liars, {MAX_RUNS} --runs")
    if args.invented > MAX_INVENTED:
        flags.error(f"at most --invented {MAX_INVENTED}")
    if args.nodes * args.size > MAX_MEMORY:
        flags.error(f"--nodes copies of --size are more than {MAX_MEMORY >> 30} GiB")
    if not MIN_RATE <= args.up <= MAX_RATE // 4:
        flags.error(f"--up is from {MIN_RATE} to {MAX_RATE // 4}")
    if not MIN_MADE_PIECE <= args.piece <= MAX_MADE_PIECE:
        flags.error(f"--piece is from {MIN_MADE_PIECE} to {MAX_MADE_PIECE}")
    study = Study(args)
    variants = {"honest": (0, 0), "silent": (args.liars, 0), "liars": (args.liars, args.invented)}
    times: dict[str, list[float]] = {name: [] for name in variants}
    known: dict[str, int] = dict.fromkeys(variants, MAX_NODES)
    with study.progress("swarms", len(variants) * args.runs) as done:
        for number in range(args.runs):
            for place, (name, (liars, invented)) in enumerate(variants.items()):
                plan = ExchangePlan(
                    nodes=args.nodes,
                    size=args.size,
                    piece_length=args.piece,
                    up=args.up,
                    down=4 * args.up,
                    liars=liars,
                    invented=invented,
                )
                found = run.run(partial(exchange, plan=plan), seed=args.seed + number)
                for seconds in found.seconds:
                    study.row(variant=name, run=args.seed + number, seconds=seconds)
                times[name] += found.seconds
                known[name] = min(known[name], *found.known)
                done(number * len(variants) + place + 1)
    for name, all_seconds in times.items():
        study.figures |= {f"{name}_known": known[name], f"{name}_complete": len(all_seconds)}
        if all_seconds:
            study.figures[f"{name}_median"] = median(all_seconds)
            study.figures[f"{name}_last"] = max(all_seconds)
    for other in ("honest", "silent"):
        if times["liars"] and times[other]:
            ratio = median(times["liars"]) / median(times[other])
            study.figures[f"liars_over_{other}"] = ratio
    study.report()


if __name__ == "__main__":
    sys.exit(exit_code(main))
