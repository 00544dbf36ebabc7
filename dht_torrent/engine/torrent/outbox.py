"""Messages that wait to be written to one peer, and how long it may take to read them.

The rule: it holds little. A peer that asks and asks but does not read what it is told is closed.
"""

from __future__ import annotations

import math

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

    __slots__ = ("_bytes", "_clock", "_config", "_send_began", "is_sending", "news")

    def __init__(self, config: PeerConfig, now: float) -> None:
        self.news = AutoResetEvent()
        """Set when there is something to write, messages or blocks."""
        self._config = config
        self.is_sending = False
        """A send has begun, and has not ended."""
        self._bytes = bytearray()
        self._clock = trio.CancelScope()
        self._send_began = now

    def __len__(self) -> int:
        return len(self._bytes)

    def put(self, data: bytes) -> bool:
        """To be written at once. False: it is over its limit, and the connection must end."""
        self._bytes += data
        waiting = len(self._bytes)
        if waiting > BACKLOG and self.is_sending:
            due = self._send_began + self._config.backlog_timeout
            self._clock.deadline = min(self._clock.deadline, due)
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

    # -- the writer's clock ---------------------------------------------------------------------

    def clock(self, now: float) -> trio.CancelScope:
        """For the writer to work in: one for many sends, as to move its deadline costs less than a
        scope each. It ends when a send takes too long, or nothing was sent for a while; then the
        writer sees what is due, and needs the next."""
        # A deadline that has passed would end it before anything is sent.
        deadline = math.inf if self.is_silent(now) else self._keep_alive_at()
        self._clock = trio.CancelScope(deadline=deadline)
        return self._clock

    def begin_turn(self) -> bool:
        """What is done until `begin_send` may take as long as it does. False: the clock has ended
        already, and nothing may be begun under it."""
        self._clock.deadline = math.inf
        return not self._clock.cancel_called

    def rest(self) -> None:
        """There is nothing to send, or it must wait: a keep-alive will be due."""
        if self._clock.deadline == math.inf:
            self._clock.deadline = self._keep_alive_at()

    def begin_send(self, now: float) -> None:
        """From here on a send may take so long. It is cut short when too much waits behind it."""
        self._send_began = now
        self.is_sending = True
        self._clock.deadline = now + self._config.send_timeout

    def end_send(self) -> None:
        """All is sent."""
        self.is_sending = False

    def is_silent(self, now: float) -> bool:
        """Has nothing been sent for so long that a keep-alive is due?"""
        return now >= self._keep_alive_at()

    def _keep_alive_at(self) -> float:
        return self._send_began + self._config.keepalive_interval
