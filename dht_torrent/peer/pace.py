"""How fast a peer may talk. The rule: one turn of one connection is short, whatever it holds, and
messages that move no payload come in at a rate; a peer that sends more is not read until then.

Nothing is lost and nobody is dropped by this: what is not read waits at the sender. Blocks that
come and go earn the messages about them, so that the fastest exchange never waits.
"""

from __future__ import annotations

from dht_torrent.config import PeerConfig

EARNED = 4
"""Messages a block earns, whichever way it goes: its request, itself, a Reject, a Have."""
MAX_WAIT = 5.0
"""Seconds after which a peer is heard again, be it with the next few messages only."""
BULK = 512
"""Bytes a message has on average, at least, in a turn that was mostly payload."""


class Pace:
    """Of one connection."""

    __slots__ = ("_burst", "_largest", "_rate", "_seen", "_smallest", "_tokens", "room")

    def __init__(self, config: PeerConfig, now: float, largest: int) -> None:
        """`largest`: bytes of the buffer that is received into."""
        self._rate = config.message_rate
        self._burst = config.message_burst
        self._tokens = float(self._burst)
        self._seen = now
        self._largest = min(largest, config.turn_most)
        self._smallest = min(largest, config.turn_least)
        self.room = self._smallest
        """Bytes to receive in the next turn, at most."""

    def took(self, size: int, messages: int, blocks: int, now: float) -> float:
        """A turn of `size` bytes held so many messages; so many blocks went either way since the
        last one. Returns how many seconds to wait before the next."""
        if messages * BULK <= size:
            if size == self.room:
                self.room = min(2 * self.room, self._largest)
        else:
            self.room = self._smallest
        gained = (now - self._seen) * self._rate + blocks * EARNED
        self._seen = now
        self._tokens = min(self._burst, self._tokens + gained) - messages
        return min(MAX_WAIT, -self._tokens / self._rate) if self._tokens < 0 else 0.0
