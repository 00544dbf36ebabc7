"""Where datagrams come from: which addresses count as one place."""

from __future__ import annotations

import functools
import socket

from dht_torrent.ids import Address

Home = str | Address
"""What counts as one place: a public IP (v6: its /64), or a local address *with* its port."""


@functools.lru_cache(maxsize=4096)
def facts(address: Address) -> tuple[bool, bool, bytes, Home]:
    """Whether it is usable and whether it is local, its compact form, and its home: what every
    query makes us ask of where it came from, in one go."""
    return address.is_usable, address.is_local, address.compact(), home(address)


def home(address: Address) -> Home:
    """Where a node lives, for rules of the kind "one per IP"."""
    if address.is_local:
        return address
    return _subnet6(address.host) if address.is_ipv6 else address.host


def neighbourhood(address: Address) -> Home:
    """The /24 (v6: /64) a public address is in; a local address is its own neighbourhood."""
    if address.is_local:
        return address
    return _subnet6(address.host) if address.is_ipv6 else address.host.rpartition(".")[0]


def _subnet6(host: str) -> str:
    return socket.inet_pton(socket.AF_INET6, host)[:8].hex()
