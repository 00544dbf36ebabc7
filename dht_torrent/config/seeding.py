"""What a user may say of how long a complete torrent is shared: by ratio (bytes sent for each byte
received), or by how long nothing has moved; each torrent follows its node or has limits of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dht_torrent.errors import InputError

SeedingLimit = float | Literal["node", "none"]
"""A limit of its own, the node's, or none."""

SharedEnough = Literal["ratio", "idle"]
"""Which limit was reached."""

MAX_RATIO: Final = 1e6
MAX_IDLE: Final = 10 * 366 * 86400.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class SeedingLimits:
    """Those of one torrent."""

    ratio: SeedingLimit = "node"
    idle: SeedingLimit = "node"
    """Seconds."""

    def __post_init__(self) -> None:
        """Raises InputError for what is no limit."""
        _check("ratio", self.ratio, MAX_RATIO)
        _check("idle", self.idle, MAX_IDLE)


def _check(name: str, choice: SeedingLimit, most: float) -> None:
    if isinstance(choice, str):
        if choice not in ("node", "none"):
            raise InputError(f"{name} must be a number, 'node' or 'none', not {choice!r}")
    elif not 0 <= choice <= most:  # NaN is not, either
        raise InputError(f"{name} must be from 0 to {most:.0f}, not {choice!r}")


THE_NODES: Final = SeedingLimits()
"""Those of the node."""
