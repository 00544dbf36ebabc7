"""How the network of the machine is watched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """Of one node."""

    look_interval: float = 1.0
    """Seconds between two looks at the interfaces of the machine: a call that takes 0.1 ms."""
