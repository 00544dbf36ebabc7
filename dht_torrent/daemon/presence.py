"""Whether a node is there, and whether it is only too busy to be asked."""

from __future__ import annotations

import fcntl
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path

from dht_torrent.daemon.control import Control
from dht_torrent.ids import Address

CONNECTING_TIME = 30.0
"""Seconds a node may take to have a connection."""


def is_queue_full(error: BaseException) -> bool:
    """Whether the node is there, but has more connections waiting than the system holds for it.
    Linux refuses further ones to a Unix socket at once."""
    return any(isinstance(cause, BlockingIOError) for cause in _causes(error))


def close_sockets_of(error: BaseException) -> None:
    """httpx's Unix transport does not close the socket of a connection that failed."""
    for cause in _causes(error):
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            for value in list(frame.f_locals.values()):
                if isinstance(value, socket.socket):
                    value.close()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def is_held(state_dir: Path) -> bool:
    """Whether a node holds the lock of this state directory (engine.state.StateDir)."""
    try:
        with (state_dir / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def somebody_listens(control: Control) -> bool:
    """Whether a connection can be made. httpx would do, but its Unix transport leaks the socket of
    a connection that fails."""
    family = socket.AF_UNIX
    target: str | Address = str(control.path)
    if control.address is not None:
        family = socket.AF_INET6 if control.address.is_ipv6 else socket.AF_INET
        target = control.address
    with socket.socket(family) as probe:
        probe.settimeout(CONNECTING_TIME)
        try:
            probe.connect(target)
        except BlockingIOError:
            return True  # its queue is full
        except OSError:
            return False
        return True
