"""The socket at `--web`: bound before anyone is told where it is, and watched over as the control
socket is.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dht_torrent.daemon.answering import serve_http
from dht_torrent.daemon.control import said_in
from dht_torrent.daemon.metrics import Metrics
from dht_torrent.daemon.rpc.remembered import FOLDER, NAME, SUFFIX, decode
from dht_torrent.daemon.server import BACKLOG, RESTART_PAUSE, bind_tcp
from dht_torrent.daemon.tokens import WebTokens
from dht_torrent.daemon.web.door import ENTRY, Door
from dht_torrent.daemon.web_app import RPC_PATH, WebOptions, make_web_app
from dht_torrent.errors import InputError
from dht_torrent.ids import Address

if TYPE_CHECKING:
    from dht_torrent.daemon.reload import Reload
    from dht_torrent.engine.node import Node
logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 512
"""Of browsers and programs; what comes besides is closed at once."""


async def serve_web(
    node: Node,
    options: WebOptions,
    state_dir: Path,
    *,
    reload: Reload | None = None,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer other programs until cancelled, or until one of them ends the node: then it returns.

    Started with the address. Raises InputError when that cannot be had, or the certificate is of no
    use."""
    if options.tls is not None:
        check_tls(*options.tls)
    stopping = trio.Event()
    remembered = None
    if options.credentials is not None:
        remembered, warnings = await node.records.load(FOLDER, NAME, SUFFIX, decode)
        for warning in warnings:
            logger.warning("%s", warning)
    with bind_tcp(options.address, "web address") as listener:
        host, port = listener.getsockname()[:2]
        address = Address(host, port)
        secure = options.tls is not None
        scheme = "https" if secure else "http"
        door = Door(trio.current_time, port=port, secure=secure, read_only=options.read_only)
        tokens = WebTokens.of(state_dir)
        metrics = Metrics(node, tokens)
        app = make_web_app(
            node,
            options,
            state_dir=state_dir,
            stop=stopping.set,
            door=door,
            tokens=tokens,
            metrics=metrics,
            stopping=stopping,
            reload=reload,
            remembered=remembered,
        )
        link = f"{scheme}://{_name(options, address)}{ENTRY}?key={door.secret}"
        listener.listen(BACKLOG)
        options.told(f"the page is at {link}")
        if options.credentials is None:
            options.told("Transmission's RPC is off without credentials, see --rpc-auth-file")
        else:
            options.told(f"Transmission's RPC is at {scheme}://{address}{RPC_PATH}")
        with said_in(state_dir, link):
            task_status.started(address)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(metrics.watch)
                await serve_http(
                    app,
                    listener,
                    stopping,
                    backlog=BACKLOG,
                    pause=RESTART_PAUSE,
                    tls=options.tls,
                    most=MAX_CONNECTIONS,
                )
                nursery.cancel_scope.cancel()


def _name(options: WebOptions, address: Address) -> str:
    """The host and port of the link: one that can be reached, at least from here."""
    if options.hosts:
        return f"{options.hosts[0]}:{address.port}"
    if address.host in ("0.0.0.0", "::"):  # noqa: S104 - which no link can name
        return f"localhost:{address.port}"
    return str(address)


def check_tls(certificate: Path, key: Path) -> None:
    """Raises InputError unless they are a certificate and its key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise InputError(
            f"{certificate} and {key} are not a certificate and its key: {error.reason}"
        ) from None
    except OSError as error:
        raise InputError(f"--web-tls {certificate} {key}: {error.strerror}") from None
