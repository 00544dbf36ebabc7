"""What the DHT node shows of itself: frozen snapshots for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dht_torrent.ids import (
    Address,
    NodeId,
)


@dataclass(frozen=True, slots=True)
class DhtStatus:
    """The DHT at a glance. Counts are since the start unless the name says otherwise."""

    node_id: str
    address: Address
    good: int
    questionable: int
    bad: int
    buckets: int
    queries_in: int
    queries_out: int
    replies_in: int
    replies_per_minute: float
    dropped: Mapping[str, int]
    """Datagrams ignored, by reason."""
    bootstrap_answered: int
    bootstrap_total: int
    stored_torrents: int
    stored_peers: int
    stored_items: int = 0
    external_ip: str | None = None
    """Our IP as most others see it; None before enough have said (BEP 42)."""
    network_size: float | None = None
    """About how many nodes the DHT has; None before the first lookup."""
    eclipses_suspected: int = 0
    """Lookups whose target had suspiciously dense surroundings."""
    symmetric_nat: bool | None = None
    """Our port is seen as another one by each; None before enough have said."""
    down: str | None = None
    """Why nothing can be sent to this network, in a line: the proxy has no UDP, say."""


@dataclass(frozen=True, slots=True)
class ContactView:
    """A contact in the table, as it is now."""

    id: NodeId
    address: Address
    good: bool
    fails: int
    """Queries unanswered since its last reply."""
    seconds: float
    """Since we last heard from it."""
    compliant: bool
    """Whether its id fits its IP (BEP 42)."""


@dataclass(frozen=True, slots=True)
class LookupStep:
    """A node that a lookup has queried."""

    id: str
    """40 hex digits."""
    address: str
    hops: int
    """How far it is from our table: 1 if it was in it."""
    at: float
    """Seconds after the beginning."""
    outcome: str
    """`answered`, `failed`, or `waiting` as long as it is neither."""
    referrer: str | None
    """The id of the node that named it first; None: it was in our table."""


@dataclass(frozen=True, slots=True)
class LookupView:
    """A lookup as it walks towards its target."""

    number: int
    """Counts the lookups of one DHT node."""
    purpose: str
    """What its queries ask for: find_node, get_peers or get."""
    target: str
    """40 hex digits."""
    running: bool
    seconds: float
    """It has taken so far, or did."""
    ago: float
    """Seconds since it began."""
    asked: int
    replies: int
    hops: int
    """How far from our table the farthest of the closest nodes was."""
    steps: tuple[LookupStep, ...]
    """Whom it has queried, in that order."""
