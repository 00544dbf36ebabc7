"""The socket at `--web`: bound before anyone is told where it is, and watched over as the control
socket is.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dht_torrent.daemon.answering import serve_http
from dht_torrent.daemon.server import BACKLOG, RESTART_PAUSE, bind_tcp
from dht_torrent.daemon.web_app import RPC_PATH, WebOptions, make_web_app
from dht_torrent.errors import InputError
from dht_torrent.ids import Address

if TYPE_CHECKING:
    from dht_torrent.engine.node import Node


async def serve_web(
    node: Node,
    options: WebOptions,
    state_dir: Path,
    *,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer other programs until cancelled, or until one of them ends the node: then it returns.

    Started with the address. Raises InputError when that cannot be had, or the certificate is of no
    use."""
    if options.tls is not None:
        check_tls(*options.tls)
    stopping = trio.Event()
    app = make_web_app(node, options, state_dir=state_dir, stop=stopping.set)
    with bind_tcp(options.address, "web address") as listener:
        host, port = listener.getsockname()[:2]
        address = Address(host, port)
        listener.listen(BACKLOG)
        scheme = "https" if options.tls is not None else "http"
        if options.credentials is None:
            options.told("Transmission's RPC is off without credentials, see --rpc-auth-file")
        else:
            options.told(f"Transmission's RPC is at {scheme}://{address}{RPC_PATH}")
        task_status.started(address)
        await serve_http(
            app, listener, stopping, backlog=BACKLOG, pause=RESTART_PAUSE, tls=options.tls
        )


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
