"""How this process gets to others, and to whom: the one place where that is made from the
configuration, for whole nodes and for whatever asks a question only. What is opened beside it may
leak past the interface, the proxy or the IP filter.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dht_torrent.config import Config
from dht_torrent.engine.filtering import FilteredNetwork, FilterFile, Filtering
from dht_torrent.engine.net.inside import InsideNetwork
from dht_torrent.engine.net.protocols import Network
from dht_torrent.engine.net.sockets import RealNetwork
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.user_files import absolute
from dht_torrent.relief import Relief, no_relief

if TYPE_CHECKING:
    from dht_torrent.engine.net.proxy import ProxiedNetwork


@dataclass(frozen=True, slots=True)
class Access:
    """Its parts that have services of their own are for the owner to run."""

    network: Network
    """To all others."""
    unfiltered: Network
    """The same, to forbidden ones as well: for the router, which is not a peer."""
    is_plain: bool
    """Sockets that are opened without it would reach the same."""
    filtering: Filtering
    inside: InsideNetwork | None
    proxy: ProxiedNetwork | None


async def open_access(
    config: Config,
    given: Network | None,
    disk: Disk,
    *,
    rng: random.Random,
    relief: Relief = no_relief,
) -> Access:
    """`given` is used in the place of this machine's network. `relief` is called when there is no
    descriptor for a connection. Raises InputError."""
    server, interface = config.proxy_server(), config.wanted_interface()
    inside: InsideNetwork | None = None
    proxy: ProxiedNetwork | None = None
    filtering = Filtering()
    network = given
    if network is None and interface is not None:
        network = inside = InsideNetwork(interface, config.watch.look_interval, relief)
    elif network is None:
        network = RealNetwork(relief)
    if server is not None:
        from dht_torrent.engine.net.proxy import ProxiedNetwork  # with what most nodes do not need

        network = proxy = ProxiedNetwork(network, server, config.proxy_limits, rng=rng)
    unfiltered = network
    if config.ip_filter is not None:
        file = FilterFile(absolute(config.ip_filter), disk, config.ip_filter_check_interval)
        await file.load()
        filtering, network = file, FilteredNetwork(network, file)
    is_plain = given is None and inside is None and proxy is None
    return Access(network, unfiltered, is_plain, filtering, inside, proxy)
