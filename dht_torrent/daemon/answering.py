"""The HTTP server: Hypercorn with an app. On a control socket, imported when there is a client."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import hypercorn.trio
import trio
from hypercorn.config import Config as HypercornConfig

from dht_torrent.daemon.app import make_app
from dht_torrent.daemon.control import KEEP_ALIVE
from dht_torrent.daemon.sending import Sending, sending_of_server
from dht_torrent.engine.net.exhaustion import OUT_OF_RESOURCES, AcceptFilter, say_exhausted

if TYPE_CHECKING:
    from hypercorn.typing import Framework
    from starlette.applications import Starlette

    from dht_torrent.daemon.reload import Reload
    from dht_torrent.engine.node import Node

logger = logging.getLogger(__name__)


async def answer(
    node: Node,
    listener: socket.socket,
    stopping: trio.Event,
    *,
    token: str | None,
    port: int | None,
    backlog: int,
    pause: float,
    reload: Reload | None = None,
) -> None:
    """Answer commands for `node` until one of them is to stop, which sets `stopping`."""
    app = make_app(node, stop=stopping.set, token=token, port=port, reload=reload)
    await serve_http(app, listener, stopping, backlog=backlog, pause=pause)


async def serve_http(
    app: Starlette,
    listener: socket.socket,
    stopping: trio.Event,
    *,
    backlog: int,
    pause: float,
    tls: tuple[Path, Path] | None = None,
    most: int | None = None,
) -> None:
    """Hypercorn on `listener` until `stopping`, with `most` connections at a time.

    Should it fall over it is started again, after `pause` seconds: a stranger's bytes must not end
    the node through a library. (What the app raises never gets here.)"""
    sending = Sending(most)

    async def stopped() -> None:
        await stopping.wait()
        listener.close()  # or a late client would wait in its queue for an answer
        sending.end()

    sending_of_server.set(sending)
    with _accept_errors_in_a_line():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sending.end_when_cancelled)
            while not stopping.is_set():
                try:
                    config = _hypercorn_config(listener, backlog, tls)
                    await hypercorn.trio.serve(
                        cast("Framework", app), config, shutdown_trigger=stopped
                    )
                except Exception as error:
                    if isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES:
                        say_exhausted(error)
                    else:
                        logger.exception("the control server failed and is being restarted")
                    await trio.sleep(pause)  # or it would spin where descriptors are lacking
            nursery.cancel_scope.cancel()


@contextlib.contextmanager
def _accept_errors_in_a_line() -> Iterator[None]:
    """Hypercorn leaves accepting to Trio. The filter is the process's, and there only meanwhile."""
    accepting, lines = logging.getLogger("trio.serve_listeners"), AcceptFilter()
    accepting.addFilter(lines)
    try:
        yield
    finally:
        accepting.removeFilter(lines)


def _hypercorn_config(
    listener: socket.socket, backlog: int, tls: tuple[Path, Path] | None
) -> HypercornConfig:
    config = HypercornConfig()
    if tls is not None:
        config.certfile, config.keyfile = map(os.fspath, tls)
    # Hypercorn closes what it gets, so it gets a descriptor of its own.
    config.bind = [f"fd://{os.dup(listener.fileno())}"]
    config.backlog = backlog  # it says `listen` again
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.graceful_timeout = 2.0
    config.keep_alive_timeout = KEEP_ALIVE
    config.include_server_header = False
    return config
