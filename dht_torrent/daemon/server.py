"""The control sockets. They exist, with their final permissions, before anyone is told where they
are, and leave no file behind.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import hypercorn.trio
import trio
from hypercorn.config import Config as HypercornConfig

from dht_torrent.daemon.app import make_app
from dht_torrent.daemon.control import (
    Control,
    default_control,
    fits,
    make_token,
    parse_control,
    remove_control,
    write_control,
)
from dht_torrent.daemon.sending import Sending, sending_of_server
from dht_torrent.engine.net.exhaustion import OUT_OF_RESOURCES, AcceptFilter, say_exhausted
from dht_torrent.errors import InputError
from dht_torrent.ids import Address

if TYPE_CHECKING:
    from hypercorn.typing import Framework
    from starlette.applications import Starlette

    from dht_torrent.engine.node import Node

logger = logging.getLogger(__name__)

RESTART_PAUSE = 0.5
"""Seconds before a server that fell over is started again."""
BACKLOG = 1024
"""Connections the system may hold for us before they are refused: scripts ask many at once."""


async def serve(
    node: Node,
    control: str | None,
    state_dir: Path | str,
    *,
    task_status: trio.TaskStatus[Control] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer commands for `node` until cancelled, or until a client says stop: then it returns.

    `control` is `unix:PATH` or `ADDR:PORT` (port 0 means any); None means a socket in `state_dir`.
    The caller's node holds the lock of `state_dir`. Started with the address clients can use.
    Raises InputError when the address cannot be had.
    """
    state = Path(state_dir)
    with _bound(control, state) as (listener, where):
        port = where.address.port if where.address is not None else None
        token = make_token(state) if port is not None else None
        stopping = trio.Event()
        app = make_app(node, stop=stopping.set, token=token, port=port)
        # Only now, when a connection would be queued, is the address told.
        listener.listen(BACKLOG)
        write_control(state, where)
        task_status.started(where)
        try:
            with accept_errors_in_a_line():
                await serve_http(app, listener, stopping)
        finally:
            remove_control(state, where, token)


async def serve_http(
    app: Starlette,
    listener: socket.socket,
    stopping: trio.Event,
    tls: tuple[Path, Path] | None = None,
) -> None:
    """Hypercorn on `listener` until `stopping`, again and again should it fall over: a stranger's
    bytes must not end the node through a library. (What the app raises never gets here.)"""

    sending = Sending()

    async def stopped() -> None:
        await stopping.wait()
        listener.close()  # or a late client would wait in its queue for an answer
        sending.end()

    sending_of_server.set(sending)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sending.end_when_cancelled)
        while not stopping.is_set():
            try:
                await hypercorn.trio.serve(
                    cast("Framework", app),
                    _hypercorn_config(listener, tls),
                    shutdown_trigger=stopped,
                )
            except Exception as error:
                if isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES:
                    say_exhausted(error)
                else:
                    logger.exception("the control server failed and is being restarted")
                await trio.sleep(RESTART_PAUSE)  # or it would spin where descriptors are lacking
        nursery.cancel_scope.cancel()


@contextlib.contextmanager
def accept_errors_in_a_line() -> Iterator[None]:
    """Hypercorn leaves accepting to Trio. The filter is the process's, and there only meanwhile."""
    accepting, lines = logging.getLogger("trio.serve_listeners"), AcceptFilter()
    accepting.addFilter(lines)
    try:
        yield
    finally:
        accepting.removeFilter(lines)


@contextlib.contextmanager
def _bound(control: str | None, state_dir: Path) -> Iterator[tuple[socket.socket, Control]]:
    """A bound stream socket and where it is. Removes what it made in the file system."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    private: Path | None = None
    if control is None:
        where, private = default_control(state_dir)
    else:
        where = parse_control(control)
    try:
        if where.address is not None:
            with bind_tcp(where.address, "control address") as listener:
                host, port = listener.getsockname()[:2]
                yield listener, Control(address=Address(host, port))
        else:
            assert where.path is not None
            with _bind_unix(where.path) as listener:
                made = where.path.stat(follow_symlinks=False).st_ino
                try:
                    yield listener, where
                finally:
                    with contextlib.suppress(OSError):
                        if where.path.stat(follow_symlinks=False).st_ino == made:
                            where.path.unlink()
    finally:
        if private is not None:
            with contextlib.suppress(OSError):
                private.rmdir()


def bind_tcp(address: Address, what: str) -> socket.socket:
    """A socket that will listen there. Raises InputError naming `what` cannot be had."""
    listener = socket.socket(socket.AF_INET6 if address.is_ipv6 else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise InputError(f"cannot take {what} {address}: {_reason(error)}") from None
    return listener


def _bind_unix(path: Path) -> socket.socket:
    if not fits(path):
        raise InputError(f"the path of the control socket is too long for the system: {path}")
    listener = socket.socket(socket.AF_UNIX)
    try:
        _clear_stale(path)
        # The mode must be right from the first moment. The mask is the process's, but nothing else
        # runs in this thread before it is put back.
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
    except OSError as error:
        listener.close()
        raise InputError(f"cannot take control address unix:{path}: {_reason(error)}") from None
    except InputError:
        listener.close()
        raise
    return listener


def _clear_stale(path: Path) -> None:
    """Remove the socket of a node that is gone. Raises InputError when it is not."""
    try:
        mode = path.stat(follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise InputError(f"cannot take control address unix:{path}: a file is there")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise
        else:
            raise InputError(f"another node answers at unix:{path}")
    path.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _hypercorn_config(listener: socket.socket, tls: tuple[Path, Path] | None) -> HypercornConfig:
    config = HypercornConfig()
    if tls is not None:
        config.certfile, config.keyfile = map(os.fspath, tls)
    # Hypercorn closes what it gets, so it gets a descriptor of its own.
    config.bind = [f"fd://{os.dup(listener.fileno())}"]
    config.backlog = BACKLOG  # it says `listen` again
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.graceful_timeout = 2.0
    config.include_server_header = False
    return config
