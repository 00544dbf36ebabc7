"""The tables of the PostgreSQL catalogue, in a schema of their own, and how a database of an older
version gets them.

The rule: a migration that was released is never edited; to change a table, append one. `version`
says how many were applied; who applies them holds an advisory lock, so that of several nodes that
start at once one does.

- One database is one user's, who may run several nodes on it. What is known of torrents, of
  publishers (whom the user trusts or blocks, too) and of words is known to all of them. What a node
  shares (`own`) and publishes (`outbox`) has its number: one renews nothing of another's, and what
  any of them shares is never evicted. In `torrent.sources` the bit of `Source.OWN` says that some
  node shares it.
- `lexemes` gives what a torrent is found by, for the GIN index: its words, just as they came (there
  is no parser and no dictionary between), and marks for the runs of rows that it is in, of 8192
  rows and more. With a few marks the newest of very many matches are read without the others: an
  index of words has no order.
- `lexeme` counts the torrents that have a word, for the ranking (BM25), and to know beforehand how
  many rows a query matches; it has all words, so it finds those that begin with a text as well.
  Triggers keep it, the totals and the rows of the other tables in step with `torrent`: nothing can
  be removed or renamed without its words. They are set-wise but for a change of words, which is
  rare.
- `seen` changes with every sighting and is therefore in no index: PostgreSQL then writes the row
  alone (a "heap-only tuple") and none of its index entries. What is evicted first is found by its
  `era`, days in which it was seen last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

Connection = Any
"""psycopg's; it is imported only where there is a PostgreSQL catalogue."""

SCHEMA: Final = "dht_torrent"
LOCK: Final = 0x64687463
"""`dhtc`: the advisory lock of who writes, or migrates."""
MARK: Final = "#"
"""Before the number of a run of rows. In a word it is written twice."""
RUNS: Final = {"a": 13, "b": 15, "c": 17, "d": 19, "e": 21}
"""The kinds of runs, and the bits of a row's number that do not count in the mark of one."""
ERA: Final = 17
"""Bits of a time in seconds that do not count in its era: a day and a half."""
ROW_BYTES: Final = 210
"""What a torrent takes in its table and the indexes besides its text ..."""
TOKEN_BYTES: Final = 24
"""... for each word in the index and in the counts of words ..."""
FILE_BYTES: Final = 70
CLAIM_BYTES: Final = 190
"""... and for a file or a claim."""

_MARKS = ", ".join(f"'{MARK}{kind}' || (id >> {bits})::text" for kind, bits in RUNS.items())
_MARKS = f"ARRAY[{_MARKS}]"
_TEXT = "octet_length(title) + octet_length(words) + octet_length(more) + octet_length(tags)"
_ROW = f"{ROW_BYTES} + {_TEXT} + {TOKEN_BYTES} * tokens"
_WORDS = "unnest(tsvector_to_array(lexemes(words, more)))"

MIGRATIONS: tuple[Sequence[str], ...] = (
    (
        """CREATE TABLE node(
            id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key bytea NOT NULL UNIQUE,
            seen bigint NOT NULL)""",
        """CREATE TABLE total(
            torrents bigint NOT NULL, tokens bigint NOT NULL, bytes bigint NOT NULL,
            last bigint NOT NULL)""",
        "INSERT INTO total VALUES (0, 0, 0, 0)",
        """CREATE TABLE torrent(
            id bigint PRIMARY KEY, infohash bytea NOT NULL UNIQUE,
            title text COLLATE "C" NOT NULL, words text COLLATE "C" NOT NULL,
            more text COLLATE "C" NOT NULL, tags text COLLATE "C" NOT NULL,
            size bigint, published bigint, first_seen bigint NOT NULL, seen bigint NOT NULL,
            era int NOT NULL, files int, sources smallint NOT NULL, proof smallint NOT NULL,
            tokens smallint NOT NULL)
            WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05,
            autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.5)""",
        "CREATE INDEX torrent_evict ON torrent(proof, era, id)",
        """CREATE TABLE own(
            node int NOT NULL, torrent bigint NOT NULL, published bigint, tags text NOT NULL,
            PRIMARY KEY(node, torrent))""",
        "CREATE INDEX own_torrent ON own(torrent)",
        """CREATE TABLE file(
            torrent bigint NOT NULL, place smallint NOT NULL, path text NOT NULL,
            size bigint NOT NULL, PRIMARY KEY(torrent, place))""",
        """CREATE TABLE claim(
            torrent bigint NOT NULL, publisher bytea NOT NULL, title text NOT NULL,
            seq bigint NOT NULL, seen bigint NOT NULL, verified boolean NOT NULL,
            PRIMARY KEY(torrent, publisher)) WITH (autovacuum_vacuum_scale_factor = 0.05)""",
        "CREATE INDEX claim_publisher ON claim(publisher, seen)",
        """CREATE TABLE health(
            torrent bigint PRIMARY KEY, checked bigint NOT NULL, seeds int, peers int NOT NULL,
            how text NOT NULL) WITH (fillfactor = 80)""",
        """CREATE TABLE publisher(
            key bytea PRIMARY KEY, trust smallint NOT NULL, name text NOT NULL,
            since bigint NOT NULL)""",
        # By infohash, not by row: it stays whatever becomes of the torrent's row.
        """CREATE TABLE outbox(
            node int NOT NULL, infohash bytea NOT NULL, tree text COLLATE "C" NOT NULL,
            root bytea NOT NULL, due bigint NOT NULL, depth int NOT NULL, failures int NOT NULL,
            PRIMARY KEY(node, infohash, tree, root))""",
        "CREATE INDEX outbox_due ON outbox(node, due)",
        """CREATE TABLE counted(
            word bytea PRIMARY KEY, count int NOT NULL, seen bigint NOT NULL)""",
        "CREATE INDEX counted_seen ON counted(seen)",
        """CREATE TABLE lexeme(word text COLLATE "C" PRIMARY KEY, torrents int NOT NULL)
            WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1)""",
        f"""CREATE FUNCTION lexemes(words text, more text) RETURNS tsvector
            LANGUAGE sql IMMUTABLE PARALLEL SAFE
            RETURN array_to_tsvector(array_remove(string_to_array(
                replace(words || ' ' || more, '{MARK}', '{MARK * 2}'), ' '), ''))""",
        f"""CREATE FUNCTION lexemes(words text, more text, id bigint) RETURNS tsvector
            LANGUAGE sql IMMUTABLE PARALLEL SAFE
            RETURN array_to_tsvector(array_cat(array_remove(string_to_array(
                replace(words || ' ' || more, '{MARK}', '{MARK * 2}'), ' '), ''),
                {_MARKS}))""",
        # What is new is in a list that every search reads besides; a short one.
        """CREATE INDEX torrent_lexemes ON torrent USING gin (lexemes(words, more, id))
            WITH (gin_pending_list_limit = 1024)""",
        f"""CREATE FUNCTION torrents_came() RETURNS trigger LANGUAGE plpgsql
            SET search_path = {SCHEMA} AS $$ BEGIN
            INSERT INTO lexeme(word, torrents)
                SELECT word, count(*) FROM (SELECT {_WORDS} AS word FROM came) w
                GROUP BY word ORDER BY word
                ON CONFLICT (word) DO UPDATE SET torrents = lexeme.torrents + excluded.torrents;
            UPDATE total SET torrents = total.torrents + c.torrents,
                tokens = total.tokens + c.tokens, bytes = total.bytes + c.bytes
                FROM (SELECT count(*) AS torrents, coalesce(sum(tokens), 0) AS tokens,
                    coalesce(sum({_ROW}), 0) AS bytes FROM came) c;
            RETURN NULL; END $$""",  # noqa: S608
        f"""CREATE FUNCTION torrents_went() RETURNS trigger LANGUAGE plpgsql
            SET search_path = {SCHEMA} AS $$ BEGIN
            DELETE FROM own USING went WHERE torrent = went.id;
            DELETE FROM file USING went WHERE torrent = went.id;
            DELETE FROM claim USING went WHERE torrent = went.id;
            DELETE FROM health USING went WHERE torrent = went.id;
            WITH gone AS MATERIALIZED (SELECT word, count(*) AS torrents
                    FROM (SELECT {_WORDS} AS word FROM went) w GROUP BY word),
                less AS (UPDATE lexeme SET torrents = lexeme.torrents - gone.torrents FROM gone
                    WHERE lexeme.word = gone.word AND lexeme.torrents > gone.torrents)
                DELETE FROM lexeme USING gone
                    WHERE lexeme.word = gone.word AND lexeme.torrents <= gone.torrents;
            UPDATE total SET torrents = total.torrents - c.torrents,
                tokens = total.tokens - c.tokens, bytes = total.bytes - c.bytes
                FROM (SELECT count(*) AS torrents, coalesce(sum(tokens), 0) AS tokens,
                    coalesce(sum({_ROW}), 0) AS bytes FROM went) c;
            RETURN NULL; END $$""",  # noqa: S608
        f"""CREATE FUNCTION torrent_changed() RETURNS trigger LANGUAGE plpgsql
            SET search_path = {SCHEMA} AS $$ BEGIN
            IF old.words <> new.words OR old.more <> new.more THEN
                WITH gone AS MATERIALIZED (
                        SELECT unnest(tsvector_to_array(lexemes(old.words, old.more))) AS word),
                    less AS (UPDATE lexeme SET torrents = torrents - 1 FROM gone
                        WHERE lexeme.word = gone.word AND torrents > 1)
                    DELETE FROM lexeme USING gone WHERE lexeme.word = gone.word AND torrents <= 1;
                INSERT INTO lexeme(word, torrents)
                    SELECT unnest(tsvector_to_array(lexemes(new.words, new.more))), 1
                    ON CONFLICT (word) DO UPDATE SET torrents = lexeme.torrents + 1;
            END IF;
            UPDATE total SET tokens = tokens + new.tokens - old.tokens,
                bytes = bytes + {TOKEN_BYTES} * (new.tokens - old.tokens)
                    + octet_length(new.title) - octet_length(old.title)
                    + octet_length(new.words) - octet_length(old.words)
                    + octet_length(new.more) - octet_length(old.more)
                    + octet_length(new.tags) - octet_length(old.tags);
            RETURN NULL; END $$""",  # noqa: S608
        f"""CREATE FUNCTION rows_came() RETURNS trigger LANGUAGE plpgsql
            SET search_path = {SCHEMA} AS $$ BEGIN
            UPDATE total SET bytes = bytes + (SELECT count(*) FROM came) * CASE tg_table_name
                WHEN 'file' THEN {FILE_BYTES} ELSE {CLAIM_BYTES} END;
            RETURN NULL; END $$""",  # noqa: S608
        f"""CREATE FUNCTION rows_went() RETURNS trigger LANGUAGE plpgsql
            SET search_path = {SCHEMA} AS $$ BEGIN
            UPDATE total SET bytes = bytes - (SELECT count(*) FROM went) * CASE tg_table_name
                WHEN 'file' THEN {FILE_BYTES} ELSE {CLAIM_BYTES} END;
            RETURN NULL; END $$""",  # noqa: S608
        """CREATE TRIGGER came AFTER INSERT ON torrent REFERENCING NEW TABLE AS came
            FOR EACH STATEMENT EXECUTE FUNCTION torrents_came()""",
        """CREATE TRIGGER went AFTER DELETE ON torrent REFERENCING OLD TABLE AS went
            FOR EACH STATEMENT EXECUTE FUNCTION torrents_went()""",
        """CREATE TRIGGER changed AFTER UPDATE OF title, words, more, tags ON torrent FOR EACH ROW
            WHEN ((old.title, old.words, old.more, old.tags)
                IS DISTINCT FROM (new.title, new.words, new.more, new.tags))
            EXECUTE FUNCTION torrent_changed()""",
        *(
            statement
            for table in ("file", "claim")
            for statement in (
                f"""CREATE TRIGGER came AFTER INSERT ON {table} REFERENCING NEW TABLE AS came
                    FOR EACH STATEMENT EXECUTE FUNCTION rows_came()""",
                f"""CREATE TRIGGER went AFTER DELETE ON {table} REFERENCING OLD TABLE AS went
                    FOR EACH STATEMENT EXECUTE FUNCTION rows_went()""",
            )
        ),
    ),
    (
        """CREATE TABLE sketch(
            torrent bigint PRIMARY KEY, infohash bytea NOT NULL UNIQUE, sketch bytea NOT NULL)""",
        """CREATE TABLE sketch_key(
            tree text COLLATE "C" NOT NULL, key bytea NOT NULL, torrent bigint NOT NULL,
            PRIMARY KEY(tree, key, torrent))""",
        "CREATE INDEX sketch_key_torrent ON sketch_key(torrent)",
        f"""CREATE FUNCTION sketches_went() RETURNS trigger LANGUAGE plpgsql
            SET search_path = {SCHEMA} AS $$ BEGIN
            DELETE FROM sketch USING went WHERE torrent = went.id;
            DELETE FROM sketch_key USING went WHERE torrent = went.id;
            RETURN NULL; END $$""",  # noqa: S608
        """CREATE TRIGGER sketches_went AFTER DELETE ON torrent REFERENCING OLD TABLE AS went
            FOR EACH STATEMENT EXECUTE FUNCTION sketches_went()""",
        # A key takes about what a claim does, its share of the sketch included.
        """CREATE TRIGGER came AFTER INSERT ON sketch_key REFERENCING NEW TABLE AS came
            FOR EACH STATEMENT EXECUTE FUNCTION rows_came()""",
        """CREATE TRIGGER went AFTER DELETE ON sketch_key REFERENCING OLD TABLE AS went
            FOR EACH STATEMENT EXECUTE FUNCTION rows_went()""",
    ),
)


class UnsuitableError(Exception):
    """The database cannot be our catalogue. The text says why, after its name."""


def check(db: Connection) -> int:
    """How many migrations were applied; zero for a database that has none of our tables. Raises
    UnsuitableError."""
    encoding, ours, found = db.execute(
        # The tables themselves: functions such as to_regclass may have seen them before we waited.
        """SELECT current_setting('server_encoding'),
            EXISTS (SELECT FROM pg_namespace WHERE nspname = %s),
            EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                WHERE nspname = %s AND relname = 'version')""",
        (SCHEMA, SCHEMA),
    ).fetchone()
    if encoding != "UTF8":
        raise UnsuitableError(f"has the encoding {encoding}: it must be made with UTF8")
    if not found:
        if ours:
            raise UnsuitableError(f"has a schema {SCHEMA} of another program: it is left alone")
        return 0
    number = int(db.execute(f"SELECT number FROM {SCHEMA}.version").fetchone()[0])  # noqa: S608
    if number > len(MIGRATIONS):
        raise UnsuitableError(
            f"was made by a newer version of dht_torrent (its schema is {number},"
            f" and this one knows {len(MIGRATIONS)})"
        )
    return number


def migrate(db: Connection) -> None:
    """Apply what is missing, all of it or, if this raises, nothing. Raises UnsuitableError."""
    if check(db) == len(MIGRATIONS):
        return
    with db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        number = check(db)  # another node may just have done it
        if number == 0:
            db.execute(f"CREATE SCHEMA {SCHEMA}")
            db.execute(f"CREATE TABLE {SCHEMA}.version(number int NOT NULL)")
            db.execute(f"INSERT INTO {SCHEMA}.version VALUES (0)")  # noqa: S608
        for statements in MIGRATIONS[number:]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"UPDATE {SCHEMA}.version SET number = %s", (len(MIGRATIONS),))  # noqa: S608
