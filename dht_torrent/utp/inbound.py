"""What one end of a connection receives: bytes in order that wait for the reader, and packets
behind a gap. Each datagram is kept as it came: its payload is copied once, to where it is read to.
"""

from __future__ import annotations

from collections import deque

from dht_torrent.config import UtpConfig
from dht_torrent.utp.packets import HEADER_SIZE, MASK_16

OVERHEAD = 128
"""Bytes that a datagram costs beside its own."""
SHARE = 16_384
"""Bytes in order that each connection may hold however much the others do."""


class ReceiveBudget:
    """Bytes that all connections of a socket hold for their readers.

    What is behind a gap may take half of it, so that what nobody can read yet never keeps out what
    somebody could.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class Inbound:
    """One direction. `last` is the number of the packet before the first of data."""

    def __init__(self, config: UtpConfig, budget: ReceiveBudget, last: int) -> None:
        self._limit = config.receive_buffer
        self._span = config.reorder_span
        self._budget = budget
        self.last = last & MASK_16
        """All up to this one have come; as it is on the wire."""
        self.mask = 0
        """Bit n: packet `last + 2 + n` has come."""
        self.readable = 0
        """Bytes in order."""
        self.ended = False
        """The other end sends no more, and all it sent has come."""
        self.discards = False
        """Nobody reads any more: what comes is acknowledged and dropped."""
        self._kept = 0  # with what each costs
        self._ready: deque[tuple[bytes, int]] = deque()  # datagram, where its bytes begin
        self._behind: dict[int, tuple[bytes, int]] = {}  # by number, behind a gap
        self._end: int | None = None  # number of the FIN

    @property
    def window(self) -> int:
        """Bytes there is room for."""
        budget = self._budget
        free = max(budget.limit - budget.used, SHARE - self._in_order)
        return max(0, min(self._limit - self._kept, free))

    @property
    def _in_order(self) -> int:
        return self.readable + (OVERHEAD + HEADER_SIZE) * len(self._ready)

    @property
    def has_gap(self) -> bool:
        return bool(self.mask)

    def _keep(self, size: int) -> None:
        self._kept += size
        self._budget.used += size

    def data(self, number: int, datagram: bytes, begin: int) -> bool:
        """A packet of data, its number as on the wire. False if it came out of order, came before,
        or there is no room for it."""
        ahead = (number - self.last - 1) & MASK_16
        cost = len(datagram) + OVERHEAD
        if not ahead:
            if self.ended:
                return False
            if not self.discards:
                # Packets behind a gap do not count: they must never keep out what closes it.
                budget, ready = self._budget, self._ready
                held = self.readable + (OVERHEAD + HEADER_SIZE) * len(ready)
                if held + cost > self._limit or (budget.used >= budget.limit and held >= SHARE):
                    return False
                if len(datagram) > begin:
                    self._kept += cost
                    budget.used += cost
                    ready.append((datagram, begin))
                    self.readable += len(datagram) - begin
            self.last = number
            if self.mask or self._end is not None:
                self._advance()
            return True
        if ahead > self._span or self.mask >> ahead - 1 & 1 or self._is_beyond_end(number):
            return False
        if not self.discards:
            budget = self._budget
            if cost > self._limit - self._kept or budget.used >= budget.limit // 2:
                return False
            self._keep(cost)
            self._behind[number] = (datagram, begin)
        self.mask |= 1 << ahead - 1
        return False

    def end(self, number: int) -> bool:
        """A FIN. Whether it is the next packet."""
        ahead = (number - self.last - 1) & MASK_16
        if self.ended or ahead > self._span or self._end not in (None, number):
            return False
        if self.mask >> ahead:  # there is data after it
            return False
        self._end = number
        if ahead == 0:
            self.last = number
            self.ended = True
        return ahead == 0

    def _is_beyond_end(self, number: int) -> bool:
        return self._end is not None and (number - self._end) & MASK_16 < 0x8000

    def _advance(self) -> None:
        """Packets behind the gap that is closed are in order now."""
        while self.mask:
            present = self.mask & 1
            self.mask >>= 1
            if not present:
                break
            self.last = self.last + 1 & MASK_16
            kept = self._behind.pop(self.last, None)
            if kept is not None:
                datagram, begin = kept
                if len(datagram) > begin:
                    self._ready.append(kept)
                    self.readable += len(datagram) - begin
                else:
                    self._keep(-len(datagram) - OVERHEAD)
        if self._end == self.last + 1 & MASK_16:
            self.last = self._end
            self.ended = True

    def read_into(self, buffer: memoryview) -> int:
        """Bytes copied, 0 if there are none."""
        ready, at, size = self._ready, 0, len(buffer)
        freed = 0
        while ready and at < size:
            datagram, begin = ready[0]
            end = at + len(datagram) - begin
            if end <= size:
                buffer[at:end] = memoryview(datagram)[begin:] if begin else datagram
                ready.popleft()
                freed += len(datagram) + OVERHEAD
                at = end
            else:
                part = size - at
                buffer[at:] = memoryview(datagram)[begin : begin + part]
                ready[0] = (datagram, begin + part)
                at = size
        self.readable -= at
        self._keep(-freed)
        return at

    def discard(self) -> None:
        """Nobody will read. Gives back all memory; what comes is acknowledged and dropped."""
        self.discards = True
        self._ready.clear()
        self._behind.clear()
        self.readable = 0
        self._keep(-self._kept)
