"""Counting a swarm without naming any peer (BEP 33). The rule: a filter holds IPs, not ports, so
that the filters of many nodes, united, count each host once.
"""

from __future__ import annotations

import hashlib
import math
import socket
from collections.abc import Iterable

SIZE = 256
"""Bytes."""
BITS = 8 * SIZE


class Bloom:
    """A set of hosts that only says how many it has."""

    def __init__(self, raw: bytes = bytes(SIZE)) -> None:
        """Raises ValueError unless `raw` is 256 bytes."""
        if len(raw) != SIZE:
            raise ValueError("a filter has 256 bytes")
        self._bits = int.from_bytes(raw, "little")

    def __bytes__(self) -> bytes:
        return self._bits.to_bytes(SIZE, "little")

    def add(self, host: str) -> None:
        """An IP literal."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        digest = hashlib.sha1(socket.inet_pton(family, host)).digest()
        # BEP 33: two indices, little-endian, and bits counted from the least significant. As one
        # little-endian number the whole filter has just these bits.
        for at in (0, 2):
            self._bits |= 1 << (int.from_bytes(digest[at : at + 2], "little") % BITS)

    def unite(self, other: Bloom) -> None:
        self._bits |= other._bits

    @property
    def zeros(self) -> int:
        """Bits that are not set."""
        return BITS - self._bits.bit_count()

    def estimate(self) -> float:
        """About how many hosts are in it. Beyond 6000 it is too full to tell."""
        zeros = min(BITS - 1, self.zeros)
        if self.zeros == BITS:
            return 0.0
        return math.log(max(1, zeros) / BITS) / (2 * math.log(1 - 1 / BITS))


def of(hosts: Iterable[str]) -> Bloom:
    """The filter of these IPs."""
    bloom = Bloom()
    for host in hosts:
        bloom.add(host)
    return bloom
