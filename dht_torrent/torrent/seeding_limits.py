"""When has a complete torrent been shared enough?"""

from __future__ import annotations

from dht_torrent.config.seeding import SeedingLimit, SeedingLimits, SharedEnough


def in_force(choice: SeedingLimit, node: float | None) -> float | None:
    """The limit that counts; None is none."""
    if isinstance(choice, str):
        return node if choice == "node" else None
    return choice


def enough(
    own: SeedingLimits,
    node_ratio: float | None,
    node_idle: float | None,
    *,
    ratio: float,
    idle: float,
) -> SharedEnough | None:
    """Which limit was reached by a torrent that has sent `ratio` times what it received, and has
    moved nothing for `idle` seconds; None: it is seeded on."""
    most = in_force(own.ratio, node_ratio)
    if most is not None and ratio >= most:
        return "ratio"
    longest = in_force(own.idle, node_idle)
    if longest is not None and idle >= longest:
        return "idle"
    return None
