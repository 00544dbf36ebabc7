"""How fast does the local catalogue take torrents in, and how fast does it find them?

    python scripts/bench/catalogue.py --rows 1000000 --seed 7 [--store postgresql] [--json]

Titles are made from a seed, of a vocabulary with Zipf's distribution: the most frequent word is in
a seventh of all titles. They go in as the engine does it, in batches, and ingest is what `put`
takes. Then one query after the other asks for one to three words of some title, whole or with the
last one cut short; some also limit size and date. The most frequent words, and the shortest
prefixes, are asked for as well, as kinds of their own that are not in the mix. Last, further rows
come as JSON lines, whose words are made on the way.

For PostgreSQL a server is started as Debian configures it, but for 512 MB of shared buffers, and it
does not listen on the network; it writes to the disk as it would anywhere. Or name one: `--url`, a
database that has no catalogue yet.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from table import percentile, table

sys.path.insert(0, str(Path(__file__).parents[2]))

from dht_torrent.catalogue import Catalogue, CatalogueQuery, Entry, Proof, Source
from dht_torrent.catalogue.lines import import_lines, write_line
from dht_torrent.catalogue.postgres import PostgresCatalogue
from dht_torrent.catalogue.sqlite import SqliteCatalogue
from dht_torrent.config import CatalogueConfig
from dht_torrent.search.words import title_words

BATCH = 5000
"""As in `engine.search.catalogue`."""
VOCABULARY = 200_000
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
FIRST_DAY, DAYS = 1_600_000_000, 2000
SOME = 10_000
MIX = "mix"


class Titles:
    """Titles of 2 to 12 words, of which some are remembered."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.some: list[list[str]] = []
        weights = range(len(LETTERS), 0, -1)
        words = dict.fromkeys(
            "".join(rng.choices(LETTERS, weights, k=rng.randint(2, 10)))
            for _ in range(2 * VOCABULARY)
        )
        self.words = sorted(words)
        rng.shuffle(self.words)
        self.words = [str(year) for year in range(1990, 2027)] + self.words[:VOCABULARY]
        rng.shuffle(self.words)
        self._sums = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(self.words))))

    def next(self) -> list[str]:
        count = min(12, 2 + int(self._rng.expovariate(0.3)))
        words = self._rng.choices(self.words, cum_weights=self._sums, k=count)
        if len(self.some) < SOME:
            self.some.append(words)
        elif self._rng.random() < 0.02:
            self.some[self._rng.randrange(SOME)] = words
        return words


def entries(titles: Titles, rng: random.Random, rows: int) -> Iterator[Entry]:
    for _ in range(rows):
        words = titles.next()
        yield Entry(
            infohash=rng.randbytes(20),
            title=" ".join(words).title(),
            words=" ".join(words),
            size=int(10 ** rng.uniform(4, 11)),
            files=1,
            published=FIRST_DAY + rng.randrange(DAYS * 86400),
            sources=Source.NETWORK,
            proof=Proof.VERIFIED,
        )


def queries(titles: Titles, rng: random.Random, count: int) -> Iterator[tuple[str, CatalogueQuery]]:
    """Of each kind in turn; all but the hard ones belong to the mix."""
    kinds = ("1 word", "2 words", "3 words", "prefix", "1 word and prefix", "words and limits")
    for number in range(count):
        kind = kinds[number % len(kinds)]
        wanted = {"1 word": 1, "2 words": 2, "3 words": 3, "prefix": 1}.get(kind, 2)
        asked: list[str] = []
        while len(asked) < wanted:  # a title with so many different words
            words = list(dict.fromkeys(rng.choice(titles.some)))
            asked = rng.sample(words, min(wanted, len(words)))
        prefix = "prefix" in kind
        if prefix:
            asked[-1] = asked[-1][: rng.randint(2, max(2, len(asked[-1]) - 1))]
        low = int(10 ** rng.uniform(4, 10)) if "limits" in kind else None
        yield (
            kind,
            CatalogueQuery(
                words=tuple(asked),
                prefix=prefix,
                min_size=low,
                max_size=None if low is None else 10 * low,
                since=None if low is None else FIRST_DAY + rng.randrange(DAYS * 86400),
            ),
        )
    hot = titles.words[:20]
    for first, second in itertools.pairwise(hot):
        yield "hardest: frequent words", CatalogueQuery(words=(first,))
        yield "hardest: frequent words", CatalogueQuery(words=(first, second))
        yield "hardest: with limits", CatalogueQuery(words=(first,), min_size=10**6, max_size=2**20)
    for letter in LETTERS:
        yield "hardest: one letter", CatalogueQuery(words=(letter,), prefix=True)


def ingest(catalogue: Catalogue, found: Iterator[Entry], rows: int) -> dict[str, float]:
    """Rows a second of the whole, and of its slowest tenth."""
    parts: list[tuple[int, float]] = []
    cpu = 0.0
    for day in range(0, rows, BATCH):
        batch = list(itertools.islice(found, BATCH))
        start, start_cpu = time.perf_counter(), time.process_time()
        catalogue.put(batch, FIRST_DAY + day)
        parts.append((len(batch), time.perf_counter() - start))
        cpu += time.process_time() - start_cpu
    tenth = max(1, len(parts) // 10)
    slowest = min(
        sum(count for count, _ in part) / sum(seconds for _, seconds in part)
        for at in range(0, len(parts) - tenth + 1, tenth)
        for part in [parts[at : at + tenth]]
    )
    seconds = sum(seconds for _, seconds in parts)
    return {
        "rows_per_second": rows / seconds,
        "rows_per_cpu_second": rows / cpu,
        "slowest_tenth_rows_per_second": slowest,
        "longest_batch_seconds": max(seconds for _, seconds in parts),
    }


def ask(
    catalogue: Catalogue, asked: Iterator[tuple[str, CatalogueQuery]]
) -> dict[str, dict[str, float]]:
    """Milliseconds of each kind of query, and how many found nothing."""
    times: dict[str, list[float]] = {}
    empty: dict[str, int] = {}
    for kind, query in asked:
        start = time.perf_counter()
        found = catalogue.search(query)
        taken = 1000 * (time.perf_counter() - start)
        for name in [kind] if kind.startswith("hardest") else [kind, MIX]:
            times.setdefault(name, []).append(taken)
            empty[name] = empty.get(name, 0) + (not found)
    return {
        kind: {
            "queries": len(taken),
            "empty": empty[kind],
            **{f"p{share}_ms": percentile(taken, share / 100) for share in (50, 95, 99)},
            "max_ms": max(taken),
        }
        for kind, taken in times.items()
    }


Opener = Callable[[], Catalogue]
NO_BOUND = CatalogueConfig(max_bytes=2**40, server_bytes=2**40)


@contextlib.contextmanager
def sqlite(folder: Path, url: str | None) -> Iterator[tuple[Opener, Callable[[], int], str]]:
    path = folder / "catalogue.sqlite"
    version = f"SQLite {sqlite3.sqlite_version}"
    yield lambda: SqliteCatalogue(path, NO_BOUND), lambda: path.stat().st_size, version


@contextlib.contextmanager
def postgresql(folder: Path, url: str | None) -> Iterator[tuple[Opener, Callable[[], int], str]]:
    import psycopg

    from tests.helpers import postgres

    process = None
    if url is None:
        if postgres.binaries() is None:
            sys.exit("PostgreSQL's server is not installed (Debian: postgresql); or use --url")
        folder.chmod(0o755)  # the server runs as another user than root
        place = folder / "server"
        place.mkdir()
        process = postgres.start(place, OPTIONS)
        url = f"postgresql://{postgres.SUPERUSER}@/postgres?host={place}"
    try:
        with psycopg.connect(url, autocommit=True) as db:
            if db.execute("SELECT to_regnamespace('dht_torrent')").fetchone() != (None,):
                sys.exit("this database has a catalogue")
            version = f"PostgreSQL {db.info.server_version // 10000}"

            def size() -> int:
                # What came last is in a list besides the index, which it joins by and by.
                db.execute("VACUUM ANALYZE")
                (found,) = db.execute(
                    """SELECT sum(pg_total_relation_size(oid)) FROM pg_class
                        WHERE relnamespace = 'dht_torrent'::regnamespace AND relkind = 'r'"""
                ).fetchone() or (0,)
                return int(found)

            yield (
                lambda: PostgresCatalogue(url, NO_BOUND, node=b"bench", clock=time.monotonic),
                size,
                version,
            )
            db.execute("DROP SCHEMA IF EXISTS dht_torrent CASCADE")
    finally:
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait()
            shutil.rmtree(place, ignore_errors=True)


OPTIONS = ["listen_addresses=", "shared_buffers=512MB"]
"""The manual advises a quarter of the memory for the second; 128 MB hold a third of a million."""
STORES = {"sqlite": sqlite, "postgresql": postgresql}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--lines", type=int, default=50_000, help="rows imported as JSON lines")
    parser.add_argument("--queries", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--store", choices=STORES, default="sqlite")
    parser.add_argument("--url", help="a PostgreSQL database to use, without a catalogue")
    parser.add_argument("--dir", type=Path, help="where to put the database")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    args = parser.parse_args()
    if args.rows < 1 or args.queries < 1:
        parser.error("at least one row and one query are needed")

    rng = random.Random(args.seed)
    titles = Titles(rng)
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as name,
        STORES[args.store](Path(name), args.url) as (opened, measure, version),
    ):
        catalogue = opened()
        came = ingest(catalogue, entries(titles, rng, args.rows), args.rows)
        catalogue.close()
        size = measure()
        catalogue = opened()
        found = ask(catalogue, queries(titles, rng, args.queries))
        lines = io.BytesIO(b"".join(map(write_line, entries(titles, rng, args.lines))))
        start = time.perf_counter()
        import_lines(catalogue, lines, title_words, FIRST_DAY)
        imported = args.lines / (time.perf_counter() - start)
        catalogue.close()
    figures = {
        "ingest_rows_per_second": came["rows_per_second"],
        "query_p95_ms": found[MIX]["p95_ms"],
        "imported_lines_per_second": imported,
        "bytes_per_row": size / args.rows,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items() if key != "url"}
        versions = {"store": version}
        everything = {"figures": figures, "ingest": came, "queries": found}
        print(json.dumps({"asked": asked, "versions": versions, **everything}))
        return
    print(f"{args.rows:,} rows, {size / 1e6:.0f} MB, {version}")
    print(
        f"ingest: {came['rows_per_second']:,.0f} rows/s ({came['rows_per_cpu_second']:,.0f} a CPU"
        f" second, slowest tenth {came['slowest_tenth_rows_per_second']:,.0f},"
        f" longest batch {came['longest_batch_seconds']:.2f} s);"
        f" {imported:,.0f} JSON lines/s"
    )
    rows = [
        [kind, str(times["queries"]), str(times["empty"])]
        + [f"{times[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms")]
        for kind, times in found.items()
    ]
    print(table(["milliseconds", "queries", "empty", "p50", "p95", "p99", "max"], rows))


if __name__ == "__main__":
    main()
