"""The tables of the SQLite catalogue, and how a database of an older version gets them.

The rule: a migration that was released is never edited; to change a table, append one. The
database's `user_version` says how many were applied.

- `fts` is the full-text index of `torrent`, which it reads for nothing but a rebuild (an "external
  content" table): SQLite before 3.43 cannot delete from one without content. Triggers keep it in
  step, so a row cannot be removed or renamed without its words.
- Its tokenizer is the plainest, and every printable ASCII character belongs to a word: what is
  between two spaces is a word, as the caller made it.
- Prefixes of 1 and 2 characters have an index of their own. Longer ones begin so few words that
  those are read one by one: with an index of 3 writing took a seventh longer. Parts of the index
  are merged by eights (SQLite's default are fours), which takes a twentieth less.
"""

from __future__ import annotations

import sqlite3
import string
from collections.abc import Sequence
from typing import Final

APPLICATION_ID: Final = 0x64687463
"""`dhtc`. SQLite has it in a database's header, so that no program writes into another one's."""

_TOKENIZER = "ascii tokenchars '{}'".format(
    "".join(c for c in string.punctuation).replace("'", "''")
).replace('"', '""')

MIGRATIONS: tuple[Sequence[str], ...] = (
    (
        """CREATE TABLE torrent(
            id INTEGER PRIMARY KEY, infohash BLOB NOT NULL UNIQUE,
            title TEXT NOT NULL, words TEXT NOT NULL, more TEXT NOT NULL, tags TEXT NOT NULL,
            size INTEGER, files INTEGER, published INTEGER,
            first_seen INTEGER NOT NULL, seen INTEGER NOT NULL,
            sources INTEGER NOT NULL, proof INTEGER NOT NULL)""",
        # In the order of eviction: what may go, worst first.
        "CREATE INDEX torrent_evict ON torrent(proof, seen) WHERE sources & 1 = 0",
        "CREATE INDEX torrent_own ON torrent(id) WHERE sources & 1 = 1",
        """CREATE TABLE file(
            torrent INTEGER NOT NULL REFERENCES torrent ON DELETE CASCADE, place INTEGER NOT NULL,
            path TEXT NOT NULL, size INTEGER NOT NULL,
            PRIMARY KEY(torrent, place)) WITHOUT ROWID""",
        """CREATE TABLE claim(
            torrent INTEGER NOT NULL REFERENCES torrent ON DELETE CASCADE,
            publisher BLOB NOT NULL, title TEXT NOT NULL, seq INTEGER NOT NULL,
            verified INTEGER NOT NULL, seen INTEGER NOT NULL,
            PRIMARY KEY(torrent, publisher)) WITHOUT ROWID""",
        "CREATE INDEX claim_publisher ON claim(publisher, seen)",
        """CREATE TABLE health(
            torrent INTEGER PRIMARY KEY REFERENCES torrent ON DELETE CASCADE,
            seeds INTEGER, peers INTEGER NOT NULL, checked INTEGER NOT NULL, how TEXT NOT NULL)""",
        """CREATE TABLE publisher(
            key BLOB PRIMARY KEY, trust INTEGER NOT NULL, name TEXT NOT NULL,
            since INTEGER NOT NULL) WITHOUT ROWID""",
        # By infohash, not by row: it stays whatever becomes of the torrent's row.
        """CREATE TABLE outbox(
            infohash BLOB NOT NULL, tree TEXT NOT NULL, root BLOB NOT NULL,
            due INTEGER NOT NULL, depth INTEGER NOT NULL, failures INTEGER NOT NULL,
            PRIMARY KEY(infohash, tree, root)) WITHOUT ROWID""",
        "CREATE INDEX outbox_due ON outbox(due)",
        """CREATE TABLE word(
            word BLOB PRIMARY KEY, count INTEGER NOT NULL, seen INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX word_seen ON word(seen)",
        f"""CREATE VIRTUAL TABLE fts USING fts5(
            words, more, content='torrent', content_rowid='id', tokenize="{_TOKENIZER}",
            prefix='1 2')""",
        "INSERT INTO fts(fts, rank) VALUES ('automerge', 8)",
        """CREATE TRIGGER torrent_added AFTER INSERT ON torrent BEGIN
            INSERT INTO fts(rowid, words, more) VALUES (new.id, new.words, new.more); END""",
        """CREATE TRIGGER torrent_removed AFTER DELETE ON torrent BEGIN
            INSERT INTO fts(fts, rowid, words, more)
            VALUES ('delete', old.id, old.words, old.more); END""",
        """CREATE TRIGGER torrent_changed AFTER UPDATE OF words, more ON torrent
            WHEN old.words IS NOT new.words OR old.more IS NOT new.more BEGIN
            INSERT INTO fts(fts, rowid, words, more)
            VALUES ('delete', old.id, old.words, old.more);
            INSERT INTO fts(rowid, words, more) VALUES (new.id, new.words, new.more); END""",
    ),
    (
        """CREATE TABLE sketch(
            torrent INTEGER PRIMARY KEY REFERENCES torrent ON DELETE CASCADE,
            sketch BLOB NOT NULL)""",
        """CREATE TABLE sketch_key(
            tree TEXT NOT NULL, key BLOB NOT NULL,
            torrent INTEGER NOT NULL REFERENCES torrent ON DELETE CASCADE,
            PRIMARY KEY(tree, key, torrent)) WITHOUT ROWID""",
        "CREATE INDEX sketch_key_torrent ON sketch_key(torrent)",
    ),
)


def version(db: sqlite3.Connection) -> int:
    """How many migrations were applied. Zero for a new database."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection) -> None:
    """Apply what is missing, all of it or, if this raises, nothing."""
    if version(db) == len(MIGRATIONS):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[version(db) :]:  # another process may just have done it
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
