"""A catalogue in one file, by SQLite and its full-text index FTS5: what is asked of the database.

Whatever a stranger or a user gave is bound as a value, and the words of a query are quoted as well:
nothing of theirs is ever part of a statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dht_torrent.catalogue import sqlite_sketches
from dht_torrent.catalogue.database import Database
from dht_torrent.catalogue.entries import (
    MAX_COUNTED,
    MAX_KEY,
    MAX_PEERS,
    MAX_RESULTS,
    MAX_TITLE,
    CatalogueQuery,
    CatalogueSummary,
    Entry,
    KnownPublisher,
    OutboxEntry,
    PublisherTrust,
    PutResult,
    SketchEntry,
    Source,
    SwarmHealth,
    bounded,
    check_key,
    query_words,
    shown,
    within,
)
from dht_torrent.catalogue.room import Room, bytes_used
from dht_torrent.catalogue.rows import limits, without_blocked
from dht_torrent.catalogue.sqlite_rows import bound_claims, entries_of, select_in
from dht_torrent.config import CatalogueConfig

_BLOCK_STEP: Final = 5000
"""Claims of a blocked publisher removed in one transaction."""
_TITLE_WEIGHT: Final = 4.0
"""A word in the title counts as much as four in the names of files and in tags."""

# Proof that is better replaces; proof as good completes; ours does both.
_BETTER = "(excluded.sources & 1 OR (torrent.sources & 1 = 0 AND excluded.proof > torrent.proof))"
_AS_GOOD = "(torrent.sources & 1 = 0 AND excluded.proof = torrent.proof)"


def _merged(column: str, lacking: str) -> str:
    return (
        f"{column} = CASE WHEN {_BETTER} THEN excluded.{column}"
        f" WHEN {_AS_GOOD} AND {lacking} THEN excluded.{column} ELSE {column} END"
    )


_PUT = f"""INSERT INTO torrent(infohash, title, words, more, tags, size, files, published,
    first_seen, seen, sources, proof) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT(infohash) DO UPDATE SET
    title = CASE WHEN {_BETTER} THEN excluded.title ELSE title END,
    words = CASE WHEN {_BETTER} THEN excluded.words ELSE words END,
    {_merged("more", "more = ''")}, {_merged("tags", "tags = ''")},
    {_merged("size", "size IS NULL")}, {_merged("files", "files IS NULL")},
    {_merged("published", "published IS NULL")},
    seen = max(seen, excluded.seen), sources = sources | excluded.sources,
    proof = max(proof, excluded.proof)"""
_NEWER = "(excluded.verified > verified OR (excluded.verified = verified AND excluded.seq >= seq))"
_PUT_CLAIM = f"""INSERT INTO claim(torrent, publisher, title, seq, verified, seen)
    SELECT id, ?, ?, ?, ?, ? FROM torrent WHERE infohash = ?
    ON CONFLICT(torrent, publisher) DO UPDATE SET
    title = CASE WHEN {_NEWER} THEN excluded.title ELSE title END,
    seq = CASE WHEN {_NEWER} THEN excluded.seq ELSE seq END,
    verified = max(verified, excluded.verified), seen = max(seen, excluded.seen)"""  # noqa: S608
_COLUMNS = """t.id, t.infohash, t.title, t.words, t.more, t.tags, t.size, t.files, t.published,
    t.first_seen, t.seen, t.sources, t.proof, h.seeds, h.peers, h.checked, h.how"""
_ROWS = "torrent t LEFT JOIN health h ON h.torrent = t.id"


class SqliteCatalogue:
    """A `Catalogue`. Without a path it is in memory, and all wait for each other."""

    def __init__(self, path: Path | str | None, config: CatalogueConfig | None = None) -> None:
        """Open or create it. Raises StorageError, as `Database` does."""
        self._config = config or CatalogueConfig()
        self._db = Database(path, self._config)
        self._room = Room(self._config.max_bytes)

    def close(self) -> None:
        self._db.close()

    def warnings(self) -> list[str]:
        return self._db.warnings()

    @property
    def trouble(self) -> str | None:
        return None  # what is wrong with a file each call says, or mends

    def keep_up(self) -> None:
        pass  # nobody else asks for it

    # -- torrents -------------------------------------------------------------------------------

    def put(self, entries: Iterable[Entry], now: int) -> PutResult:
        batch = [bounded(entry) for entry in entries]
        with self._db.write() as db:
            whole = len(batch)
            batch = without_blocked(batch, _blocked(db, batch))
            files = [entry for entry in batch if entry.listed]
            before = {entry.infohash: _standing(db, entry.infohash) for entry in files}
            last = db.execute("SELECT max(id) FROM torrent").fetchone()[0] or 0
            db.executemany(
                _PUT,
                [
                    (
                        *(entry.infohash, entry.title, entry.words, entry.more),
                        *(" ".join(entry.tags), entry.size, entry.files, entry.published),
                        *(now, now, int(entry.sources), int(entry.proof)),
                    )
                    for entry in batch
                ],
            )
            for entry in files:
                _put_files(db, entry, before[entry.infohash])
            claimed = [entry for entry in batch if entry.claims]
            db.executemany(
                _PUT_CLAIM,
                [
                    (c.publisher, c.title, c.seq, int(c.verified), now, entry.infohash)
                    for entry in claimed
                    for c in entry.claims
                ],
            )
            for entry in claimed:
                bound_claims(db, entry.infohash, last)
            (added,) = db.execute("SELECT count(*) FROM torrent WHERE id > ?", (last,)).fetchone()
            self._room.keep(db, len(batch))
        return PutResult(added, len(batch) - added, whole - len(batch))

    def get(self, infohash: bytes) -> Entry | None:
        with self._db.read() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS}, 0.0 FROM {_ROWS} WHERE t.infohash = ?",  # noqa: S608
                (infohash,),
            ).fetchall()
            return next(iter(entries_of(db, rows, files=True)), None)

    def search(self, query: CatalogueQuery) -> list[Entry]:
        limit = max(1, min(query.limit, MAX_RESULTS))
        words = query_words(query.words)
        if query.words and not words:
            return []  # nothing that could be in a title
        with self._db.read() as db:
            if words:
                rows = self._matching(db, _match(words, query.prefix), query, limit)
            else:
                rows = self._newest(db, query, limit)
            return entries_of(db, rows)

    def _matching(
        self, db: sqlite3.Connection, match: str, query: CatalogueQuery, limit: int
    ) -> list[tuple[Any, ...]]:
        score = f"bm25(fts, {_TITLE_WEIGHT}, 1.0)"
        where, values = limits(query, "?")
        if where:
            # The date and size of each match cost a look at its row: bound how many of these.
            oldest = db.execute(
                "SELECT rowid FROM fts WHERE fts MATCH ? ORDER BY rowid DESC LIMIT 1 OFFSET ?",
                (match, self._config.max_looked_at),
            ).fetchone()
            best = f"""SELECT fts.rowid AS id, {score} AS score
                FROM fts CROSS JOIN torrent t ON t.id = fts.rowid
                WHERE fts MATCH ? AND fts.rowid > ? AND {where}
                ORDER BY fts.rowid DESC LIMIT ?"""  # noqa: S608
            values = [match, oldest[0] if oldest else 0, *values]
        else:
            best = f"""SELECT rowid AS id, {score} AS score FROM fts WHERE fts MATCH ?
                ORDER BY rowid DESC LIMIT ?"""  # noqa: S608
            values = [match]
        return db.execute(
            f"""SELECT {_COLUMNS}, -m.score FROM
                (SELECT id, score FROM ({best}) ORDER BY score, id DESC LIMIT ?) m
                CROSS JOIN torrent t ON t.id = m.id LEFT JOIN health h ON h.torrent = t.id
                ORDER BY m.score, m.id DESC""",  # noqa: S608
            (*values, self._config.max_ranked, limit),
        ).fetchall()

    def _newest(
        self, db: sqlite3.Connection, query: CatalogueQuery, limit: int
    ) -> list[tuple[Any, ...]]:
        where, values = limits(query, "?")
        return db.execute(
            f"""SELECT {_COLUMNS}, 0.0 FROM {_ROWS} WHERE {where or "1"} AND t.id >
                coalesce((SELECT id FROM torrent ORDER BY id DESC LIMIT 1 OFFSET ?), 0)
                ORDER BY t.id DESC LIMIT ?""",  # noqa: S608
            (*values, self._config.max_looked_at, limit),
        ).fetchall()

    def page(
        self, after: int = 0, limit: int = 1000, source: Source = Source.NONE
    ) -> tuple[list[Entry], int]:
        where = "t.id > ?"
        if source is Source.OWN:
            where += " AND t.sources & 1 = 1"  # literally: there is an index for that
        elif source:
            where += f" AND t.sources & {int(source)}"
        with self._db.read() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS}, 0.0 FROM {_ROWS} WHERE {where} ORDER BY t.id LIMIT ?",  # noqa: S608
                (after, max(1, min(limit, MAX_RESULTS))),
            ).fetchall()
            return entries_of(db, rows, files=True), rows[-1][0] if rows else after

    def forget(self, infohashes: Iterable[bytes], source: Source) -> int:
        given = [(infohash,) for infohash in infohashes]
        with self._db.write() as db:
            db.executemany(
                f"UPDATE torrent SET sources = sources & ~{int(source)} WHERE infohash = ?",  # noqa: S608
                given,
            )
            removed = db.executemany(
                "DELETE FROM torrent WHERE infohash = ? AND sources = 0", given
            ).rowcount
            self._room.removed(removed)
            return removed

    def withdraw(self, infohashes: Iterable[bytes], publisher: bytes) -> None:
        with self._db.write() as db:
            db.executemany(
                """DELETE FROM claim WHERE publisher = ? AND torrent =
                    (SELECT id FROM torrent WHERE infohash = ?)""",
                [(publisher, infohash) for infohash in infohashes],
            )

    def set_health(self, health: Mapping[bytes, SwarmHealth]) -> None:
        with self._db.write() as db:
            db.executemany(
                """INSERT INTO health(torrent, seeds, peers, checked, how)
                    SELECT id, ?, ?, ?, ? FROM torrent WHERE infohash = ?
                    ON CONFLICT(torrent) DO UPDATE SET seeds = excluded.seeds,
                    peers = excluded.peers, checked = excluded.checked, how = excluded.how""",
                [
                    (
                        *(within(one.seeds, MAX_PEERS), within(one.peers, MAX_PEERS) or 0),
                        *(one.checked, one.how[:16], infohash),
                    )
                    for infohash, one in health.items()
                ],
            )

    def summary(self) -> CatalogueSummary:
        with self._db.read() as db:
            return CatalogueSummary(
                db.execute("SELECT count(*) FROM torrent").fetchone()[0],
                db.execute("SELECT count(*) FROM torrent WHERE sources & 1 = 1").fetchone()[0],
                db.execute("SELECT count(*) FROM outbox").fetchone()[0],
                bytes_used(db),
                self._config.max_bytes,
            )

    # -- publishers -----------------------------------------------------------------------------

    def set_trust(self, key: bytes, trust: PublisherTrust, now: int, name: str = "") -> int:
        check_key(key)
        with self._db.write() as db:
            if trust is PublisherTrust.NEUTRAL:
                db.execute("DELETE FROM publisher WHERE key = ?", (key,))
            else:
                db.execute(
                    "INSERT OR REPLACE INTO publisher(key, trust, name, since) VALUES(?, ?, ?, ?)",
                    (key, int(trust), shown(name, MAX_TITLE), now),
                )
        removed = 0
        while trust is PublisherTrust.BLOCKED:
            with self._db.write() as db:
                ids = db.execute(
                    "SELECT torrent FROM claim WHERE publisher = ? LIMIT ?", (key, _BLOCK_STEP)
                ).fetchall()
                db.executemany(
                    "DELETE FROM claim WHERE torrent = ? AND publisher = ?",
                    [(*row, key) for row in ids],
                )
                gone = db.executemany(
                    """DELETE FROM torrent WHERE id = ? AND sources & 1 = 0
                        AND NOT EXISTS (SELECT 1 FROM claim WHERE claim.torrent = torrent.id)""",
                    ids,
                ).rowcount
                self._room.removed(gone)
                removed += gone
            if len(ids) < _BLOCK_STEP:
                break
        return removed

    def publishers(self) -> list[KnownPublisher]:
        with self._db.read() as db:
            return [
                KnownPublisher(key, PublisherTrust(trust), name, since)
                for key, trust, name, since in db.execute(
                    "SELECT key, trust, name, since FROM publisher ORDER BY since, key"
                )
            ]

    def trust(self, keys: Collection[bytes]) -> dict[bytes, PublisherTrust]:
        with self._db.read() as db:
            rows = select_in(db, "SELECT key, trust FROM publisher WHERE key IN ({})", keys)
            return {key: PublisherTrust(trust) for key, trust in rows}

    def claimed(self, keys: Collection[bytes], since: int) -> dict[bytes, int]:
        with self._db.read() as db:
            return dict(
                select_in(
                    db,
                    """SELECT publisher, count(*) FROM claim WHERE publisher IN ({})
                        AND seen >= ? GROUP BY publisher""",
                    keys,
                    since,
                )
            )

    # -- the outbox -----------------------------------------------------------------------------

    def put_outbox(self, entries: Iterable[OutboxEntry]) -> None:
        rows = [
            (
                *(entry.infohash, entry.tree[:16], entry.root, entry.due),
                *(entry.depth, entry.failures),
            )
            for entry in entries
        ]
        for infohash, _, root, *_ in rows:
            if len(infohash) != 20 or len(root) > MAX_KEY:
                raise ValueError("an infohash has 20 bytes, and a root at most 64")
        with self._db.write() as db:
            db.executemany(
                """INSERT OR REPLACE INTO outbox(infohash, tree, root, due, depth, failures)
                    VALUES(?, ?, ?, ?, ?, ?)""",
                rows,
            )

    def renew_outbox(self, entries: Iterable[OutboxEntry]) -> None:
        rows = [
            (entry.due, entry.depth, entry.failures, entry.infohash, entry.tree, entry.root)
            for entry in entries
        ]
        with self._db.write() as db:
            db.executemany(
                """UPDATE outbox SET due = ?, depth = ?, failures = ?
                    WHERE infohash = ? AND tree = ? AND root = ?""",
                rows,
            )

    def due(self, now: int, limit: int = 100) -> list[OutboxEntry]:
        return self._outbox(
            "due <= ? ORDER BY due, infohash, tree, root LIMIT ?", now, max(1, limit)
        )

    def outbox(self, infohash: bytes) -> list[OutboxEntry]:
        return self._outbox("infohash = ? ORDER BY tree, root", infohash)

    def _outbox(self, where: str, *values: object) -> list[OutboxEntry]:
        with self._db.read() as db:
            return [
                OutboxEntry(*row)
                for row in db.execute(
                    f"""SELECT infohash, tree, root, due, depth, failures
                        FROM outbox WHERE {where}""",  # noqa: S608
                    values,
                )
            ]

    def remove_outbox(self, infohash: bytes, keep: Sequence[tuple[str, bytes]] = ()) -> None:
        kept = set(keep)
        with self._db.write() as db:
            rows = db.execute(
                "SELECT infohash, tree, root FROM outbox WHERE infohash = ?", (infohash,)
            ).fetchall()
            db.executemany(
                "DELETE FROM outbox WHERE infohash = ? AND tree = ? AND root = ?",
                [row for row in rows if row[1:] not in kept],
            )

    # -- what torrents are like -----------------------------------------------------------------

    def put_sketches(self, sketches: Iterable[SketchEntry]) -> None:
        with self._db.write() as db:
            sqlite_sketches.put(db, sketches)

    def sketches(self, infohashes: Collection[bytes]) -> dict[bytes, bytes]:
        with self._db.read() as db:
            return sqlite_sketches.of(db, infohashes)

    def alike(self, keys: Collection[tuple[str, bytes]], each: int = 16) -> list[bytes]:
        with self._db.read() as db:
            return sqlite_sketches.alike(db, keys, max(1, each))

    # -- how common words are -------------------------------------------------------------------

    def remember_counts(self, counts: Mapping[bytes, int], now: int) -> None:
        with self._db.write() as db:
            db.executemany(
                "INSERT OR REPLACE INTO word(word, count, seen) VALUES(?, ?, ?)",
                [
                    (word, max(0, min(count, MAX_PEERS)), now)
                    for word, count in counts.items()
                    if len(word) <= MAX_KEY
                ],
            )
            (surplus,) = db.execute("SELECT count(*) - ? FROM word", (MAX_COUNTED,)).fetchone()
            if surplus > 0:
                db.execute(
                    "DELETE FROM word WHERE word IN (SELECT word FROM word ORDER BY seen LIMIT ?)",
                    (surplus,),
                )

    def counts(self, words: Collection[bytes], since: int) -> dict[bytes, int]:
        with self._db.read() as db:
            return dict(
                select_in(
                    db,
                    "SELECT word, count FROM word WHERE word IN ({}) AND seen >= ?",
                    words,
                    since,
                )
            )


def _match(words: Sequence[str], prefix: bool) -> str:
    """FTS5's query for torrents that have all the words. Nothing in a quoted string means anything
    but a quotation mark, which is doubled."""
    quoted = ['"{}"'.format(word.replace('"', '""')) for word in words]
    return " AND ".join(quoted) + (" *" if prefix else "")


def _blocked(db: sqlite3.Connection, batch: list[Entry]) -> set[bytes]:
    """The publishers that are blocked, if it matters."""
    if not any(entry.claims for entry in batch):
        return set()
    sql = "SELECT key FROM publisher WHERE trust = ?"
    return {key for (key,) in db.execute(sql, (int(PublisherTrust.BLOCKED),))}


def _standing(db: sqlite3.Connection, infohash: bytes) -> tuple[int, bool, bool] | None:
    """The proof of a torrent that is here, whether it is ours, and whether it has files."""
    row = db.execute(
        """SELECT proof, sources & 1, EXISTS (SELECT 1 FROM file WHERE torrent = torrent.id)
            FROM torrent WHERE infohash = ?""",
        (infohash,),
    ).fetchone()
    return None if row is None else (row[0], bool(row[1]), bool(row[2]))


def _put_files(db: sqlite3.Connection, entry: Entry, before: tuple[int, bool, bool] | None) -> None:
    """By the same rule as the columns: what is better replaces, what is as good completes."""
    if before is not None and not entry.sources & Source.OWN:
        proof, ours, listed = before
        if ours or entry.proof < proof or (entry.proof == proof and listed):
            return
    (number,) = db.execute(
        "SELECT id FROM torrent WHERE infohash = ?", (entry.infohash,)
    ).fetchone()
    db.execute("DELETE FROM file WHERE torrent = ?", (number,))
    db.executemany(
        "INSERT INTO file(torrent, place, path, size) VALUES(?, ?, ?, ?)",
        [(number, place, *file) for place, file in enumerate(entry.listed)],
    )
