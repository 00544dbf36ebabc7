"""The header in front of each datagram that goes through a proxy (RFC 1928, 7).

The rule: what is not whole is refused. Fragments are not put together, and a datagram of which only
a domain name says where it came from is from nobody.
"""

from __future__ import annotations

from typing import Final

from dht_torrent.errors import SocksError
from dht_torrent.ids import Address, HostPort
from dht_torrent.socks.addresses import decode_address, encode_address

_HEAD: Final = b"\0\0\0"
"""Two reserved bytes, and the number of the fragment: none."""
OVERHEAD: Final = len(_HEAD) + 1 + 16 + 2
"""Bytes of the header at most, when it has an IP address."""


def wrap(data: bytes, to: Address | HostPort) -> bytes:
    """A datagram for the proxy, to be sent on to `to`. Raises SocksError, for names only."""
    return _HEAD + encode_address(to) + data


def unwrap(datagram: bytes) -> tuple[bytes, Address]:
    """What the proxy hands on, and from where. Raises SocksError."""
    if datagram[:3] != _HEAD:
        if len(datagram) > 3 and datagram[:2] == _HEAD[:2]:
            raise SocksError("a fragment")
        raise SocksError("no header of SOCKS5")
    found = decode_address(datagram, 3)
    if found is None:
        raise SocksError("a header that is cut")
    source, end = found
    if not isinstance(source, Address):
        raise SocksError("from a domain name")
    return datagram[end:], source
