"""The catalogue from Trio: one call writes at a time, a few read beside it, all in threads.

Threads are never abandoned: a cancelled call ends when its thread has, so a visit to one is short,
however much is stored, imported or exported. In a lab, whose time is virtual, the work is done in
the calling task (`CatalogueConfig.inline`).
"""

from __future__ import annotations

import itertools
import logging
import secrets
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, ParamSpec, TypeVar

import trio

from dht_torrent.catalogue import (
    Catalogue,
    CatalogueQuery,
    CatalogueSummary,
    Entry,
    KnownPublisher,
    OutboxEntry,
    PublisherTrust,
    PutResult,
    SketchEntry,
    Source,
    SwarmHealth,
)
from dht_torrent.catalogue.lines import ImportSummary, LineImport, Normalise, export_lines
from dht_torrent.config import CatalogueConfig
from dht_torrent.engine.search.denying import Denied

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

KEY_BYTES: Final = 16
"""Of the key by which a catalogue that is shared knows a node."""
_PUT_BATCH = 5000
"""Entries stored in one visit to a thread, a quarter of a second: each batch writes a large part of
the index of infohashes again."""


def check_url(url: str | None) -> None:
    """Raises InputError unless it can be that of a catalogue, and what it needs is installed."""
    if url is not None:
        from dht_torrent.catalogue.postgres_server import ServerUrl

        ServerUrl(url)


@asynccontextmanager
async def open_catalogue(
    path: Path | str | None,
    config: CatalogueConfig,
    denied: Denied | None = None,
    *,
    node: bytes | None = None,
) -> AsyncIterator[LocalCatalogue]:
    """The catalogue in this file, or in memory, for the length of the block; or, with
    `config.url`, the one in that database, which knows us by the key `node`, or without one until
    it is closed. Raises StorageError if a file cannot be opened: a node then goes on without."""

    def opened() -> Catalogue:
        if config.url is None:
            from dht_torrent.catalogue.sqlite import SqliteCatalogue

            return SqliteCatalogue(path, config)
        from dht_torrent.catalogue.postgres import PostgresCatalogue

        key = node if node is not None else secrets.token_bytes(KEY_BYTES)
        return PostgresCatalogue(
            config.url, config, node=key, clock=time.monotonic, lasting=node is not None
        )

    if config.inline:
        await trio.lowlevel.checkpoint()
        store = opened()
    else:
        store = await trio.to_thread.run_sync(opened)
    catalogue = LocalCatalogue(store, config, denied)
    try:
        yield catalogue
    finally:
        with trio.CancelScope(shield=True):  # for as long as what was begun takes, and no longer
            await catalogue.aclose()


class LocalCatalogue:
    """A `Catalogue`, method for method. `aclose` it after the last call.

    What is denied gets neither in nor out: this is the one door."""

    def __init__(
        self, catalogue: Catalogue, config: CatalogueConfig, denied: Denied | None = None
    ) -> None:
        self.denied = denied or Denied()
        self._catalogue = catalogue
        self._inline = config.inline
        self._writers = trio.CapacityLimiter(1)
        self._readers = trio.CapacityLimiter(config.readers)
        self._tell()

    async def aclose(self) -> None:
        """Idempotent."""
        await self._write(self._catalogue.close)

    @property
    def trouble(self) -> str | None:
        """Why it cannot be used just now, in a line. It was told, and may come back by itself."""
        return self._catalogue.trouble

    async def keep_up(self) -> None:
        await self._write(self._catalogue.keep_up)

    # -- torrents -------------------------------------------------------------------------------

    async def put(self, entries: Iterable[Entry], now: int) -> PutResult:
        """A large number is stored in batches, others' calls between them: each batch is stored
        wholly or not at all."""
        total = PutResult()
        left = iter(entries)
        while batch := list(itertools.islice(left, _PUT_BATCH)):
            stored = await self._write(self._put, batch, now)
            total = PutResult(*map(sum, zip(total, stored, strict=True)))
        return total

    def _put(self, batch: list[Entry], now: int) -> PutResult:
        allowed = [entry for entry in batch if not self.denied.entry(entry)]
        stored = self._catalogue.put(allowed, now)
        return stored._replace(refused=stored.refused + len(batch) - len(allowed))

    async def get(self, infohash: bytes) -> Entry | None:
        entry = await self._read(self._catalogue.get, infohash)
        return None if entry is None or self.denied.entry(entry) else entry

    async def search(self, query: CatalogueQuery) -> list[Entry]:
        found = await self._read(self._catalogue.search, query)
        return [entry for entry in found if not self.denied.entry(entry)]

    async def purge(self) -> list[bytes]:
        """Remove what is denied by now, wherever it came from. Returns the infohashes."""
        gone: list[bytes] = []
        after = 0
        while self.denied.list:
            found, after, more = await self._read(self._denied_page, after)
            if found:
                await self._write(self._catalogue.forget, found, ~Source.NONE)
                gone += found
            if not more:
                break
        return gone

    def _denied_page(self, after: int) -> tuple[list[bytes], int, bool]:
        entries, after = self._catalogue.page(after)
        return [e.infohash for e in entries if self.denied.entry(e)], after, bool(entries)

    async def page(
        self, after: int = 0, limit: int = 1000, source: Source = Source.NONE
    ) -> tuple[list[Entry], int]:
        """Denied ones too: they are for those who tidy up."""
        return await self._read(self._catalogue.page, after, limit, source)

    async def forget(self, infohashes: Iterable[bytes], source: Source) -> int:
        return await self._write(self._catalogue.forget, list(infohashes), source)

    async def withdraw(self, infohashes: Iterable[bytes], publisher: bytes) -> None:
        await self._write(self._catalogue.withdraw, list(infohashes), publisher)

    async def set_health(self, health: Mapping[bytes, SwarmHealth]) -> None:
        await self._write(self._catalogue.set_health, health)

    async def summary(self) -> CatalogueSummary:
        return await self._read(self._catalogue.summary)

    # -- publishers -----------------------------------------------------------------------------

    async def set_trust(self, key: bytes, trust: PublisherTrust, now: int, name: str = "") -> int:
        return await self._write(self._catalogue.set_trust, key, trust, now, name)

    async def publishers(self) -> list[KnownPublisher]:
        return await self._read(self._catalogue.publishers)

    async def trust(self, keys: Collection[bytes]) -> dict[bytes, PublisherTrust]:
        return await self._read(self._catalogue.trust, keys)

    async def claimed(self, keys: Collection[bytes], since: int) -> dict[bytes, int]:
        return await self._read(self._catalogue.claimed, keys, since)

    # -- the outbox -----------------------------------------------------------------------------

    async def put_outbox(self, entries: Iterable[OutboxEntry]) -> None:
        await self._write(self._catalogue.put_outbox, list(entries))

    async def renew_outbox(self, entries: Iterable[OutboxEntry]) -> None:
        await self._write(self._catalogue.renew_outbox, list(entries))

    async def due(self, now: int, limit: int = 100) -> list[OutboxEntry]:
        return await self._read(self._catalogue.due, now, limit)

    async def outbox(self, infohash: bytes) -> list[OutboxEntry]:
        return await self._read(self._catalogue.outbox, infohash)

    async def remove_outbox(self, infohash: bytes, keep: Sequence[tuple[str, bytes]] = ()) -> None:
        await self._write(self._catalogue.remove_outbox, infohash, keep)

    # -- what torrents are like -----------------------------------------------------------------

    async def put_sketches(self, sketches: Iterable[SketchEntry]) -> None:
        await self._write(self._catalogue.put_sketches, list(sketches))

    async def sketches(self, infohashes: Collection[bytes]) -> dict[bytes, bytes]:
        return await self._read(self._catalogue.sketches, infohashes)

    async def alike(self, keys: Collection[tuple[str, bytes]], each: int = 16) -> list[bytes]:
        return await self._read(self._catalogue.alike, keys, each)

    # -- how common words are -------------------------------------------------------------------

    async def remember_counts(self, counts: Mapping[bytes, int], now: int) -> None:
        await self._write(self._catalogue.remember_counts, counts, now)

    async def counts(self, words: Collection[bytes], since: int) -> dict[bytes, int]:
        return await self._read(self._catalogue.counts, words, since)

    # -- JSON lines -----------------------------------------------------------------------------

    async def import_lines(
        self,
        file: BinaryIO,
        normalise: Normalise,
        now: int,
        progress: Callable[[ImportSummary], object] = lambda summary: None,
    ) -> ImportSummary:
        """Store what makes sense in a file of JSON lines, others' calls between its batches.
        `progress` is called after each. Raises StorageError and OSError."""
        job = LineImport(self._catalogue, file, normalise, now, is_denied=self.denied.entry)
        more = True
        while more:
            more = await self._write(job.step)
            progress(job.summary)
        return job.summary

    async def export_lines(self, source: Source = Source.NONE) -> AsyncGenerator[bytes, None]:
        """All torrents, or those of a source, some lines at a time. Close it (`aclosing`) when not
        all are wanted."""
        parts = export_lines(self._catalogue, source, is_denied=self.denied.entry)
        while part := await self._read(partial(next, parts, b"")):
            yield part

    # -- threads --------------------------------------------------------------------------------

    async def _write(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._run(self._writers, partial(work, *args, **kwargs))

    async def _read(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._run(self._readers, partial(work, *args, **kwargs))

    async def _run(self, limiter: trio.CapacityLimiter, work: Callable[[], _T]) -> _T:
        try:
            if self._inline:
                await trio.lowlevel.checkpoint_if_cancelled()  # a tenth of a checkpoint
                return work()
            return await trio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=False)
        finally:
            self._tell()

    def _tell(self) -> None:
        for warning in self._catalogue.warnings():
            logger.warning("%s", warning)
