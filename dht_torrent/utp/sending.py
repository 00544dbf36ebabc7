"""What is to be sent: bytes that wait, and packets that were made of them."""

from __future__ import annotations

from collections import deque
from typing import Final

FLYING: Final = 0
ARRIVED: Final = 1
LOST: Final = 2


class Sent:
    """A packet that was sent."""

    __slots__ = (
        "arrived",
        "kind",
        "number",
        "payload",
        "sends",
        "sent_at",
        "size",
        "state",
        "turn",
    )

    def __init__(
        self,
        number: int,
        kind: int,
        payload: memoryview | bytes,
        size: int,
        turn: int,
        now: float,
        arrived: int,
    ) -> None:
        """One that is sent for the first time, now."""
        self.number = number
        self.kind = kind
        self.payload = payload
        self.size = size
        self.sends = 1
        self.sent_at = now
        self.state = FLYING
        self.turn = turn
        """Number of its last transmission."""
        self.arrived = arrived
        """Bytes that had arrived by then."""


class SendQueue:
    """Bytes in the order they were written."""

    __slots__ = ("_offset", "_parts", "size")

    def __init__(self) -> None:
        self.size = 0
        self._parts: deque[memoryview] = deque()
        self._offset = 0  # in the first of them

    def add(self, data: bytes | bytearray | memoryview, size: int) -> None:
        """So many of them. `bytes` are kept as they are, anything else is copied."""
        whole = data if isinstance(data, bytes) else bytes(memoryview(data)[:size])
        self._parts.append(memoryview(whole)[:size])
        self.size += size

    def take_many(self, size: int, count: int) -> list[memoryview | bytes]:
        """So many times `take(size)`."""
        taken: list[memoryview | bytes] = []
        while len(taken) < count:
            head, begin = self._parts[0], self._offset
            whole = min((len(head) - begin - 1) // size, count - len(taken))
            end = begin + whole * size
            taken += [head[at : at + size] for at in range(begin, end, size)]
            self._offset = end
            self.size -= whole * size
            if len(taken) < count:
                taken.append(self.take(size))
        return taken

    def take(self, size: int) -> memoryview | bytes:
        """The next; copied only where they come from two writes. There must be so many."""
        self.size -= size
        parts, begin = self._parts, self._offset
        head = parts[0]
        end = begin + size
        if end < len(head):
            self._offset = end
            return head[begin:end]
        taken = []
        while end >= len(head):
            taken.append(head[begin:])
            end -= len(head)
            begin = 0
            parts.popleft()
            if not end:
                break
            head = parts[0]
        if end:
            taken.append(head[:end])
        self._offset = end
        return taken[0] if len(taken) == 1 else b"".join(taken)
