"""What the node answers over HTTP. Each handler calls one method of `Node` and turns the result
into JSON; what steers a node from a script or a test and what steers it from here is the same.

A request passes `Guard` first: it must come from the owner (token), be meant for this server (Host)
and not be sent by a web page behind the owner's back (Origin, content type). There are no CORS
headers, no cookies and no GET that changes anything.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from dht_torrent.daemon import following_api, keeping_api, search_api, similar_api, subscription_api
from dht_torrent.daemon.adding import Addition
from dht_torrent.daemon.body import check_types, read_body, read_bytes
from dht_torrent.daemon.control import HEADER
from dht_torrent.daemon.guard import BaseGuard, Headers, from_elsewhere, only
from dht_torrent.daemon.lines import LINES, Lines, LinesResponse, plain
from dht_torrent.errors import DhtTorrentError, InputError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

    from dht_torrent.daemon.reload import Reload
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.torrent import Torrent

REPEAT_AFTER = 10.0
"""Seconds after which `watch` sends the same snapshot again: its client sees that we are alive."""


def make_app(
    node: Node,
    *,
    stop: Callable[[], None],
    token: str | None = None,
    port: int | None = None,
    reload: Reload | None = None,
) -> Starlette:
    """The application for `node`; `stop` is called when a client asks the node to end, and `reload`
    when one asks it to read its configuration again.

    On TCP give `port` (the Host header must name it) and `token` (requests must carry it). Without
    them, as on a Unix socket of mode 0600, the file system has already said who may connect.
    """
    return Starlette(
        routes=api_routes(node, stopping=trio.Event(), stop=stop, reload=reload),
        middleware=[Middleware(Guard, token=token, port=port)],
        exception_handlers={
            HTTPException: http_error,
            DhtTorrentError: known_error,
            # The boundary of a bug in one request. Starlette raises it again afterwards, and
            # Hypercorn logs it.
            Exception: bugs_of(node),
        },
    )


def api_routes(
    node: Node,
    *,
    stopping: trio.Event,
    stop: Callable[[], None],
    reload: Reload | None = None,
) -> list[Route]:
    """What is answered, and where. `stopping` is set, and `stop` called, when a client asks the
    node to end; what goes on ends then. `reload` is as in `make_app`."""
    searches = search_api.Searches(node, stopping)

    async def status(request: Request) -> Response:
        return reply(node.status())

    async def torrents(request: Request) -> Response:
        return reply([torrent.summary() for torrent in node.torrents.values()])

    async def add(request: Request) -> Response:
        order = Addition(await read_body(request))
        torrent = await order.carry_out(node)
        return reply(torrent.summary(), status=201)

    async def one(request: Request) -> Response:
        return reply(_find(node, request).summary())

    async def peers(request: Request) -> Response:
        return reply(_find(node, request).peers())

    async def files(request: Request) -> Response:
        return reply(_find(node, request).files())

    async def pieces(request: Request) -> Response:
        torrent = _find(node, request)
        return reply(
            {"states": list(torrent.piece_states()), "availability": torrent.availability()}
        )

    async def watch(request: Request) -> Response:
        snapshots = _find(node, request).watch(repeat_after=REPEAT_AFTER)
        if request.method == "HEAD":
            return Response(media_type=LINES)
        return StreamingResponse(Lines(snapshots, stopping), media_type=LINES)

    async def torrent_file(request: Request) -> Response:
        metainfo = _find(node, request).metainfo
        if metainfo is None:
            raise HTTPException(409, "the metadata of this torrent is not known yet")
        return Response(metainfo.to_torrent(), media_type="application/x-bittorrent")

    async def remove(request: Request) -> Response:
        torrent = _find(node, request)
        data = request.query_params.get("data", "0")
        if data not in ("0", "1"):
            raise HTTPException(400, "data must be 0 or 1")
        removal = await node.remove(torrent, delete_data=data == "1")
        told = {"removed": torrent.id}
        return reply(told | dataclasses.asdict(removal) if data == "1" else told)

    async def act(request: Request) -> Response:
        torrent = _find(node, request)
        action = request.path_params["action"]
        if action == "pause":
            await torrent.pause()
        elif action == "resume":
            await torrent.resume()
        elif action == "recheck":
            await torrent.recheck()
        elif action == "publish":
            body = check_types(await read_body(request), {"tags": list})
            await node.publish(torrent, search_api.tags_of(body))
        elif action == "unpublish":
            return reply({"id": torrent.id, "unpublished": await node.unpublish(torrent)})
        elif action == "limits":
            torrent.set_limits(**_rates(await read_body(request)))
            await torrent.save()
        elif action in keeping_api.ACTIONS:
            await keeping_api.act(node, torrent, action, await read_body(request))
        else:
            raise HTTPException(404, "no such action")
        return reply(torrent.summary())

    async def limits(request: Request) -> Response:
        keeping_api.set_node_limits(node, await read_body(request))
        return reply(node.status())

    async def dht(request: Request) -> Response:
        from dht_torrent.daemon.dht_api import ask

        return reply(await ask(node.dht, request.path_params["action"], await read_body(request)))

    async def search(request: Request) -> Response:
        response = searches.respond(request.query_params)
        return response if request.method == "GET" else Response(media_type=LINES)

    async def similar(request: Request) -> Response:
        return reply(await similar_api.ask(node, await read_body(request)))

    async def publishers(request: Request) -> Response:
        return reply(await node.publishers())

    async def judge(request: Request) -> Response:
        return reply(await searches.judge(await read_body(request)))

    async def catalogue(request: Request) -> Response:
        return reply(await node.catalogue_status())

    async def export_catalogue(request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type=LINES)
        return search_api.export(node, stopping)

    async def import_catalogue(request: Request) -> Response:
        lines = await read_bytes(request, search_api.MAX_IMPORT)
        return reply(await node.import_catalogue(bytes(lines)))

    async def subscriptions(request: Request) -> Response:
        return reply(node.subscriptions.listed())

    async def subscribe(request: Request) -> Response:
        return reply(await subscription_api.subscribe(node, await read_body(request)), status=201)

    async def unsubscribe(request: Request) -> Response:
        return reply(await subscription_api.unsubscribe(node, await read_body(request)))

    async def publish_catalogue(request: Request) -> Response:
        body = await read_body(request)
        return reply(await subscription_api.publish_catalogue(node, body))

    async def followed(request: Request) -> Response:
        return reply([one.view() for one in node.followed])

    async def follow(request: Request) -> Response:
        return reply(await following_api.follow(node, await read_body(request)), status=201)

    async def unfollow(request: Request) -> Response:
        return reply(await following_api.unfollow(node, await read_body(request)))

    async def watch_followed(request: Request) -> Response:
        one = following_api.find(node, request.path_params["id"])
        if request.method == "HEAD":
            return Response(media_type=LINES)
        views = following_api.watch(one)
        return LinesResponse(Lines(views, stopping), aclosing(views))

    async def published(request: Request) -> Response:
        return reply(node.published_links())

    async def publish_link(request: Request) -> Response:
        return reply(await following_api.publish(node, await read_body(request)), status=201)

    async def unpublish_link(request: Request) -> Response:
        return reply(await following_api.unpublish(node, await read_body(request)))

    async def read_again(request: Request) -> Response:
        if reload is None:
            raise HTTPException(409, "this node runs for one command, and reads no configuration")
        return reply(await reload(node))

    async def end(request: Request) -> Response:
        stopping.set()
        stop()
        return reply({"stopping": True})

    async def description(request: Request) -> Response:
        from dht_torrent.daemon.openapi import document

        return reply(document())

    api = "/api/v1"
    return [
        Route("/api/openapi.json", description, methods=["GET"]),
        Route(f"{api}/status", status, methods=["GET"]),
        Route(f"{api}/torrents", torrents, methods=["GET"]),
        Route(f"{api}/torrents", add, methods=["POST"]),
        Route(f"{api}/torrents/{{id}}", one, methods=["GET"]),
        Route(f"{api}/torrents/{{id}}", remove, methods=["DELETE"]),
        Route(f"{api}/torrents/{{id}}/peers", peers, methods=["GET"]),
        Route(f"{api}/torrents/{{id}}/files", files, methods=["GET"]),
        Route(f"{api}/torrents/{{id}}/pieces", pieces, methods=["GET"]),
        Route(f"{api}/torrents/{{id}}/watch", watch, methods=["GET"]),
        Route(f"{api}/torrents/{{id}}/torrent", torrent_file, methods=["GET"]),
        Route(f"{api}/torrents/{{id}}/{{action}}", act, methods=["POST"]),
        Route(f"{api}/limits", limits, methods=["POST"]),
        Route(f"{api}/dht/{{action}}", dht, methods=["POST"]),
        Route(f"{api}/search", search, methods=["GET"]),
        Route(f"{api}/similar", similar, methods=["POST"]),
        Route(f"{api}/publishers", publishers, methods=["GET"]),
        Route(f"{api}/publishers", judge, methods=["POST"]),
        Route(f"{api}/catalogue", catalogue, methods=["GET"]),
        Route(f"{api}/catalogue/export", export_catalogue, methods=["GET"]),
        Route(f"{api}/catalogue/import", import_catalogue, methods=["POST"]),
        Route(f"{api}/subscriptions", subscriptions, methods=["GET"]),
        Route(f"{api}/subscriptions", subscribe, methods=["POST"]),
        Route(f"{api}/subscriptions/remove", unsubscribe, methods=["POST"]),
        Route(f"{api}/catalogue/publish", publish_catalogue, methods=["POST"]),
        Route(f"{api}/followed", followed, methods=["GET"]),
        Route(f"{api}/followed", follow, methods=["POST"]),
        Route(f"{api}/followed/remove", unfollow, methods=["POST"]),
        Route(f"{api}/followed/{{id}}/watch", watch_followed, methods=["GET"]),
        Route(f"{api}/published", published, methods=["GET"]),
        Route(f"{api}/published", publish_link, methods=["POST"]),
        Route(f"{api}/published/remove", unpublish_link, methods=["POST"]),
        Route(f"{api}/reload", read_again, methods=["POST"]),
        Route(f"{api}/stop", end, methods=["POST"]),
    ]


# --- who may ask ---------------------------------------------------------------------------------


class Guard(BaseGuard):
    """Refuses what does not come from the owner's own client."""

    def __init__(self, app: ASGIApp, *, token: str | None, port: int | None) -> None:
        super().__init__(app)
        self._token = token
        self._port = port

    def answer(self, status: int, text: str) -> ASGIApp:
        return _error(status, text)

    def refuse(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = only(headers, b"host")
        if not scope["path"].startswith("/"):
            return 400, "expected a path"  # an absolute URI names a host that was not checked
        if self._port is not None and not is_own_host(host, self._port):
            return 421, "this host name is not served here"
        refusal = from_elsewhere(headers, f"http://{host}")
        if refusal is not None:
            return refusal
        if self._token is not None:
            given = only(headers, b"authorization") or ""
            if not secrets.compare_digest(
                given.encode("utf-8", "replace"), f"Bearer {self._token}".encode()
            ):
                return 401, "a token is needed: Authorization: Bearer TOKEN"
        if scope["method"] not in ("GET", "HEAD"):
            media_type = (only(headers, b"content-type") or "").partition(";")[0].strip().lower()
            if media_type != "application/json" and HEADER.encode() not in headers:
                return 403, f"needs content type application/json, or a {HEADER} header"
        return None


def is_own_host(host: str | None, port: int) -> bool:
    """Whether a Host header names this loopback server (against DNS rebinding, CVE-2018-5702)."""
    if host is None:
        return False
    name, colon, given = host.rpartition(":")
    return bool(colon) and given == str(port) and name.lower() in _LOOPBACK_NAMES


_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


# --- what is asked -------------------------------------------------------------------------------


def _rates(body: dict[str, Any]) -> dict[str, int | None]:
    """The body of a `limits` order: `up` and `down` in bytes per second, null for no limit; what is
    left out stays as it is. Raises InputError."""
    for key, value in body.items():
        if key not in ("up", "down"):
            raise InputError(f"unknown option {key[:40]!r}")
        if value is not None and type(value) is not int:
            raise InputError(f"{key} must be a whole number of bytes per second, or null")
    return body


def _find(node: Node, request: Request) -> Torrent:
    try:
        return node.find(request.path_params["id"])
    except InputError as error:
        raise HTTPException(404, str(error)) from None


# --- what is answered ----------------------------------------------------------------------------


def reply(value: object, *, status: int = 200) -> Response:
    """JSON, in ASCII: names may hold anything, even bytes of a file name that are not UTF-8."""
    return Response(
        json.dumps(plain(value), ensure_ascii=True),
        status_code=status,
        media_type="application/json",
    )


def _error(status: int, text: str) -> Response:
    return reply({"error": text}, status=status)


def bugs_of(node: Node) -> Callable[[Request, Exception], Awaitable[Response]]:
    """The answer to a request in which a bug of ours showed, that notes it."""

    async def bug(request: Request, error: Exception) -> Response:
        node.faults.report(error, f"the request {request.method} {request.url.path[:100]}")
        return _error(500, "internal error; the node's log has the details")

    return bug


async def http_error(request: Request, error: Exception) -> Response:
    """What Starlette or a handler refused."""
    assert isinstance(error, HTTPException)
    answer = _error(error.status_code, error.detail)
    answer.headers.update(error.headers or {})
    return answer


async def known_error(request: Request, error: Exception) -> Response:
    """What the caller or the disk is to blame for."""
    return _error(400 if isinstance(error, InputError) else 409, str(error))
