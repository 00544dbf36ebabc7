"""A router that hides a host of the network in memory: which port the world sees, and whose answers
come in. It lets in datagrams only from where one was sent (a port-restricted NAT, RFC 3489).
"""

from __future__ import annotations

from itertools import count
from typing import Final

from dht_torrent.ids import Address

_FIRST: Final = 20_000
"""External ports that are given out, from here on."""


class Nat:
    """A cone: the host's port is always seen as the same. Or symmetric: each destination sees
    another one, which nobody else can use or guess."""

    def __init__(self, *, symmetric: bool = False, shift: int = 0) -> None:
        """`shift`: by how much a cone's external ports are above those of the host."""
        self._symmetric = symmetric
        self._shift = shift
        self._ports = count(_FIRST)
        self._outside: dict[tuple[int, Address], int] = {}
        self._inside: dict[int, tuple[int, Address]] = {}

    def outside(self, port: int, to: Address) -> int:
        """As what a datagram from this port of the host is seen there."""
        if not self._symmetric:
            return port + self._shift
        known = self._outside.get((port, to))
        if known is None:
            known = self._outside[port, to] = next(self._ports)
            self._inside[known] = port, to
        return known

    def inside(self, port: int, source: Address) -> int | None:
        """For which port of the host a datagram to this external one is; None: for none."""
        if not self._symmetric:
            return port - self._shift
        inner, to = self._inside.get(port, (0, None))
        return inner if to == source else None
