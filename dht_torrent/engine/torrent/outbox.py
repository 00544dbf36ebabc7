"""Messages that wait to be written to one peer, and how long it may take to read them.

The rule: it holds little. A peer that asks and asks but does not read what it is told is closed.
"""

from __future__ import annotations

import trio

from dht_torrent.config import PeerConfig
from dht_torrent.engine.wakeup import AutoResetEvent

OUTBOX_LIMIT = 4 << 20
"""Bytes of messages waiting for a peer that does not read them; more close the connection. Room for
the Have of every piece of a large torrent and a full metadata queue."""

BACKLOG = 256 * 1024
"""Bytes of these with which it is closed sooner, if it reads nothing at all: it goes on asking."""


class Outbox:
    """Filled by whatever tells the peer something, emptied by the writer."""

    __slots__ = ("_bytes", "_config", "_send_began", "_sending", "news")

    def __init__(self, config: PeerConfig, now: float) -> None:
        self.news = AutoResetEvent()
        """Set when there is something to write, messages or blocks."""
        self._config = config
        self._bytes = bytearray()
        self._sending = trio.CancelScope()
        self._send_began = now

    def __len__(self) -> int:
        return len(self._bytes)

    def put(self, data: bytes) -> bool:
        """To be written at once. False: it is over its limit, and the connection must end."""
        self._bytes += data
        waiting = len(self._bytes)
        if waiting > BACKLOG:
            due = self._send_began + self._config.backlog_timeout
            self._sending.deadline = min(self._sending.deadline, due)
        self.news.set()
        return waiting <= OUTBOX_LIMIT

    def put_later(self, data: bytes) -> None:
        """To be written with what comes next."""
        self._bytes += data

    def take(self) -> bytes:
        """All that waits; it waits no longer."""
        data = bytes(self._bytes)
        if data:
            self._bytes.clear()
        return data

    def begin_send(self, now: float) -> trio.CancelScope:
        """The time a send may take. It is cut short when too much waits behind it."""
        self._send_began = now
        self._sending = trio.CancelScope(deadline=now + self._config.send_timeout)
        return self._sending
