"""The Port Control Protocol (RFC 6887): MAP and ANNOUNCE, as a client without options needs them.

`decode` takes any bytes and raises PortMapError alone.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from dht_torrent.errors import PortMapError
from dht_torrent.ids import Address
from dht_torrent.portmap.ports import LocalPort

VERSION: Final = 2
PORT: Final = 5351
"""Where servers listen (section 19.1)."""
MAX_SIZE: Final = 1100
"""Bytes of a message (section 7)."""
NONCE_SIZE: Final = 12

ANNOUNCE: Final = 0
MAP: Final = 1
_RESPONSE: Final = 0x80
_HEADER: Final = Struct(">BBxBII12x")
"""Of a response: version, opcode, result, lifetime, epoch."""
_REQUEST: Final = Struct(">BBxxI16s")
_MAP: Final = Struct(">12sB3xHH16s")


class PcpResult(IntEnum):
    """Section 7.4."""

    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    MALFORMED_REQUEST = 3
    UNSUPP_OPCODE = 4
    UNSUPP_OPTION = 5
    MALFORMED_OPTION = 6
    NETWORK_FAILURE = 7
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    CANNOT_PROVIDE_EXTERNAL = 11
    ADDRESS_MISMATCH = 12
    EXCESSIVE_REMOTE_PEERS = 13


MEANINGS: Final = {
    PcpResult.UNSUPP_VERSION: "it does not speak this version",
    PcpResult.NOT_AUTHORIZED: "it does not allow it",
    PcpResult.NETWORK_FAILURE: "it is not connected itself",
    PcpResult.NO_RESOURCES: "it has no room for more mappings",
    PcpResult.USER_EX_QUOTA: "this machine has too many mappings there",
    PcpResult.CANNOT_PROVIDE_EXTERNAL: "the external port is not to be had",
    PcpResult.ADDRESS_MISMATCH: "there is another gateway before it",
}


def meaning(result: int) -> str:
    """What a result code says, in words where there are any."""
    known = next((name for name in PcpResult if name == result), None)
    if known is None:
        return f"error {result}"
    return MEANINGS.get(known, f"error {known.name}")


@dataclass(frozen=True, slots=True)
class PcpMapping:
    """What a MAP response says (section 11.1)."""

    nonce: bytes
    protocol: int
    internal_port: int
    external: Address


@dataclass(frozen=True, slots=True)
class PcpAnswer:
    """A response of a server."""

    opcode: int
    result: int
    lifetime: int
    epoch: int
    """Seconds since the server began to remember mappings (section 8.5)."""
    mapping: PcpMapping | None
    """Of a MAP response. That to a request that was not understood may lack it."""


def encode_announce(client: str) -> bytes:
    """Asks for the server's epoch (section 14.1)."""
    return _REQUEST.pack(VERSION, ANNOUNCE, 0, _pack(client))


def encode_map(
    client: str, nonce: bytes, local: LocalPort, lifetime: int, suggested: Address
) -> bytes:
    """Asks for a mapping, or for its renewal, or with lifetime 0 to delete it (section 11.1).
    `client` is our own address, from which it must be sent. The port suggested may be 0."""
    head = _REQUEST.pack(VERSION, MAP, lifetime, _pack(client))
    host = _pack(suggested.host)
    return head + _MAP.pack(nonce, local.protocol, local.port, suggested.port, host)


def decode(data: bytes) -> PcpAnswer:
    """A response (section 8.3). Raises PortMapError."""
    if not _HEADER.size <= len(data) <= MAX_SIZE or len(data) % 4:
        raise PortMapError(f"a PCP message of {len(data)} bytes")
    version, opcode, result, lifetime, epoch = _HEADER.unpack_from(data)
    if version != VERSION and result != PcpResult.UNSUPP_VERSION:
        raise PortMapError(f"version {version} of PCP")
    if not opcode & _RESPONSE:
        raise PortMapError("a PCP request")
    opcode &= ~_RESPONSE
    mapping = None
    if opcode == MAP and len(data) >= _HEADER.size + _MAP.size:
        nonce, protocol, internal, external, host = _MAP.unpack_from(data, _HEADER.size)
        mapping = PcpMapping(nonce, protocol, internal, Address(_unpack(host), external))
    elif opcode == MAP and result == PcpResult.SUCCESS:
        raise PortMapError("a PCP mapping that was cut short")
    return PcpAnswer(opcode, result, lifetime, epoch, mapping)


def _pack(host: str) -> bytes:
    """Section 5: an IPv4 address is mapped into IPv6."""
    ip = ipaddress.ip_address(host)
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


def _unpack(packed: bytes) -> str:
    ip = ipaddress.IPv6Address(packed)
    return str(ip.ipv4_mapped or ip)
