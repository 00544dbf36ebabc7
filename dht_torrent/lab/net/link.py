"""What lies between two hosts of the network in memory, and what it carried."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How traffic fares between two hosts; each direction by itself."""

    latency: float | tuple[float, float] = 0.0
    """Seconds one way: fixed, or drawn evenly from a range (so datagrams overtake each other)."""
    loss: float = 0.0
    """Chance that a datagram is lost. Streams lose nothing."""
    duplication: float = 0.0
    """Chance that a datagram arrives twice."""
    reordering: float = 0.0
    """Chance that a datagram is held back, so that later ones overtake it ..."""
    holdback: float = 0.05
    """... by at most this many seconds."""
    rate: float | None = None
    """Bytes per second, all streams together. Datagrams are too few to count."""

    def delay(self, rng: random.Random) -> float:
        latency = self.latency
        if isinstance(latency, tuple):
            least, most = latency
            return least + (most - least) * rng.random()
        return latency


@dataclass(slots=True)
class Stats:
    """What the network carried so far."""

    datagrams: int = 0
    datagram_bytes: int = 0
    lost: int = 0
    """Datagrams: by chance, partition, NAT, full queue, or because no socket was there."""
    duplicated: int = 0
    connections: int = 0
    refused: int = 0
    stream_bytes: int = 0


class Wire:
    """Carries bytes one after the other, at `rate` bytes per second (None: at once)."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self.free_at = -math.inf

    def book(self, when: float, size: int) -> float:
        """When `size` bytes that are here at `when` have passed."""
        if self.rate is None:
            return when
        self.free_at = max(self.free_at, when) + size / self.rate
        return self.free_at
