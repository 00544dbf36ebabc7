"""Whether the other end of a connection is still there: when it was last heard, how long it may
be silent, and probes that ask it for a sign of life.
"""

from __future__ import annotations

import trio

from dht_torrent.config import PeerConfig

PROBE_PAUSE = 30.0
"""Seconds between two probes: strangers who claim a peer's id must not have us pester it."""


class Liveness:
    """Of one connection. The reader says what it hears, and reads within `patience`."""

    __slots__ = ("_config", "_is_probed", "_probed_at", "answer", "heard_at", "patience")

    def __init__(self, config: PeerConfig, now: float) -> None:
        self.patience = trio.CancelScope()
        """Around the reader, which keeps moving its deadline; infinite while a limit keeps us from
        reading."""
        self.heard_at = now
        """When its last byte came."""
        self.answer = trio.Event()
        """Set when the probe under way is answered, or over."""
        self._config = config
        self._is_probed = False
        self._probed_at = float("-inf")

    def heard(self, now: float) -> None:
        """A byte came: whatever it says, it is a sign of life."""
        self.heard_at = now
        if self._is_probed:
            self.answered()

    def answered(self) -> None:
        """It has shown that it is alive, or has ended."""
        self._is_probed = False
        self.answer.set()

    def silence(self, now: float) -> float:
        """Seconds since its last byte."""
        return now - self.heard_at

    def begin_probe(self, now: float) -> bool:
        """Whether to ask now: no probe is under way, and the last one was long enough ago."""
        if self._is_probed or now - self._probed_at < PROBE_PAUSE:
            return False
        self._is_probed, self._probed_at, self.answer = True, now, trio.Event()
        return True

    def expect_answer(self, now: float) -> None:
        """Close the connection if the probe is not answered within `probe_timeout`; thrice that
        after its last byte, as under a limit it may read slowly."""
        # Not while a limit keeps us from reading: then the deadline is infinite.
        if self._is_probed and self.patience.deadline < float("inf"):
            timeout = self._config.probe_timeout
            due = max(self._probed_at, self.heard_at + 2 * timeout)
            due = max(now, due + timeout)
            self.patience.deadline = min(self.patience.deadline, due)
