"""What is mapped, and to where."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from dht_torrent.ids import Address


class IpProtocol(IntEnum):
    """By IANA's numbers."""

    TCP = 6
    UDP = 17


class MappingBy(StrEnum):
    """What a gateway was asked with."""

    PCP = "PCP"
    NAT_PMP = "NAT-PMP"
    UPNP = "UPnP"


class LocalPort(NamedTuple):
    """A port of ours that the world is to reach."""

    protocol: IpProtocol
    port: int

    def __str__(self) -> str:
        return f"{self.protocol.name} {self.port}"


@dataclass(frozen=True, slots=True)
class PortMap:
    """A port of ours, and where the world reaches it."""

    local: LocalPort
    external: Address
    expires: float
    """On the caller's clock."""
    by: MappingBy


def is_public(host: str) -> bool:
    """Whether the whole internet can reach this IPv4 address: a gateway with another one is behind
    a gateway itself."""
    ip = ipaddress.ip_address(host)
    return ip.is_global and not ip.is_multicast
