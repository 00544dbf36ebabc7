"""What a crawl has seen before, in a fixed number of bytes. The rule: what these forget or confuse
costs a torrent that is found later or not at all, and never a query that should not be sent.

- `SeenHashes` is a Bloom filter in two generations (Bloom 1970): 16 MiB remember the last four to
  eight million infohashes, and take one in a thousand that is new for one of them.
- `RestingNodes` knows until when each node is to be left alone, in twelve bytes a node: 12 MiB for
  a million. A place that is taken is never given to another node before its time: there is no room
  for a node then, and who has no room is not asked.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from typing import Final

HASHES: Final = 8
"""Bits of a filter that one infohash sets."""
WAYS: Final = 16
"""Places of which a node may take any: with four in ten taken, all of these are one time in two
thousand."""


class SeenHashes:
    """A set of infohashes that forgets the oldest. `key` keeps strangers, who choose infohashes,
    from choosing the bits."""

    def __init__(self, size: int, key: bytes) -> None:
        """`size`: bytes in all."""
        self._bits = max(1024, size * 8 // 2)
        self.capacity = self._bits // 16
        """Infohashes of one generation: as many set two bits in five, and 0.4 ** 8 is 0.0007."""
        self._key = key
        self._new = bytearray(self._bits // 8 + 1)
        self._old: bytearray | None = None
        self._count = 0

    def __contains__(self, infohash: bytes) -> bool:
        places = self._places(infohash)
        return any(
            all(filter_[place >> 3] & 1 << (place & 7) for place in places)
            for filter_ in (self._new, self._old)
            if filter_ is not None
        )

    def add(self, infohash: bytes) -> None:
        if self._count >= self.capacity:
            self._old, self._new = self._new, bytearray(len(self._new))
            self._count = 0
        for place in self._places(infohash):
            self._new[place >> 3] |= 1 << (place & 7)
        self._count += 1

    def _places(self, infohash: bytes) -> list[int]:
        digest = hashlib.blake2b(infohash, key=self._key, digest_size=16).digest()
        # Two hashes do as well as eight (Kirsch and Mitzenmacher 2006).
        first, step = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1
        return [(first + turn * step) % self._bits for turn in range(HASHES)]


class RestingNodes:
    """Until when each node rests. Times are those of one clock, whatever its zero."""

    def __init__(self, size: int, key: bytes, now: float) -> None:
        """`size`: bytes in all, twelve for each node."""
        self._rows = max(1, size // (12 * WAYS))
        self._began = now
        self._key = key
        self._names = array("Q", bytes(8 * self._rows * WAYS))
        self._until = array("I", bytes(4 * self._rows * WAYS))

    def is_resting(self, node: bytes, now: float) -> bool:
        name, row = self._place(node)
        second = now - self._began
        return any(
            self._names[place] == name and self._until[place] > second
            for place in range(row, row + WAYS)
        )

    def rest(self, node: bytes, until: float, now: float) -> bool:
        """Let it rest until then, which may be sooner than was said before. False: there is no
        room, and it must not be asked."""
        name, row = self._place(node)
        second = now - self._began
        free: int | None = None
        for place in range(row, row + WAYS):
            if self._names[place] == name and self._until[place]:
                free = place
                break
            if free is None and self._until[place] <= second:
                free = place
        if free is None:
            return False
        self._names[free] = name
        self._until[free] = min(max(1, math.ceil(until - self._began)), 2**32 - 1)
        return True

    def _place(self, node: bytes) -> tuple[int, int]:
        digest = hashlib.blake2b(node, key=self._key, digest_size=16).digest()
        row = int.from_bytes(digest[8:], "big") % self._rows
        return int.from_bytes(digest[:8], "big"), row * WAYS
