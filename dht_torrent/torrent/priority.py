"""How much two peers should prefer each other (BEP 40), the same for both of them and for no third.

Where each first dials the peer it has the highest priority with, the connections of a swarm form a
random graph, whatever order addresses are named in; and no stranger has a high priority with all
peers.
"""

from __future__ import annotations

import socket
from typing import Final

from dht_torrent.checksum import crc32c
from dht_torrent.ids import Address

_IPV4_BYTES: Final = 2
_IPV6_BYTES: Final = 6
"""Leading bytes of an address that count whole: those an ISP does not give away for nothing."""


def priority(one: Address, other: Address) -> int:
    """0 to 2^32 - 1; the higher, the sooner should they connect. In any order. Raises ValueError
    unless both are of one family."""
    if one.is_ipv6 != other.is_ipv6:
        raise ValueError(f"{one} and {other} are of two families")
    if one.host == other.host:
        return crc32c(_sorted(one.port.to_bytes(2, "big"), other.port.to_bytes(2, "big")))
    family = socket.AF_INET6 if one.is_ipv6 else socket.AF_INET
    here = socket.inet_pton(family, one.host)
    there = socket.inet_pton(family, other.host)
    common = 0
    while here[common] == there[common]:
        common += 1
    # Of neighbours, one byte more than they share counts whole, or all would be the same.
    whole = max(_IPV6_BYTES if one.is_ipv6 else _IPV4_BYTES, common + 1)
    return crc32c(_sorted(_masked(here, whole), _masked(there, whole)))


def _masked(packed: bytes, whole: int) -> bytes:
    return packed[:whole] + bytes(byte & 0x55 for byte in packed[whole:])


def _sorted(one: bytes, other: bytes) -> bytes:
    return one + other if one < other else other + one
