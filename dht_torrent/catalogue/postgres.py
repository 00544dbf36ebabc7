"""A catalogue in a PostgreSQL database, which several nodes may share: what is asked of it.

Whatever a stranger or a user gave is bound as a value.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from dht_torrent.catalogue import postgres_search
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
    check_sketch,
    query_words,
    shown,
    within,
)
from dht_torrent.catalogue.postgres_put import store
from dht_torrent.catalogue.postgres_rows import COLUMNS, ROWS, entries_of, folded
from dht_torrent.catalogue.postgres_schema import LOCK, Connection
from dht_torrent.catalogue.postgres_server import Server
from dht_torrent.catalogue.rows import limits
from dht_torrent.config import CatalogueConfig
from dht_torrent.errors import StorageError

_BLOCK_STEP: Final = 5000
"""Claims of a blocked publisher removed in one transaction."""
_TOLD: Final = 3600.0
"""Seconds between two times that a node says it is still there."""
_GONE: Final = 30 * 86400
"""Seconds after which a node that was not there shares and publishes nothing any more."""


class PostgresCatalogue:
    """A `Catalogue`, as one of its nodes has it."""

    def __init__(
        self,
        url: str,
        config: CatalogueConfig | None = None,
        *,
        node: bytes,
        clock: Callable[[], float],
        lasting: bool = True,
    ) -> None:
        """`node` is this node's key, some bytes of its own; unless it is `lasting`, what it shares
        and publishes is forgotten when it closes. `clock` gives seconds, and never goes back.

        Raises InputError. A server that cannot be reached is told by `warnings`, and tried again
        later; all calls raise StorageError meanwhile."""
        self._config = config or CatalogueConfig()
        self._key = node
        self._lasting = lasting
        self._clock = clock
        self._node = 0
        self._told = clock()
        self._db = Server(url, self._config, clock, self._greet)

    @property
    def trouble(self) -> str | None:
        """Why it cannot be used just now, in a line."""
        return self._db.trouble

    def close(self) -> None:
        if not self._lasting and self.trouble is None:
            with contextlib.suppress(StorageError), self._db.write() as db:
                _forget_node(db, self._node)
        self._db.close()

    def warnings(self) -> list[str]:
        return self._db.warnings()

    def _greet(self, db: Connection) -> None:
        """Of a new connection: say that this node is there, and notice who is not any more."""
        found = db.execute(
            f"SELECT id, seen < {_NOW} - %s FROM node WHERE key = %s",  # noqa: S608
            (round(_TOLD), self._key),
        ).fetchone()
        if found is None or found[1]:
            found = db.execute(
                f"""INSERT INTO node(key, seen) VALUES(%s, {_NOW})
                    ON CONFLICT (key) DO UPDATE SET seen = excluded.seen RETURNING id""",
                (self._key,),
            ).fetchone()
        self._node = found[0]
        if db.execute(f"SELECT 1 FROM node WHERE {_OLD}").fetchone() is None:  # noqa: S608
            return
        with db.transaction():
            # Whoever writes just now does it another time.
            if db.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,)).fetchone()[0]:
                for (gone,) in db.execute(f"SELECT id FROM node WHERE {_OLD}").fetchall():  # noqa: S608
                    _forget_node(db, gone)

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._db.write() as db:
            now = self._clock()
            if now - self._told > _TOLD:
                self._told = now
                db.execute(f"UPDATE node SET seen = {_NOW} WHERE id = %s", (self._node,))  # noqa: S608
            yield db

    def keep_up(self) -> None:
        if self.trouble is not None or self._clock() - self._told > _TOLD:
            with self._write():
                pass

    # -- torrents -------------------------------------------------------------------------------

    def put(self, entries: Iterable[Entry], now: int) -> PutResult:
        batch = [bounded(entry) for entry in entries]
        with self._write() as db:
            return store(db, batch, now, node=self._node, most_bytes=self._config.server_bytes)

    def get(self, infohash: bytes) -> Entry | None:
        with self._db.read() as db:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM {ROWS} WHERE t.infohash = %s",  # noqa: S608
                (self._node, infohash),
            ).fetchall()
            return next(iter(entries_of(db, rows, {}, files=True)), None)

    def search(self, query: CatalogueQuery) -> list[Entry]:
        limit = max(1, min(query.limit, MAX_RESULTS))
        words = [folded(word) for word in query_words(query.words)]
        if query.words and not words:
            return []  # nothing that could be in a title
        with self._db.read() as db:
            if not words:
                return entries_of(db, self._newest(db, query, limit), {})
            found = dict(postgres_search.best(db, words, query, limit, self._config))
            rows = db.execute(
                f"SELECT {COLUMNS} FROM {ROWS} WHERE t.id = ANY(%s)",  # noqa: S608
                (self._node, list(found)),
            ).fetchall()
            place = {number: at for at, number in enumerate(found)}
            return entries_of(db, sorted(rows, key=lambda row: place[row[0]]), found)

    def _newest(self, db: Connection, query: CatalogueQuery, limit: int) -> list[tuple[Any, ...]]:
        where, values = limits(query, "%s")
        rows: list[tuple[Any, ...]] = db.execute(
            f"""SELECT {COLUMNS} FROM {ROWS} WHERE {where or "true"} AND t.id >
                coalesce((SELECT id FROM torrent ORDER BY id DESC LIMIT 1 OFFSET %s), 0)
                ORDER BY t.id DESC LIMIT %s""",  # noqa: S608
            (self._node, *values, self._config.max_looked_at, limit),
        ).fetchall()
        return rows

    def page(
        self, after: int = 0, limit: int = 1000, source: Source = Source.NONE
    ) -> tuple[list[Entry], int]:
        where = "t.id > %s"
        if source is Source.OWN:
            where += " AND o.node IS NOT NULL"
        elif source:
            network = "OR (t.sources = 1 AND o.node IS NULL)" if Source.NETWORK in source else ""
            where += f" AND (t.sources & {int(source & ~Source.OWN)} <> 0 {network})"
        with self._db.read() as db:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM {ROWS} WHERE {where} ORDER BY t.id LIMIT %s",  # noqa: S608
                (self._node, after, max(1, min(limit, MAX_RESULTS))),
            ).fetchall()
            return entries_of(db, rows, {}, files=True), rows[-1][0] if rows else after

    def forget(self, infohashes: Iterable[bytes], source: Source) -> int:
        with self._write() as db:
            ids = [
                number
                for (number,) in db.execute(
                    "SELECT id FROM torrent WHERE infohash = ANY(%s)", (list(infohashes),)
                )
            ]
            if source & Source.OWN:
                db.execute(
                    "DELETE FROM own WHERE node = %s AND torrent = ANY(%s)", (self._node, ids)
                )
                _disown(db, ids)
            if others := int(source & ~Source.OWN):
                db.execute(
                    "UPDATE torrent SET sources = sources & ~%s::int WHERE id = ANY(%s)"
                    " AND sources & %s <> 0",
                    (others, ids, others),
                )
            removed: int = db.execute(
                "DELETE FROM torrent WHERE id = ANY(%s) AND sources = 0", (ids,)
            ).rowcount
            return removed

    def withdraw(self, infohashes: Iterable[bytes], publisher: bytes) -> None:
        with self._write() as db:
            db.execute(
                """DELETE FROM claim WHERE publisher = %s AND torrent IN
                    (SELECT id FROM torrent WHERE infohash = ANY(%s))""",
                (publisher, list(infohashes)),
            )

    def set_health(self, health: Mapping[bytes, SwarmHealth]) -> None:
        with self._write() as db, db.cursor() as cursor:
            cursor.executemany(
                """INSERT INTO health(torrent, seeds, peers, checked, how)
                    SELECT id, %s, %s, %s, %s FROM torrent WHERE infohash = %s
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
            torrents, used = db.execute("SELECT torrents, bytes FROM total").fetchone()
            own, outbox = db.execute(
                """SELECT (SELECT count(*) FROM own WHERE node = %s),
                    (SELECT count(*) FROM outbox WHERE node = %s)""",
                (self._node, self._node),
            ).fetchone()
            return CatalogueSummary(torrents, own, outbox, used, self._config.server_bytes)

    # -- publishers -----------------------------------------------------------------------------

    def set_trust(self, key: bytes, trust: PublisherTrust, now: int, name: str = "") -> int:
        check_key(key)
        with self._write() as db:
            if trust is PublisherTrust.NEUTRAL:
                db.execute("DELETE FROM publisher WHERE key = %s", (key,))
            else:
                db.execute(
                    """INSERT INTO publisher(key, trust, name, since) VALUES(%s, %s, %s, %s)
                        ON CONFLICT (key) DO UPDATE SET trust = excluded.trust,
                        name = excluded.name, since = excluded.since""",
                    (key, int(trust), shown(name, MAX_TITLE), now),
                )
        removed = 0
        while trust is PublisherTrust.BLOCKED:
            with self._write() as db:
                ids = [
                    number
                    for (number,) in db.execute(
                        """DELETE FROM claim WHERE (torrent, publisher) IN
                            (SELECT torrent, publisher FROM claim WHERE publisher = %s LIMIT %s)
                            RETURNING torrent""",
                        (key, _BLOCK_STEP),
                    )
                ]
                removed += db.execute(
                    """DELETE FROM torrent WHERE id = ANY(%s) AND sources & 1 = 0
                        AND NOT EXISTS (SELECT 1 FROM claim WHERE claim.torrent = torrent.id)""",
                    (ids,),
                ).rowcount
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
            rows = db.execute("SELECT key, trust FROM publisher WHERE key = ANY(%s)", (list(keys),))
            return {key: PublisherTrust(trust) for key, trust in rows}

    def claimed(self, keys: Collection[bytes], since: int) -> dict[bytes, int]:
        with self._db.read() as db:
            return dict(
                db.execute(
                    """SELECT publisher, count(*) FROM claim WHERE publisher = ANY(%s)
                        AND seen >= %s GROUP BY publisher""",
                    (list(keys), since),
                )
            )

    # -- the outbox -----------------------------------------------------------------------------

    def put_outbox(self, entries: Iterable[OutboxEntry]) -> None:
        given = list(entries)
        for entry in given:
            if len(entry.infohash) != 20 or len(entry.root) > MAX_KEY:
                raise ValueError("an infohash has 20 bytes, and a root at most 64")
        with self._write() as db, db.cursor() as cursor:
            cursor.executemany(
                """INSERT INTO outbox(node, infohash, tree, root, due, depth, failures)
                    VALUES(%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (node, infohash, tree, root)
                    DO UPDATE SET due = excluded.due, depth = excluded.depth,
                    failures = excluded.failures""",
                [
                    (
                        *(self._node, entry.infohash, entry.tree[:16], entry.root, entry.due),
                        *(entry.depth, entry.failures),
                    )
                    for entry in given
                ],
            )

    def renew_outbox(self, entries: Iterable[OutboxEntry]) -> None:
        with self._write() as db, db.cursor() as cursor:
            cursor.executemany(
                """UPDATE outbox SET due = %s, depth = %s, failures = %s
                    WHERE node = %s AND infohash = %s AND tree = %s AND root = %s""",
                [
                    (
                        *(entry.due, entry.depth, entry.failures),
                        *(self._node, entry.infohash, entry.tree, entry.root),
                    )
                    for entry in entries
                ],
            )

    def due(self, now: int, limit: int = 100) -> list[OutboxEntry]:
        return self._outbox(
            "due <= %s ORDER BY due, infohash, tree, root LIMIT %s", now, max(1, limit)
        )

    def outbox(self, infohash: bytes) -> list[OutboxEntry]:
        return self._outbox("infohash = %s ORDER BY tree, root", infohash)

    def _outbox(self, where: str, *values: object) -> list[OutboxEntry]:
        with self._db.read() as db:
            return [
                OutboxEntry(*row)
                for row in db.execute(
                    f"""SELECT infohash, tree, root, due, depth, failures
                        FROM outbox WHERE node = %s AND {where}""",  # noqa: S608
                    (self._node, *values),
                )
            ]

    def remove_outbox(self, infohash: bytes, keep: Sequence[tuple[str, bytes]] = ()) -> None:
        with self._write() as db:
            db.execute(
                """DELETE FROM outbox WHERE node = %s AND infohash = %s AND (tree, root) NOT IN
                    (SELECT * FROM unnest(%s::text[], %s::bytea[]))""",
                (self._node, infohash, [tree for tree, _ in keep], [root for _, root in keep]),
            )

    # -- what torrents are like -----------------------------------------------------------------

    def put_sketches(self, sketches: Iterable[SketchEntry]) -> None:
        given = {one.infohash: one for one in sketches}
        for one in given.values():
            check_sketch(one)
        with self._write() as db:
            ids = dict(
                db.execute(
                    "SELECT infohash, id FROM torrent WHERE infohash = ANY(%s)", (list(given),)
                )
            )
            db.execute("DELETE FROM sketch WHERE torrent = ANY(%s)", (list(ids.values()),))
            db.execute("DELETE FROM sketch_key WHERE torrent = ANY(%s)", (list(ids.values()),))
            with db.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO sketch(torrent, infohash, sketch) VALUES(%s, %s, %s)",
                    [(number, one, given[one].sketch) for one, number in ids.items()],
                )
                cursor.executemany(
                    """INSERT INTO sketch_key(tree, key, torrent) VALUES(%s, %s, %s)
                        ON CONFLICT DO NOTHING""",
                    [
                        (tree, key, number)
                        for one, number in ids.items()
                        for tree, key in given[one].keys
                    ],
                )

    def sketches(self, infohashes: Collection[bytes]) -> dict[bytes, bytes]:
        with self._db.read() as db:
            return dict(
                db.execute(
                    "SELECT infohash, sketch FROM sketch WHERE infohash = ANY(%s)",
                    (list(infohashes),),
                )
            )

    def alike(self, keys: Collection[tuple[str, bytes]], each: int = 16) -> list[bytes]:
        found: dict[bytes, None] = {}
        with self._db.read() as db:
            for tree, key in keys:
                for side in (">= %s ORDER BY key", "< %s ORDER BY key DESC"):
                    rows = db.execute(
                        f"""SELECT infohash FROM (SELECT torrent FROM sketch_key
                            WHERE tree = %s AND key {side} LIMIT %s) k
                            JOIN torrent ON id = torrent""",  # noqa: S608
                        (tree, key, max(1, each)),
                    )
                    found.update(dict.fromkeys(infohash for (infohash,) in rows))
        return list(found)

    # -- how common words are -------------------------------------------------------------------

    def remember_counts(self, counts: Mapping[bytes, int], now: int) -> None:
        kept = {word: count for word, count in counts.items() if len(word) <= MAX_KEY}
        with self._write() as db:
            db.execute(
                """INSERT INTO counted(word, count, seen)
                    SELECT word, count, %s FROM unnest(%s::bytea[], %s::int[]) AS w(word, count)
                    ON CONFLICT (word) DO UPDATE
                    SET count = excluded.count, seen = excluded.seen""",
                (now, list(kept), [max(0, min(count, MAX_PEERS)) for count in kept.values()]),
            )
            db.execute(
                """DELETE FROM counted WHERE word IN (SELECT word FROM counted ORDER BY seen
                    LIMIT greatest(0, (SELECT count(*) FROM counted) - %s))""",
                (MAX_COUNTED,),
            )

    def counts(self, words: Collection[bytes], since: int) -> dict[bytes, int]:
        with self._db.read() as db:
            return dict(
                db.execute(
                    "SELECT word, count FROM counted WHERE word = ANY(%s) AND seen >= %s",
                    (list(words), since),
                )
            )


_NOW: Final = "extract(epoch FROM now())::bigint"
"""The server's: nodes may have clocks that differ."""
_OLD: Final = f"seen < {_NOW} - {_GONE}"


def _forget_node(db: Connection, node: int) -> None:
    """It shares and publishes nothing any more."""
    ids = [
        number
        for (number,) in db.execute("DELETE FROM own WHERE node = %s RETURNING torrent", (node,))
    ]
    _disown(db, ids)
    db.execute("DELETE FROM torrent WHERE id = ANY(%s) AND sources = 0", (ids,))
    db.execute("DELETE FROM outbox WHERE node = %s", (node,))
    db.execute("DELETE FROM node WHERE id = %s", (node,))


def _disown(db: Connection, ids: list[int]) -> None:
    """Of those that no node shares any more, note so."""
    db.execute(
        """UPDATE torrent SET sources = sources & ~1 WHERE id = ANY(%s) AND sources & 1 = 1
            AND NOT EXISTS (SELECT 1 FROM own WHERE torrent = torrent.id)""",
        (ids,),
    )
