"""How does the time to fetch something grow with the number who want it, and what makes it so?

    python scripts/lab_swarm.py --out swarm.csv
    python scripts/lab_swarm.py --variants swarm server --nodes 64
    python scripts/lab_swarm.py --variants rarest random in_order --runs 3 --json

Whole nodes in a network in memory, on virtual time. All leeches begin at once; each can send --up
bytes per second and receive four times that. The variants, in groups that are to be compared:

    swarm, server                a swarm, and one seed that serves everybody alone; 2, 4, 8 ... and
                                 --nodes leeches; the seed is as fast as a leech
    allowed_fast                 a swarm of 16 where choked newcomers may have ten pieces (BEP 6);
                                 no other variant allows any
    rarest, random, in_order     which piece next; 16 leeches, the seed half as fast as a leech
    tit_for_tat, random_unchoke  whom to unchoke: whoever gives, or anybody; 16 leeches of which 4
                                 never upload, the seed four times as fast as a leech, and all at
                                 half the rate, for more rounds of choking
    endgame, no_endgame          whether the last blocks are asked for in several places; 4 leeches,
                                 a seed, and a second one that is a fortieth as fast

The CSV has a row for each leech: variant, leeches (how many there were), run (the seed of that one
swarm), leech (its number), gives (whether it uploads), seconds (virtual, until it was complete),
downloaded, uploaded and wasted (payload bytes; wasted came twice), and copies (what the seeds sent
to all, in sizes of the content). Figures are medians of the runs: `last` is when the last leech was
complete, `giver` and `rider` the median of those who upload and of those who do not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from dht_torrent.bounds import MAX_MADE_PIECE, MIN_MADE_PIECE
from dht_torrent.engine.torrent.rate_limits import MAX_RATE
from dht_torrent.errors import InputError
from dht_torrent.lab import run
from dht_torrent.lab.studies.ablations import VARIANTS, Result, figures, plan, sizes
from dht_torrent.lab.studies.spread import spread
from dht_torrent.lab.studies.study import Study, exit_code, parser, positive, size

MAX_NODES = 1000
MAX_RUNS = 1000
MAX_MEMORY = 8 << 30
"""Bytes of all copies in the largest swarm together."""
MIN_RATE = 1 << 10
"""Slower, and a block takes longer than anybody waits for it: it is asked for again for ever."""


def note(study: Study, result: Result) -> None:
    """A row for each leech."""
    for number, leech in enumerate(result.spread.leeches):
        study.row(
            variant=result.variant,
            leeches=result.leeches,
            run=result.seed,
            leech=number,
            gives=leech.gives,
            seconds=leech.seconds,
            downloaded=leech.downloaded,
            uploaded=leech.uploaded,
            wasted=leech.wasted,
            copies=result.copies,
        )


def main(argv: Sequence[str] | None = None) -> None:
    flags = parser(__doc__ or "", nodes=16)
    flags.add_argument("--size", type=size, default=4 << 20, help="default 4MiB")
    flags.add_argument("--piece", type=size, default=32 << 10, help="default 32KiB")
    flags.add_argument("--up", type=size, default=64 << 10, help="bytes per second; default 64KiB")
    flags.add_argument("--runs", type=positive, default=1, help="seeds --seed and up; default 1")
    flags.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    args = flags.parse_args(argv)
    if args.nodes > MAX_NODES or args.runs > MAX_RUNS:
        flags.error(f"at most --nodes {MAX_NODES} and --runs {MAX_RUNS}")
    if args.nodes * args.size > MAX_MEMORY:
        flags.error(f"--nodes copies of --size are more than {MAX_MEMORY >> 30} GiB")
    if not MIN_RATE <= args.up <= MAX_RATE:
        flags.error(f"--up is from {MIN_RATE} to {MAX_RATE}")
    if not MIN_MADE_PIECE <= args.piece <= MAX_MADE_PIECE:
        flags.error(f"--piece is from {MIN_MADE_PIECE} to {MAX_MADE_PIECE}")
    study = Study(args)
    todo = [
        (name, leeches, args.seed + number)
        for name in dict.fromkeys(args.variants)
        for leeches in sizes(VARIANTS[name], args.nodes)
        for number in range(args.runs)
    ]
    results: list[Result] = []
    try:
        with study.progress("leeches", sum(leeches for _, leeches, _ in todo)) as done:
            for name, leeches, seed in todo:
                swarm = plan(
                    VARIANTS[name], leeches, size=args.size, piece_length=args.piece, up=args.up
                )
                found = run.run(partial(spread, plan=swarm), seed=seed)
                results.append(Result(name, leeches, seed, args.size, found))
                note(study, results[-1])
                done(sum(result.leeches for result in results))
    except InputError as error:
        flags.error(str(error))
    study.figures |= figures(results)
    study.report()


if __name__ == "__main__":
    sys.exit(exit_code(main))
