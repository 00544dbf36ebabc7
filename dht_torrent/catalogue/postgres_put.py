"""How a batch of entries is stored in the PostgreSQL catalogue, in one transaction of the one who
writes: what is here is read, what becomes of it is decided (`postgres_rows.merged`), and what is
new is copied in, as PostgreSQL does fastest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dht_torrent.catalogue.entries import (
    MAX_CLAIMS,
    Entry,
    ListedFile,
    Proof,
    PublisherTrust,
    PutResult,
    Source,
)
from dht_torrent.catalogue.postgres_rows import folded, merged
from dht_torrent.catalogue.postgres_schema import ERA, Connection
from dht_torrent.catalogue.rows import without_blocked

_EVICTED: Final = 1000
"""Rows evicted at a time, at least."""
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


def store(db: Connection, batch: list[Entry], now: int, *, node: int, most_bytes: int) -> PutResult:
    """`Catalogue.put` of one node; the entries are `bounded`."""
    whole = len(batch)
    batch = without_blocked(batch, _blocked(db, batch))
    given: dict[bytes, Entry] = {}
    for entry in batch:
        first = given.get(entry.infohash)
        given[entry.infohash] = entry if first is None else merged(first, entry)
    known = _known(db, list(given))
    (last,) = db.execute("SELECT last FROM total").fetchone()
    new = [entry for entry in given.values() if entry.infohash not in known]
    numbers = {entry.infohash: last + at for at, entry in enumerate(new, 1)}
    _add(db, [(numbers[entry.infohash], entry) for entry in new], now)
    seen = [(*known[one.infohash], one) for one in given.values() if one.infohash in known]
    _complete(db, seen, now)
    numbers |= {infohash: number for infohash, (number, _) in known.items()}
    _put_own(db, node, numbers, given.values())
    _put_claims(db, numbers, given.values(), now)
    _keep_room(db, len(batch), most_bytes)
    return PutResult(len(new), len(batch) - len(new), whole - len(batch))


def _add(db: Connection, new: Sequence[tuple[int, Entry]], now: int) -> None:
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


def _complete(db: Connection, known: Sequence[tuple[int, Entry, Entry]], now: int) -> None:
    """Of torrents that are here: their numbers, what was known, and what is told."""
    if not known:
        return
    numbers = [number for number, _, _ in known]
    db.execute("UPDATE torrent SET seen = %s WHERE id = ANY(%s) AND seen < %s", (now, numbers, now))
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
    db: Connection, node: int, numbers: Mapping[bytes, int], entries: Iterable[Entry]
) -> None:
    ours = [
        (node, numbers[entry.infohash], entry.published, " ".join(entry.tags))
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


def _keep_room(db: Connection, came: int, most_bytes: int) -> None:
    """Never what a node shares is evicted; else what is without proof first, and among equals
    what was not seen for longest."""
    (used,) = db.execute("SELECT bytes FROM total").fetchone()
    if used > most_bytes:
        db.execute(
            """DELETE FROM torrent WHERE id IN (SELECT id FROM torrent
                WHERE sources & 1 = 0 ORDER BY proof, era, id LIMIT %s)""",
            (max(_EVICTED, 2 * came),),
        )


def _blocked(db: Connection, batch: list[Entry]) -> set[bytes]:
    """The publishers that are blocked, if it matters."""
    if not any(entry.claims for entry in batch):
        return set()
    sql = "SELECT key FROM publisher WHERE trust = %s"
    return {key for (key,) in db.execute(sql, (int(PublisherTrust.BLOCKED),))}


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
