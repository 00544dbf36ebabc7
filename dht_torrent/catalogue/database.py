"""One SQLite file: the connections to it, its transactions, and what is done when it is damaged.

One connection writes and a few read, each used by one thread at a time: in WAL mode neither waits
for the other, and what was committed survives the end of the process at any moment (not always a
power cut: `synchronous=NORMAL` may lose the last seconds then, and never more than that).

A second process that opens the same file is tolerated: it waits for the first to finish a write,
then gives up with a clear error. A file that turns out to be damaged is set aside under another
name, when it is opened as at any later time, and an empty one is begun: what was in it can be found
again, or shared again, and the node goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from dht_torrent.catalogue import schema
from dht_torrent.config import CatalogueConfig
from dht_torrent.errors import StorageError

_WAL_PAGES: Final = 8192
"""Pages of 4 KiB in the log before they are copied to the database: a batch of new torrents touches
most pages of the index of infohashes, and several batches the same ones."""
_SHARED_FIRST: Final = 0x40000002
_SHARED_SIZE: Final = 510
"""Bytes of a database that SQLite locks for reading, part of its file format."""
_MAX_WARNINGS: Final = 20
_MAX_ASIDE: Final = 100
"""Damaged files kept; beyond that, a person has to look at why."""
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_TROUBLES: Final = (
    *_BUSY,
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_TOOBIG),
    *(sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_INTERRUPT),
)
"""The system's troubles. Other errors are bugs of ours."""


def has_fts5() -> bool:
    """Whether this Python's SQLite has the full-text index."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        try:
            db.execute("CREATE VIRTUAL TABLE probe USING fts5(words)")
        except sqlite3.Error:
            return False
    return True


class Database:
    """May be used from any thread. Without a path it is in memory, and all wait for each other."""

    def __init__(self, path: Path | str | None, config: CatalogueConfig) -> None:
        """Open or create it. Raises StorageError: without FTS5, if the file is not a catalogue
        that this version can read, and whatever the system may say."""
        self._config = config
        self._path = None if path is None else Path(path)
        self._writing = threading.RLock()  # the writing connection
        self._db: sqlite3.Connection | None = None
        self._reading = threading.Semaphore(self._config.readers)
        self._pool = threading.Condition()  # what follows; held for moments only
        self._idle: list[sqlite3.Connection] = []
        self._readers = 0  # in use
        self._damage: str | None = None  # found, and not yet mended
        self._closed = False
        self._warnings: list[str] = []
        self._name = "the catalogue in memory" if path is None else f"the catalogue {path}"
        if not has_fts5():
            raise StorageError(
                f"{self._name} cannot be used: the SQLite {sqlite3.sqlite_version} of this Python"
                " was built without FTS5, its full-text index"
            )
        with self._writing:
            self._open()

    def close(self) -> None:
        with self._writing:
            with self._pool:
                self._closed = True
            self._close_connections()

    def warnings(self) -> list[str]:
        with self._pool:
            found, self._warnings = self._warnings, []
            return found

    # -- connections ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed if the block ends well, and else leaves nothing."""
        with self._writing, self._mending():
            db = self._writer()
            with self._translated():
                try:
                    db.execute("BEGIN IMMEDIATE")
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("ROLLBACK")
                    raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """All that the block reads is of one moment."""
        if self._path is None:
            with self._writing, self._translated():
                yield self._writer()
            return
        with self._reading, self._mending(), self._reader() as db, self._translated():
            db.execute("BEGIN")
            try:
                yield db
            finally:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")

    def _writer(self) -> sqlite3.Connection:
        """The connection that writes; `_writing` is held."""
        if self._closed:
            raise StorageError(f"{self._name} is closed")
        if self._damage is not None:
            self._mend(self._damage)
        if self._db is None:
            self._open()
        assert self._db is not None
        return self._db

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection for the caller alone."""
        while True:
            with self._pool:
                if not self._closed and self._damage is None and self._db is not None:
                    self._readers += 1
                    db = self._idle.pop() if self._idle else None
                    break
            with self._writing:
                self._writer()
        try:
            if db is None:
                with self._translated():
                    db = self._connect(self._config.cache_bytes // 4, "query_only = ON")
            yield db
        finally:
            self._give_back(db)

    def _give_back(self, db: sqlite3.Connection | None) -> None:
        """Keep the connection for the next reader, or close it if it is not to be used again."""
        with self._pool:
            keep = self._damage is None and not self._closed
            if keep and db is not None:
                self._idle.append(db)
        if not keep and db is not None:
            db.close()
        with self._pool:  # not before it is closed: see `_mend`
            self._readers -= 1
            self._pool.notify_all()

    def _close_connections(self) -> None:
        """All that are not in use."""
        with self._pool:
            old, self._idle = self._idle, []
        if self._db is not None:
            old.append(self._db)
            self._db = None
        for db in old:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _connect(self, cache: int, *settings: str) -> sqlite3.Connection:
        target = ":memory:"
        if self._path is not None:
            # Never create: that is done elsewhere, with care.
            target = f"file:{urllib.parse.quote(os.fsencode(self._path.absolute()))}?mode=rw"
        db = sqlite3.connect(
            target,
            timeout=self._config.busy_time,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        try:
            for setting in (
                *("foreign_keys = ON", "cell_size_check = ON"),
                *(f"cache_size = -{max(64, cache // 1024)}", "temp_store = MEMORY"),
                *("synchronous = NORMAL", f"wal_autocheckpoint = {_WAL_PAGES}"),
                *(f"journal_size_limit = {2 * 4096 * _WAL_PAGES}", *settings),
            ):
                db.execute(f"PRAGMA {setting}").fetchall()
        except BaseException:
            db.close()
            raise
        return db

    def _open(self) -> None:
        """Open the writing connection; a database that is damaged is set aside first."""
        try:
            self._open_once()
        except sqlite3.Error as error:
            if not _says(error, _DAMAGED):
                raise self._error(error) from error
            self._set_aside(str(error))
            try:
                self._open_once()
            except sqlite3.Error as again:
                raise self._error(again) from again

    def _open_once(self) -> None:
        if self._path is not None:
            _prepare(self._path, self._name)
        db = self._connect(self._config.cache_bytes)
        try:
            self._check_whose(db)
            if not schema.version(db):
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL").fetchall()
            schema.migrate(db)
            # Touch what every use needs: the tables, and the structure of the index.
            db.execute("SELECT max(id), max(seen) FROM torrent").fetchall()
            db.execute("SELECT rowid FROM fts WHERE fts MATCH '\"a\"' LIMIT 1").fetchall()
        except BaseException:
            db.close()
            raise
        self._db = db

    def _check_whose(self, db: sqlite3.Connection) -> None:
        """Raises StorageError unless it is empty, or a catalogue of a version we know."""
        (mark,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        found = schema.version(db)
        if (tables or mark or found) and (mark != schema.APPLICATION_ID or not found):
            raise StorageError(f"{self._name} is another program's database: it is left alone")
        if found > len(schema.MIGRATIONS):
            raise StorageError(
                f"{self._name} was made by a newer version of dht_torrent (its schema is {found},"
                f" and this one knows {len(schema.MIGRATIONS)})"
            )

    @contextlib.contextmanager
    def _mending(self) -> Iterator[None]:
        """If the block finds damage, it is mended at its end; if it cannot be yet, then by the
        next call, which is told why not."""
        try:
            yield
        finally:
            if self._damage is not None:
                with contextlib.suppress(StorageError), self._writing:
                    self._writer()

    def _mend(self, damage: str) -> None:
        """Set the database aside and begin another, when no connection is open; `_writing` is held.

        To rename it under a connection would let that one write, or remove, the log of its
        successor, which has the same name.
        """
        with self._pool:
            # No new reader gets a connection while there is damage.
            if not self._pool.wait_for(lambda: not self._readers, self._config.busy_time):
                raise StorageError(f"{self._name} is damaged, and still being read", passing=True)
        self._close_connections()
        self._set_aside(damage)
        with self._pool:
            self._damage = None
        self._open()

    def _set_aside(self, damage: str) -> None:
        """Give the damaged database, which this process has not open, another name. Raises
        StorageError."""
        assert self._path is not None
        why = f"{self._name} is damaged ({damage})"
        try:
            with _unused_elsewhere(self._path):
                aside = _free_name(self._path)
                # The log first: without it the database is only older, but beside another database
                # it would be taken for that one's.
                for suffix in ("-wal", "-shm", ""):
                    with contextlib.suppress(FileNotFoundError):
                        Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        except BlockingIOError as trouble:
            raise StorageError(
                f"{why}, and another process uses it: it can be set aside when that has ended"
            ) from trouble
        except OSError as trouble:
            raise StorageError(f"{why}, and cannot be set aside: {trouble.strerror}") from trouble
        self._warn(f"{why}: it was set aside as {aside.name}, and an empty one begun")

    def _warn(self, text: str) -> None:
        with self._pool:
            self._warnings = [*self._warnings, text][-_MAX_WARNINGS:]

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of SQLite that are not bugs of ours come out as StorageError."""
        try:
            yield
        except sqlite3.Error as error:
            if not _says(error, (*_DAMAGED, *_TROUBLES)):
                raise
            if _says(error, _DAMAGED) and self._path is not None:
                with self._pool:
                    self._damage = str(error)
                raise StorageError(
                    f"{self._name} is damaged ({error}): it is set aside, and an empty one begun"
                ) from error
            raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> StorageError:
        if _says(error, _BUSY):
            return StorageError(
                f"{self._name} is busy: another process is writing to it", passing=True
            )
        full = _says(error, (sqlite3.SQLITE_FULL,))
        return StorageError(f"{self._name}: {error}", disk_full=full)


def _says(error: sqlite3.Error, codes: Sequence[int]) -> bool:
    """Whether SQLite's (extended) error code is one of these."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in codes


def _prepare(path: Path, name: str) -> None:
    """Make an empty file, only for us, where there is none. Raises StorageError.

    What is there is not opened here: closing a file gives up all locks this process has on it.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.close(
                os.open(
                    path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
                )
            )
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(f"{path}{suffix}")
                if not stat.S_ISREG(found.st_mode):
                    raise StorageError(f"{name}: {path.name}{suffix} is not a regular file")
    except OSError as error:
        raise StorageError(f"{name}: {error.strerror}") from error


@contextlib.contextmanager
def _unused_elsewhere(path: Path) -> Iterator[None]:
    """Raises BlockingIOError if another process has the database open: in WAL mode every connection
    holds a shared lock for as long as it lives. None of this process may be open."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
        yield
    finally:
        os.close(fd)


def _free_name(path: Path) -> Path:
    for number in range(1, _MAX_ASIDE + 1):
        aside = path.with_name(f"{path.name}.bad{number if number > 1 else ''}")
        if not any(os.path.lexists(f"{aside}{suffix}") for suffix in ("", "-wal", "-shm")):
            return aside
    raise StorageError(f"{path} is damaged, as were {_MAX_ASIDE} before it, which are still there")
