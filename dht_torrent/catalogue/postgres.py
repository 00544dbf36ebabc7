"""A catalogue in a PostgreSQL database, which several nodes may share: what is asked of it.

Whatever a stranger or a user gave is bound as a value. How entries of one torrent are merged is
decided here, in Python (`postgres_rows.merged`): while a batch is stored nobody else writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dht_torrent.catalogue import postgres_search
from dht_torrent.catalogue.entries import (
    MAX_CLAIMS,
    MAX_COUNTED,
    MAX_KEY,
    MAX_PEERS,
    MAX_RESULTS,
    MAX_TITLE,
    CatalogueQuery,
    CatalogueSummary,
    Entry,
    KnownPublisher,
    ListedFile,
    OutboxEntry,
    Proof,
    PublisherTrust,
    PutResult,
    Source,
    SwarmHealth,
    bounded,
    check_key,
    query_words,
    shown,
    within,
)
from dht_torrent.catalogue.postgres_rows import COLUMNS, ROWS, entries_of, folded, merged
from dht_torrent.catalogue.postgres_schema import ERA, LOCK, Connection
from dht_torrent.catalogue.postgres_server import Server
from dht_torrent.config import CatalogueConfig

_BLOCK_STEP: Final = 5000
"""Claims of a blocked publisher removed in one transaction."""
_EVICTED: Final = 1000
"""Rows evicted at a time, at least."""
_TOLD: Final = 3600.0
"""Seconds between two times that a node says it is still there."""
_GONE: Final = 30 * 86400
"""Seconds after which a node that was not there shares and publishes nothing any more."""
_LISTED: Final = (ListedFile("", 0),)
"""Stands for the files that a torrent here has."""
_TORRENT: Final = (
    *("id", "infohash", "title", "words", "more", "tags", "size", "files", "published"),
    *("first_seen", "seen", "era", "sources", "proof", "tokens"),
)
_TYPES: Final = (
    *("int8", "bytea", "text", "text", "text", "text", "int8", "int4", "int8"),
    *("int8", "int8", "int4", "int2", "int2", "int2"),
)


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
            with contextlib.suppress(Exception), self._db.write() as db:
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

    # -- torrents -------------------------------------------------------------------------------

    def put(self, entries: Iterable[Entry], now: int) -> PutResult:
        batch = [bounded(entry) for entry in entries]
        with self._write() as db:
            whole = len(batch)
            batch = _without_blocked(db, batch)
            given: dict[bytes, Entry] = {}
            for entry in batch:
                first = given.get(entry.infohash)
                given[entry.infohash] = entry if first is None else merged(first, entry)
            known = _known(db, list(given))
            (last,) = db.execute("SELECT last FROM total").fetchone()
            new = [entry for entry in given.values() if entry.infohash not in known]
            numbers = {entry.infohash: last + at for at, entry in enumerate(new, 1)}
            self._add(db, [(numbers[entry.infohash], entry) for entry in new], now)
            seen = [(*known[one.infohash], one) for one in given.values() if one.infohash in known]
            self._complete(db, seen, now)
            numbers |= {infohash: number for infohash, (number, _) in known.items()}
            self._put_own(db, numbers, given.values())
            _put_claims(db, numbers, given.values(), now)
            self._keep_room(db, len(batch))
        return PutResult(len(new), len(batch) - len(new), whole - len(batch))

    def _add(self, db: Connection, new: Sequence[tuple[int, Entry]], now: int) -> None:
        if not new:
            return
        _copy(
            db,
            "torrent",
            _TORRENT,
            _TYPES,
            (
                (
                    *(number, entry.infohash, entry.title, folded(entry.words)),
                    *(folded(entry.more), " ".join(entry.tags), entry.size, entry.files),
                    *(entry.published, now, now, now >> ERA, int(entry.sources)),
                    *(int(entry.proof), _tokens(entry)),
                )
                for number, entry in new
            ),
        )
        db.execute("UPDATE total SET last = %s", (new[-1][0],))
        _put_files(db, new)

    def _complete(
        self, db: Connection, known: Sequence[tuple[int, Entry, Entry]], now: int
    ) -> None:
        """Of torrents that are here: their numbers, what was known, and what is told."""
        if not known:
            return
        numbers = [number for number, _, _ in known]
        db.execute(
            "UPDATE torrent SET seen = %s WHERE id = ANY(%s) AND seen < %s", (now, numbers, now)
        )
        db.execute(
            "UPDATE torrent SET era = %s WHERE id = ANY(%s) AND era < %s",
            (now >> ERA, numbers, now >> ERA),
        )
        listed: list[tuple[int, Entry]] = []
        changed: list[tuple[Any, ...]] = []
        for number, before, entry in known:
            after = merged(before, entry)
            if after.listed != before.listed:
                listed.append((number, after))
            if replace(after, claims=(), listed=()) != replace(before, listed=()):
                changed.append(
                    (
                        *(after.title, folded(after.words), folded(after.more)),
                        *(" ".join(after.tags), after.size, after.files, after.published),
                        *(int(after.sources), int(after.proof), _tokens(after), number),
                    )
                )
        if changed:
            with db.cursor() as cursor:
                cursor.executemany(
                    """UPDATE torrent SET title = %s, words = %s, more = %s, tags = %s, size = %s,
                        files = %s, published = %s, sources = %s, proof = %s, tokens = %s
                        WHERE id = %s""",
                    changed,
                )
        if listed:
            db.execute("DELETE FROM file WHERE torrent = ANY(%s)", ([one[0] for one in listed],))
            _put_files(db, listed)

    def _put_own(
        self, db: Connection, numbers: Mapping[bytes, int], entries: Iterable[Entry]
    ) -> None:
        ours = [
            (self._node, numbers[entry.infohash], entry.published, " ".join(entry.tags))
            for entry in entries
            if entry.sources & Source.OWN
        ]
        if ours:
            with db.cursor() as cursor:
                cursor.executemany(
                    """INSERT INTO own(node, torrent, published, tags) VALUES(%s, %s, %s, %s)
                        ON CONFLICT (node, torrent) DO UPDATE
                        SET published = excluded.published, tags = excluded.tags""",
                    ours,
                )

    def _keep_room(self, db: Connection, came: int) -> None:
        """Never what a node shares is evicted; else what is without proof first, and among equals
        what was not seen for longest."""
        (used,) = db.execute("SELECT bytes FROM total").fetchone()
        if used > self._config.server_bytes:
            db.execute(
                """DELETE FROM torrent WHERE id IN (SELECT id FROM torrent
                    WHERE sources & 1 = 0 ORDER BY proof, era, id LIMIT %s)""",
                (max(_EVICTED, 2 * came),),
            )

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
        where, values = postgres_search.limits(query)
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


def _without_blocked(db: Connection, batch: list[Entry]) -> list[Entry]:
    """The batch without claims of blocked publishers, and what only they vouch for."""
    if not any(entry.claims for entry in batch):
        return batch
    blocked = {
        key
        for (key,) in db.execute(
            "SELECT key FROM publisher WHERE trust = %s", (int(PublisherTrust.BLOCKED),)
        )
    }
    kept: list[Entry] = []
    for entry in batch:
        good = tuple(claim for claim in entry.claims if claim.publisher not in blocked)
        if len(good) < len(entry.claims):
            if not good and not entry.sources & Source.OWN:
                continue
            kept.append(replace(entry, claims=good))
        else:
            kept.append(entry)
    return kept


def _known(db: Connection, infohashes: list[bytes]) -> dict[bytes, tuple[int, Entry]]:
    """Those that are here, with their numbers. Of files they have none, or one that stands for
    them; of claims none."""
    found: dict[bytes, tuple[int, Entry]] = {}
    for row in db.execute(
        """SELECT id, infohash, title, words, more, tags, size, files, published, sources, proof,
            EXISTS (SELECT 1 FROM file WHERE torrent = torrent.id)
            FROM torrent WHERE infohash = ANY(%s)""",
        (infohashes,),
    ):
        number, infohash, title, words, more, tags, size, files, published, *rest = row
        sources, proof, listed = rest
        found[infohash] = (
            number,
            Entry(
                infohash=infohash,
                title=title,
                words=words,
                more=more,
                tags=tuple(tags.split(" ")) if tags else (),
                size=size,
                files=files,
                published=published,
                sources=Source(sources),
                proof=Proof(proof),
                listed=_LISTED if listed else (),
            ),
        )
    return found


def _tokens(entry: Entry) -> int:
    """Words that its index has of it."""
    return sum(text.count(" ") + 1 for text in (entry.words, entry.more) if text)


def _copy(
    db: Connection,
    table: str,
    columns: Sequence[str],
    types: Sequence[str],
    rows: Iterable[Sequence[object]],
) -> None:
    statement = f"COPY {table}({', '.join(columns)}) FROM STDIN (FORMAT binary)"
    with db.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def _put_files(db: Connection, entries: Sequence[tuple[int, Entry]]) -> None:
    rows = [
        (number, place, *file)
        for number, entry in entries
        for place, file in enumerate(entry.listed)
    ]
    if rows:
        _copy(
            db,
            "file",
            ("torrent", "place", "path", "size"),
            ("int8", "int2", "text", "int8"),
            rows,
        )


def _put_claims(
    db: Connection, numbers: Mapping[bytes, int], entries: Iterable[Entry], now: int
) -> None:
    rows = [
        (numbers[entry.infohash], c.publisher, c.title, c.seq, c.verified)
        for entry in entries
        for c in entry.claims
    ]
    if not rows:
        return
    newer = """(excluded.verified > claim.verified
        OR (excluded.verified = claim.verified AND excluded.seq >= claim.seq))"""
    db.execute(
        f"""INSERT INTO claim(torrent, publisher, title, seq, verified, seen)
            SELECT *, %s::bigint FROM
                unnest(%s::bigint[], %s::bytea[], %s::text[], %s::bigint[], %s::boolean[])
            ON CONFLICT (torrent, publisher) DO UPDATE SET
            title = CASE WHEN {newer} THEN excluded.title ELSE claim.title END,
            seq = CASE WHEN {newer} THEN excluded.seq ELSE claim.seq END,
            verified = claim.verified OR excluded.verified,
            seen = greatest(claim.seen, excluded.seen)""",  # noqa: S608
        (now, *map(list, zip(*rows, strict=True))),
    )
    # Of too many publishers of one torrent keep those trusted, then those whose record was
    # verified, then those seen last.
    db.execute(
        """DELETE FROM claim USING (
                SELECT torrent, publisher, row_number() OVER (PARTITION BY torrent
                    ORDER BY coalesce(trust, 0) DESC, verified DESC, seen DESC, publisher) AS place
                FROM claim LEFT JOIN publisher ON key = publisher WHERE torrent = ANY(%s)) x
            WHERE claim.torrent = x.torrent AND claim.publisher = x.publisher AND place > %s""",
        (list({row[0] for row in rows}), MAX_CLAIMS),
    )
