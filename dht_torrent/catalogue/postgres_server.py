"""A PostgreSQL server as one node sees it: where it is, the few connections to it, transactions,
and what is done when it goes away.

One connection writes and a few read, each used by one thread at a time. Of all nodes one writes at
a time (an advisory lock, held for a transaction): so no two wait for each other in a circle, rows
become visible in the order of their numbers, and counts are exact.

A server that cannot be reached is no end: what is asked meanwhile raises StorageError, at once but
for a new attempt every few seconds; a line says that it is gone, another that it is back. No
password is in either: a server is named by user, host, port and database, and a URL that makes no
sense is never quoted.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, Final

from dht_torrent.catalogue import postgres_schema
from dht_torrent.catalogue.postgres_schema import LOCK, SCHEMA, Connection, UnsuitableError
from dht_torrent.config import CatalogueConfig
from dht_torrent.errors import InputError, StorageError
from dht_torrent.filenames import printable

SCHEMES: Final = ("postgresql://", "postgres://")
_KEEPALIVE: Final = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Seconds, and milliseconds: a server whose machine vanished is noticed in half a minute."""
_MAX_WARNINGS: Final = 20
_MAX_WHY: Final = 300
_WORK_MEMORY: Final = "32MB"
"""For one search: the places of some million rows."""
_WRITE: Final = f"BEGIN; SELECT pg_advisory_xact_lock({LOCK})"
_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BUSY: Final = ("55P03",)  # lock_not_available
_FULL: Final = ("53100",)  # disk_full
_TROUBLES: Final = ("08", "25006", "28", "3D", "40", "42501", "53", "54", "55", "57", "58", "XX")
"""The beginnings of SQLSTATEs that are the system's troubles, or its owner's. Others are bugs of
ours."""


class ServerUrl:
    """Where a catalogue is. Its text has no password."""

    def __init__(self, url: str) -> None:
        """Raises InputError, without quoting what may be a password; also if psycopg is missing."""
        if not is_address(url):
            raise InputError(f"a catalogue's URL begins with {SCHEMES[0]}")
        try:
            self.psycopg: Any = importlib.import_module("psycopg")
            conninfo = importlib.import_module("psycopg.conninfo")
        except ImportError as error:
            raise InputError(
                "a catalogue in PostgreSQL needs psycopg: pip install 'dht-torrent[postgresql]'"
            ) from error
        wrong = InputError(
            "the catalogue's URL must be postgresql://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE, with"
            " special characters as %XX"
        )
        if any(ord(character) <= 32 or ord(character) == 127 for character in url):
            raise wrong
        try:
            self.settings: dict[str, Any] = conninfo.conninfo_to_dict(url)
        except self.psycopg.Error:
            raise wrong from None
        host, port = str(self.settings.get("host", "")), str(self.settings.get("port", ""))
        ports = port.split(",") if port else []
        if "@" in host or not all(one.isdecimal() and 0 < int(one) < 2**16 for one in ports):
            raise wrong
        if not self.settings.get("dbname"):
            raise InputError("the catalogue's URL lacks the database: postgresql://HOST/DATABASE")

        def quoted(name: str) -> str:
            return urllib.parse.quote(str(self.settings.get(name, "")), safe=",:[]~")

        user = f"{quoted('user')}@" if self.settings.get("user") else ""
        where = f"[{host}]" if ":" in host else quoted("host")
        self._text = f"postgresql://{user}{where}{':' + port if port else ''}/{quoted('dbname')}"

    def __str__(self) -> str:
        return self._text


def is_address(text: str) -> bool:
    """Whether it means a server, and no file."""
    return text.startswith(SCHEMES)


class Server:
    """May be used from any thread."""

    def __init__(
        self,
        url: str,
        config: CatalogueConfig,
        clock: Callable[[], float],
        greet: Callable[[Connection], None],
    ) -> None:
        """`clock` gives seconds, and never goes back. Connects, and brings the tables up to date;
        where that fails, a warning says so, and later calls try again. `greet` is called with each
        new connection. Raises InputError."""
        self._address = ServerUrl(url)
        self._psycopg = self._address.psycopg
        self._config = config
        self._clock = clock
        self._greet = greet
        self._name = f"the catalogue {self._address}"
        self._writing = threading.RLock()  # the writing connection
        self._db: Connection | None = None
        self._reading = threading.Semaphore(config.readers)
        self._pool = threading.Lock()  # what follows; held for moments only
        self._idle: list[Connection] = []
        self._trouble: StorageError | None = None
        self._again = 0.0  # not before then we try again
        self._closed = False
        self._warnings: list[str] = []
        with contextlib.suppress(StorageError), self.write():
            pass

    @property
    def trouble(self) -> str | None:
        """Why it cannot be used just now."""
        trouble = self._trouble
        return None if trouble is None else str(trouble)

    def close(self) -> None:
        with self._writing:
            with self._pool:
                self._closed = True
            self._drop()

    def warnings(self) -> list[str]:
        with self._pool:
            found, self._warnings = self._warnings, []
            return found

    # -- transactions ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed if the block ends well, and else leaves nothing. No other
        node writes meanwhile."""
        with self._writing, self._translated():
            db = self._begun(self._writer, _WRITE)
            with self._ended(db):
                yield db

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """All that the block reads is of one moment."""
        with self._reading, self._translated():
            db = self._begun(self._reader, _READ)
            try:
                with self._ended(db):
                    yield db
            finally:
                with self._pool:
                    keep = not self._closed and not db.closed
                    if keep:
                        self._idle.append(db)
                if not keep:
                    db.close()

    def _begun(self, find: Callable[[], tuple[Connection, bool]], begin: str) -> Connection:
        """A connection with a transaction. Those that broke while nobody used them are replaced."""
        while True:
            db, used = find()
            try:
                db.execute(begin)
            except self._psycopg.Error:
                lost = db.closed
                if db is self._db:
                    self._db = None
                db.close()
                if not (lost and used):
                    raise
                self._drop_idle()
            else:
                return db

    @contextlib.contextmanager
    def _ended(self, db: Connection) -> Iterator[None]:
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(self._psycopg.Error):
                db.execute("ROLLBACK")
            raise

    # -- connections ----------------------------------------------------------------------------

    def _writer(self) -> tuple[Connection, bool]:
        """The connection that writes, and whether it was used before; `_writing` is held."""
        if self._db is not None and not self._db.closed and not self._closed:
            return self._db, True
        self._db = self._connect()
        return self._db, False

    def _reader(self) -> tuple[Connection, bool]:
        """A connection for the caller alone, and whether it was used before."""
        with self._pool:
            if self._idle and not self._closed:
                return self._idle.pop(), True
        return self._connect(), False

    def _drop_idle(self) -> None:
        with self._pool:
            old, self._idle = self._idle, []
        for db in old:
            db.close()

    def _connect(self) -> Connection:
        with self._pool:
            if self._closed:
                raise StorageError(f"{self._name} is closed")
            if self._trouble is not None and self._clock() < self._again:
                raise StorageError(str(self._trouble), passing=True)
        config = self._config
        given = {"connect_timeout": max(1, round(config.connect_time)), **_KEEPALIVE}
        try:
            db = self._psycopg.connect(
                **given | {"application_name": "dht_torrent"} | self._address.settings,
                autocommit=True,
                # A plan for any value is a bad one: how common a word is decides.
                prepare_threshold=None,
            )
            try:
                # In one go. Rows are found by an index: a plan for so many others is a bad one.
                db.execute(
                    f"""SET client_encoding = 'UTF8'; SET search_path = {SCHEMA};
                    SET statement_timeout = {round(1000 * config.statement_time)};
                    SET lock_timeout = {round(1000 * config.busy_time)};
                    SET idle_in_transaction_session_timeout =
                        {round(1000 * config.statement_time)};
                    SET synchronous_commit = off; SET work_mem = '{_WORK_MEMORY}';
                    SET jit = off;
                    SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0"""
                )
                postgres_schema.migrate(db)
                self._greet(db)
            except BaseException:
                db.close()
                raise
        except (self._psycopg.Error, UnsuitableError) as error:
            raise self._unusable(error, self._clock() + config.retry_time) from error
        with self._pool:
            if self._trouble is not None:
                self._trouble = None
                self._warn(f"{self._name} is back")
        return db

    def _drop(self) -> None:
        """All connections that are not in use; `_writing` is held."""
        self._drop_idle()
        if self._db is not None:
            self._db.close()
            self._db = None

    # -- what goes wrong ------------------------------------------------------------------------

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the server that are not bugs of ours come out as StorageError."""
        try:
            yield
        except self._psycopg.Error as error:
            state = error.sqlstate or ""
            if not state or state.startswith(("08", "57P")):  # it went away
                if not isinstance(
                    error, (self._psycopg.OperationalError, self._psycopg.InterfaceError)
                ):
                    raise
                raise self._unusable(error, self._clock()) from error
            if state in _BUSY:
                raise StorageError(
                    f"{self._name} is busy: another node is writing to it", passing=True
                ) from error
            if not state.startswith(_TROUBLES):
                raise
            raise StorageError(
                f"{self._name}: {self._why(error)}",
                disk_full=state in _FULL,
                passing=state.startswith(("40", "53", "57")),
            ) from error

    def _unusable(self, error: Exception, again: float) -> StorageError:
        """It cannot be used, until `again` at the earliest. The first time, a warning says so."""
        what = "" if isinstance(error, UnsuitableError) else "cannot be reached: "
        trouble = StorageError(f"{self._name} {what}{self._why(error)}", passing=True)
        with self._pool:
            if str(self._trouble) != str(trouble):
                self._warn(f"{trouble}; the node goes on without it, and tries again")
            self._trouble, self._again = trouble, again
        return trouble

    def _why(self, error: Exception) -> str:
        """In one line, and without a password whatever the server says."""
        text = " ".join(str(error).split()).removeprefix("connection failed: ")
        text = text.partition(" Is the server running")[0]
        for secret in ("password", "sslpassword"):
            if self._address.settings.get(secret):
                text = text.replace(str(self._address.settings[secret]), "***")
        return printable(text)[:_MAX_WHY]

    def _warn(self, text: str) -> None:
        """`_pool` is held."""
        self._warnings = [*self._warnings, text][-_MAX_WARNINGS:]
