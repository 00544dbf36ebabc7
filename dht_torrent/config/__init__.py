"""Every number one may change, with its unit, its default and where the default comes from.

Times are float seconds, sizes int bytes, unless the name says otherwise. `Config` holds the parts;
each decider is handed only its own part.
"""

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
from dht_torrent.config.node import Config, EncryptionPolicy
from dht_torrent.config.portmap import PortMapConfig
from dht_torrent.config.proxy import ProxyConfig, ProxyServer
from dht_torrent.config.torrent import CLIENT, DiskConfig, LsdConfig, PeerConfig, TorrentConfig
from dht_torrent.config.utp import UtpConfig

__all__ = [
    "CLIENT",
    "PUBLIC_BOOTSTRAP",
    "CatalogueConfig",
    "Config",
    "CrawlConfig",
    "DhtConfig",
    "DiskConfig",
    "EncryptionPolicy",
    "FollowConfig",
    "HolepunchConfig",
    "LsdConfig",
    "PeerConfig",
    "PortMapConfig",
    "ProxyConfig",
    "ProxyServer",
    "SearchConfig",
    "SubscribeConfig",
    "TorrentConfig",
    "UtpConfig",
    "WatchConfig",
]
