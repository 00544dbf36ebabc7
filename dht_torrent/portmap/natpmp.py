"""NAT-PMP (RFC 6886), PCP's ancestor: the public address, and mappings of IPv4.

`decode` takes any bytes and raises PortMapError alone.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from dht_torrent.errors import PortMapError
from dht_torrent.portmap.ports import IpProtocol, LocalPort

VERSION: Final = 0
PORT: Final = 5351
"""Where gateways listen (section 3.2)."""
ANNOUNCED_TO: Final = "224.0.0.1"
"""Gateways tell here of a new address or a restart, ..."""
ANNOUNCED_PORT: Final = 5350
"""... on this port (sections 3.2.1 and 1.1; PCP's too, RFC 6887 section 19.1)."""

ADDRESS: Final = 0
OPCODES: Final = {IpProtocol.UDP: 1, IpProtocol.TCP: 2}
_PROTOCOLS: Final = {number: protocol for protocol, number in OPCODES.items()}
_RESPONSE: Final = 0x80
_HEAD: Final = Struct(">BBHI")
"""Of a response: version, opcode, result, epoch."""
_MAP: Final = Struct(">BBxxHHI")
_MAPPED: Final = Struct(">HHI")
_MAX_SIZE: Final = 16


class NatPmpResult(IntEnum):
    """Section 3.5."""

    SUCCESS = 0
    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    OUT_OF_RESOURCES = 4
    UNSUPPORTED_OPCODE = 5


MEANINGS: Final = {
    NatPmpResult.UNSUPPORTED_VERSION: "it does not speak this version",
    NatPmpResult.NOT_AUTHORIZED: "it does not allow it",
    NatPmpResult.NETWORK_FAILURE: "it is not connected itself",
    NatPmpResult.OUT_OF_RESOURCES: "it has no room for more mappings",
}


def meaning(result: int) -> str:
    """What a result code says, in words where there are any."""
    known = next((name for name in NatPmpResult if name == result), None)
    if known is None:
        return f"error {result}"
    return MEANINGS.get(known, f"error {known.name}")


@dataclass(frozen=True, slots=True)
class NatPmpMapping:
    """What a mapping's response says (section 3.3)."""

    local: LocalPort
    external_port: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class NatPmpAnswer:
    """A response of a gateway."""

    opcode: int
    result: int
    epoch: int
    """Seconds since the gateway began to remember mappings (section 3.6)."""
    address: str | None
    """Of a successful response to `ADDRESS`."""
    mapping: NatPmpMapping | None
    """Of a response to a mapping. That to one that was not understood may lack it."""


def encode_address() -> bytes:
    """Asks for the public address (section 3.2)."""
    return bytes((VERSION, ADDRESS))


def encode_map(local: LocalPort, lifetime: int, suggested: int) -> bytes:
    """Asks for a mapping, or its renewal, or with lifetime and port 0 to delete it (sections 3.3
    and 3.4)."""
    return _MAP.pack(VERSION, OPCODES[local.protocol], local.port, suggested, lifetime)


def decode(data: bytes) -> NatPmpAnswer:
    """A response (section 3). Raises PortMapError."""
    if not _HEAD.size <= len(data) <= _MAX_SIZE:
        raise PortMapError(f"a NAT-PMP message of {len(data)} bytes")
    version, opcode, result, epoch = _HEAD.unpack_from(data)
    if version != VERSION:
        raise PortMapError(f"version {version} of NAT-PMP")
    if not opcode & _RESPONSE:
        raise PortMapError("a NAT-PMP request")
    opcode &= ~_RESPONSE
    address = mapping = None
    rest = data[_HEAD.size :]
    if opcode == ADDRESS and len(rest) == 4:
        address = str(ipaddress.IPv4Address(rest)) if result == NatPmpResult.SUCCESS else None
    elif opcode in _PROTOCOLS and len(rest) == _MAPPED.size:
        internal, external, lifetime = _MAPPED.unpack(rest)
        mapping = NatPmpMapping(LocalPort(_PROTOCOLS[opcode], internal), external, lifetime)
    elif result == NatPmpResult.SUCCESS:
        raise PortMapError("a NAT-PMP response that was cut short")
    return NatPmpAnswer(opcode, result, epoch, address, mapping)
