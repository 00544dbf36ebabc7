"""Are contents that have much in common found among many others, and called what they are?

    python scripts/lab_similar.py
    python scripts/lab_similar.py --entries 93000 --pairs 400 --out rows.csv
    python scripts/lab_similar.py --entries 5000 --loss 0.1

ENTRIES contents are in the eight trees of the index. PAIRS of them have a known share in common
with a content that asks (Jaccard similarity): a quarter of the pairs 0.8, a quarter 0.5, and the
others anything from 0.3 to 1. Trees, records and searches are the very code of a node; the DHT is
modelled, as in lab_search.py. Who searches knows nothing yet.

Rows: a search each: jaccard, kind (`0.8`, `0.5` or `any`), place (of the other one among the ten
results, from 1; nothing: it is not there), kinship (what it is called), estimate, results, gets
(slots that were read), records (that were looked up).

Figures: recall_80 and recall_50, the share found of pairs that have just this in common, and
recall_80_up and recall_50_up, of those of any with this or more; near_precision, how many of those
called near duplicates have four fifths in common, and near_recall, how many that have are called
so; estimate_error, the root of the mean square; gets_mean, gets_p90, records_mean.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence

from dht_torrent.lab.run import run
from dht_torrent.lab.studies.similarity import PairOutcome, SimilarityStudy, make_pair
from dht_torrent.lab.studies.study import Study, exit_code, parser, positive, quantile, share
from dht_torrent.search.sketch import CONTENT_TREES

MOST_ENTRIES = 1_000_000
MOST_HOLDERS = 1_000_000
NEAR = 0.8


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    study = Study(args)
    run(measure, study, args, seed=args.seed, is_last=True)
    study.report()


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__ or "")
    made.add_argument("--entries", type=positive, default=93_000, help="default 93000")
    made.add_argument("--pairs", type=positive, default=400, help="default 400")
    made.add_argument("--holders", type=positive, default=10_000, help="default 10000")
    made.add_argument("--loss", type=share, default=0.0, help="share of queries lost")
    args = made.parse_args(argv)
    if not 8 <= args.holders <= MOST_HOLDERS:
        made.error(f"--holders must be from 8 to {MOST_HOLDERS}")
    if not args.pairs <= args.entries <= MOST_ENTRIES:
        made.error(f"--entries must be from --pairs to {MOST_ENTRIES}")
    if args.loss > 0.5:
        made.error("--loss is 0.5 at most")
    return args


async def measure(rng: random.Random, study: Study, args: argparse.Namespace) -> None:
    kinds = ["0.8", "0.5", "any", "any"]
    pairs = [
        (kinds[number % 4], make_pair(drawn(kinds[number % 4], rng), rng))
        for number in range(args.pairs)
    ]
    lab = SimilarityStudy(rng, holders=args.holders, loss=args.loss)
    with study.progress("trees", CONTENT_TREES) as done:
        await lab.publish([pair for _, pair in pairs], args.entries - len(pairs), done)
    asked: list[tuple[str, PairOutcome]] = []
    with study.progress("searches", len(pairs)) as done:
        for kind, pair in pairs:
            asked.append((kind, await lab.ask(pair)))
            done(len(asked))
    for kind, one in asked:
        study.row(
            kind=kind,
            jaccard=one.jaccard,
            place=one.place,
            kinship=one.kinship,
            estimate=one.estimate,
            results=one.results,
            gets=one.gets,
            records=one.records,
        )
    study.figures |= {"entries": args.entries, "pairs": len(pairs)} | figures(asked)


def drawn(kind: str, rng: random.Random) -> float:
    return rng.uniform(0.3, 1.0) if kind == "any" else float(kind)


def figures(asked: Sequence[tuple[str, PairOutcome]]) -> dict[str, float]:
    """Of all searches."""
    every = [one for _, one in asked]
    wide = [one for kind, one in asked if kind == "any"]
    near = [one for one in every if one.kinship == "near duplicate"]
    wrong = sum(one.jaccard < NEAR for one in near) + sum(one.wrong for one in every)
    called = len(near) + sum(one.wrong for one in every)
    alike = [one for one in every if one.jaccard >= NEAR]
    errors = [one.estimate - one.jaccard for one in every if one.estimate is not None]
    gets = [one.gets for one in every]
    return {
        "recall_80": recall([one for kind, one in asked if kind == "0.8"]),
        "recall_50": recall([one for kind, one in asked if kind == "0.5"]),
        "recall_80_up": recall([one for one in wide if one.jaccard >= NEAR]),
        "recall_50_up": recall([one for one in wide if one.jaccard >= 0.5]),
        "near_precision": 1 - wrong / called if called else math.nan,
        "near_recall": sum(one in near for one in alike) / len(alike) if alike else math.nan,
        "estimate_error": math.sqrt(sum(error**2 for error in errors) / max(len(errors), 1)),
        "gets_mean": sum(gets) / len(gets),
        "gets_p90": quantile(gets, 0.9),
        "records_mean": sum(one.records for one in every) / len(every),
    }


def recall(asked: Sequence[PairOutcome]) -> float:
    return sum(one.place is not None for one in asked) / len(asked) if asked else math.nan


if __name__ == "__main__":
    sys.exit(exit_code(main))
