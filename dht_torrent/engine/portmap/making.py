"""Whether a node maps its ports, and how."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from dht_torrent.config import Config
from dht_torrent.engine.net.protocols import Network
from dht_torrent.engine.portmap.miniupnp import MiniUpnp
from dht_torrent.engine.portmap.service import PortMapping
from dht_torrent.ids import Address
from dht_torrent.portmap.ports import IpProtocol


def port_mapping(
    config: Config,
    network: Network,
    listens: Sequence[Address],
    tls_listens: Sequence[Address],
    *,
    rng: random.Random,
    may_open_sockets: bool,
) -> PortMapping | None:
    """The service for a node that listens at `listens`, TCP and UDP alike, and for TLS at
    `tls_listens`, which may grow. None: there is to be none. What must keep a node from asking
    routers belongs here. `may_open_sockets`: beside those of `network`."""
    open_to_others = [one for one in listens if not one.is_ipv6 and not one.is_loopback]
    if not config.port_mapping or not open_to_others or config.is_behind_proxy:
        return None

    def listening() -> Iterator[tuple[IpProtocol, Address]]:
        for address in open_to_others:
            if config.tcp:
                yield IpProtocol.TCP, address
            yield IpProtocol.UDP, address
        for address in tls_listens:
            if not address.is_ipv6 and not address.is_loopback:
                yield IpProtocol.TCP, address

    limits = config.port_map_limits
    upnp = MiniUpnp(limits) if may_open_sockets else None
    return PortMapping(network, limits, listening, rng=rng, upnp=upnp)
