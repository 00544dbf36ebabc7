"""The network interfaces of this machine, which the standard library does not tell of: by the C
library's getifaddrs, as Linux, macOS and the BSDs have it.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

_UP: Final = 0x1
_LOOPBACK: Final = 0x8
_RUNNING: Final = 0x40
_MULTICAST: Final = 0x1000 if sys.platform == "linux" else 0x8000
_LEAST_IPV6: Final = 64
"""Bits of the network of an IPv6 address: DHCPv6 names the address alone (RFC 5942)."""


_Network = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Interface:
    """One family of an interface."""

    name: str
    index: int
    """The system's number of it."""
    ipv6: bool
    networks: tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]
    """Our addresses there, each with the network that it is in, in the system's order."""

    def reaches(self, host: str) -> bool:
        """Whether this IP is in the network right behind the interface. A link-local one of IPv6 is
        not: who uses it must name the interface, which an `Address` does not."""
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return False
        if ip.version == 6 and ip.is_link_local:
            return False
        return any(ip in network.network for network in self.networks)

    def has(self, host: str) -> bool:
        """Whether this IP is ours, here."""
        return any(str(network.ip) == host for network in self.networks)


class _Ifaddrs(ctypes.Structure):
    pass


_Ifaddrs._fields_ = [
    ("next", ctypes.POINTER(_Ifaddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
    ("other", ctypes.c_void_p),
    ("data", ctypes.c_void_p),
]


def interfaces() -> list[Interface]:
    """Those that are up and can multicast, but not loopback; each family by itself, in the system's
    order. Empty where the system does not tell."""
    return _collected(lambda flags: bool(flags & _MULTICAST) and not flags & _LOOPBACK)


def all_interfaces() -> list[Interface]:
    """Those that are up, also loopback and tunnels; otherwise as `interfaces`."""
    return _collected(lambda flags: True)


def outward_addresses() -> frozenset[str]:
    """Our IPs that lead to other machines, on interfaces that are up and connected: not those of
    loopback, nor link-local ones, which every interface has by itself."""
    try:
        return frozenset(
            str(network.ip)
            for _, flags, network in _addresses()
            if flags & _UP and flags & _RUNNING and not flags & _LOOPBACK
            if not network.ip.is_link_local and not network.ip.is_loopback
        )
    except OSError:
        return frozenset()


def _collected(wanted: Callable[[int], bool]) -> list[Interface]:
    found: dict[tuple[str, bool], list[_Network]] = {}
    try:
        for name, flags, network in _addresses():
            if flags & _UP and wanted(flags):
                found.setdefault((name, network.version == 6), []).append(network)
        return [
            Interface(name, socket.if_nametoindex(name), ipv6, tuple(networks))
            for (name, ipv6), networks in found.items()
        ]
    except OSError:  # a sandbox, or one that has just gone: there will be another look
        return []


def _addresses() -> Iterator[tuple[str, int, _Network]]:
    """Names of interfaces, their flags, and an address that they have."""
    try:
        libc: Any = ctypes.CDLL(None, use_errno=True)
        get, free = libc.getifaddrs, libc.freeifaddrs
    except AttributeError:
        return
    free.argtypes = [ctypes.c_void_p]
    first = ctypes.POINTER(_Ifaddrs)()
    if get(ctypes.byref(first)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        at = first
        while bool(at):  # NULL is false
            entry = at.contents
            network = _network(entry.address, entry.netmask)
            if network is not None:
                yield os.fsdecode(entry.name), entry.flags, network
            at = entry.next
    finally:
        free(first)


def _network(address: int | None, netmask: int | None) -> _Network | None:
    ours = _ip(address)
    mask = _ip(netmask, family=None if ours is None else ours[0])
    if ours is None or mask is None:
        return None
    bits = int.from_bytes(mask[1], "big").bit_count()
    if ours[0] == socket.AF_INET6:
        return ipaddress.IPv6Interface((ours[1], min(bits, _LEAST_IPV6)))
    return ipaddress.IPv4Interface((ours[1], bits))


def _ip(sockaddr: int | None, family: int | None = None) -> tuple[int, bytes] | None:
    """The family and the bytes of the IP. BSDs leave the family of a netmask out."""
    if not sockaddr:
        return None
    if family is None:
        head = ctypes.string_at(sockaddr, 2)
        family = int.from_bytes(head, sys.byteorder) if sys.platform == "linux" else head[1]
    if family == socket.AF_INET:
        return family, ctypes.string_at(sockaddr + 4, 4)
    if family == socket.AF_INET6:
        return family, ctypes.string_at(sockaddr + 8, 16)
    return None
