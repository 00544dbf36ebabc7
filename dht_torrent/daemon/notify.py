"""What a service manager is told: sd_notify(3) and sd_watchdog_enabled(3), without a library.

The rule: who does not ask for it is told nothing, and who does not listen any more is not an error.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping

import trio

_LEAST_WATCHDOG = 0.1
"""Seconds between two signs of life, at least."""


class Notify:
    """To the service manager that started this process, if one did."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        where = environment.get("NOTIFY_SOCKET", "")
        self._where = where if where.startswith(("/", "@")) else None
        self.interval: float | None = None
        """Seconds between two signs of life; None: none are expected."""
        patience = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if ours and patience.isascii() and patience.isdecimal() and 0 < len(patience) < 16:
            self.interval = max(_LEAST_WATCHDOG, int(patience) / 1e6 / 2)

    def send(self, *lines: str) -> None:
        if self._where is None:
            return
        address = "\0" + self._where[1:] if self._where.startswith("@") else self._where
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto("\n".join(lines).encode("utf-8", "surrogateescape"), address)

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """While the configuration is read again."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.send("READY=1")

    async def watch(self) -> None:
        """A service: a sign of life as often as one is expected, as long as the event loop runs."""
        while self.interval is not None:
            self.send("WATCHDOG=1")
            await trio.sleep(self.interval)
