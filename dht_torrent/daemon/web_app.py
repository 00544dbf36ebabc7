"""What the node answers at `--web ADDR:PORT`: its page with all that this asks (`daemon.web`), to
the programs of other people Transmission's RPC, and `/healthz`. Whoever asks is another user of
this machine or of the network, or a web page that some browser was lured to: each request passes
`WebGuard` first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from dht_torrent.daemon.app import bugs_of, http_error, known_error, reply
from dht_torrent.daemon.credentials import Credentials, LogIn
from dht_torrent.daemon.guard import BaseGuard, Headers, from_elsewhere, only
from dht_torrent.daemon.places import Places
from dht_torrent.daemon.rpc.endpoint import Endpoint
from dht_torrent.daemon.rpc.settings import Settings
from dht_torrent.daemon.stream import Streams
from dht_torrent.daemon.torznab.api import Torznab
from dht_torrent.daemon.web.door import Door
from dht_torrent.daemon.web.routes import routes as page_routes
from dht_torrent.errors import DhtTorrentError, InputError
from dht_torrent.ids import Address, parse_address

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Scope

    from dht_torrent.daemon.metrics import Metrics
    from dht_torrent.daemon.reload import Reload
    from dht_torrent.daemon.rpc.remembered import Remembered
    from dht_torrent.daemon.tokens import WebTokens
    from dht_torrent.engine.node import Node

RPC_PATH: Final = "/transmission/rpc"
_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebOptions:
    """Where to listen, and who may come."""

    address: Address
    """Port 0 means any."""
    credentials: Credentials | None = None
    """Of those who speak Transmission's RPC; without them it is off."""
    roots: tuple[Path, ...] = ()
    """Folders that its clients may have content in, besides the download directory."""
    hosts: tuple[str, ...] = ()
    """Names that this server goes by, besides `localhost` and addresses."""
    tls: tuple[Path, Path] | None = None
    """A certificate and its private key, PEM files."""
    read_only: bool = False
    """The page and its API only show."""
    insecure: bool = False
    """Listen on an address of the network without them all the same."""
    fixed: frozenset[str] = frozenset()
    """Fields of the configuration that the command line or the environment has said: what clients
    of the RPC set holds until the node ends."""
    told: Callable[[str], None] = lambda where: None
    """Hears where the page and the RPC are, or why one is off, a line each."""

    def __post_init__(self) -> None:
        """Raises InputError if what is said would be readable by others on the way."""
        if self.tls is None and not self.insecure and not self.address.is_loopback:
            raise InputError(
                f"{self.address} can be reached from elsewhere, where others could read along:"
                " give --web-tls CERT KEY, or --web-insecure"
            )


def parse_web(text: str) -> Address:
    """Of `--web`. Raises InputError."""
    try:
        return parse_address(text)
    except InputError as error:
        raise InputError(f"--web: {error}") from None


def make_web_app(
    node: Node,
    options: WebOptions,
    *,
    state_dir: Path,
    stop: Callable[[], None],
    door: Door | None = None,
    tokens: WebTokens | None = None,
    metrics: Metrics | None = None,
    stopping: trio.Event | None = None,
    reload: Reload | None = None,
    clock: Callable[[], float] = trio.current_time,
    remembered: Remembered | None = None,
) -> Starlette:
    """The application for `node`; `stop` is called when a client asks the node to end, and what
    goes on ends when `stopping` is set. Behind `door` is the page; without one there is none. There
    a client may also ask the node to `reload` its configuration. Who has one of the `tokens` may
    read the `metrics`, play what is here, and search; without them that is not there. `remembered`
    is what clients of the RPC have set in earlier runs."""
    stopping = stopping if stopping is not None else trio.Event()

    async def healthz(request: Request) -> Response:
        return reply({"status": "ok"})

    routes = [Route("/healthz", healthz, methods=["GET"])]
    roots = (Path(node.config.download_dir), *options.roots)
    if door is not None:
        routes += page_routes(
            node, door, Places(roots), stopping=stopping, stop=stop, reload=reload
        )
    if tokens is not None:

        def may_play(request: Request) -> bool:
            return tokens.admits(request, "stream") or (door is not None and door.admits(request))

        routes += Streams(node, may_play, stopping, read_only=options.read_only).routes()
        routes += Torznab(node, tokens).routes()
        routes += metrics.routes() if metrics is not None else []
    if options.credentials is not None:
        endpoint = Endpoint(
            Settings(node, roots, state_dir, stop, clock, remembered, options.fixed),
            LogIn(options.credentials, clock),
            node.faults.report,
        )
        routes += [  # transmission-remote ends it with a slash
            Route(path, endpoint.answer, methods=_METHODS) for path in (RPC_PATH, RPC_PATH + "/")
        ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(WebGuard, hosts=options.hosts, tls=options.tls is not None)],
        exception_handlers={
            HTTPException: _http_error,
            DhtTorrentError: known_error,
            Exception: bugs_of(node),
        },
    )


class WebGuard(BaseGuard):
    """Refuses what was sent by a page of another origin, or to a name that is not this server's
    (DNS rebinding)."""

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], tls: bool) -> None:
        super().__init__(app)
        self._hosts = frozenset({"localhost", "localhost.", *(name.lower() for name in hosts)})
        self._scheme = "https" if tls else "http"

    def answer(self, status: int, text: str) -> ASGIApp:
        return _plain(status, text)

    def refuse(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = only(headers, b"host")
        if not scope["path"].startswith("/"):
            return 400, "expected a path"
        if host is None or not self._is_ours(host):
            return 421, "this host name is not served here (see --web-host)"
        return from_elsewhere(headers, f"{self._scheme}://{host}")

    def _is_ours(self, host: str) -> bool:
        """An address is: nobody can make a browser believe that theirs is ours."""
        name = host
        if host.startswith("["):
            name, bracket, port = host[1:].partition("]")
            if not bracket or not (port == "" or port.startswith(":")):
                return False
        elif host.count(":") == 1:
            name = host.partition(":")[0]
        if name.lower() in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _plain(status: int, text: str) -> Response:
    return Response(f"{status}: {text}\n", status_code=status, media_type="text/plain")


async def _http_error(request: Request, error: Exception) -> Response:
    """In plain text to people and to the RPC's clients."""
    assert isinstance(error, HTTPException)
    if request.url.path.startswith(("/api/", "/events")):
        return await http_error(request, error)
    answer = _plain(error.status_code, error.detail)
    answer.headers.update(error.headers or {})  # what is allowed, or how long the file is
    return answer
