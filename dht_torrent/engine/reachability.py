"""Whether peers can connect to us, or why that is not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dht_torrent.engine.views import PortMappingStatus, counted
from dht_torrent.ids import Address, parse_host_port
from dht_torrent.portmap.ports import is_public

ENOUGH_TRIES: Final = 3
"""Peers that could not be reached by holepunching until that is worth a word."""


def punching_trouble(tried: int, reached: int, *, is_symmetric: bool | None) -> str | None:
    """Why holepunching does not work here, in plain words; None: it may."""
    if is_symmetric:
        return (
            "the router shows each peer another port of ours (a symmetric NAT), so peers behind "
            "other routers cannot be reached: map a port at the router"
        )
    if tried >= ENOUGH_TRIES and not reached:
        return (
            f"none of {counted(tried, 'peer')} behind routers could be reached: the routers there, "
            "or the one here, show each peer another port (symmetric NATs)"
        )
    return None


def reachability(
    heard: bool,
    listens: Sequence[Address],
    mapping: PortMappingStatus | None,
    *,
    is_behind_proxy: bool = False,
    is_away: bool = False,
) -> tuple[bool | None, str]:
    """The answer, None for not known, and why in plain words. `heard`: somebody has connected;
    `is_away`: the only interface that may be used is not here."""
    if is_away:
        return False, "the interface is not here"
    if is_behind_proxy:
        return False, "nobody can connect to us through a proxy"
    if heard:
        return True, "peers have connected to us"
    if all(address.is_loopback for address in listens):
        return False, "this node listens for this machine only"
    untried = "no peer has tried to connect to us"
    if mapping is None:
        return None, f"{untried}, and port mapping is off"
    outside = list(dict.fromkeys(one.external for one in mapping.mapped if one.protocol == "tcp"))
    if not outside:
        refused = "; ".join(f"{port}: {why}" for port, why in mapping.refused.items())
        return None, f"{untried}; {mapping.trouble or refused or 'TCP is not mapped'}"
    hosts = [parse_host_port(one).host for one in outside]
    behind = [host for host in hosts if not is_public(host)]
    if behind and not any(address.is_ipv6 for address in listens):
        return False, (
            f"the router is behind another one: its own address {behind[0]} is not a public one"
        )
    return None, f"{untried}, which the router lets in at {' and '.join(outside)}"
