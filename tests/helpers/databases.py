"""Databases for tests of the PostgreSQL catalogue: one for each worker, emptied for each test."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dht_torrent.catalogue import postgres_schema
from dht_torrent.catalogue.postgres import PostgresCatalogue
from dht_torrent.config import CatalogueConfig
from tests.helpers import postgres
from tests.helpers.clients import missing

NODE, OTHER = b"node number one.", b"node number two."
"""Keys of nodes."""


class Database:
    """One that is there for this worker alone."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        with self.admin("postgres") as db:
            db.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
        self.keep: psycopg.Connection[Any] | None = None

    @property
    def url(self) -> str:
        return self.url_of(postgres.SUPERUSER)

    def url_of(self, user: str, folder: Path | None = None) -> str:
        """`user` may have a password."""
        return f"postgresql://{user}@/{self.name}?host={folder or self.folder}"

    def admin(self, name: str | None = None) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.folder),
            user=postgres.SUPERUSER,
            dbname=name or self.name,
            autocommit=True,
            options="-c client_min_messages=warning",
        )

    def empty(self) -> None:
        """As if it had just been made; tables that are as they should be are kept."""
        if self.keep is None or self.keep.closed:
            self.keep = self.admin()
        db = self.keep
        tables = db.execute(
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = %s"
            " AND tablename NOT IN ('version', 'total')",
            (postgres_schema.SCHEMA,),
        ).fetchall()
        if tables:
            db.execute(f"SET search_path = {postgres_schema.SCHEMA}")
            names = [name for (name,) in tables]
            (last,) = db.execute("SELECT last FROM total").fetchone() or (0,)
            if last > 2000:
                db.execute(f"TRUNCATE {', '.join(names)}")
            else:  # which is quicker, as no files are made anew
                db.execute("SET session_replication_role = replica")  # no triggers
                db.execute(";".join(f"DELETE FROM {name}" for name in names))
            db.execute("UPDATE total SET torrents = 0, tokens = 0, bytes = 0, last = 0")

    def wipe(self) -> None:
        """Without any tables."""
        with self.admin() as db:
            db.execute(f"DROP SCHEMA IF EXISTS {postgres_schema.SCHEMA} CASCADE")

    def open(
        self, config: CatalogueConfig | None = None, node: bytes = NODE, **more: Any
    ) -> PostgresCatalogue:
        return PostgresCatalogue(self.url, config, node=node, clock=time.monotonic, **more)


class Door:
    """Where the server's socket is, as long as it is open."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self.path = path
        self.url = database.url_of("postgres", path)
        self.open()

    def open(self) -> None:
        self.path.symlink_to(self._database.folder)

    def cut(self) -> None:
        """End all connections, as a server does that is stopped."""
        with self._database.admin() as db:
            db.execute(
                """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name = 'dht_torrent'"""
            )

    def close(self) -> None:
        self.path.unlink()
        self.cut()


def databases(factory: pytest.TempPathFactory) -> Iterator[Database]:
    """For a fixture of the session."""
    if postgres.binaries() is None:
        missing("PostgreSQL's server is not installed (Debian: postgresql)")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    shared = factory.getbasetemp()
    if worker is not None:
        shared = shared.parent
    with postgres.server(shared) as folder:
        database = Database(folder, f"catalogue_{worker or 'alone'}")
        try:
            yield database
        finally:
            if database.keep is not None:
                database.keep.close()
