"""Reaching peers behind routers (BEP 55)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HolepunchConfig:
    """Holepunching, as the one who wants to connect, as a relay and as a target. Times are
    seconds."""

    enabled: bool = True
    """Whether it is spoken at all; never without uTP."""
    patience: float = 2.0
    """A peer behind a router that has not answered a dial for so long is asked for through a relay
    as well: a TCP SYN and its repetition."""
    relay_timeout: float = 5.0
    """For a relay to answer, before another one is asked ..."""
    max_relays: int = 3
    """... of so many for one dial."""
    remembered: int = 200
    """Addresses kept of those that one peer has named as reachable by a relay. A PEX message names
    50 at most, once a minute."""
    window: float = 30.0
    """A connection with an address we sent to is a punched one if it comes within this time."""
    relay_burst: int = 8
    """Times one peer may have us connect to others, saved up ..."""
    relay_interval: float = 15.0
    """... and the seconds after which it may once more. As many may it ask us to introduce it."""
    host_burst: int = 3
    """We send to one host for the word of relays, whichever, so often at once ..."""
    host_interval: float = 60.0
    """... and once more each so many seconds, ..."""
    tracked_hosts: int = 1000
    """... which is remembered of so many hosts, ..."""
    node_burst: int = 60
    """... and to all hosts together so often at once ..."""
    node_interval: float = 2.0
    """... and once more each so many seconds: three SYNs of 20 bytes each."""
    target_interval: float = 2.0
    """As a relay we tell one peer of others once in so long ..."""
    target_burst: int = 8
    """... and so often at once."""
    pair_interval: float = 10.0
    """As a relay we introduce the same two peers to each other once in so long."""
    max_at_once: int = 16
    """Connections that are being made for a relay's word; more are not made."""
