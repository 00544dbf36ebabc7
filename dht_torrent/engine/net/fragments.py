"""Datagrams that must arrive in one piece or not at all: how uTP finds out what a path carries
(BEP 29). The rule: all others go as the system is set to send them.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_IP_MTU_DISCOVER: Final = 10  # linux/in.h
_IPV6_MTU_DISCOVER: Final = 23  # linux/in6.h
_PROBE: Final = 3  # not fragmented, whatever the system believes of the path


@contextmanager
def unfragmented(sock: socket.socket) -> Iterator[None]:
    """What is sent meanwhile is not fragmented on its way. Only Linux is asked for it: elsewhere a
    probe passes in fragments. Raises OSError."""
    if sys.platform != "linux":
        yield
        return
    is_ipv6 = sock.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if is_ipv6 else socket.IPPROTO_IP
    option = _IPV6_MTU_DISCOVER if is_ipv6 else _IP_MTU_DISCOVER
    before = sock.getsockopt(level, option)
    sock.setsockopt(level, option, _PROBE)
    try:
        yield
    finally:
        sock.setsockopt(level, option, before)
