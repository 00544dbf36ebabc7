"""One search on several ways at once (S/Kademlia). The rule: no node is asked on two of them, so a
liar spoils the way it is on and no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dht_torrent.config import DhtConfig
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.lookup import Lookup
from dht_torrent.dht.sources import Home, neighbourhood
from dht_torrent.ids import NodeId, distance


class Paths:
    """As a `Lookup`, on `count` ways. What all of them find together counts."""

    def __init__(
        self,
        target: bytes,
        own_id: NodeId,
        config: DhtConfig,
        now: float,
        *,
        count: int,
        ipv6: bool = False,
        stores: bool = False,
    ) -> None:
        self.target = target
        self._k = config.k
        self._radius = -1
        # Together they ask as many as one lookup may, and end when each has half of its closest:
        # the halves differ, since nobody is asked twice.
        part = replace(
            config,
            k=max(2, config.k // 2),
            alpha=max(2, config.alpha // 2),
            lookup_queries=max(config.k, config.lookup_queries // count),
        )
        self._ways = [
            Lookup(target, own_id, part, now, ipv6=ipv6, stores=stores) for _ in range(count)
        ]
        self._asked_on: dict[NodeId, Lookup] = {}

    @property
    def asked(self) -> int:
        return len(self._asked_on)

    @property
    def replies(self) -> int:
        return sum(way.replies for way in self._ways)

    @property
    def hops(self) -> int:
        return max(way.hops for way in self._ways)

    def add(self, contacts: Iterable[NodeInfo]) -> None:
        """Candidates from our own table: each begins one way."""
        for place, info in enumerate(contacts):
            self._ways[place % len(self._ways)].add([info])

    def take(self, now: float) -> list[NodeInfo]:
        """Whom to ask now."""
        taken: list[NodeInfo] = []
        for way in self._ways:
            while fresh := way.take(now):
                mine = [info for info in fresh if info.id not in self._asked_on]
                for info in fresh:
                    if info.id in self._asked_on:
                        way.skip(info)
                self._asked_on.update(dict.fromkeys((info.id for info in mine), way))
                taken += mine
        return taken

    def answered(self, contact: NodeInfo, nodes: Iterable[NodeInfo], now: float) -> None:
        way = self._asked_on.get(contact.id)
        if way is not None:
            way.answered(contact, nodes, now)

    def failed(self, contact: NodeInfo) -> None:
        way = self._asked_on.get(contact.id)
        if way is not None:
            way.failed(contact)

    def done(self, now: float) -> bool:
        return all(self._is_done(way, now) for way in self._ways)

    def _is_done(self, way: Lookup, now: float) -> bool:
        way.is_alone = not self.replies  # a way that leads to the silent holds nobody up
        return way.done(now)

    def widen(self, radius: int) -> None:
        """As `Lookup.widen`."""
        self._radius = radius
        for way in self._ways:
            way.widen(radius)

    def wake_at(self, now: float) -> float:
        waking = [way.wake_at(now) for way in self._ways if not self._is_done(way, now)]
        return min(waking, default=now)

    def closest(self) -> list[NodeInfo]:
        """The closest of all ways, nearest first."""
        everybody = sorted(
            (info for way in self._ways for info in way.all_answered()),
            key=lambda info: distance(info.id, self.target),
        )
        # One for each /24, as within each way.
        places: dict[Home, NodeInfo] = {}
        for info in everybody:
            places.setdefault(neighbourhood(info.address), info)
        found = list(places.values())
        return [
            info
            for place, info in enumerate(found)
            if place < self._k or distance(info.id, self.target) <= self._radius
        ]
