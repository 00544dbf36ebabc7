"""One node: all of it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from dht_torrent.config.alternative import AlternativeLimits
from dht_torrent.config.dht import PUBLIC_BOOTSTRAP, DhtConfig
from dht_torrent.config.holepunch import HolepunchConfig
from dht_torrent.config.index import (
    CatalogueConfig,
    CrawlConfig,
    FollowConfig,
    SearchConfig,
    SubscribeConfig,
)
from dht_torrent.config.net import WatchConfig
from dht_torrent.config.portmap import PortMapConfig
from dht_torrent.config.proxy import ProxyConfig, ProxyServer, parse_proxy
from dht_torrent.config.torrent import DiskConfig, LsdConfig, PeerConfig, TorrentConfig
from dht_torrent.config.utp import UtpConfig
from dht_torrent.errors import InputError
from dht_torrent.ids import Address, HostPort, parse_address, parse_host_port

AfterSeeding = Literal["pause", "remove"]
EncryptionPolicy = Literal["prefer", "require", "allow", "off"]
"""What of MSE, the encryption of peer connections, is used; see `Config.encryption`."""

MAX_INTERFACE: Final = 15
"""Bytes of the name of an interface (IFNAMSIZ - 1)."""
_NOT_IN_NAMES: Final = re.compile(r"[\s/:%]|[^\x20-\x7e]")
_LIKE_IPV4: Final = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One node. Every path, port and socket belongs to one node; many nodes live in one process."""

    bootstrap: Sequence[str | HostPort] = PUBLIC_BOOTSTRAP
    """`host:port` entry points to the DHT. Empty: an isolated first node."""
    listen: str | Sequence[str] = ("0.0.0.0:6881", "[::]:6881")
    """IP and port for both TCP and UDP; port 0 means any. Two of them, one IPv4 and one IPv6, make
    a node of both DHTs (BEP 32); where the machine has no IPv6, `[::]` is left out."""
    tls_listen: str | Sequence[str] | None = None
    """IP and TCP port for the peers of SSL torrents, as for `listen`. None: any port, on the hosts
    of `listen`, as soon as there is an SSL torrent. Empty: such torrents only dial."""
    interface: str | None = None
    """The one network interface to use, by its name or one of its addresses; None is any. Every
    socket that leads to other nodes is tied to it. While it is not there nothing is sent or
    received, also at the start. Not for what comes to steer the node, nor for its catalogue."""
    tcp: bool = True
    """Whether peers are connected with over TCP, incoming or dialled. Over uTP as well, unless
    `utp.enabled` is off; one of the two must be on."""
    state_dir: Path | str | None = None
    """Where contacts and resume records live; None keeps nothing on disk but content."""
    download_dir: Path | str = "."
    """Where `get` puts content."""
    max_connections: int = 200
    """Connections of all torrents together (libtorrent); fewer, with a warning, where the process
    may not open so many descriptors (RLIMIT_NOFILE)."""
    piece_memory: int = 96 * 1024 * 1024
    """Bytes of pieces being assembled or waiting for the disk, all torrents together: four torrents
    at full speed (`max_open_bytes`). When full, each torrent has one piece open, on the disk if it
    is larger than `spill_batch`."""
    limit_up: int | None = None
    """Bytes per second all torrents together may send, headers of messages included; None is no
    limit."""
    limit_down: int | None = None
    """The same for what is received."""
    active_downloads: int | None = None
    """Torrents that are fetched at a time, those first in the queue; None is no bound."""
    active_seeds: int | None = None
    """The same for those that are complete."""
    stalled_after: float = 30 * 60.0
    """Seconds without payload after which a torrent at work takes no turn from others
    (Transmission)."""
    seed_ratio: float | None = None
    """Bytes sent for each byte received after which a torrent is shared enough; None: never."""
    seed_idle: float | None = None
    """Seconds without payload after which it is."""
    after_seeding: AfterSeeding = "pause"
    """What becomes of it then. Its content stays."""
    alternative_limits: AlternativeLimits = field(default_factory=AlternativeLimits)
    """Limits that hold instead of `limit_up` and `limit_down` at some hours, or when they are
    switched on."""
    min_free: int = 100 * 1000 * 1000
    """Bytes of a disk that stay free: downloads stand still before, and go on when there is more.
    0: none. Ours; a second of a fast line fits into it several times."""
    watch_folder: Path | str | None = None
    """A folder whose .torrent and .magnet files are added, and renamed; see `engine.watch_folder`.
    """
    watch_interval: float = 5.0
    """Seconds between two looks into it. A file is read at the second that finds it unchanged."""
    on_complete: Sequence[str] | None = None
    """A command and its arguments, run for each download that is complete; no shell reads it. What
    it finds in its environment says `engine.on_complete`."""
    on_complete_at_once: int = 2
    """Such commands that run at a time; others wait."""
    on_complete_timeout: float = 3600.0
    """Seconds after which one is ended."""
    keeping_interval: float = 5.0
    """Seconds between two looks at all torrents, for that and for whose turn it is."""
    pex: bool = True
    """Tell peers of others that share the same torrent, and hear of them (BEP 11). Never in private
    torrents (BEP 27)."""
    max_pending_handshakes: int = 256
    """Incoming connections that have not said what they want (rqbit). When there are more, the
    oldest of the host with most is closed ..."""
    max_pending_per_host: int = 128
    """... and so is the oldest of one host beyond this many. A machine of a hundred nodes has fewer
    at a time, as a handshake takes no longer than a round trip."""
    max_pending_dials: int = 450
    """Outgoing connections being established, all torrents together: what `dial_rate` can start
    within `connect_timeout`."""
    lsd: bool = False
    """Announce to the local network what we share and want, and listen to others (BEP 14). Never
    of private torrents, and never on a node that listens on loopback only. `dhtnode` has it on."""
    port_mapping: bool = False
    """Ask the router to let the world in: PCP, NAT-PMP, UPnP. Never on a node that listens on
    loopback only. `dhtnode` has it on."""
    encryption: EncryptionPolicy = "prefer"
    """MSE, which hides from onlookers that this is BitTorrent (not from who knows the infohash).
    `prefer`: dial with it, and without at once where that fails; peers may come either way; the
    payload is encrypted too where the peer insists. `allow`: the same, but dial without. `require`:
    never without, and the payload always encrypted. `off`: never with it."""
    fail_fast: bool = False
    """End the run at the first fault of ours (an unexpected exception), as tests and labs do.
    Otherwise it ends only its smallest owner, a connection, a torrent or a request, is logged with
    its traceback, and counted in the node's status."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    dht: DhtConfig = field(default_factory=DhtConfig)
    peer: PeerConfig = field(default_factory=PeerConfig)
    torrent: TorrentConfig = field(default_factory=TorrentConfig)
    disk: DiskConfig = field(default_factory=DiskConfig)
    lsd_limits: LsdConfig = field(default_factory=LsdConfig)
    port_map_limits: PortMapConfig = field(default_factory=PortMapConfig)
    utp: UtpConfig = field(default_factory=UtpConfig)
    holepunch: HolepunchConfig = field(default_factory=HolepunchConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    catalogue: CatalogueConfig = field(default_factory=CatalogueConfig)
    follow: FollowConfig = field(default_factory=FollowConfig)
    crawl: CrawlConfig = field(default_factory=CrawlConfig)
    subscribe: SubscribeConfig = field(default_factory=SubscribeConfig)
    deny_list: Path | str | None = None
    """A file of words and infohashes (`search.denied`) that this node neither stores in its
    catalogue nor publishes nor shows. It is read again when it changes."""
    deny_check_interval: float = 10.0
    """Seconds between two looks whether it has."""
    proxy: str | None = field(default=None, repr=False)
    """`socks5://[user:password@]host[:port]`: all connections and datagrams of this node go through
    this SOCKS5 proxy, or nowhere. Then nobody can connect to us, so we announce no port; the local
    network is not told, and no port is mapped. Names of hosts are resolved by the proxy. Without
    its UDP there is no DHT."""
    proxy_limits: ProxyConfig = field(default_factory=ProxyConfig)
    ip_filter: Path | str | None = None
    """A file of IP addresses (`ip_filter`) with which this node has nothing to do: neither as peers
    nor in the DHT. It is read again when it changes."""
    ip_filter_check_interval: float = 10.0
    """Seconds between two looks whether it has."""

    def bootstrap_points(self) -> list[HostPort]:
        """`bootstrap`, parsed. Raises InputError naming the entry that is wrong."""
        return [parse_host_port(p) if isinstance(p, str) else p for p in self.bootstrap]

    @property
    def is_behind_proxy(self) -> bool:
        """Whether all goes through a proxy: nobody can connect to us, and nothing is said to the
        local network or to its router."""
        return self.proxy is not None

    def proxy_server(self) -> ProxyServer | None:
        """`proxy`, parsed. Raises InputError, which does not repeat the password."""
        return parse_proxy(self.proxy) if self.proxy is not None else None

    def encryption_policy(self) -> EncryptionPolicy:
        """`encryption`. Raises InputError if it is not one."""
        if self.encryption not in get_args(EncryptionPolicy):
            choices = ", ".join(get_args(EncryptionPolicy))
            raise InputError(f"encryption must be one of {choices}, not {self.encryption!r}")
        return self.encryption

    def check_transports(self) -> None:
        """Raises InputError if there is no way to connect with a peer."""
        if not self.tcp and not self.utp.enabled:
            raise InputError("TCP and uTP are both off: peers need one of them")

    def listen_addresses(self) -> list[Address]:
        """`listen`, parsed, IPv4 first. Raises InputError unless it is one address, or one of each
        family."""
        found = self._here(_addresses(self.listen))
        if not found:
            raise InputError("at least one address to listen on is needed")
        return found

    def wanted_interface(self) -> str | None:
        """`interface`. Raises InputError if it is neither an IP address nor a name."""
        wanted = self.interface
        if wanted is None:
            return None
        ip = _ip(wanted)
        if ip is not None:
            if ip.is_unspecified or ip.is_multicast or (ip.version == 6 and ip.is_link_local):
                raise InputError(f"{wanted} is not the address of an interface")
            return str(ip)
        is_name = 0 < len(wanted.encode()) <= MAX_INTERFACE and not _NOT_IN_NAMES.search(wanted)
        if not is_name or wanted in (".", "..") or _LIKE_IPV4.fullmatch(wanted):
            raise InputError(f"{wanted!r} is neither the name nor an address of an interface")
        return wanted

    def _here(self, listens: list[Address]) -> list[Address]:
        """Where to listen with `interface`: at an address of it, without the other family. Raises
        InputError for other addresses."""
        wanted = self.wanted_interface()
        ip = _ip(wanted) if wanted is not None else None
        if ip is None:
            return listens
        found: list[Address] = []
        for address in listens:
            if address.host in (str(ip), "::" if ip.version == 6 else "0.0.0.0"):  # noqa: S104
                found.append(address._replace(host=str(ip)))
            elif address.host not in ("::", "0.0.0.0"):  # noqa: S104 - compared with
                raise InputError(f"cannot listen on {address} with the interface {wanted}")
        return found

    def tls_addresses(self) -> list[Address]:
        """`tls_listen`, parsed, IPv4 first. Raises InputError unless it is one address of each
        family at most."""
        if not self.tcp:
            if self.tls_listen:
                raise InputError("there is no listening with TLS when TCP is off")
            return []
        if self.tls_listen is None:
            return [address._replace(port=0) for address in self.listen_addresses()]
        return self._here(_addresses(self.tls_listen))


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _addresses(given: str | Sequence[str]) -> list[Address]:
    texts = [given] if isinstance(given, str) else given
    found = sorted(map(parse_address, texts), key=lambda address: address.is_ipv6)
    if len({address.is_ipv6 for address in found}) < len(found):
        raise InputError("listen on one IPv4 and one IPv6 address at most")
    return found
