"""Addresses as SOCKS5 writes them (RFC 1928, 5): a type, a host of that type, a port."""

from __future__ import annotations

from typing import Final

from dht_torrent.errors import SocksError
from dht_torrent.ids import Address, HostPort, address_from_compact

IPV4: Final = 1
DOMAIN: Final = 3
IPV6: Final = 4
MAX_NAME: Final = 255
"""Bytes of a domain name: its length is one byte."""
MAX_ADDRESS: Final = 2 + MAX_NAME + 2


def encode_address(to: Address | HostPort) -> bytes:
    """Raises SocksError for a name that has no form as a domain name, or is too long."""
    if isinstance(to, Address):
        compact = to.compact()
        return (b"\x04" if len(compact) == 18 else b"\x01") + compact
    try:
        name = to.host.encode("idna")
    except UnicodeError:
        name = b""
    if not 0 < len(name) <= MAX_NAME:
        raise SocksError(f"no domain name: {to.host[:60]!r}")
    return bytes([DOMAIN, len(name)]) + name + to.port.to_bytes(2, "big")


def decode_address(data: bytes, at: int) -> tuple[Address | HostPort, int] | None:
    """The address at `at`, and where it ends; None while more of it must come. Raises
    SocksError."""
    if len(data) < at + 2:
        return None
    kind = data[at]
    if kind in (IPV4, IPV6):
        end = at + 1 + (6 if kind == IPV4 else 18)
        if len(data) < end:
            return None
        return address_from_compact(bytes(data[at + 1 : end])), end
    if kind != DOMAIN:
        raise SocksError(f"no type of an address: {kind}")
    length = data[at + 1]
    end = at + 2 + length + 2
    if length == 0:
        raise SocksError("a domain name of no length")
    if len(data) < end:
        return None
    name = bytes(data[at + 2 : end - 2]).decode("latin-1")
    return HostPort(name, int.from_bytes(data[end - 2 : end], "big")), end
