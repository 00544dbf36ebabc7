"""How large a packet may be (path MTU discovery): between a size that passes and one that does not.

Only probes ask the network not to fragment; what they carry is sent again like anything else.
"""

from __future__ import annotations

from typing import Final

CLOSE: Final = 16
"""Bytes between the two sizes that are not worth another probe (libtorrent)."""
TRIES: Final = 2
"""Probes of one size that must be lost before it is too large: the line loses packets, too."""


class PacketSize:
    """Datagrams of `size` bytes are sent; `probe()` is what to try, or None."""

    __slots__ = ("_fails", "_least", "_most", "_start", "_too_large", "size")

    def __init__(self, least: int, start: int, most: int) -> None:
        self._least = least
        self._start = max(least, min(start, most))
        self._most = most
        self._too_large = most + 1
        self._fails = 0
        self.size = self._start

    def probe(self) -> int | None:
        """The largest at first, as it mostly passes; then half-way."""
        if self._too_large - 1 - self.size <= (CLOSE if self._too_large <= self._most else 0):
            return None
        if self._too_large > self._most:
            return self._most
        return (self.size + self._too_large) // 2

    def passed(self, size: int) -> bool:
        """A datagram so large arrived. Whether that is news."""
        if size <= self.size:
            return False
        self.size = size
        self._fails = 0
        if size >= self._too_large:  # the path has changed
            self._too_large = self._most + 1
        return True

    def failed(self, size: int, *, certainly: bool = False) -> None:
        """A probe so large did not arrive; `certainly`: the system itself said it is too large."""
        self._fails += 1
        if size < self._too_large and (certainly or self._fails >= TRIES):
            self._too_large = size
            self._fails = 0
            self.size = max(self._least, min(self.size, size - 1))

    def nothing_passes(self) -> None:
        """Timeouts one after the other: perhaps the path is another. Begin small, and search."""
        self.size = self._least
        self._too_large = self._most + 1
        self._fails = 0
