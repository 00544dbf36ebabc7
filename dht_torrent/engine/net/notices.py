"""Tells that the interfaces of this machine may have changed. Linux says so by netlink
(rtnetlink(7)); elsewhere nobody does, and a look now and then has to do.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import Final

import trio

_GROUPS: Final = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_BUFFER: Final = 64 * 1024
_MOST: Final = 1000
"""Messages read in one go."""
LULL: Final = 0.02
"""Seconds after a notice, in which others may come: bringing an interface up makes a handful."""


class Notices:
    """Of the network namespace that the thread is in."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        if sys.platform == "linux":
            with suppress(OSError):  # a sandbox may forbid it
                sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
                try:
                    sock.setblocking(False)
                    sock.bind((0, _GROUPS))
                except OSError:
                    sock.close()
                    raise
                self._socket = sock

    async def wait(self, most: float) -> None:
        """Until there is a notice, or for so many seconds."""
        if self._socket is None:
            await trio.sleep(most)
            return
        with trio.move_on_after(most):
            await trio.lowlevel.wait_readable(self._socket)
        if self._read():
            await trio.sleep(LULL)
            self._read()

    def close(self) -> None:
        if self._socket is not None:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._socket = None

    def _read(self) -> bool:
        """What they say does not matter: whoever is told looks. Whether there were any."""
        found = False
        for _ in range(_MOST):
            try:
                assert self._socket is not None
                self._socket.recv(_BUFFER)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: there were too many
                pass
            found = True
        return found
