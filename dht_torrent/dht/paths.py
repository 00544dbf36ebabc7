"""One search on several ways at once (S/Kademlia). The rule: no node is asked on two of them, so a
liar spoils the way it is on and no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dht_torrent.config import DhtConfig
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.lookup import POINTS, Lookup, Reach
from dht_torrent.dht.origins import Home, neighbourhood
from dht_torrent.ids import NodeId, distance


class _Way:
    """One of the ways, and what it said last: that holds until somebody on it answers or fails, or
    until `until`. With eight ways and one reply, seven need not be asked again."""

    __slots__ = ("drained", "is_done", "lookup", "until")

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.stir()

    def stir(self) -> None:
        """Something happened on it."""
        self.is_done = False
        self.drained = False  # whether it has named all whom it would ask now
        self.until = -math.inf


def search(
    target: bytes,
    own_id: NodeId,
    config: DhtConfig,
    now: float,
    start: Sequence[NodeInfo],
    *,
    paths: int = 1,
    ipv6: bool = False,
    stores: bool = False,
) -> Lookup | Paths:
    """A lookup from the contacts of our table in `start`; on so many `paths`, where there are
    enough of them."""
    ways = paths if len(start) >= 2 * config.k else 1
    part = config if ways == 1 else share(config, ways)
    lookups = [Lookup(target, own_id, part, now, ipv6=ipv6, stores=stores) for _ in range(ways)]
    lookup = lookups[0] if ways == 1 else Paths(lookups, config.k)
    lookup.add(start)
    return lookup


def share(config: DhtConfig, ways: int) -> DhtConfig:
    """What each of so many ways may do. Together they ask as many as one lookup may, and end when
    each has half of its closest: the halves differ, since nobody is asked twice."""
    return replace(
        config,
        k=max(2, config.k // 2),
        alpha=max(2, config.alpha // 2),
        lookup_queries=max(config.k, config.lookup_queries // ways),
    )


class Paths:
    """As a `Lookup`, on several ways: what all of them find together counts, and the `k` closest
    of that. Made by `search`."""

    def __init__(self, ways: Iterable[Lookup], k: int) -> None:
        self._ways = [_Way(lookup) for lookup in ways]
        self.target = self._ways[0].lookup.target
        self._reach = Reach(k)
        self._asked_on: dict[NodeInfo, _Way] = {}

    @property
    def asked(self) -> int:
        return sum(way.lookup.asked for way in self._ways)

    @property
    def replies(self) -> int:
        return sum(way.lookup.replies for way in self._ways)

    @property
    def hops(self) -> int:
        return max(way.lookup.hops for way in self._ways)

    def add(self, contacts: Iterable[NodeInfo]) -> None:
        """Candidates from our own table: each begins one way."""
        for place, info in enumerate(contacts):
            way = self._ways[place % len(self._ways)]
            way.lookup.add([info])
            way.stir()

    def take(self, now: float) -> list[NodeInfo]:
        """Whom to ask now."""
        taken: list[NodeInfo] = []
        for way in self._ways:
            self._look(way, now)
            if way.is_done or way.drained:
                continue
            while fresh := way.lookup.take(now):
                mine = [info for info in fresh if info not in self._asked_on]
                for info in fresh:
                    if info in self._asked_on:
                        way.lookup.skip(info)
                self._asked_on.update(dict.fromkeys(mine, way))
                taken += mine
            way.stir()
            self._look(way, now)
            way.drained = True
        return taken

    def answered(self, contact: NodeInfo, nodes: Iterable[NodeInfo], now: float) -> None:
        way = self._asked_on.get(contact)
        if way is None:
            return
        was_silent = not self.replies
        way.lookup.answered(contact, nodes, now)
        # From the first reply on, ways that lead to the silent hold nobody up.
        for stirred in self._ways if was_silent else [way]:
            stirred.stir()

    def failed(self, contact: NodeInfo) -> None:
        way = self._asked_on.get(contact)
        if way is not None:
            way.lookup.failed(contact)
            way.stir()

    def done(self, now: float) -> bool:
        for way in self._ways:
            self._look(way, now)
        return all(way.is_done for way in self._ways)

    def _look(self, way: _Way, now: float) -> None:
        """See to it that what `way` says is true `now`."""
        if now >= way.until:
            way.lookup.is_alone = not self.replies
            way.is_done = way.lookup.done(now)
            way.until = way.lookup.wake_at(now)
            way.drained = False

    def widen(self, radius: int, most: int, points: Sequence[int] = POINTS) -> None:
        """As `Lookup.widen`; the ways share the points."""
        self._reach = self._reach._replace(radius=radius, most=most)
        for number, way in enumerate(self._ways):
            mine = points[number % len(points) :: len(self._ways)] if points else ()
            way.lookup.widen(radius, most, mine)
            way.stir()

    def around(self, now: float) -> list[tuple[NodeInfo, bytes]]:
        """As `Lookup.around`."""
        asks: list[tuple[NodeInfo, bytes]] = []
        for way in self._ways:
            if way.lookup.points:
                asks += way.lookup.around(now)
                way.stir()
        return asks

    def told(self, contact: NodeInfo, nodes: Iterable[NodeInfo] | None) -> None:
        """As `Lookup.told`."""
        way = self._asked_on[contact]
        way.lookup.told(contact, nodes)
        way.stir()

    def wake_at(self, now: float) -> float:
        for way in self._ways:
            self._look(way, now)
        return min((way.until for way in self._ways if not way.is_done), default=now)

    def closest(self) -> list[NodeInfo]:
        """The closest of all ways, nearest first."""
        return [
            info
            for place, info in enumerate(self.all_answered())
            if self._reach.holds(place, distance(info.id, self.target))
        ]

    def all_answered(self) -> list[NodeInfo]:
        """As `Lookup.all_answered`, of all ways."""
        everybody = sorted(
            (info for way in self._ways for info in way.lookup.all_answered()),
            key=lambda info: distance(info.id, self.target),
        )
        # One for each /24, as within each way.
        places: dict[Home, NodeInfo] = {}
        for info in everybody:
            places.setdefault(neighbourhood(info.address), info)
        return list(places.values())
