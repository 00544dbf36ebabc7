"""How a catalogue stays within its bytes: torrents are evicted, and their words then purged.

The full-text index never takes words out where they are: for a row that goes it writes a mark, and
row and mark are dropped together when the parts of the index that hold them are merged. Eviction
alone would therefore free little, go on, and empty the catalogue. So it stops when a share of the
rows has gone, until the whole index was merged once, a little with each batch that is stored.
"""

from __future__ import annotations

import sqlite3
from typing import Final

_LEAST: Final = 1000
"""Rows evicted at a time: their pages come free in runs."""
_SHARE: Final = 0.1
"""Of all rows, gone before the index is merged. So much, about, the bound may be exceeded by; with
half of it twice as much is written for the same room."""
_MERGED_LEAST: Final = 256
"""Pages of the index (4 KiB) written with each batch during a merge, a few milliseconds ..."""
_MERGED_PER_ROW: Final = 0.5
"""... and more with a large one: the index of a row takes a thirtieth of a page."""
_FREE_SHARE: Final = 0.25
"""Of all pages, free to be used again; beyond that they are given back to the file system ..."""
_GIVEN_BACK: Final = 500
"""... so many with each batch."""


class Room:
    """Belongs to one database, and is used by its writer alone. What it remembers may be lost."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._gone = 0  # rows whose words are still in the index
        self._merging = False

    def removed(self, rows: int) -> None:
        """So many were removed, for whatever reason."""
        self._gone += rows

    def keep(self, db: sqlite3.Connection, came: int) -> None:
        """Call it in the transaction that stores `came` rows. Never ours is evicted; else what is
        without proof first, and among equals what was not seen for longest."""
        if not self._merging and bytes_used(db) > self._max_bytes:
            self._evict(db, max(_LEAST, 2 * came))
            (left,) = db.execute("SELECT count(*) FROM torrent").fetchone()
            if self._gone > _SHARE * left:
                self._gone = 0
                self._merging = True
                # A negative number makes it a merge of everything there is now.
                self._merge(db, -1)
        elif self._merging:
            if bytes_used(db) > self._max_bytes:
                self._evict(db, came)
            self._merging = self._merge(db, max(_MERGED_LEAST, int(_MERGED_PER_ROW * came)))
        else:
            pages, free, _ = _pages(db)
            for _ in range(min(_GIVEN_BACK, free - int(_FREE_SHARE * pages))):
                # However many it is told, Python lets it free one.
                db.execute("PRAGMA incremental_vacuum(1)")

    def _evict(self, db: sqlite3.Connection, rows: int) -> None:
        self._gone += db.execute(
            """DELETE FROM torrent WHERE id IN (SELECT id FROM torrent
                WHERE sources & 1 = 0 ORDER BY proof, seen LIMIT ?)""",
            (rows,),
        ).rowcount

    def _merge(self, db: sqlite3.Connection, pages: int) -> bool:
        """Merge so much of the index. False: there was nothing left to merge."""
        before = db.total_changes
        db.execute("INSERT INTO fts(fts, rank) VALUES('merge', ?)", (pages,))
        return db.total_changes - before >= 2  # FTS5's way to say so


def bytes_used(db: sqlite3.Connection) -> int:
    """Of the database, without its free pages."""
    pages, free, size = _pages(db)
    return (pages - free) * size


def _pages(db: sqlite3.Connection) -> tuple[int, int, int]:
    """All, the free ones, and the size of one."""
    pages, free, size = (
        int(db.execute(f"PRAGMA {what}").fetchone()[0])
        for what in ("page_count", "freelist_count", "page_size")
    )
    return pages, free, size
