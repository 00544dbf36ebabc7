"""What the torrents of one node share: its ports, threads, limits and counters. And what the parts
of one torrent share: what is known of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio

from dht_torrent.config import Config
from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.filtering import Filtering
from dht_torrent.engine.lsd import LocalDiscovery
from dht_torrent.engine.net.encrypted import Mse
from dht_torrent.engine.net.inside import InsideNetwork
from dht_torrent.engine.net.protocols import Network
from dht_torrent.engine.net.tls import Identity, Membership
from dht_torrent.engine.net.utp import UtpPorts
from dht_torrent.engine.portmap.service import PortMapping
from dht_torrent.engine.state import StateDir
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.torrent.rate_limits import Limits
from dht_torrent.engine.torrent.room import NodeRoom
from dht_torrent.engine.torrent.turns import Queue
from dht_torrent.engine.views import Removal
from dht_torrent.ids import Address, InfoHash, PeerKey, Transport
from dht_torrent.metainfo import Magnet, Metainfo
from dht_torrent.peer.rendezvous import TrustInRelays
from dht_torrent.portmap.ports import IpProtocol
from dht_torrent.storage import Descriptors, Storage
from dht_torrent.storage.owners import Owners
from dht_torrent.torrent.memory import PieceMemory
from dht_torrent.torrent.metadata import MetadataMemory
from dht_torrent.torrent.pieces import Bitfield, BufferPool
from dht_torrent.trace import Trace

if TYPE_CHECKING:
    from dht_torrent.engine.net.proxy import ProxiedNetwork

OpenStorage = Callable[[Metainfo, Path, bool], Storage]
"""Opens a torrent's content. The flag is True for the user's own file or folder, shared where it is
and never written; else the path is the folder the download goes into."""


class LocalContent(NamedTuple):
    """What lies on this disk of a torrent whose metadata is known."""

    metainfo: Metainfo
    path: Path
    have: Bitfield | None
    """What was verified; None while that is not known."""


@dataclass(slots=True)
class PunchCounts:
    """Holepunching so far, of all torrents."""

    tried: int = 0
    """Addresses that were sent to for a relay's word."""
    reached: int = 0
    """Connections that came of it."""
    introduced: int = 0
    """Pairs of others for whom we were the relay."""


@dataclass(slots=True)
class NodeContext:
    """What a torrent needs of its node."""

    config: Config
    network: Network
    dht: DualStack
    disk: Disk
    state: StateDir | None
    rng: random.Random
    trace: Trace
    client: str
    """What we call ourselves in extension handshakes."""
    open_storage: OpenStorage
    buffer: memoryview
    """All connections receive into this; nothing runs between a receive and its handling."""
    piece_memory: PieceMemory
    """For the pieces that are being assembled."""
    send_buffers: BufferPool
    """For the blocks on their way to peers."""
    descriptors: Descriptors
    """The files that all torrents have open."""
    metadata: MetadataMemory
    """For info dicts on their way from peers."""
    faults: Faults
    """Where a fault of ours ends."""
    mse: Mse
    """How connections are encrypted."""
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.time
    """Gives Unix time."""
    own_addresses: set[Address] = field(default_factory=set)
    """Where we reached ourselves: never dialled again."""
    tls_addresses: list[Address] = field(default_factory=list)
    """Where we listen for the peers of SSL torrents: nowhere, or once in each family."""
    lookups: Queue = field(init=False)
    """Turns at looking for peers again."""
    room: NodeRoom = field(init=False)
    """How many connections there may be, and who yields."""
    proxy: ProxiedNetwork | None = None
    """What `network` goes through."""
    filtering: Filtering = field(default_factory=Filtering)
    """Which addresses are forbidden."""
    utp: UtpPorts = field(default_factory=UtpPorts)
    """Where connections are made over uTP: nowhere, where that is off."""
    lsd: LocalDiscovery | None = None
    """Peers of the local networks; None where that is off."""
    inside: InsideNetwork | None = None
    """The interface we keep to; None where any will do."""
    deaf_since: float | None = None
    """Since when no DHT node responds, on Trio's clock; None: some do, or it is not certain."""
    port_mapping: PortMapping | None = None
    """The way in through the router; None where that is off."""
    trust_in_relays: TrustInRelays = field(init=False)
    """To whom we send for their word."""
    punches: PunchCounts = field(default_factory=PunchCounts)
    owners: Owners = field(default_factory=Owners)
    """Which torrent has which files."""
    remove: Callable[[InfoHash, bool], Awaitable[Removal]] = field(init=False)
    """Stops and forgets a torrent; the flag says whether its files go too."""
    contents: Callable[[], list[LocalContent]] = list
    """What all torrents have on this disk."""
    completed: Callable[[InfoHash], None] | None = None
    """Told of each download that is complete, once."""
    removed: Callable[[InfoHash], Awaitable[None]] | None = None
    """Told of each torrent that was removed."""
    open_tls: Callable[[], Awaitable[None]] = field(init=False)
    """Listens for the peers of SSL torrents from now on. Raises InputError."""
    _next_dial: float = 0.0
    _last_key: int = 0
    _dials: trio.CapacityLimiter = field(init=False)

    def __post_init__(self) -> None:
        self._dials = trio.CapacityLimiter(self.config.max_pending_dials)
        self.room = NodeRoom(self.config)
        self.trust_in_relays = TrustInRelays(self.config.holepunch)
        self.lookups = Queue(self.config.torrent.hungry_lookups)

    def mapped(self, protocol: IpProtocol, local: Address) -> int | None:
        """The port at which a router lets the world in to ours here. None: none does."""
        if self.port_mapping is None or local.is_ipv6:
            return None
        found = self.port_mapping.external(protocol, local.port)
        return found.port if found is not None else None

    def mapped_udp(self, local: Address) -> int | None:
        """`mapped`, of UDP."""
        return self.mapped(IpProtocol.UDP, local)

    def dht_port(self, peer: Address) -> int:
        """Where this peer reaches our DHT node."""
        port = self.dht.port(peer)
        outside = None if peer.is_local else self.mapped_udp(peer._replace(port=port))
        return outside if outside is not None else port

    def peer_key(self) -> PeerKey:
        """A name for a connection, never used twice."""
        self._last_key += 1
        return PeerKey(self._last_key)

    @asynccontextmanager
    async def dialing(self) -> AsyncIterator[None]:
        """Around an outgoing connection that is being established: waits while the node has
        `max_pending_dials` of them."""
        try:
            self._dials.acquire_nowait()
        except trio.WouldBlock:
            await self._dials.acquire()
        try:
            yield
        finally:
            self._dials.release()

    async def pace_dial(self) -> None:
        """Keeps outgoing connections of the whole node below `dial_rate`, with a burst of a second
        so that a swarm on one machine does not wait."""
        rate = self.config.torrent.dial_rate
        now = trio.current_time()
        self._next_dial = max(self._next_dial, now - 1.0) + 1 / rate
        await trio.sleep_until(max(now, self._next_dial))


@dataclass(slots=True)
class TorrentContext:
    """What is known of a torrent, and the node it is on."""

    node: NodeContext
    magnet: Magnet
    metainfo: Metainfo | None = None
    """None until it came from peers, or was given."""
    identity: Identity | None = None
    """Our certificate, if this is an SSL torrent."""
    membership: Membership | None = None
    """What was made of it for the session that runs."""

    @property
    def info_hash(self) -> InfoHash:
        return self.magnet.info_hash

    @property
    def name(self) -> str:
        if self.metainfo is not None:
            return self.metainfo.name
        return self.magnet.name or self.info_hash.hex()

    @property
    def is_private(self) -> bool:
        """It is known to be private: none of its peers comes from, or goes to, others (BEP 27)."""
        return self.metainfo is not None and self.metainfo.private

    @property
    def is_ssl(self) -> bool:
        """It is for members only: none of it is said on a connection without TLS."""
        return self.identity is not None or (
            self.metainfo is not None and self.metainfo.ssl_cert is not None
        )

    @property
    def prefers_mse(self) -> bool:
        """Whether its peers should rather use MSE. Those of an SSL torrent have TLS instead."""
        return self.node.mse.preferred and not self.is_ssl

    @property
    def is_among_strangers(self) -> bool:
        """It is an SSL torrent whose root certificate is not known yet: whoever we dial may be
        anybody, and is told of nobody else."""
        return self.identity is not None and self.metainfo is None

    @property
    def relays(self) -> bool:
        """Whether ut_holepunch is spoken with its peers, if it is not private."""
        config = self.node.config
        return config.holepunch.enabled and config.utp.enabled and not self.is_ssl

    def transports(self, address: Address) -> tuple[Transport, ...]:
        """What its peer at this address may be dialled over. Those of an SSL torrent listen for TLS
        on TCP; others of them (libtorrent) on both, so without TCP uTP is tried."""
        has_tcp, has_utp = self.node.config.tcp, self.node.utp.reach(address)
        tcp = (Transport.TCP,) if has_tcp else ()
        return (*tcp, Transport.UTP) if has_utp and not (self.is_ssl and has_tcp) else tcp

    def port(self, peer: Address) -> int | None:
        """Where this peer may connect to us for this torrent: one beyond our router where that lets
        it in. None: nowhere. This and `announced_port` are the one answer for all who tell others,
        so that nobody is told the port for plain connections of an SSL torrent."""
        return self._local_port(peer) if peer.is_local else self.announced_port(peer)

    def announced_port(self, family_of: Address) -> int | None:
        """Where the world may connect to us for this torrent, in the family of this address."""
        port = self._local_port(family_of)
        if port is None:
            return None
        protocol = IpProtocol.TCP if self.node.config.tcp else IpProtocol.UDP
        outside = self.node.mapped(protocol, family_of._replace(port=port))
        return outside if outside is not None else port

    def _local_port(self, family_of: Address) -> int | None:
        if self.node.config.is_behind_proxy:
            return None
        if not self.is_ssl:
            return self.node.dht.port(family_of)
        if self.is_among_strangers:  # we answer nobody
            return None
        for address in self.node.tls_addresses:
            if address.is_ipv6 == family_of.is_ipv6:
                return address.port
        return None
