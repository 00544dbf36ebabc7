"""Limits as Transmission has them: a number, and a switch or a mode that says whether it holds.

The node knows only what is in force, so the numbers of a torrent are remembered beside it, by the
names of their fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dht_torrent.config.seeding import SeedingLimit

NODE, OWN, NONE = range(3)
"""Modes of a limit: the node's, one of its own, none."""
_RATE: Final = 100
"""kB/s, of a limit that was never set (Transmission)."""
_RATIO: Final = 2.0
_IDLE: Final = 30
"""Minutes."""


def up_limit(rate: int | None, own: Mapping[str, float]) -> int:
    """kB/s."""
    return kilobytes(rate) or int(own.get("upload_limit", _RATE))


def down_limit(rate: int | None, own: Mapping[str, float]) -> int:
    """kB/s."""
    return kilobytes(rate) or int(own.get("download_limit", _RATE))


def ratio_limit(limit: SeedingLimit, own: Mapping[str, float]) -> float:
    return own.get("seed_ratio_limit", _RATIO) if isinstance(limit, str) else limit


def idle_limit(limit: SeedingLimit, own: Mapping[str, float]) -> int:
    """Minutes."""
    if isinstance(limit, str):
        return int(own.get("seed_idle_limit", _IDLE))
    return max(1, round(limit / 60))


def mode_of(limit: SeedingLimit) -> int:
    return {"node": NODE, "none": NONE}.get(limit, OWN) if isinstance(limit, str) else OWN


def kilobytes(rate: int | None) -> int:
    """Of a limit in bytes per second; never 0 for what is one."""
    return 0 if rate is None else max(1, rate // 1000)
