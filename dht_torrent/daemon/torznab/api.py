"""Torznab, at `/torznab/api`: each request is a search of ours, over what is known here and over
the index that everybody searches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

from dht_torrent.daemon.torznab import feed
from dht_torrent.daemon.torznab.asking import SEARCHES, TorznabRequest, WrongParameter, asked
from dht_torrent.daemon.torznab.categories import chosen
from dht_torrent.errors import DhtTorrentError

if TYPE_CHECKING:
    from starlette.requests import Request

    from dht_torrent.daemon.tokens import WebTokens
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.search.views import SearchResult

PATH: Final = "/torznab/api"
MAX_SEARCHES: Final = 8
"""At a time."""


class Torznab:
    """Of one node."""

    def __init__(
        self, node: Node, tokens: WebTokens, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._node = node
        self._tokens = tokens
        self._clock = clock
        self._room = MAX_SEARCHES

    def routes(self) -> list[Route]:
        return [Route(PATH, self.answer, methods=["GET"])]

    async def answer(self, request: Request) -> Response:
        """To any request; errors are answers as well."""
        if not self._tokens.admits(request, "torznab"):
            return _xml(feed.error(100, "Incorrect apikey: `dhtnode web --tokens` shows it"), 401)
        params = dict(request.query_params)
        kind = params.get("t")
        if kind is None:
            return _xml(feed.error(200, "Missing parameter (t)"), 400)
        if kind == "caps":
            return _xml(feed.capabilities())
        if kind not in SEARCHES:
            return _xml(feed.error(202, "No such function"), 400)
        try:
            wanted = asked(params, self._clock())
        except WrongParameter as error:
            return _xml(feed.error(201, f"Incorrect parameter ({error})"), 400)
        if not self._room:
            return _xml(feed.error(500, "Too many searches are going on"), 429)
        self._room -= 1
        try:
            results = await self._found(wanted)
        except DhtTorrentError as error:
            return _xml(feed.error(900, str(error)), 400)
        finally:
            self._room += 1
        listed = [
            (result, category)
            for result in results
            if (category := chosen(result.name, wanted.categories)) is not None
        ]
        page = listed[wanted.offset : wanted.offset + wanted.limit]
        link = f"{request.url.scheme}://{request.url.netloc}/"
        return _xml(feed.listing(page, offset=wanted.offset, total=len(listed), link=link))

    async def _found(self, wanted: TorznabRequest) -> list[SearchResult]:
        """The best first."""
        async with self._node.search(wanted.query) as results:
            found = [result async for result in results]
        return sorted(found, key=lambda one: (-one.score, -(one.published or 0.0)))


def _xml(data: bytes, status: int = 200) -> Response:
    return Response(data, status_code=status, media_type="application/xml")
