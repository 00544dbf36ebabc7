"""Does a search in the index find what was published, and what does it cost the DHT?

    python scripts/lab_search.py --titles titles.tsv.gz --publishers 200 --queries 2000
    python scripts/lab_search.py --searchers 20 --cold --warm
    python scripts/lab_search.py --kill 0.3 --vandal 0.1 --out rows.csv
    python scripts/lab_search.py --prefixes 100 --writers 20
    python scripts/lab_search.py --compare 500 --publishers 20
    python scripts/lab_search.py --first 1000

PUBLISHERS nodes publish the titles of a file (lines of a name, a tab and a summary; without one a
sample of a thousand), and others search for QUERIES times one to three words that are drawn from a
title that is drawn. Publishers and searchers are the very code of a node; the DHT is modelled:
HOLDERS nodes hold items as nodes do, but there are no lookups and no datagrams, and a get is one
operation (lab/population/holders.py). What should be found is known by looking at every title.

SEARCHERS nodes take turns with the queries. Each knows what a node's catalogue has from its queries
before: how common words were, and what it has verified. Its searches are further apart than slots
are remembered, so each get is made anew; its first queries, which it asks knowing nothing, count as
well. In every phase the searchers are new ones.

--cold: all queries once more, each by a newcomer, who knows nothing.
--warm: all queries once more, by one node within minutes, which remembers slots as well.
--prefixes N: the beginning of a word, and one letter more, N times; and as many ranges of sizes and
of words, none with more than fifty.
--writers N: so many publishers put 50 entries each into the tree of one word at once.
--kill SHARE: so many of the holders vanish at once; searches before, and after publishers have
looked after their entries once. --kill-again SHARE: the same of those that are left then, as
publishing costs the most.
--vandal SHARE: somebody overwrites so many of all slots with the highest sequence number, so that
nobody can mend them before their epoch ends, and forges entries in the trees of a hundred words;
searches before, and after the epoch.
--compare NODES: instead, the titles on a network of full nodes with real datagrams in virtual time,
and on modelled holders, as many, asked by newcomers (a thousand titles on 500 nodes take half an
hour).
--first NODES: instead, a word that a tenth of so many full nodes have published: seconds to the
first result of a search from the others.

Rows: a query each: n (titles), phase, query, truth (titles it should find), found (of these),
recall (of a page of fifty), precision (of the first ten), results, verified, forged (verified, and
nobody said so), gets (lookups for slots), records (for publishers' records) and rounds (of gets
that wait for each other).

Figures: recall_50, precision_10 and so on, with the phase before the name but for the first;
entries_per_title, writes_per_entry (a slot is read and written; splits are included).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dht_torrent.errors import InputError
from dht_torrent.lab.population.holders import Holders
from dht_torrent.lab.run import run
from dht_torrent.lab.studies.search_nets import PEOPLE, compare, first_results
from dht_torrent.lab.studies.searching import QueryOutcome, SearchPlan, SearchStudy, write_at_once
from dht_torrent.lab.studies.study import Study, exit_code, parser, positive, quantile, share
from dht_torrent.lab.studies.titles import MOST, Corpus, read_titles

SAMPLE = Path(__file__).resolve().parent.parent / "tests" / "search" / "titles-1k.tsv.gz"
MOST_HOLDERS = 1_000_000
MOST_NODES = 5000
RANGE = 50
"""Most matches of a range."""
RANGE_GETS = 24
FORGED_WORDS = 100
EACH_WRITES = 50


def main(argv: Sequence[str] | None = None) -> None:
    args, texts = arguments(argv)
    study = Study(args)
    what = measure_first if args.first else measure_both if args.compare else measure
    run(what, study, args, texts, seed=args.seed, is_last=True)
    study.report()


def arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    made = parser(__doc__ or "")
    made.add_argument("--titles", type=Path, metavar="FILE", help="name<TAB>summary lines")
    made.add_argument("--count", type=positive, default=MOST, help="titles at most (all)")
    made.add_argument("--publishers", type=positive, default=200, help="default 200")
    made.add_argument("--queries", type=positive, default=2000, help="default 2000")
    made.add_argument("--holders", type=positive, default=10_000, help="default 10000")
    made.add_argument("--loss", type=share, default=0.0, help="share of queries lost")
    made.add_argument("--searchers", type=positive, default=20, help="default 20")
    made.add_argument("--cold", action="store_true", help="also by newcomers")
    made.add_argument("--warm", action="store_true", help="also by one who remembers slots")
    made.add_argument("--prefixes", type=positive, metavar="N")
    made.add_argument("--writers", type=positive, metavar="N")
    made.add_argument("--kill", type=share, default=0.0, metavar="SHARE")
    made.add_argument("--kill-again", type=share, default=0.0, metavar="SHARE")
    made.add_argument("--vandal", type=share, default=0.0, metavar="SHARE")
    made.add_argument("--compare", type=positive, metavar="NODES")
    made.add_argument("--first", type=positive, metavar="NODES")
    args = made.parse_args(argv)
    if not 8 <= args.holders <= MOST_HOLDERS:
        made.error(f"--holders must be from 8 to {MOST_HOLDERS}")
    if args.loss > 0.5:
        made.error("--loss is 0.5 at most")
    if (1 - args.kill) * (1 - args.kill_again) * args.holders < 8:
        made.error("--kill and --kill-again must leave eight holders")
    try:
        texts = read_titles(args.titles or SAMPLE, args.count)
    except InputError as error:
        made.error(f"--titles: {error}")
    for name in ("compare", "first"):
        if getattr(args, name) is not None and not 20 <= getattr(args, name) <= MOST_NODES:
            made.error(f"--{name} must be from 20 to {MOST_NODES}")
    args.titles = args.titles.name if args.titles else None
    return args, texts


async def measure(
    rng: random.Random, study: Study, args: argparse.Namespace, texts: Sequence[str]
) -> None:
    corpus = Corpus(texts, rng)
    plan = SearchPlan(publishers=args.publishers, holders=args.holders, loss=args.loss)
    lab = SearchStudy(plan, corpus, rng)
    queries = corpus.queries(args.queries, random.Random(f"queries {args.seed}"))

    async def ask(phase: str) -> None:
        with (
            told(f"{phase or 'first'} queries"),
            study.progress(f"{phase or 'first'} queries", len(queries)) as done,
        ):
            if phase == "cold":
                asked = await lab.ask(queries, done)
            elif phase == "warm":
                asked = await lab.ask(queries, done, by=lab.newcomer())
            else:
                asked = await lab.ask_in_turn(queries, done, args.searchers)
            record(study, phase, asked, len(corpus))

    with told("publishing"), study.progress("publishing", 1):
        await lab.publish()
    entries = await lab.entries()
    study.figures |= {"titles": len(corpus), "entries_per_title": entries / len(corpus)}
    study.figures["writes_per_entry"] = lab.writes() / entries
    await ask("")
    if args.cold:
        await ask("cold")
    if args.warm:
        await ask("warm")
    if args.prefixes:
        with told("prefixes and ranges"):
            await prefixes(study, lab, args.prefixes)
    if args.writers:
        with told("writers"):
            await writers(study, args, rng)
    for part, again in ((args.kill, ""), (args.kill_again, "_again")):
        if part:
            lab.holders.kill(part)
            await ask(f"killed{again}")
            with told("a period"):
                await lab.period()
            await ask(f"repaired{again}")
    if args.vandal:
        study.figures["burned_slots"] = lab.burn(args.vandal)
        words = [word for query in queries for word in query.split()]
        await lab.forge(dict.fromkeys(words[: 3 * FORGED_WORDS][:FORGED_WORDS]))
        await ask("vandal")
        with told("the next epoch"):
            await lab.next_epoch()
        await ask("epoch")


@contextmanager
def told(what: str) -> Iterator[None]:
    """Say on stderr what a phase took, so that hours are not silent."""
    began, used = time.monotonic(), time.process_time()
    yield
    took, cpu = time.monotonic() - began, time.process_time() - used
    sys.stderr.write(f"{what}: {took:.1f} s, {cpu:.1f} s of CPU\n")


async def measure_both(
    rng: random.Random, study: Study, args: argparse.Namespace, texts: Sequence[str]
) -> None:
    """On full nodes, and on the model."""
    corpus = Corpus(texts, rng)
    plan = SearchPlan(publishers=args.publishers, holders=args.compare)
    queries = corpus.queries(args.queries, random.Random(f"queries {args.seed}"))
    with study.progress("queries of full nodes", len(queries)) as done:
        full, modelled = await compare(rng, corpus, plan, queries, done)
    record(study, "", full, len(corpus))
    record(study, "model", modelled, len(corpus))
    gets = [sum(one.gets for one in asked) for asked in (full, modelled)]
    recall = [mean([one.recall for one in asked]) for asked in (full, modelled)]
    study.figures["recall_difference"] = recall[0] - recall[1]
    study.figures["gets_ratio"] = gets[0] / gets[1]


async def measure_first(
    rng: random.Random, study: Study, args: argparse.Namespace, texts: Sequence[str]
) -> None:
    """How long the first result takes."""
    with study.progress("searches", PEOPLE) as done:
        found = await first_results(rng, args.first, done)
    for one in found:
        study.row(phase="first result", seconds=one)
    seconds = [one for one in found if one is not None]
    study.figures |= {
        "found": len(seconds) / len(found),
        "first_p50": quantile(seconds, 0.5),
        "first_p95": quantile(seconds, 0.95),
    }


def record(study: Study, phase: str, asked: Sequence[QueryOutcome], titles: int) -> None:
    """The rows and figures of queries."""
    for one in asked:
        study.row(
            n=titles,
            phase=phase or "first",
            query=one.query,
            truth=one.truth,
            found=one.found,
            recall=one.recall,
            precision=one.precision,
            results=one.results,
            verified=one.verified,
            forged=one.forged,
            gets=one.gets,
            records=one.records,
            rounds=one.rounds,
        )
    before = f"{phase}_" if phase else ""
    gets = [one.gets for one in asked]
    figures = {
        "recall_50": mean([one.recall for one in asked]),
        "precision_10": mean([one.precision for one in asked]),
        "all_found": mean([one.recall == 1 for one in asked]),
        "verified": mean([one.verified / one.results for one in asked if one.results]),
        "forged": sum(one.forged for one in asked),
        "gets_mean": mean(gets),
        "gets_p50": quantile(gets, 0.5),
        "gets_p90": quantile(gets, 0.9),
        "records_mean": mean([one.records for one in asked]),
        "rounds_p95": quantile([one.rounds for one in asked], 0.95),
    }
    study.figures.update({before + name: value for name, value in figures.items()})


async def prefixes(study: Study, lab: SearchStudy, count: int) -> None:
    """Beginnings of words, and ranges."""
    vocabulary = [word for word in lab.corpus.vocabulary if len(word) >= 5 and word.isascii()]
    typed = [await lab.type_prefix(word) for word in lab.rng.choices(vocabulary, k=count)]
    for name, asked in (
        ("cold", [cold for cold, _ in typed]),
        ("warm", [warm for _, warm in typed]),
    ):
        gets = [one.gets for one in asked]
        study.figures |= {
            f"prefix_{name}_gets_p50": quantile(gets, 0.5),
            f"prefix_{name}_gets_p90": quantile(gets, 0.9),
            f"prefix_{name}_gets_max": max(gets),
            f"prefix_{name}_recall_50": mean([one.recall for one in asked]),
        }
        for one in asked:
            study.row(
                phase=f"prefix {name}",
                query=one.query,
                truth=one.truth,
                found=one.found,
                recall=one.recall,
                gets=one.gets,
                rounds=one.rounds,
            )
    sizes = sorted(title.size for title in lab.corpus.titles)
    ranges = []
    for _ in range(count):
        first = lab.rng.randrange(len(sizes))
        last = min(first + lab.rng.randrange(RANGE), len(sizes) - 1)
        ranges.append(await lab.ask_sizes(sizes[first], sizes[last], lab.newcomer()))
    study.figures["size_ranges_whole"] = mean([one.found == one.truth for one in ranges])
    study.figures["size_ranges_gets_p90"] = quantile([one.gets for one in ranges], 0.9)
    whole = []
    words = lab.corpus.vocabulary
    for _ in range(count):
        first = lab.rng.randrange(len(words))
        between = words[first : first + lab.rng.randint(1, RANGE)]
        found = await lab.words_between(between[0], between[-1], RANGE_GETS)
        whole.append(found.issuperset(between))
    study.figures["word_ranges_whole"] = mean(whole)


async def writers(study: Study, args: argparse.Namespace, rng: random.Random) -> None:
    holders = Holders(args.holders, rng, loss=args.loss)
    lost, left = await write_at_once(holders, args.writers, EACH_WRITES, rng)
    study.figures |= {
        "written_at_once": args.writers * EACH_WRITES,
        "lost_at_once": lost,
        "lost_after_a_period": left,
    }


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


if __name__ == "__main__":
    sys.exit(exit_code(main))
