"""What the engine shows of itself: frozen snapshots, ready for `dataclasses.asdict` and JSON.

Rates are bytes per second, sizes bytes, progress 0..1, times seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from dht_torrent.config.seeding import SharedEnough
from dht_torrent.engine.dht.views import DhtStatus
from dht_torrent.engine.search.views import SearchStatus

State = Literal[
    "metadata", "checking", "downloading", "seeding", "moving", "queued", "paused", "error"
]


def counted(number: int, noun: str) -> str:
    """`1 peer`, `2 peers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True, slots=True)
class Summary:
    """One torrent in one line."""

    id: str
    """The infohash, 40 hex digits."""
    name: str
    state: State
    progress: float
    """Verified share of what is wanted; while checking, the share already looked at, and while
    moving, the share that is there already."""
    size: int
    """Bytes of the files that are wanted; 0 while the metadata is not known."""
    downloaded: int
    """Payload bytes received, good or not."""
    uploaded: int
    wasted: int
    """Payload bytes received twice, unasked, or in pieces that failed their hash."""
    down_rate: float
    up_rate: float
    peers: int
    error: str | None
    why: str | None
    """Why nothing moves, in a line; None when all is well."""
    magnet: str
    path: str | None
    """Where the content is; None while the metadata is not known."""
    eta: float | None
    """Seconds to completion at the present rate."""
    limit_up: int | None = None
    """Bytes per second this torrent may send, all its connections together; None is no limit."""
    limit_down: int | None = None
    warning: str | None = None
    """What is wrong although the torrent works: it cannot be remembered over a restart, say."""
    super_seed: bool = False
    """Pieces are shown one by one until all were seen at other peers (BEP 16)."""
    spread: float | None = None
    """The share of pieces that were; None while it does not super-seed."""
    superseded: bool = False
    """Another version lies where it was shared from: what is left of this one is served."""
    published: bool = False
    """It is in the index that everybody searches."""
    not_published: str | None = None
    """Why it is not, although that was asked for, in a line."""
    reused: int = 0
    """Bytes of the content that were not received, as they were on this disk already: in another
    torrent, or where `sources` said."""
    labels: tuple[str, ...] = ()
    ratio: float = 0.0
    """Bytes sent for each byte received, or for each that was here from the beginning."""


@dataclass(frozen=True, slots=True)
class History:
    """A torrent over time. Points in time are Unix seconds; None is never."""

    added_at: float
    started_at: float
    """In this run of the node."""
    completed_at: float | None
    active_at: float | None
    """When payload last came or went."""
    seconds_downloading: float
    seconds_seeding: float
    shared_enough: SharedEnough | None
    """It is paused as it has been, by this limit."""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """One connection."""

    address: str
    client: str
    source: str
    """How we learned of it: dht, magnet, incoming, holepunch or resume."""
    incoming: bool
    progress: float
    down_rate: float
    up_rate: float
    downloaded: int
    uploaded: int
    flags: str
    """D: we want and may; d: we want but are choked; U/u: the same for the peer; S: it snubs us;
    O: it is the optimistic choice; F: fast extension; H: reached by holepunching; E: encrypted; e:
    only the handshake was."""
    encryption: str | None = None
    """What hides the connection from those between: mse (its handshake only), rc4 or tls."""
    transport: str = "tcp"
    """What carries it: tcp or utp."""
    chokes_us: bool = True
    """It does not let us have what we ask for ..."""
    wanted: bool = False
    """... and it has something that we want."""
    choked: bool = True
    """We do not let it have what it asks for ..."""
    wants: bool = False
    """... and it says that we have something that it wants."""
    peer_id: str = ""
    """What it calls itself: 20 bytes in hex."""
    punched: bool = False
    """It was reached through the routers between us by holepunching (BEP 55)."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file of a torrent."""

    index: int
    path: str
    size: int
    progress: float
    selected: bool
    here: int = 0
    """Verified bytes of it."""
    pieces: tuple[int, int] = (0, 0)
    """The first piece with any of it, and the one after the last."""
    priority: int = 0
    """-1, 0 or 1: pieces of a higher one are asked for first."""


class PieceState(IntEnum):
    """How far a piece is."""

    UNWANTED = 0
    """Missing, and not asked for."""
    MISSING = 1
    BEGUN = 2
    """Some of it is here, or all of it, unverified."""
    HERE = 3
    """Verified."""


@dataclass(frozen=True, slots=True)
class Left:
    """A file that a removal left where it is."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of a torrent's files when it was removed."""

    deleted: int = 0
    """Files."""
    left: tuple[Left, ...] = ()
    """What was to be deleted and is not the torrent's, or not its alone. At most 1000 files ..."""
    left_files: int = 0
    """... of so many."""


@dataclass(frozen=True, slots=True)
class FilterStatus:
    """The IP filter."""

    ranges: int
    bad_lines: int
    """Lines of its file that were not understood and left out ..."""
    first_bad: str | None
    """... and the first of them."""
    blocked: dict[str, int]
    """So far: `incoming` connections, `dials`, `datagrams` in and out, and connections `closed`
    since the filter changed."""


@dataclass(frozen=True, slots=True)
class ProxyStatus:
    """The proxy through which all goes."""

    server: str
    """Its address, without user name and password."""
    trouble: str | None
    """Why nothing goes through it, in a line; None when all is well, as far as we know."""
    udp_trouble: str | None
    """The same for UDP, and so for the DHT."""


@dataclass(frozen=True, slots=True)
class MappedPort:
    """A port of ours that a router lets the world reach."""

    protocol: str
    """`tcp` or `udp`."""
    port: int
    external: str
    """Where the world reaches it."""
    by: str
    """`PCP`, `NAT-PMP` or `UPnP`."""
    expires_in: float | None
    """Seconds, unless it is renewed before, as it should be; None: never."""


@dataclass(frozen=True, slots=True)
class PortMappingStatus:
    """What the router does for us."""

    gateway: str | None
    """Its address here."""
    mapped: tuple[MappedPort, ...]
    trouble: str | None
    """Why nothing is mapped, or what is being tried."""
    refused: dict[str, str]
    """Why single ports are not, such as `TCP 6881`."""


@dataclass(frozen=True, slots=True)
class HolepunchStatus:
    """Connections through routers, which a third peer helps with (BEP 55)."""

    tried: int
    """Addresses so far ..."""
    reached: int
    """... and connections that came of it, others' tries included."""
    introduced: int
    """Pairs of other peers that we helped."""
    trouble: str | None
    """Why it does not work here, in plain words; None when all is well, as far as we know."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a worried user needs."""

    id: str
    listen: str
    """The first address we listen on."""
    version: str
    uptime: float
    dht: DhtStatus
    """Of the family of `listen`."""
    torrents: int
    connections: int
    peers_by_source: dict[str, int]
    reachable: bool | None
    """True once a peer from another machine has connected; False where none can; None while it is
    not known, ..."""
    down_rate: float
    up_rate: float
    last_announce: float | None
    """Seconds since a torrent was announced to at least one contact."""
    warnings: tuple[str, ...]
    """What went wrong at the start without stopping the node, as broken records set aside."""
    limit_up: int | None = None
    """Bytes per second all torrents together may send; None is no limit."""
    limit_down: int | None = None
    alternative: bool = False
    """These are the alternative limits, see `Config.alternative_limits`."""
    listen6: str | None = None
    """Where we listen besides, when `listen` is IPv4 and this is IPv6 ..."""
    dht6: DhtStatus | None = None
    """... and the DHT there."""
    encryption: str = "prefer"
    """The policy, see `Config.encryption` ..."""
    peers_by_encryption: dict[str, int] = field(default_factory=dict)
    """... and who is encrypted, and how: as `PeerInfo.encryption`. Others are not counted here."""
    peers_by_transport: dict[str, int] = field(default_factory=dict)
    """How many are connected over what: as `PeerInfo.transport`."""
    faults: int = 0
    """Bugs of ours that ended a connection, a torrent or a request since the start ..."""
    last_fault: str | None = None
    """... and the last of them in a line; the log has the tracebacks."""
    tls_listen: tuple[str, ...] = ()
    """Where we listen for the peers of SSL torrents: nowhere, or once in each family."""
    reused: int = 0
    """Bytes of all these torrents that were on this disk already, and were not fetched."""
    search: SearchStatus | None = None
    """Publishing and searching."""
    proxy: ProxyStatus | None = None
    """None without one. With one, nobody can connect to `listen`."""
    ip_filter: FilterStatus | None = None
    """None without one."""
    interface: str | None = None
    """The interface we keep to, with its addresses, or that it is not here. None: any will do."""
    reachable_why: str | None = None
    """... and why it is so, in plain words."""
    port_mapping: PortMappingStatus | None = None
    """None where it is off."""
    holepunch: HolepunchStatus | None = None
    """None where it is off."""
