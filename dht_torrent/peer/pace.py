"""How fast a peer may talk. The rule: one turn of one connection is short, whatever it holds, and
messages that move no payload come in at a rate; a peer that sends more is not read until then.

Nothing is lost and nobody is dropped by this: what is not read waits at the sender. Blocks that
come and go earn the messages about them, so that the fastest exchange never waits.
"""

from __future__ import annotations

from dht_torrent.config import PeerConfig
from dht_torrent.geometry import BLOCK

EARNED = 4
"""Messages a block earns, whichever way it goes: its request, itself, a Reject, a Have."""
MAX_WAIT = 5.0
"""Seconds after which a peer is heard again, be it with the next few messages only."""
BULK = 512
"""Bytes a message has on average, at least, in a turn that was mostly payload."""


class Pace:
    """Of one connection."""

    __slots__ = (
        "_burst",
        "_counted",
        "_in_place",
        "_largest",
        "_rate",
        "_seen",
        "_smallest",
        "_tokens",
        "room",
    )

    def __init__(self, config: PeerConfig, now: float, largest: int) -> None:
        """`largest`: bytes of the buffer that is received into."""
        self._rate = config.message_rate
        self._burst = config.message_burst
        self._tokens = float(self._burst)
        self._seen = now
        self._counted = 0
        self._largest = min(largest, config.turn_most)
        self._smallest = min(largest, config.turn_least)
        self._in_place = config.turn_in_place
        self.room = self._smallest
        """Bytes to receive in the next turn, at most."""

    @property
    def room_in_place(self) -> int:
        """The same if it is blocks that are received where they belong."""
        return self.room if self.room < self._largest else max(self.room, self._in_place)

    def took(self, size: int, messages: int, moved: int, now: float) -> float:
        """A turn of `size` bytes held so many messages; `moved` payload bytes went either way until
        now, since the connection began. Returns how many seconds to wait before the next turn."""
        tokens = self._tokens + (now - self._seen) * self._rate
        self._seen = now
        if moved - self._counted >= BLOCK:
            blocks = (moved - self._counted) // BLOCK
            self._counted += blocks * BLOCK
            tokens += blocks * EARNED
        self._tokens = tokens = min(tokens, self._burst) - messages
        if messages * BULK <= size:
            if size >= self.room and tokens >= 0:
                self.room = min(2 * self.room, self._largest)
        elif size > self._smallest:  # a turn no longer than that says nothing: it is short anyway
            self.room = self._smallest
        return 0.0 if tokens >= 0 else min(MAX_WAIT, -tokens / self._rate)
