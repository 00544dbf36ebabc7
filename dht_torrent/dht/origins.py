"""Where datagrams come from: which addresses count as one place."""

from __future__ import annotations

import socket
from typing import NamedTuple

from dht_torrent.ids import Address
from dht_torrent.remembering import remembering

Home = str | Address
"""What counts as one place: a public IP (v6: its /64), or a local address *with* its port."""


class Origin(NamedTuple):
    """What every query makes us ask of where it came from."""

    is_usable: bool
    is_local: bool
    compact: bytes
    home: Home
    host: bytes
    """The compact form without the port."""
    place: bytes
    """`home` in bytes: a public IP (v6: its /64), a local address with its port. No two kinds have
    the same length."""
    kind: int
    """A number for `is_local` and the address family, which is cheap to compare."""
    neighbourhood: Home
    """See the function of this name."""


@remembering(16_384)  # as many as `krpc` remembers nodes; 8 MB at most
def facts(address: Address) -> Origin:
    """All of it in one go."""
    compact, is_local = address.compact(), address.is_local
    place = compact if is_local else compact[:4] if len(compact) == 6 else compact[:8]
    return Origin(
        address.is_usable,
        is_local,
        compact,
        _home(address),
        compact[:-2],
        place,
        2 * len(compact) + is_local,
        neighbourhood(address),
    )


def home(address: Address) -> Home:
    """Where a node lives, for rules of the kind "one per IP"."""
    return facts(address).home


def _home(address: Address) -> Home:
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
