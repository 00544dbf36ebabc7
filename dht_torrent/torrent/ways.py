"""How to reach a peer: over TCP or uTP, which of the two first, and when both.

The rule: the way that worked last goes first, else TCP, which costs both sides less; the other one
follows a little later, or as soon as the first has failed, so that whoever answers over one of them
only is reached. Whoever was never known to speak uTP is asked later, and not for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dht_torrent.config import PeerConfig
from dht_torrent.ids import Transport


class Ways(NamedTuple):
    """What is known of how a peer is reached."""

    encrypted: bool | None = None
    """Whether it spoke to us with encryption when it was dialled last; None: it never did."""
    transport: Transport | None = None
    """Over what to dial it first; None: nothing speaks for either."""
    speaks_utp: bool = False
    """It came by uTP, or somebody says that it speaks it (BEP 11)."""

    def disappointed(self, over: Transport) -> Ways:
        """It was reached over this one, and there was no handshake: the other one first."""
        other = Transport.TCP if over is Transport.UTP else Transport.UTP
        return self._replace(transport=other)


class Race(NamedTuple):
    """What to do to reach a peer."""

    order: tuple[Transport, ...]
    """The first, and perhaps a second."""
    head_start: float
    """Seconds that the first has before the second begins, unless it fails sooner."""
    utp_patience: float
    """Seconds that uTP may take."""


def race(ways: Ways, possible: Sequence[Transport], config: PeerConfig) -> Race:
    """`possible`: what may be used, in order of preference."""
    order = sorted(possible, key=lambda one: one is not ways.transport)
    known = ways.speaks_utp or ways.transport is Transport.UTP or Transport.TCP not in order
    return Race(
        tuple(order),
        config.race_delay if known else config.blind_race_delay,
        config.connect_timeout if known else config.blind_utp_timeout,
    )
