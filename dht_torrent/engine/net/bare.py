"""What all sockets of this machine have in common."""

from __future__ import annotations

import socket
from contextlib import suppress

import trio

from dht_torrent.ids import Address


def new_socket(address: Address, kind: socket.SocketKind) -> socket.socket:
    """A non-blocking socket of the address's family."""
    sock = socket.socket(socket.AF_INET6 if address.is_ipv6 else socket.AF_INET, kind)
    try:
        if address.is_ipv6:
            # One family per socket: no ::ffff:1.2.3.4 ever shows up as a source.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def address_of(name: tuple[object, ...]) -> Address:
    """A socket name without IPv6's flow label and scope."""
    host, port = name[:2]
    assert isinstance(host, str)
    assert isinstance(port, int)
    return Address(host.partition("%")[0], port)


def try_to_set(sock: socket.socket, level: int, option: int, value: int = 1) -> None:
    """What is better so, and does without: no option is a reason to have no connection."""
    with suppress(OSError):
        sock.setsockopt(level, option, value)


def raise_if_closed(sock: socket.socket, error: OSError) -> None:
    """Raises `trio.ClosedResourceError` if that is why a call failed with `error`."""
    if sock.fileno() < 0:
        raise trio.ClosedResourceError("closed here") from error


def close_socket(sock: socket.socket) -> None:
    """Idempotent. Wakes the tasks that wait for it with `trio.ClosedResourceError`."""
    if sock.fileno() >= 0:
        trio.lowlevel.notify_closing(sock)
        sock.close()


def reason_of(error: OSError) -> str:
    """What the system says of it, without number and path."""
    return error.strerror or str(error)
