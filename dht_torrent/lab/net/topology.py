"""The network in memory as its sockets see it: what lies between two hosts, and who is there.

`network` holds the hosts and their sockets; sockets know it only by these two Protocols.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from dht_torrent.ids import Address
from dht_torrent.lab.net.link import Link, Stats, Wire


class DatagramTarget(Protocol):
    """A socket that datagrams go to."""

    def accept(self, when: float, data: bytes, source: Address, now: float) -> bool:
        """Put a datagram on its way to this socket. False when it will not arrive."""
        ...


class Breakable(Protocol):
    """An end of a stream, as its host sees it."""

    def reset(self) -> None:
        """Break the connection, at both ends."""
        ...

    def lose(self) -> None:
        """Nothing gets through any more, and neither end is told."""
        ...

    def wake(self) -> None:
        """Look again: the network changed."""
        ...


class Machine(Protocol):
    """A host with one IP."""

    ip: str
    uplink: Wire
    downlink: Wire
    is_down: bool

    @property
    def behind_nat(self) -> bool:
        """A router hides it."""
        ...

    def seen_as(self, port: int, to: Address) -> Address:
        """Where a datagram from this UDP port comes from, as it is seen at `to`."""
        ...

    def heard_at(self, port: int, source: Address | None = None) -> DatagramTarget | None:
        """Who has this UDP port; or what is seen as that, at `source`."""
        ...

    def opened(self, stream: Breakable) -> None:
        """A stream has an end here now."""
        ...

    def ended(self, stream: Breakable) -> None:
        """It has none any more."""
        ...

    def release_udp(self, port: int) -> None:
        """This UDP port is free again."""
        ...

    def release_tcp(self, port: int) -> None:
        """No program listens at this TCP port any more."""
        ...


class Topology(Protocol):
    """All hosts and what lies between them."""

    rng: random.Random
    window: int
    grain: float
    stats: Stats
    tap: Callable[[Address, Address, bytes], None] | None

    def link(self, source: str, target: str) -> Link:
        """What a packet from one IP to the other goes through."""
        ...

    def wire(self, source: str, target: str) -> Wire:
        """The wire that streams from `source` to `target` share."""
        ...

    def find(self, source: str, target: str) -> Machine | None:
        """The target's host, if a packet from `source` gets there now."""
        ...

    def is_cut(self, one: str, other: str) -> bool:
        """A partition lies between them."""
        ...
