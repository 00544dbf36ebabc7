"""Is a poisoner found, and is nobody else banned? One honest seed, and poisoners around it.

    python scripts/lab_poison.py --runs 100 --out poison.csv
    python scripts/lab_poison.py --rows returning_loopback shared_address --poisoners 20

A leech, a whole node of ours, fetches from one honest seed and ten poisoners in a network in
memory, on virtual time. All of them say that they have everything and take 10 ms for a block; a
poisoner spoils one block of each piece. 100 pieces of 32 blocks; eight pieces may be open at once,
so that peers share pieces. The rows:

    loopback, public        all are ports of 127.0.0.1, or have a public address each
    returning_loopback, returning_public
                            who is thrown out comes back by a new port of its host
    shared_address          the seed is behind the same public address as the poisoners
    tenth, hundredth        a poisoner spoils that share of its blocks
    fastest                 a poisoner needs 2 ms for a block
    endgame                 12 pieces: nearly all of it is endgame
    whole_pieces            memory enough for a piece of each peer's own
    late_seed               loopback, and the leech hears of the seed after 10 s
    thirty                  three times the poisoners

The CSV has a row for each run: row, run (the seed of that run), seconds (virtual, until the leech
was complete; empty: it never was), base (the same without poisoners), wasted (payload bytes),
failed (pieces), honest_bans and bans. Of the figures `completed` counts runs, `honest_bans` adds
up, `bans` is a median, `waste` is over the size of the content and `time` over the time without
poisoners, each the median and the most.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from dht_torrent.lab import run
from dht_torrent.lab.studies.poisoning import ROWS, Outcome, alone, figures, poisoning
from dht_torrent.lab.studies.study import Study, exit_code, parser, positive

MAX_RUNS = 1000
MAX_POISONERS = 1000
MAX_PIECES = 1000


def main(argv: Sequence[str] | None = None) -> None:
    flags = parser(__doc__ or "")
    flags.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    flags.add_argument("--runs", type=positive, default=1, help="seeds --seed and up; default 1")
    flags.add_argument("--poisoners", type=positive, default=10, help="default 10")
    flags.add_argument("--pieces", type=positive, default=100, help="default 100")
    args = flags.parse_args(argv)
    if args.runs > MAX_RUNS or args.poisoners > MAX_POISONERS or args.pieces > MAX_PIECES:
        flags.error(
            f"at most --runs {MAX_RUNS}, --poisoners {MAX_POISONERS} and --pieces {MAX_PIECES}"
        )
    study = Study(args)
    rows = list(dict.fromkeys(args.rows))
    with study.progress("runs", len(rows) * args.runs) as done:
        count = 0
        for row in rows:
            plan = replace(
                ROWS[row],
                poisoners=ROWS[row].poisoners * args.poisoners // 10,
                pieces=min(ROWS[row].pieces, args.pieces),
            )
            runs: list[Outcome] = []
            base: list[Outcome] = []
            for seed in range(args.seed, args.seed + args.runs):
                runs.append(run.run(partial(poisoning, plan=plan), seed=seed))
                base.append(run.run(partial(poisoning, plan=alone(plan)), seed=seed))
                gc.collect()  # or all the copies of a hundred runs would pile up
                study.row(
                    row=row,
                    run=seed,
                    seconds=runs[-1].seconds,
                    base=base[-1].seconds,
                    wasted=runs[-1].wasted,
                    failed=runs[-1].failed,
                    honest_bans=runs[-1].honest_bans,
                    bans=runs[-1].bans,
                )
                count += 1
                done(count)
            study.figures |= figures(row, plan, runs, base)
    study.report()


if __name__ == "__main__":
    sys.exit(exit_code(main))
