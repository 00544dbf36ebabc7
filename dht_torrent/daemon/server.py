"""The control sockets. They exist, with their final permissions, before anyone is told where they
are, and leave no file behind.

Many nodes are never asked anything, as those of `dhtnode get`: the HTTP server, and what it answers
with, are imported when the first client has come (`answering`).
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dht_torrent.daemon.control import (
    Control,
    default_control,
    fits,
    make_token,
    parse_control,
    remove_control,
    write_control,
)
from dht_torrent.engine.net.exhaustion import OUT_OF_RESOURCES, say_exhausted
from dht_torrent.errors import InputError
from dht_torrent.ids import Address

if TYPE_CHECKING:
    from dht_torrent.daemon.reload import Reload
    from dht_torrent.engine.node import Node

RESTART_PAUSE = 0.5
"""Seconds before a server that fell over is started again."""
BACKLOG = 1024
"""Connections the system may hold for us before they are refused: scripts ask many at once."""


async def serve(
    node: Node,
    control: str | None,
    state_dir: Path | str,
    *,
    reload: Reload | None = None,
    task_status: trio.TaskStatus[Control] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer commands for `node` until cancelled, or until a client says stop: then it returns.

    `control` is `unix:PATH` or `ADDR:PORT` (port 0 means any); None means a socket in `state_dir`.
    `reload` is what a client may ask for. The caller's node holds the lock of `state_dir`. Started
    with the address clients can use. Raises InputError when the address cannot be had.
    """
    state = Path(state_dir)
    with _bound(control, state) as (listener, where):
        port = where.address.port if where.address is not None else None
        token = make_token(state) if port is not None else None
        stopping = trio.Event()
        # Only now, when a connection would be queued, is the address told.
        listener.listen(BACKLOG)
        write_control(state, where)
        task_status.started(where)
        try:
            await trio.lowlevel.wait_readable(listener)
            await _load_answering()
            from dht_torrent.daemon.answering import answer

            await answer(
                node,
                listener,
                stopping,
                token=token,
                port=port,
                backlog=BACKLOG,
                pause=RESTART_PAUSE,
                reload=reload,
            )
        finally:
            remove_control(state, where, token)


async def _load_answering() -> None:
    """Import what answers, beside the event loop, and as soon as there are descriptors for that."""
    while True:
        try:
            await trio.to_thread.run_sync(importlib.import_module, "dht_torrent.daemon.answering")
        except OSError as error:
            if error.errno not in OUT_OF_RESOURCES:
                raise
            say_exhausted(error)
            await trio.sleep(RESTART_PAUSE)
        else:
            return


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
