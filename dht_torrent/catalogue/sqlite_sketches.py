"""What torrents are like, in SQLite: sketches, and the order of their keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable

from dht_torrent.catalogue.entries import SketchEntry, check_sketch
from dht_torrent.catalogue.sqlite_rows import select_in


def put(db: sqlite3.Connection, sketches: Iterable[SketchEntry]) -> None:
    """See `Catalogue.put_sketches`."""
    for one in sketches:
        check_sketch(one)
        found = db.execute("SELECT id FROM torrent WHERE infohash = ?", (one.infohash,)).fetchone()
        if found is None:
            continue
        db.execute("REPLACE INTO sketch(torrent, sketch) VALUES(?, ?)", (*found, one.sketch))
        db.execute("DELETE FROM sketch_key WHERE torrent = ?", found)
        db.executemany(
            "INSERT OR IGNORE INTO sketch_key(tree, key, torrent) VALUES(?, ?, ?)",
            [(tree, key, *found) for tree, key in one.keys],
        )


def of(db: sqlite3.Connection, infohashes: Collection[bytes]) -> dict[bytes, bytes]:
    """See `Catalogue.sketches`."""
    return dict(
        select_in(
            db,
            """SELECT infohash, sketch FROM sketch JOIN torrent ON id = torrent
                WHERE infohash IN ({})""",
            infohashes,
        )
    )


def alike(db: sqlite3.Connection, keys: Collection[tuple[str, bytes]], each: int) -> list[bytes]:
    """See `Catalogue.alike`."""
    found: dict[bytes, None] = {}
    for tree, key in keys:
        for side in (">= ? ORDER BY key", "< ? ORDER BY key DESC"):
            rows = db.execute(
                f"""SELECT infohash FROM (SELECT torrent FROM sketch_key
                    WHERE tree = ? AND key {side} LIMIT ?) JOIN torrent ON id = torrent""",  # noqa: S608
                (tree, key, each),
            )
            found.update(dict.fromkeys(infohash for (infohash,) in rows))
    return list(found)
