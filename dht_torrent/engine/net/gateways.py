"""The default gateways of this machine, as Linux tells of them; other systems do not by a file."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Final, NamedTuple

_ROUTES: Final = "/proc/thread-self/net/route"
_MAX_BYTES: Final = 1 << 20
_UP: Final = 0x1
_GATEWAY: Final = 0x2


class Gateway(NamedTuple):
    """Where what is not for this network goes."""

    host: str
    """Of IPv4."""
    interface: str
    """The name of the interface behind which it is."""


def gateways(path: str = _ROUTES) -> list[Gateway]:
    """Those of IPv4, the one that is used first. Empty where there is none, or the system does not
    tell."""
    try:
        with Path(path).open("rb") as file:
            lines = file.read(_MAX_BYTES).decode("ascii", "replace").splitlines()
    except OSError:
        return []
    found: list[tuple[int, Gateway]] = []
    for line in lines[1:]:
        try:
            interface, target, gateway, flags, _, _, metric, mask, *_ = line.split()
            is_default = int(target, 16) == int(mask, 16) == 0
            wanted = _UP | _GATEWAY
            if is_default and int(flags, 16) & wanted == wanted:
                # As the machine has it in memory: /proc/net/route is in the host's byte order.
                packed = int(gateway, 16).to_bytes(4, sys.byteorder)
                found.append((int(metric), Gateway(socket.inet_ntoa(packed), interface)))
        except (ValueError, OverflowError):
            continue
    found.sort(key=lambda one: one[0])  # stable: the system's order among equals
    return [gateway for _, gateway in found]
