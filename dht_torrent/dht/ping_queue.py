"""Addresses to verify by a ping before they may enter the table."""

from __future__ import annotations

import heapq

from dht_torrent.config import DhtConfig
from dht_torrent.dht.origins import Home, home
from dht_torrent.ids import Address


class PingQueue:
    """Addresses to ping some day, because they queried us or a peer named them.

    No node gets into the table but by answering a query of ours. Public addresses wait
    `verify_delay`, so that a NAT mapping their query opened has lapsed; local ones do not.
    """

    def __init__(self, config: DhtConfig) -> None:
        self._config = config
        self._places: set[Home] = set()  # of those who wait; never iterated
        self._waiting: list[tuple[float, Address]] = []  # a heap

    def add(self, address: Address, now: float, *, at_once: bool = False) -> None:
        """Remember `address`. When the queue is full, this newest one is forgotten."""
        place = home(address)
        if place in self._places or len(self._places) >= self._config.verify_queue:
            return
        wait = 0.0 if at_once or address.is_local else self._config.verify_delay
        self._places.add(place)
        heapq.heappush(self._waiting, (now + wait, address))

    def take(self, now: float, count: int) -> list[Address]:
        """At most `count` addresses whose time has come, the earliest first."""
        waiting = self._waiting
        taken: list[Address] = []
        while waiting and waiting[0][0] <= now and len(taken) < count:
            _, address = heapq.heappop(waiting)
            self._places.remove(home(address))
            taken.append(address)
        return taken

    def __len__(self) -> int:
        return len(self._places)
