"""The PostgreSQL catalogue: it agrees with SQLite's, several nodes share it, and it outlives a
server that goes away.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dht_torrent.catalogue import (
    Catalogue,
    CatalogueQuery,
    Entry,
    ListedFile,
    OutboxEntry,
    Proof,
    PublisherTrust,
    PutResult,
    Source,
    SwarmHealth,
    TitleClaim,
    postgres_schema,
    postgres_search,
)
from dht_torrent.catalogue.postgres import PostgresCatalogue
from dht_torrent.catalogue.postgres_rows import merged
from dht_torrent.catalogue.postgres_server import ServerUrl
from dht_torrent.catalogue.sqlite import SqliteCatalogue
from dht_torrent.config import CatalogueConfig
from dht_torrent.errors import InputError, StorageError
from tests.helpers.catalogues import ALICE, BOB, claim, entry, infohash
from tests.helpers.databases import NODE, OTHER, Database, Door
from tests.helpers.examples import examples
from tests.helpers.postgres import KEYED, PASSWORD

pytestmark = pytest.mark.postgresql

TITLE = CatalogueQuery(words=("title",), limit=1000)
DAY = 86400


@pytest.fixture
def opened(database: Database) -> Iterator[Callable[..., PostgresCatalogue]]:
    """Opens catalogues of the database, and closes them when the test is over."""
    with contextlib.ExitStack() as stack:

        def open_one(node: bytes = NODE, url: str | None = None, **given: Any) -> PostgresCatalogue:
            config = given.pop("config", CatalogueConfig())
            more = {"clock": time.monotonic, **given}
            catalogue = PostgresCatalogue(url or database.url, config, node=node, **more)
            stack.callback(catalogue.close)
            return catalogue

        yield open_one


Opened = Callable[..., PostgresCatalogue]


# -- as SQLite's --------------------------------------------------------------------------------


def agree(postgres: Catalogue, sqlite: Catalogue, query: CatalogueQuery) -> None:
    """They find the same in the same order, by the same measure; but how rare a beginning is, when
    nothing else is asked for, is of no consequence, and not counted."""
    first, second = postgres.search(query), sqlite.search(query)
    assert [one.infohash for one in first] == [one.infohash for one in second]
    scaled = first and query.prefix and len(query.words) == 1
    scale = first[0].relevance / second[0].relevance if scaled else 1
    for one, other in zip(first, second, strict=True):
        assert one.relevance == pytest.approx(scale * other.relevance, rel=1e-6)


def test_the_ranking_is_sqlites(opened: Opened) -> None:
    rng = random.Random(11)
    words = [f"{chr(97 + number % 26)}w{number}" for number in range(60)]
    weights = [1 / (rank + 1) for rank in range(60)]
    shelf = [
        entry(
            number,
            words=" ".join(rng.choices(words, weights, k=rng.randint(1, 9))),
            more=" ".join(rng.choices(words, k=rng.choice([0, 0, 5]))),
            size=rng.choice([None, 10, 1000]),
            published=rng.choice([None, 10, 1000]),
        )
        for number in range(400)
    ]
    postgres, sqlite = opened(), SqliteCatalogue(None)
    for catalogue in (postgres, sqlite):
        catalogue.put(shelf, now=1)
        catalogue.forget([infohash(number) for number in range(0, 400, 7)], Source.NETWORK)
        catalogue.put([replace(one, words="aw0 aw0 new", proof=2) for one in shelf[:50]], now=2)  # type: ignore[arg-type]
    for _ in range(120):
        asked = tuple(rng.choices(words, weights, k=rng.randint(1, 3)))
        prefix = rng.random() < 0.4
        if prefix:
            asked = (*asked[:-1], asked[-1][: rng.randint(1, 2)])
        limit: dict[str, int] = rng.choice([{}, {"min_size": 100}, {"until": 500, "max_size": 500}])
        agree(postgres, sqlite, CatalogueQuery(words=asked, prefix=prefix, **limit))
    sqlite.close()


def test_of_very_many_matches_the_same_are_ranked_as_by_sqlite(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a run of the index has."""
    config = CatalogueConfig(max_ranked=150, max_looked_at=400)
    postgres, sqlite = opened(config=config), SqliteCatalogue(None, config)
    rng = random.Random(5)
    shelf = [
        entry(
            number,
            words=" ".join(
                word
                for word, share in (("often", 0.5), ("some", 0.05), ("few", 0.02), ("early", 1))
                if rng.random() < share and (word != "early" or number < 9000)
            )
            or "none",
            size=rng.randrange(100),
        )
        for number in range(3 << min(postgres_schema.RUNS.values()))
    ]
    for start in range(0, len(shelf), 5000):
        for catalogue in (postgres, sqlite):
            catalogue.put(shelf[start : start + 5000], now=start)
    asked: list[list[int]] = []
    search = postgres_search.best

    def best(*given: Any) -> Any:
        found = search(*given)
        asked.append([number for number, _ in found])
        return found

    monkeypatch.setattr(postgres_search, "best", best)
    for words in (["often"], ["some"], ["few"], ["early"], ["often", "early"], ["some", "few"]):
        for most in (None, 30, 0):
            query = CatalogueQuery(words=tuple(words), max_size=most)
            agree(postgres, sqlite, query)
            agree(postgres, sqlite, replace(query, words=(*words[:-1], words[-1][:3]), prefix=True))
    assert len(asked) == 36
    sqlite.close()


@given(st.integers(1, 2**26), st.floats(1, 2**26), st.integers(1, 2**26))
def test_few_marks_have_the_newest_rows_and_not_many_more(
    end: int, rows: float, rarest: int
) -> None:
    begin, marks = postgres_search.newest(end, rows, rarest)
    if not marks:
        assert begin == 0
        return
    kind = marks[0][2]
    runs = [int(mark[3:-1]) for mark in marks]
    assert [mark[:3] for mark in marks] == [f"'#{kind}"] * len(marks)
    bits = postgres_schema.RUNS[kind]
    assert runs == list(range(begin >> bits, ((end - 1) >> bits) + 1))
    assert begin == runs[0] << bits
    assert begin <= end - rows
    assert len(marks) <= 9
    if rows < rarest and bits > 13:
        assert (end - begin) < 2 * rows + 2**15
    else:
        assert rows < rarest or 2**bits > rarest


entries = st.builds(
    entry,
    st.just(1),
    st.sampled_from(["One", "Two words", "Three"]),
    sources=st.sampled_from([Source.OWN, Source.NETWORK, Source.IMPORT]),
    proof=st.sampled_from(Proof),
    size=st.sampled_from([None, 1, 2]),
    published=st.sampled_from([None, 5, 6]),
    more=st.sampled_from(["", "more", "other"]),
    tags=st.sampled_from([(), ("tag",)]),
    listed=st.sampled_from([(), (ListedFile("a", 1),), (ListedFile("b", 2),)]),
    claims=st.lists(
        st.builds(
            TitleClaim,
            st.sampled_from([ALICE, BOB]),
            st.sampled_from(["a", "b"]),
            st.integers(0, 2),
            st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(entries, min_size=1, max_size=3), st.booleans())
def test_entries_of_one_torrent_are_merged_as_by_sqlite(
    opened: Opened, given: list[Entry], together: bool
) -> None:
    postgres, sqlite = opened(), SqliteCatalogue(None)
    everywhere = Source.OWN | Source.NETWORK | Source.IMPORT
    postgres.forget([infohash(1)], everywhere)
    for number, one in enumerate(given):
        sqlite.put([one], now=7)
        if not together:
            assert postgres.put([one], now=7) == PutResult(number == 0, number > 0)
    if together:
        assert postgres.put(given, now=7) == PutResult(1, len(given) - 1)
    found = postgres.get(infohash(1))
    assert found == sqlite.get(infohash(1))
    assert found is not None
    one = given[0]
    for other in given[1:]:
        one = merged(one, other)
    assert (one.title, one.size, one.sources) == (found.title, found.size, found.sources)
    for close in (postgres, sqlite):
        close.close()


# -- the index and the counts -------------------------------------------------------------------


def check_whole(database: Database) -> None:
    """The counts are as if made anew, and no row belongs to a torrent that is not there."""
    with database.admin() as db:
        db.execute(f"SET search_path = {postgres_schema.SCHEMA}")
        assert (
            db.execute("SELECT torrents, tokens FROM total").fetchone()
            == db.execute("SELECT count(*), coalesce(sum(tokens), 0) FROM torrent").fetchone()
        )
        assert db.execute("SELECT word, torrents FROM lexeme ORDER BY word").fetchall() == (
            db.execute(
                """SELECT word COLLATE "C" AS word, count(*) FROM (SELECT
                    unnest(tsvector_to_array(lexemes(words, more))) AS word FROM torrent) w
                    GROUP BY 1 ORDER BY 1"""
            ).fetchall()
        )
        for table in ("own", "file", "claim", "health"):
            orphans = f"SELECT 1 FROM {table} WHERE torrent NOT IN (SELECT id FROM torrent)"
            assert db.execute(orphans).fetchall() == []
        (used,) = db.execute("SELECT bytes FROM total").fetchone() or (0,)
        (rows,) = db.execute(
            f"""SELECT coalesce(sum({postgres_schema._ROW}), 0)
                + {postgres_schema.FILE_BYTES} * (SELECT count(*) FROM file)
                + {postgres_schema.CLAIM_BYTES} * (SELECT count(*) FROM claim) FROM torrent"""
        ).fetchone() or (0,)
        assert used == rows


def test_counts_and_rows_keep_in_step_whatever_happens(opened: Opened, database: Database) -> None:
    rng = random.Random(3)
    catalogue = opened(config=CatalogueConfig(server_bytes=60_000))
    for step in range(60):
        catalogue.put(
            [
                entry(
                    *(rng.randrange(300), f"Title {rng.randrange(50)} word{rng.randrange(9)}"),
                    proof=Proof(rng.randrange(3)),
                    more=f"more{rng.randrange(9)} #{rng.randrange(3)} a#b",
                    listed=(ListedFile("a", 1),) * rng.randrange(3),
                    claims=tuple(claim(key) for key in (ALICE, BOB) if rng.random() < 0.5),
                    sources=rng.choice([Source.NETWORK, Source.NETWORK, Source.OWN]),
                )
                for _ in range(20)
            ],
            now=step,
        )
        catalogue.set_health({infohash(rng.randrange(300)): SwarmHealth(1, 2, 3, "bep33")})
        gone = [infohash(rng.randrange(300)) for _ in range(10)]
        catalogue.forget(gone, Source.NETWORK | rng.choice([Source.OWN, Source.NONE]))
        if step == 30:
            catalogue.set_trust(BOB, PublisherTrust.BLOCKED, now=1)
    check_whole(database)
    assert catalogue.summary().torrents > 20
    catalogue.forget([infohash(number) for number in range(300)], Source.OWN | Source.NETWORK)
    assert catalogue.summary().bytes == 0
    check_whole(database)


def test_a_mark_of_the_index_is_not_a_word(opened: Opened) -> None:
    catalogue = opened()
    catalogue.put([entry(1, words="plain"), entry(2, words="#0 c#")], now=1)
    for word, found in (("#0", [2]), ("##0", []), ("c#", [2]), ("#", []), ("c##", [])):
        query = CatalogueQuery(words=(word,))
        assert [one.infohash for one in catalogue.search(query)] == [infohash(n) for n in found]
    for word, found in (("#", [2]), ("c#", [2]), ("##", [])):
        query = CatalogueQuery(words=(word,), prefix=True)
        assert [one.infohash for one in catalogue.search(query)] == [infohash(n) for n in found]


def test_the_size_told_is_about_what_the_database_takes(opened: Opened, database: Database) -> None:
    rng = random.Random(2)
    vocabulary = [f"word{number}" for number in range(3000)]
    catalogue = opened()
    for start in range(0, 10_000, 5000):
        catalogue.put(
            [
                entry(
                    start + number, " ".join(rng.choices(vocabulary, k=6)), claims=(claim(ALICE),)
                )
                for number in range(5000)
            ],
            now=start,
        )
    with database.admin() as db:
        (taken,) = db.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relnamespace = %s::regnamespace AND relkind = 'r'",
            (postgres_schema.SCHEMA,),
        ).fetchone() or (0,)
    assert catalogue.summary().bytes == pytest.approx(float(taken), rel=0.35)


def test_what_a_node_shares_is_never_evicted_and_the_unproved_goes_first(
    opened: Opened, database: Database
) -> None:
    most = 2_000_000
    first = opened(config=CatalogueConfig(server_bytes=most))
    second = opened(OTHER, config=CatalogueConfig(server_bytes=most))
    first.put([entry(n, f"Ours {n}", sources=Source.OWN) for n in range(100)], now=1)
    second.put([entry(100 + n, f"Ours {n}", sources=Source.OWN) for n in range(100)], now=1)
    first.put([entry(1000 + n, f"Proved {n}", proof=Proof.VERIFIED) for n in range(500)], now=1)
    kept = [entry(2000 + n, f"Kept {n}") for n in range(100)]
    first.put(kept, now=1)
    counts, sizes = [], []
    for step in range(20):
        first.put([entry(10_000 + 500 * step + n, f"Title step{step}") for n in range(500)], now=2)
        first.put(kept, now=(step + 2) * 2 * DAY)  # seen again and again
        counts.append(first.summary().torrents)
        sizes.append(first.summary().bytes)
    for words, found in (("ours", 200), ("proved", 500), ("kept", 100), ("step0", 0)):
        assert len(first.search(CatalogueQuery(words=(words,), limit=1000))) == found
    assert max(sizes) < 1.2 * most
    assert min(counts[12:]) > 3000  # it is kept full, not emptied
    check_whole(database)


# -- several nodes ------------------------------------------------------------------------------


def test_two_nodes_on_one_database_publish_and_share_apart(opened: Opened) -> None:
    first, second = opened(NODE), opened(OTHER)
    first.put([entry(1, sources=Source.OWN, published=5, tags=("one",)), entry(3)], now=1)
    second.put([entry(1, sources=Source.OWN), entry(2, sources=Source.OWN)], now=2)
    mine, theirs = first.get(infohash(1)), second.get(infohash(1))
    assert mine is not None
    assert theirs is not None
    assert (mine.sources, mine.published, mine.tags) == (Source.OWN, 5, ("one",))
    assert (theirs.sources, theirs.published, theirs.tags) == (Source.OWN, None, ())
    other = first.get(infohash(2))
    assert other is not None
    assert other.sources == Source.NETWORK  # for the one that does not share it
    for catalogue, own, network in ((first, [1], [3, 2]), (second, [1, 2], [3])):
        found, _ = catalogue.page(source=Source.OWN)
        assert [one.infohash for one in found] == [infohash(number) for number in own]
        found, _ = catalogue.page(source=Source.NETWORK)
        assert {one.infohash for one in found} == {infohash(number) for number in network}
        assert catalogue.summary()[:3] == (3, len(own), 0)
        assert len(catalogue.search(TITLE)) == 3
    rows = [OutboxEntry(infohash(1), "w", b"title", due=5), OutboxEntry(infohash(1), "r", b"", 9)]
    first.put_outbox(rows)
    second.put_outbox([rows[0]._replace(due=7, failures=3)])
    assert first.due(10) == rows
    assert second.due(10) == [rows[0]._replace(due=7, failures=3)]
    second.renew_outbox([rows[0]._replace(due=8), rows[1]])
    assert (first.due(10), second.due(10)) == (rows, [rows[0]._replace(due=8)])
    first.remove_outbox(infohash(1))
    assert (first.summary().outbox, second.summary().outbox) == (0, 1)
    assert second.outbox(infohash(1)) != []
    assert first.forget([infohash(1), infohash(2)], Source.OWN) == 0
    assert second.page(source=Source.OWN)[0][0].infohash == infohash(1)
    assert second.forget([infohash(1)], Source.OWN) == 1


def test_only_one_who_shares_it_changes_what_any_node_shares(opened: Opened) -> None:
    first, second = opened(NODE), opened(OTHER)
    first.put([entry(1, "Ours", sources=Source.OWN)], now=1)
    second.put([entry(1, "Theirs", proof=Proof.STRONG)], now=1)
    found = second.get(infohash(1))
    assert found is not None
    assert (found.title, found.sources) == ("Ours", Source.NETWORK)


def test_trust_words_and_health_are_everybodys(opened: Opened) -> None:
    first, second = opened(NODE), opened(OTHER)
    second.put([entry(1, claims=(claim(BOB),))], now=1)
    second.set_health({infohash(1): SwarmHealth(1, 2, 3, "bep33")})
    found = first.get(infohash(1))
    assert found is not None
    assert found.health == SwarmHealth(1, 2, 3, "bep33")
    assert first.set_trust(BOB, PublisherTrust.BLOCKED, now=2) == 1
    assert second.trust([BOB]) == {BOB: PublisherTrust.BLOCKED}
    assert second.put([entry(1, claims=(claim(BOB),))], now=3).refused == 1
    first.remember_counts({b"title": 5}, 1)
    assert second.counts([b"title"], 0) == {b"title": 5}


def test_a_node_that_is_gone_for_a_month_shares_and_publishes_nothing_any_more(
    opened: Opened, database: Database
) -> None:
    first = opened(NODE)
    first.put([entry(1, sources=Source.OWN), entry(2, sources=Source.OWN | Source.IMPORT)], now=1)
    first.put_outbox([OutboxEntry(infohash(1), "w", b"title", due=5)])
    first.close()
    for days, torrents in ((29, 2), (31, 1)):
        with database.admin() as db:
            db.execute("UPDATE dht_torrent.node SET seen = seen - %s", (days * DAY,))
        second = opened(OTHER)
        assert second.summary().torrents == torrents
        second.close()
    assert opened(NODE).summary()[:3] == (1, 0, 0)
    check_whole(database)


def test_a_node_that_works_for_months_is_not_gone(opened: Opened, database: Database) -> None:
    now = [0.0]
    first = opened(NODE, clock=lambda: now[0])
    first.put([entry(1, sources=Source.OWN)], now=1)
    with database.admin() as db:
        db.execute("UPDATE dht_torrent.node SET seen = seen - %s", (31 * DAY,))
    now[0] += 31 * DAY
    first.keep_up()
    opened(OTHER)
    assert first.summary().own == 1


def test_a_node_that_is_not_to_last_leaves_nothing(opened: Opened, database: Database) -> None:
    first = opened(NODE, lasting=False)
    first.put([entry(1, sources=Source.OWN), entry(2)], now=1)
    first.put_outbox([OutboxEntry(infohash(1), "w", b"title", due=5)])
    first.close()
    assert opened(OTHER).summary().torrents == 1
    with database.admin() as db:
        assert db.execute("SELECT key FROM dht_torrent.node").fetchall() == [(OTHER,)]
        assert db.execute("SELECT * FROM dht_torrent.outbox").fetchall() == []


def test_many_who_write_at_once_the_same_in_any_order_do_not_hinder_each_other(
    opened: Opened, database: Database
) -> None:
    nodes = [opened(b"node %d" % number) for number in range(5)]
    start = threading.Barrier(len(nodes))

    def work(number: int) -> int:
        rng, added = random.Random(number), 0
        start.wait()
        for step in range(15):
            batch = [
                entry(n, f"Title w{n % 7}", claims=(claim(ALICE, seq=step),)) for n in range(60)
            ]
            rng.shuffle(batch)
            added += nodes[number].put(batch, now=step).added
            added -= nodes[number].forget([one.infohash for one in batch[:9]], Source.NETWORK)
            nodes[number].put_outbox([OutboxEntry(infohash(step), "w", b"", due=step)])
            assert len(nodes[number].search(TITLE)) >= 60 - 9 * len(nodes)
        return added

    with ThreadPoolExecutor(len(nodes)) as pool:
        assert sum(pool.map(work, range(len(nodes)))) == nodes[0].summary().torrents
    assert [node.summary().outbox for node in nodes] == [15] * 5
    check_whole(database)


# -- versions -----------------------------------------------------------------------------------


@pytest.fixture
def wiped(database: Database) -> Iterator[Database]:
    """A database without our tables."""
    database.wipe()
    yield database
    database.wipe()


def test_of_many_nodes_that_start_at_once_one_makes_the_tables(
    wiped: Database, opened: Opened
) -> None:
    start = threading.Barrier(6)

    def begin(number: int) -> int:
        start.wait()
        return opened(b"node %d" % number).put([entry(number)], now=1).added

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(begin, range(6))) == [1] * 6
    assert opened().summary().torrents == 6
    assert opened().warnings() == []


def test_the_first_schema_stays_as_it_was_released(opened: Opened, database: Database) -> None:
    """An edited migration would leave databases of two kinds with one number."""
    opened()
    with database.admin() as db:
        columns = db.execute(
            """SELECT relname, string_agg(attname, ' ' ORDER BY attnum) FROM pg_class c
                JOIN pg_attribute ON attrelid = c.oid AND attnum > 0
                WHERE relnamespace = %s::regnamespace AND relkind = 'r' GROUP BY 1""",
            (postgres_schema.SCHEMA,),
        ).fetchall()
    first = {
        "version": "number",
        "node": "id key seen",
        "total": "torrents tokens bytes last",
        "torrent": "id infohash title words more tags size published first_seen seen era files"
        " sources proof tokens",
        "own": "node torrent published tags",
        "file": "torrent place path size",
        "claim": "torrent publisher title seq seen verified",
        "health": "torrent checked seeds peers how",
        "publisher": "key trust name since",
        "outbox": "node infohash tree root due depth failures",
        "counted": "word count seen",
        "lexeme": "word torrents",
    }
    assert {name: found for name, found in columns if name in first} == first
    assert postgres_schema.RUNS == {"a": 13, "b": 15, "c": 17, "d": 19, "e": 21}


def test_an_older_database_is_brought_up_to_date(
    wiped: Database, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().put([entry(number) for number in range(3)], now=1)
    later = [
        ["CREATE TABLE later(a int)", "INSERT INTO later VALUES(1)"],
        ["ALTER TABLE later ADD b int", "UPDATE later SET b = (SELECT count(*) FROM torrent)"],
    ]
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", (*postgres_schema.MIGRATIONS, *later))
    for _ in range(2):  # once, however often it is opened
        assert len(opened().search(TITLE)) == 3
    with wiped.admin() as db:
        assert db.execute("SELECT a, b FROM dht_torrent.later").fetchall() == [(1, 3)]


def test_a_migration_that_fails_changes_nothing(
    wiped: Database, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().put([entry(1)], now=1)
    later = [["CREATE TABLE later(a int)"], ["CREATE TABLE more(a int)", "nonsense"]]
    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "MIGRATIONS", (*postgres_schema.MIGRATIONS, *later))
        with pytest.raises(StorageError, match="nonsense"):
            opened().summary()
    assert opened().summary().torrents == 1
    with wiped.admin() as db:
        assert db.execute("SELECT to_regclass('dht_torrent.later')").fetchone() == (None,)


def test_a_newer_version_is_left_alone(wiped: Database, opened: Opened) -> None:
    opened().put([entry(1)], now=1)
    with wiped.admin() as db:
        db.execute("UPDATE dht_torrent.version SET number = 99")
    catalogue = opened()
    with pytest.raises(StorageError, match=r"newer version of dht_torrent \(its schema is 99"):
        catalogue.put([entry(2)], now=1)
    with wiped.admin() as db:
        assert db.execute("SELECT count(*) FROM dht_torrent.torrent").fetchone() == (1,)


def test_a_schema_of_another_program_is_left_alone(wiped: Database, opened: Opened) -> None:
    with wiped.admin() as db:
        db.execute("CREATE SCHEMA dht_torrent CREATE TABLE torrent(a int)")
    with pytest.raises(StorageError, match="schema dht_torrent of another program"):
        opened().summary()
    with wiped.admin() as db:
        assert db.execute("SELECT * FROM dht_torrent.torrent").fetchall() == []


def test_a_database_of_another_encoding_is_refused_clearly(
    database: Database, opened: Opened
) -> None:
    name = f"{database.name}_latin"
    with database.admin() as db:
        db.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0")
    url = database.url.replace(database.name, name)
    with pytest.raises(StorageError, match="has the encoding LATIN1: it must be made with UTF8"):
        opened(url=url).summary()
    with database.admin() as db:
        db.execute(f"DROP DATABASE {name} WITH (FORCE)")


# -- a server that goes away --------------------------------------------------------------------


def test_connections_that_broke_while_idle_are_replaced_unnoticed(
    door: Door, opened: Opened
) -> None:
    catalogue = opened(url=door.url)
    catalogue.put([entry(1)], now=1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: catalogue.search(TITLE), range(20)))
    for _ in range(2):
        door.cut()
        assert len(catalogue.search(TITLE)) == 1
        assert catalogue.put([entry(1)], now=1).known == 1
    assert catalogue.warnings() == []


def test_a_server_that_goes_away_is_told_once_and_so_is_its_return(
    door: Door, opened: Opened
) -> None:
    now = [0.0]
    catalogue = opened(url=door.url, clock=lambda: now[0])
    catalogue.put([entry(1)], now=1)
    assert len(catalogue.search(TITLE)) == 1
    assert catalogue.trouble is None
    door.close()
    for _ in range(3):
        for use in (lambda: catalogue.search(TITLE), lambda: catalogue.put([entry(2)], now=1)):
            with pytest.raises(StorageError, match="cannot be reached") as caught:
                use()
            assert caught.value.passing
        now[0] += 11
    assert "cannot be reached" in str(catalogue.trouble)
    (line,) = catalogue.warnings()
    assert line.startswith("the catalogue postgresql://postgres@")
    assert line.endswith(
        " failed: No such file or directory; the node goes on without it, and tries again"
    )
    assert "\n" not in line
    door.open()
    assert catalogue.put([entry(2)], now=1).added == 1
    assert len(catalogue.search(TITLE)) == 2
    (line,) = catalogue.warnings()
    assert line.endswith(" is back")
    assert catalogue.trouble is None


def test_between_two_attempts_calls_fail_at_once(door: Door, opened: Opened) -> None:
    now = [0.0]
    door.close()
    catalogue = opened(url=door.url, clock=lambda: now[0])
    door.open()
    with pytest.raises(StorageError, match="cannot be reached"):
        catalogue.summary()
    now[0] = CatalogueConfig().retry_time - 0.1
    with pytest.raises(StorageError, match="cannot be reached"):
        catalogue.summary()
    now[0] = CatalogueConfig().retry_time
    assert catalogue.summary().torrents == 0
    assert len(catalogue.warnings()) == 2


def test_what_was_being_stored_when_the_server_went_is_not_there(
    door: Door, opened: Opened
) -> None:
    catalogue = opened(url=door.url)

    def store() -> None:
        with catalogue._write() as db:
            db.execute("INSERT INTO counted VALUES ('x', 1, 1)")
            door.cut()
            db.execute("INSERT INTO counted VALUES ('y', 1, 1)")

    with pytest.raises(StorageError, match="cannot be reached"):
        store()
    assert catalogue.counts([b"x", b"y"], 0) == {}
    assert catalogue.put([entry(1)], now=1).added == 1


def test_readers_in_other_threads_outlive_it(door: Door, opened: Opened) -> None:
    catalogue = opened(url=door.url, config=CatalogueConfig(retry_time=0))
    catalogue.put([entry(1)], now=1)
    stop = threading.Event()

    def use(number: int) -> int:
        fine = 0
        while not stop.is_set():
            with contextlib.suppress(StorageError):
                if number % 2:
                    catalogue.put([entry(1)], now=1)
                else:
                    catalogue.search(TITLE)
                fine += 1
        return fine

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(use, number) for number in range(6)]
        for _ in range(5):
            door.close()
            door.open()
        stop.set()
        assert all(job.result() >= 0 for job in jobs)
    assert len(catalogue.search(TITLE)) == 1
    assert catalogue.put([entry(2)], now=1).added == 1


def test_a_statement_has_a_time_limit(opened: Opened) -> None:
    catalogue = opened(config=CatalogueConfig(statement_time=0.1))
    with pytest.raises(StorageError, match="statement timeout") as caught, catalogue._write() as db:
        db.execute("SELECT pg_sleep(20)")
    assert caught.value.passing
    assert catalogue.put([entry(1)], now=1).added == 1


def test_who_waits_too_long_for_another_writer_is_told(opened: Opened) -> None:
    first, second = opened(), opened(OTHER, config=CatalogueConfig(busy_time=0.1))
    first.put([entry(1)], now=1)
    with first._write():
        with pytest.raises(StorageError, match="busy: another node is writing") as caught:
            second.put([entry(2)], now=1)
        assert caught.value.passing
        assert len(second.search(TITLE)) == 1  # reading does not wait
    assert second.put([entry(2)], now=1).added == 1
    assert second.warnings() == []


def test_connections_are_used_again_and_are_few(opened: Opened, database: Database) -> None:
    catalogue = opened(config=CatalogueConfig(readers=2))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: catalogue.search(TITLE), range(60)))
        list(pool.map(lambda n: catalogue.put([entry(n)], now=1), range(20)))
    with database.admin() as db:
        (count,) = db.execute(
            """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'dht_torrent'"""
        ).fetchone() or (0,)
    assert 2 <= count <= 3


def test_errors_of_our_own_making_are_not_taken_for_the_servers(opened: Opened) -> None:
    catalogue = opened()
    with pytest.raises(psycopg.errors.UndefinedTable), catalogue._write() as db:
        db.execute("SELECT * FROM missing")
    with pytest.raises(StorageError, match="read-only"), catalogue._db.read() as db:
        db.execute("DELETE FROM torrent")
    assert catalogue.put([entry(1)], now=1).added == 1


# -- addresses and passwords --------------------------------------------------------------------


def test_a_password_is_used_and_never_shown(wiped: Database, opened: Opened) -> None:
    with wiped.admin() as db:
        db.execute(f"GRANT CREATE ON DATABASE {wiped.name} TO {KEYED}")
    right = wiped.url_of(f"{KEYED}:{quote(PASSWORD, safe='')}")
    catalogue = opened(url=right)
    assert catalogue.put([entry(1)], now=1).added == 1
    assert catalogue.warnings() == []
    catalogue.close()
    wrong = opened(url=wiped.url_of(f"{KEYED}:hunter2"))
    with pytest.raises(StorageError, match="password authentication failed") as caught:
        wrong.summary()
    (line,) = wrong.warnings()
    for text in (str(caught.value), line, str(wrong.trouble), repr(caught.value)):
        assert "hunter2" not in text
        assert KEYED in text
    assert "hunter2" not in repr(CatalogueConfig(url=wiped.url_of(f"{KEYED}:hunter2")))
    with wiped.admin() as db:
        db.execute(f"REVOKE CREATE ON DATABASE {wiped.name} FROM {KEYED}; DROP OWNED BY {KEYED}")


@pytest.mark.parametrize(
    "rest",
    [
        *("u:hunter2%zz@h/db", "u:hun ter2@h/db", "u:hunter2@hunter2@h/db", "u:hunter2/x@h/db"),
        *("u:hunter2@h/db?nonsense=hunter2", "u:hunter2@h:99999/db", "u:hunter2@h:hunter2/db"),
        *("u:hunter2\x00@h/db", "u:hunter2@h/", "u:hunter2@h"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_and_not_quoted(rest: str) -> None:
    with pytest.raises(InputError, match="catalogue's URL") as caught:
        ServerUrl(f"postgresql://{rest}")
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:pw@h:5/db", "postgresql://u@h:5/db"),
        ("postgres://h/db?password=pw&sslmode=require", "postgresql://h/db"),
        ("postgresql://u:pw@[::1]:5/db", "postgresql://u@[::1]:5/db"),
        ("postgresql://a%3Ab@/db?host=/run/pg", "postgresql://a:b@%2Frun%2Fpg/db"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert str(ServerUrl(url)) == shown


def test_without_psycopg_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(InputError, match=r"pip install 'dht-torrent\[postgresql\]'"):
        ServerUrl("postgresql://h/db")
