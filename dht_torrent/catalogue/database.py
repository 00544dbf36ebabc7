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
_MAX_WARNINGS: Final = 20
_MAX_ASIDE: Final = 100
"""Damaged files kept; then whoever put them there should have a look."""
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
        self._reading = threading.Semaphore(self._config.readers)
        self._pool = threading.Lock()  # what follows; taken for moments only
        self._idle: list[tuple[int, sqlite3.Connection]] = []
        self._opened = 0  # how many times: connections of earlier ones are not used again
        self._file: tuple[int, int] | None = None  # device and inode of what was opened
        self._db: sqlite3.Connection | None = None
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
            self._drop_connections()

    def warnings(self) -> list[str]:
        with self._pool:
            found, self._warnings = self._warnings, []
            return found

    # -- connections ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is committed if the block ends well, and else leaves nothing."""
        with self._writing:
            db = self._writer()
            with self._translated(self._opened):
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
            with self._writing, self._translated(self._opened):
                yield self._writer()
            return
        with self._reading:
            opened, db = self._reader()
            try:
                with self._translated(opened):
                    db.execute("BEGIN")
                    try:
                        yield db
                    finally:
                        with contextlib.suppress(sqlite3.Error):
                            db.execute("ROLLBACK")
            finally:
                with self._pool:
                    if keep := opened == self._opened and not self._closed:
                        self._idle.append((opened, db))
                if not keep:
                    db.close()

    def _writer(self) -> sqlite3.Connection:
        if self._closed:
            raise StorageError(f"{self._name} is closed")
        if self._db is None:  # it could not be opened again after it was set aside
            self._open()
        assert self._db is not None
        return self._db

    def _reader(self) -> tuple[int, sqlite3.Connection]:
        """A connection to read with, and which opening it belongs to."""
        if self._closed or self._db is None:
            with self._writing:
                self._writer()
        with self._pool:
            if self._idle:
                return self._idle.pop()
            opened = self._opened
        with self._translated(opened):
            return opened, self._connect(self._config.cache_bytes // 4, "query_only = ON")

    def _drop_connections(self) -> None:
        with self._pool:
            old = [db for _, db in self._idle]
            self._idle.clear()
            self._opened += 1
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
        self._file = None
        try:
            self._open_once()
        except sqlite3.Error as error:
            if not _says(error, _DAMAGED):
                raise self._error(error) from error
            self._set_aside(error)
            try:
                self._open_once()
            except sqlite3.Error as again:
                raise self._error(again) from again

    def _open_once(self) -> None:
        if self._path is not None:
            self._file = _prepare(self._path, self._name)
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

    def _set_aside(self, error: sqlite3.Error) -> None:
        """Give the damaged database another name. Raises StorageError."""
        assert self._path is not None
        why = f"{self._name} is damaged ({error})"
        try:
            found = os.lstat(self._path)
            if self._file is not None and self._file != (found.st_dev, found.st_ino):
                return  # another process did it already
            aside = _free_name(self._path)
            # The log first: without it the database is only older, but beside another database it
            # would be taken for that one's.
            for suffix in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        except OSError as trouble:
            raise StorageError(f"{why}, and cannot be set aside: {trouble.strerror}") from error
        self._warn(f"{why}: it was set aside as {aside.name}, and an empty one begun")

    def _warn(self, text: str) -> None:
        with self._pool:
            self._warnings = [*self._warnings, text][-_MAX_WARNINGS:]

    @contextlib.contextmanager
    def _translated(self, opened: int) -> Iterator[None]:
        """Errors of SQLite that are not bugs of ours come out as StorageError."""
        try:
            yield
        except sqlite3.Error as error:
            if not _says(error, (*_DAMAGED, *_TROUBLES)):
                raise
            if _says(error, _DAMAGED) and self._path is not None:
                with self._writing:
                    if opened == self._opened and not self._closed:
                        self._drop_connections()
                        self._set_aside(error)
                        self._open()
                raise StorageError(
                    f"{self._name} was damaged ({error}), and an empty one was begun"
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


def _prepare(path: Path, name: str) -> tuple[int, int]:
    """Make an empty file, only for us, where there is none. Returns its device and inode.

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
        found = os.lstat(path)
    except OSError as error:
        raise StorageError(f"{name}: {error.strerror}") from error
    return found.st_dev, found.st_ino


def _free_name(path: Path) -> Path:
    for number in range(1, _MAX_ASIDE + 1):
        aside = path.with_name(f"{path.name}.bad{number if number > 1 else ''}")
        if not any(os.path.lexists(f"{aside}{suffix}") for suffix in ("", "-wal", "-shm")):
            return aside
    raise StorageError(f"{path} is damaged, as were {_MAX_ASIDE} before it, which are still there")
