"""Search as a node has it: one place for what `Node` offers of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from dht_torrent.engine.search.results import Emit, SearchResults, Spawn
from dht_torrent.engine.search.views import (
    CatalogueImport,
    CatalogueStatus,
    PublisherView,
    SearchQuery,
    SearchStatus,
)
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.errors import InputError

NOT_YET = "this node has no index yet"


def why_not(core: TorrentCore) -> str | None:
    """Why a torrent is not to be published, in a line; None: it may be."""
    if core.context.is_ssl:
        return "an SSL torrent is for those who have a certificate, and is not published"
    if core.context.is_private:
        return "a private torrent is not published"
    if core.metainfo is None or not core.place.shared:
        return "what was fetched is not published; share its files from another folder to do so"
    return None


class SearchService:
    """The index: publishing into it, and asking it."""

    def __init__(self, context: NodeContext, spawn: Spawn) -> None:
        self._context = context
        self._spawn = spawn

    def search(self, query: SearchQuery) -> SearchResults:
        """See `Node.search`."""

        async def find(emit: Emit) -> None:
            raise InputError(NOT_YET)

        return SearchResults(find, self._spawn, self._context.faults, limit=query.limit)

    async def publish(self, supervisor: Supervisor, tags: Sequence[str]) -> None:
        """See `Node.publish`."""
        raise InputError(NOT_YET)

    async def unpublish(self, supervisor: Supervisor) -> bool:
        """See `Node.unpublish`."""
        raise InputError(NOT_YET)

    async def judge(self, publisher: str, *, trusted: bool = False, blocked: bool = False) -> None:
        """See `Node.trust` and `Node.block`."""
        raise InputError(NOT_YET)

    async def publishers(self) -> list[PublisherView]:
        """See `Node.publishers`."""
        raise InputError(NOT_YET)

    async def catalogue_status(self) -> CatalogueStatus:
        """See `Node.catalogue_status`."""
        raise InputError(NOT_YET)

    async def export_catalogue(self) -> AsyncGenerator[bytes, None]:
        """See `Node.export_catalogue`."""
        raise InputError(NOT_YET)
        yield b""

    async def import_catalogue(self, lines: bytes) -> CatalogueImport:
        """See `Node.import_catalogue`."""
        raise InputError(NOT_YET)

    def status(self) -> SearchStatus | None:
        """A snapshot for people."""
        return None
