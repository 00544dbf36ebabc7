"""Whether a node is there. Told without HTTP, for most who ask want to know of no node, at once."""

from __future__ import annotations

import fcntl
import socket
from pathlib import Path
from typing import Final

from dht_torrent.daemon.control import Control, parse_control, read_control
from dht_torrent.errors import ControlError, InputError
from dht_torrent.ids import Address

CONNECTING_TIME: Final = 30.0
"""Seconds a node may take to have a connection."""


class NoNode(ControlError):  # noqa: N818 - an outcome: `share` and `get` then run their own node
    """No node answers at the control address."""


class NotRunning(NoNode, InputError):  # noqa: N818 - as NoNode
    """There was no node to begin with: the user named the wrong place, or has not started one."""


def find(state_dir: Path, control: str | None = None) -> Control:
    """Where the node of `state_dir` answers, or the one at `control` (`unix:PATH`, `ADDR:PORT`).

    Something listens there. Raises NotRunning when nothing does, InputError for a bad address."""
    where = parse_control(control) if control is not None else read_control(state_dir)
    if where is None or not somebody_listens(where):
        raise NotRunning(f"no node is running with state directory {state_dir}")
    return where


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
    """Whether a connection can be made."""
    try:
        open_socket(control, CONNECTING_TIME).close()
    except BlockingIOError:
        return True  # its queue is full
    except OSError:
        return False
    return True


def open_socket(control: Control, timeout: float) -> socket.socket:
    """A connection, made in `timeout` seconds at most, each step on which may take as long. Raises
    OSError: BlockingIOError where the node is, but has as many waiting as the system holds for it.
    """
    family = socket.AF_UNIX
    target: str | Address = str(control.path)
    if control.address is not None:
        family = socket.AF_INET6 if control.address.is_ipv6 else socket.AF_INET
        target = control.address
    opened = socket.socket(family)
    try:
        opened.settimeout(timeout)
        opened.connect(target)
    except BaseException:
        opened.close()
        raise
    return opened
