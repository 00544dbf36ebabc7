"""Waiting for a turn at what all torrents of a node share."""

from __future__ import annotations

import trio

from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.torrent.turns import Turns


class Queue:
    """Those who wait. Only the first one has a timer, however many there are."""

    def __init__(self, per_minute: float) -> None:
        self._turns = Turns(per_minute)
        self._bells: dict[tuple[int, int], AutoResetEvent] = {}

    async def wait(self, had: int) -> None:
        """Until it is our turn; `had`: turns we have had in a row."""
        turns = self._turns
        ticket = turns.join(had)
        bell = self._bells[ticket] = AutoResetEvent()
        try:
            while True:
                first = turns.first() == ticket
                if first and turns.due() <= trio.current_time():
                    turns.take(trio.current_time())
                    return
                with trio.CancelScope(deadline=turns.due() if first else float("inf")):
                    await bell.wait()
        finally:
            turns.leave(ticket)
            del self._bells[ticket]
            self._ring()

    def _ring(self) -> None:
        first = self._turns.first()
        if first is not None and first in self._bells:
            self._bells[first].set()
