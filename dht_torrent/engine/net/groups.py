"""How a UDP socket takes part in a multicast group: through one interface, and no further."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from typing import Final

from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.ids import Address

_IP_MULTICAST_ALL: Final = 49  # linux/in.h


def join4(sock: socket.socket, group: Address, on: Interface) -> None:
    """Take part in the group through this interface alone."""
    level = socket.IPPROTO_IP
    # An ip_mreqn: on Linux, macOS and the BSDs the number of the interface decides.
    ours = struct.pack("@4si", on.networks[0].packed if on.networks else bytes(4), on.index)
    sock.setsockopt(level, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group.host) + ours)
    sock.setsockopt(level, socket.IP_MULTICAST_IF, bytes(4) + ours)
    sock.setsockopt(level, socket.IP_MULTICAST_TTL, 1)
    sock.setsockopt(level, socket.IP_MULTICAST_LOOP, 1)
    if sys.platform == "linux":  # not what this machine's other sockets joined for
        with suppress(OSError):
            sock.setsockopt(level, _IP_MULTICAST_ALL, 0)


def join6(sock: socket.socket, group: Address, on: Interface) -> None:
    """The same."""
    level = socket.IPPROTO_IPV6
    ours = struct.pack("@I", on.index)
    packed = socket.inet_pton(socket.AF_INET6, group.host)
    sock.setsockopt(level, socket.IPV6_JOIN_GROUP, packed + ours)
    sock.setsockopt(level, socket.IPV6_MULTICAST_IF, ours)
    sock.setsockopt(level, socket.IPV6_MULTICAST_HOPS, 1)
    sock.setsockopt(level, socket.IPV6_MULTICAST_LOOP, 1)
