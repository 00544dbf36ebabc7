"""Which interface a node keeps to, and how a socket is tied to it.

On Linux and macOS a socket is tied to the interface itself, whatever the routes say. Where the
system refuses that, sockets are bound to its addresses; which way their packets then go is decided
by the routes, so the user is told.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.ids import Address

WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - values to compare with
_IP_BOUND_IF: Final = 25  # macOS: netinet/in.h
_IPV6_BOUND_IF: Final = 125  # macOS: netinet6/in6.h
REFUSED: Final = frozenset({errno.EPERM, errno.EACCES, errno.ENOPROTOOPT, errno.EOPNOTSUPP})
"""How a system says that it does not tie sockets to interfaces: Linux before 5.7 without
CAP_NET_RAW, or a sandbox."""


@dataclass(frozen=True, slots=True)
class Binding:
    """An interface that is here."""

    name: str
    index: int
    """The system's number of it. An interface that was made anew has another one."""
    hosts: tuple[str, ...]
    """Its addresses, or the one that was asked for. Those used before come first."""

    def source(self, *, ipv6: bool) -> str | None:
        """The address of this family that sockets are bound to, where one must be chosen."""
        for host in self.hosts:
            ip = ipaddress.ip_address(host)
            if (ip.version == 6) is ipv6 and not ip.is_link_local:
                return host
        return None


def find(wanted: str, here: Sequence[Interface], before: Binding | None = None) -> Binding | None:
    """The interface of this name, or the one that has this address, if it is up and has one."""
    by_address = is_ip(wanted)
    name, index, hosts = "", 0, []
    for one in here:
        base = one.name.partition(":")[0]  # Linux calls further addresses eth0:1 and so on
        if (one.has(wanted) and not name) if by_address else base == wanted:
            name, index = base, one.index
            hosts += [wanted] if by_address else [str(network.ip) for network in one.networks]
    if not hosts:
        return None
    known = before.hosts if before is not None else ()
    hosts.sort(key=lambda host: known.index(host) if host in known else len(known))
    return Binding(name, index, tuple(dict.fromkeys(hosts)))


def is_ip(wanted: str) -> bool:
    """Whether an address was asked for, rather than a name."""
    try:
        ipaddress.ip_address(wanted)
    except ValueError:
        return False
    return True


def tie(sock: socket.socket, binding: Binding) -> None:
    """Let this socket send and receive through the interface alone. Raises OSError."""
    if sys.platform == "linux":
        name = os.fsencode(binding.name)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
    elif sys.platform == "darwin":
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_BOUND_IF, binding.index)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BOUND_IF, binding.index)
    else:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def bind_address(
    binding: Binding, where: Address | None, *, ipv6: bool, to_address: bool
) -> Address | None:
    """Where a socket for `where` (None: anywhere) is bound; with `to_address`, at an address of the
    interface. Raises OSError if the interface has no such address."""
    if where is not None and where.host not in WILDCARDS:
        if where.host not in binding.hosts:
            what = f"{where.host} is not an address of {binding.name}"
            raise OSError(errno.EADDRNOTAVAIL, what)
        return where
    if not to_address:
        return where
    source = binding.source(ipv6=ipv6)
    if source is None:
        family = "IPv6" if ipv6 else "IPv4"
        raise OSError(errno.EADDRNOTAVAIL, f"{binding.name} has no {family} address to use")
    return Address(source, where.port if where is not None else 0)
