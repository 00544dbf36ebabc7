"""Where what is: the page at `/` and its files beside it, its events, and the control API."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from dht_torrent.daemon.app import api_routes
from dht_torrent.daemon.web import assets
from dht_torrent.daemon.web.door import ENTRY, Door, Endpoint
from dht_torrent.daemon.web.events import Pages

if TYPE_CHECKING:
    import trio
    from starlette.requests import Request

    from dht_torrent.daemon.places import Places
    from dht_torrent.daemon.reload import Reload
    from dht_torrent.engine.node import Node


def routes(
    node: Node,
    door: Door,
    places: Places,
    *,
    stopping: trio.Event,
    stop: Callable[[], None],
    reload: Reload | None = None,
) -> list[Route]:
    """For `node`; `stop` is called when a client asks it to end, and `stopping` set; `reload` when
    one asks it to read its configuration again."""
    files = assets.load()
    pages = Pages(node, stopping, read_only=door.read_only)

    async def page(request: Request) -> Response:
        if door.admits(request):
            return files["index.html"].respond(request)
        return files["locked.html"].respond(request, status=401)

    def placed(endpoint: Endpoint) -> Endpoint:
        async def within(request: Request) -> Response:
            with places.in_force():
                return await endpoint(request)

        return within

    shown = [
        Route(f"/{name}", partial(_respond, asset), methods=["GET"])
        for name, asset in files.items()
        if not name.endswith(".html")
    ]
    api = [
        Route(route.path, door.behind(placed(route.endpoint)), methods=list(route.methods or ()))
        for route in api_routes(node, stopping=stopping, stop=stop, reload=reload)
    ]
    return [
        Route("/", page, methods=["GET"]),
        Route(ENTRY, door.enter, methods=["GET"]),
        Route("/leave", door.behind(door.leave, looks_only=True), methods=["POST"]),
        Route("/events", door.behind(pages.respond), methods=["GET"]),
        Route("/events/{page}", door.behind(pages.focus, looks_only=True), methods=["POST"]),
        *shown,
        *api,
    ]


async def _respond(asset: assets.Asset, request: Request) -> Response:
    return asset.respond(request)
