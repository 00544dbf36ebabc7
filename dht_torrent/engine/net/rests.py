"""What is left of connections that were closed here. The rule: as long as the other end may send,
the system knows the connection.

Of one that it does not know it says so itself, to whoever sent, and whichever way its routes lead:
beside the interface that we keep to. So a connection is ended in order, and what still comes is
received and forgotten, until the other end has closed it too.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

PATIENCE: Final = 10.0
"""Seconds the other end has to close it. Clients do so when they read the end."""
MOST: Final = 256
"""Connections that are kept; the oldest goes then."""
_TURN: Final = 64
"""Buffers received of one at a look ..."""
_BUFFER: Final = 64 * 1024
"""... and their size."""


@dataclass(slots=True)
class _Rest:
    socket: socket.socket
    since: float | None = None  # when it was first looked at
    is_ended: bool = False  # the other end was told


class Rests:
    """Of one network."""

    def __init__(self) -> None:
        self._rests: list[_Rest] = []

    def __len__(self) -> int:
        return len(self._rests)

    def add(self, sock: socket.socket) -> None:
        """It is used no more, connected or not yet."""
        rest = _Rest(sock)
        _end(rest)
        self._rests.append(rest)
        while len(self._rests) > MOST:
            self._rests.pop(0).socket.close()

    def look(self, now: float) -> None:
        """Close those that the other end has closed, or that took too long. Call now and then, but
        not while nothing can come."""
        left: list[_Rest] = []
        for rest in self._rests:
            if rest.since is None:
                rest.since = now
            _end(rest)
            if _has_ended(rest.socket) or now - rest.since >= PATIENCE:
                rest.socket.close()
            else:
                left.append(rest)
        self._rests = left

    def close(self) -> None:
        """Close all of them."""
        for rest in self._rests:
            rest.socket.close()
        self._rests.clear()


def _end(rest: _Rest) -> None:
    """Tell the other end, once there is one: what is sent to a connection that is given up while it
    comes about would find none."""
    if not rest.is_ended:
        with suppress(OSError):
            rest.socket.getpeername()
            rest.socket.shutdown(socket.SHUT_WR)
            rest.is_ended = True


def _has_ended(sock: socket.socket) -> bool:
    try:
        for _ in range(_TURN):
            if not sock.recv(_BUFFER):
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False
