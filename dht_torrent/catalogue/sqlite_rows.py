"""Rows of the SQLite catalogue as the values they stand for, in few queries for many rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from dht_torrent.catalogue.entries import (
    MAX_CLAIMS,
    Entry,
    ListedFile,
    PublisherTrust,
    TitleClaim,
)
from dht_torrent.catalogue.rows import entry_of

_STEP: Final = 500
"""Values bound in one statement: SQLite before 3.32 took 999."""


def select_in(
    db: sqlite3.Connection, sql: str, keys: Collection[bytes], *values: object
) -> Iterator[tuple[Any, ...]]:
    """Rows of a query with `IN ({})` for any number of keys."""
    given = list(dict.fromkeys(keys))
    for start in range(0, len(given), _STEP):
        part = given[start : start + _STEP]
        yield from db.execute(sql.format(",".join("?" * len(part))), (*part, *values))


def entries_of(
    db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]], files: bool = False
) -> list[Entry]:
    """Of rows that `sqlite` selected: its columns and the relevance."""
    ids = [row[0] for row in rows]
    claims: dict[int, list[TitleClaim]] = {}
    for torrent, key, title, seq, verified, trust in select_in(
        db,
        """SELECT torrent, publisher, title, seq, verified, coalesce(trust, 0)
            FROM claim LEFT JOIN publisher ON key = publisher WHERE torrent IN ({})
            ORDER BY trust DESC, verified DESC, claim.seen DESC, publisher""",
        ids,
    ):
        claim = TitleClaim(key, title, seq, bool(verified), PublisherTrust(trust))
        claims.setdefault(torrent, []).append(claim)
    listed: dict[int, list[ListedFile]] = {}
    if files:
        for torrent, path, size in select_in(
            db,
            "SELECT torrent, path, size FROM file WHERE torrent IN ({}) ORDER BY torrent, place",
            ids,
        ):
            listed.setdefault(torrent, []).append(ListedFile(path, size))
    return [
        entry_of(row[:-1], row[-1], claims.get(row[0], ()), listed.get(row[0], ())) for row in rows
    ]


def bound_claims(db: sqlite3.Connection, infohash: bytes, last: int) -> None:
    """Of too many publishers of one torrent keep those trusted, then those whose record was
    verified, then those seen last. Rows after `last` are new, and have not too many."""
    found = db.execute(
        "SELECT id FROM torrent WHERE infohash = ? AND id <= ?", (infohash, last)
    ).fetchone()
    if found is not None:
        db.execute(
            """DELETE FROM claim WHERE torrent = :torrent AND publisher IN (
                SELECT publisher FROM claim LEFT JOIN publisher p ON p.key = publisher
                WHERE torrent = :torrent
                ORDER BY coalesce(trust, 0) DESC, verified DESC, seen DESC, publisher
                LIMIT -1 OFFSET :most)""",
            {"torrent": found[0], "most": MAX_CLAIMS},
        )
