"""What this machine has of a network, and how long it has been suspended: what a look at both, now
and then, tells of changes (see `changes`).
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from dht_torrent.engine.net.interfaces import outward_addresses


@dataclass(frozen=True, slots=True)
class Surroundings:
    """At one moment."""

    addresses: frozenset[str]
    """Our IPs that lead to other machines, on interfaces that are up and connected."""
    slept: float = 0.0
    """Seconds for which the machine was suspended since it was started."""
    generation: int = 0
    """Another number: the sockets that there were are lost, also where the addresses are the same.
    """


def surroundings() -> Surroundings:
    """Of this machine, now."""
    return Surroundings(outward_addresses(), slept())


def slept() -> float:
    """By the system's clocks, one of which stands still meanwhile; 0 where they do not tell."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(time.CLOCK_UPTIME_RAW)
    return 0.0
