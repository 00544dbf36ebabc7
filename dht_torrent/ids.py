"""Identities and addresses. A 20-byte id is raw bytes and is made only by a `parse_*` function,
so code that holds one never checks it again."""

from __future__ import annotations

import ipaddress
import socket
from enum import StrEnum
from typing import NamedTuple, NewType

from dht_torrent.errors import InputError
from dht_torrent.remembering import remembering

NodeId = NewType("NodeId", bytes)
"""A DHT node's 160-bit id (BEP 5)."""
InfoHash = NewType("InfoHash", bytes)
"""SHA-1 of a torrent's info dict, 20 bytes (BEP 3)."""
PeerId = NewType("PeerId", bytes)
"""What a peer calls itself in a handshake, 20 bytes (BEP 3, BEP 20)."""
PeerKey = NewType("PeerKey", int)
"""The number our node gives a connection, never twice in one run; later ones are larger."""


class Transport(StrEnum):
    """What carries the connection to a peer."""

    TCP = "tcp"
    UTP = "utp"
    """BEP 29, over UDP."""


def parse_node_id(raw: object) -> NodeId:
    """Raises ValueError unless `raw` is 20 bytes."""
    return NodeId(_twenty_bytes(raw, "node id"))


def parse_info_hash(raw: object) -> InfoHash:
    """Raises ValueError unless `raw` is 20 bytes."""
    return InfoHash(_twenty_bytes(raw, "infohash"))


def parse_peer_id(raw: object) -> PeerId:
    """Raises ValueError unless `raw` is 20 bytes."""
    return PeerId(_twenty_bytes(raw, "peer id"))


def _twenty_bytes(raw: object, what: str) -> bytes:
    if isinstance(raw, bytes) and len(raw) == 20:
        return raw
    raise ValueError(f"{what} must be 20 bytes")


def distance(a: bytes, b: bytes) -> int:
    """The XOR metric of Kademlia (Maymounkov & Mazieres 2002) between two 20-byte ids."""
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


class HostPort(NamedTuple):
    """A host *name or literal* with a port, as a user or a magnet link wrote it: unresolved."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Address(NamedTuple):
    """An IP literal (v4 or v6, in canonical text) and a port: what a socket can send to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        """An IPv6 address; else it is of IPv4."""
        return ":" in self.host

    @property
    def is_local(self) -> bool:
        """Loopback, private (RFC 1918, ULA) or link-local. The rules about public addresses
        (one contact per IP and the like) do not apply between such hosts."""
        return _is_local(self.host)

    @property
    def is_loopback(self) -> bool:
        """This very machine."""
        return self.host.startswith("127.") or self.host in ("::1", "::ffff:127.0.0.1")

    @property
    def place(self) -> str:
        """Where it lives, for rules of the kind "one per host"; see `place_of`."""
        return place_of(self.host)

    @property
    def is_usable(self) -> bool:
        """A unicast address that a host can listen on: not port 0, 0/8, multicast or reserved."""
        return 0 < self.port < 65536 and _is_unicast(self.host)

    def may_name(self, other: Address) -> bool:
        """May a host here name `other` to us as a peer, or be told of it by us? A host of this
        network is nothing a stranger knows of, nor need know of; nor is this machine to anybody
        but itself. What cannot be listened on is not a peer at all."""
        if not other.is_usable:
            return False
        return self.is_loopback if other.is_loopback else self.is_local or not other.is_local

    def compact(self) -> bytes:
        """6 bytes for IPv4, 18 for IPv6: address then port, big-endian (BEP 5, BEP 32)."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        return socket.inet_pton(family, self.host) + self.port.to_bytes(2, "big")


_HOSTS = 16_384
"""What is remembered of so many: all of a large lab's; of hostile ones, 4 MB at most."""


@remembering(_HOSTS)
def place_of(host: str) -> str:
    """What counts as one host: an IPv4 address, or the /64 of an IPv6 one, of which its owner has
    all addresses. An IP literal again, and its own place; what is not one is left as it is."""
    if ":" not in host:
        return host
    try:
        packed = socket.inet_pton(socket.AF_INET6, host)
    except (OSError, ValueError):
        return host
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8))


def address_from_compact(raw: bytes) -> Address:
    """The inverse of `Address.compact`. Raises ValueError unless `raw` has 6 or 18 bytes."""
    if len(raw) == 6:
        return Address(socket.inet_ntoa(raw[:4]), int.from_bytes(raw[4:], "big"))
    if len(raw) == 18:
        host = socket.inet_ntop(socket.AF_INET6, raw[:16])
        return Address(host, int.from_bytes(raw[16:], "big"))
    raise ValueError("a compact address has 6 or 18 bytes")


def parse_host_port(text: str) -> HostPort:
    """Reads `host:port`, `1.2.3.4:port` or `[v6]:port`.

    Raises InputError with a line that says what is wrong. Port 0 is allowed: it means any.
    """
    host, colon, port_text = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not is_ip(host):
            raise InputError(f"not an IPv6 address: {text!r}")
    elif ":" in host:
        raise InputError(f"write an IPv6 address in brackets, like [::1]:6881, not {text!r}")
    if not colon or not host or len(host) > 253:
        raise InputError(f"expected HOST:PORT, got {text[:80]!r}")
    if not (port_text.isascii() and port_text.isdigit() and int(port_text[:6]) < 65536):
        raise InputError(f"the port must be a number from 0 to 65535, got {port_text[:20]!r}")
    return HostPort(host, int(port_text))


def parse_address(text: str) -> Address:
    """As `parse_host_port`, but the host must be an IP literal. Raises InputError."""
    host, port = parse_host_port(text)
    if not is_ip(host):
        raise InputError(f"expected an IP address, not a name: {text[:80]!r}")
    return Address(str(ipaddress.ip_address(host)), port)


def is_ip(host: str) -> bool:
    """An IP literal, of either family."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host  # a zone id is meaningful on one machine only


def _packed4(host: str) -> bytes | None:
    """An IPv4 literal's four bytes; None for anything else. A tenth of what `ipaddress` takes,
    which counts where more hosts are met than are remembered."""
    try:
        return socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        return None


@remembering(_HOSTS)
def _is_local(host: str) -> bool:
    packed = _packed4(host)
    if packed is not None:
        one, two = packed[:2]
        return (
            one in (10, 127)  # RFC 1918, loopback
            or (one == 192 and two == 168)
            or (one == 172 and 16 <= two < 32)
            or (one == 169 and two == 254)  # link-local
        )
    ip = ipaddress.IPv6Address(host)
    embedded = _embedded4(ip)
    if embedded is not None:
        return _is_local(embedded)
    return ip.is_loopback or ip.is_link_local or ip.is_site_local or ip in _UNIQUE_LOCAL


def _embedded4(ip: ipaddress.IPv6Address) -> str | None:
    """The IPv4 address that a packet to this one may end up at: mapped (RFC 4291), by 6to4 (RFC
    3056) or through a translator (RFC 6052)."""
    found = ip.ipv4_mapped or ip.sixtofour
    if found is None and ip in _NAT64:
        found = ipaddress.IPv4Address(ip.packed[12:])
    return str(found) if found is not None else None


@remembering(_HOSTS)
def _is_unicast(host: str) -> bool:
    packed = _packed4(host)
    if packed is not None:
        return 0 < packed[0] < 224  # not 0/8, multicast or reserved
    try:
        ip = ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return ip.ipv4_mapped is None and not (ip.is_multicast or ip.is_unspecified)


_MAPPED = bytes(10) + b"\xff\xff"
"""How the IPv4-mapped addresses begin (RFC 4291)."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")
