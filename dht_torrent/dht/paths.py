"""One lookup along several disjoint paths (S/Kademlia). The rule: no node is queried on two of
them, so a liar spoils the path it is on and no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dht_torrent.config import DhtConfig
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.lookup import POINTS, Lookup, LookupGoal, Step
from dht_torrent.dht.origins import Home, facts
from dht_torrent.ids import NodeId, distance


class _Path:
    """One of the paths, and what it decided last: that holds until a node on it responds or fails,
    or until `until`. With eight paths and one reply, seven need not be asked again."""

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
    paths = paths if len(start) >= 2 * config.k else 1
    part = config if paths == 1 else share(config, paths)
    lookups = [Lookup(target, own_id, part, now, ipv6=ipv6, stores=stores) for _ in range(paths)]
    lookup = lookups[0] if paths == 1 else Paths(lookups, config.k)
    lookup.add(start)
    return lookup


def share(config: DhtConfig, paths: int) -> DhtConfig:
    """What each of so many paths may do. Together they query as many nodes as one lookup may, and
    end when each has half of its closest: the halves differ, since no node is queried twice."""
    return replace(
        config,
        k=max(2, config.k // 2),
        alpha=max(2, config.alpha // 2),
        lookup_queries=max(config.k, config.lookup_queries // paths),
    )


class Paths:
    """As a `Lookup`, along several paths: what all of them find together counts, and the `k`
    closest of that. Made by `search`."""

    def __init__(self, paths: Iterable[Lookup], k: int) -> None:
        self._paths = [_Path(lookup) for lookup in paths]
        self.target = self._paths[0].lookup.target
        self._reach = LookupGoal(k)
        self._asked_on: dict[NodeInfo, _Path] = {}

    @property
    def asked(self) -> int:
        return sum(path.lookup.asked for path in self._paths)

    @property
    def replies(self) -> int:
        return sum(path.lookup.replies for path in self._paths)

    @property
    def hops(self) -> int:
        return max(path.lookup.hops for path in self._paths)

    def add(self, contacts: Iterable[NodeInfo]) -> None:
        """Candidates from our own table: each begins one path."""
        for place, info in enumerate(contacts):
            path = self._paths[place % len(self._paths)]
            path.lookup.add([info])
            path.stir()

    def take(self, now: float) -> list[NodeInfo]:
        """Whom to ask now."""
        taken: list[NodeInfo] = []
        for path in self._paths:
            self._look(path, now)
            if path.is_done or path.drained:
                continue
            while fresh := path.lookup.take(now):
                mine = [info for info in fresh if info not in self._asked_on]
                for info in fresh:
                    if info in self._asked_on:
                        path.lookup.skip(info)
                self._asked_on.update(dict.fromkeys(mine, path))
                taken += mine
            path.stir()
            self._look(path, now)
            path.drained = True
        return taken

    def answered(self, contact: NodeInfo, nodes: Iterable[NodeInfo], now: float) -> None:
        path = self._asked_on.get(contact)
        if path is None:
            return
        was_silent = not self.replies
        path.lookup.answered(contact, nodes, now)
        # From the first reply on, paths that lead to unresponsive nodes delay nothing.
        for stirred in self._paths if was_silent else [path]:
            stirred.stir()

    def failed(self, contact: NodeInfo) -> None:
        path = self._asked_on.get(contact)
        if path is not None:
            path.lookup.failed(contact)
            path.stir()

    def done(self, now: float) -> bool:
        for path in self._paths:
            self._look(path, now)
        return all(path.is_done for path in self._paths)

    def _look(self, path: _Path, now: float) -> None:
        """Bring what `path` says up to date."""
        if now >= path.until:
            path.lookup.is_alone = not self.replies
            path.is_done = path.lookup.done(now)
            path.until = path.lookup.wake_at(now)
            path.drained = False

    def widen(self, radius: int, most: int, points: Sequence[int] = POINTS) -> None:
        """As `Lookup.widen`; the paths share the points."""
        self._reach = self._reach._replace(radius=radius, most=most)
        for number, path in enumerate(self._paths):
            mine = points[number % len(points) :: len(self._paths)] if points else ()
            path.lookup.widen(radius, most, mine)
            path.stir()

    def around(self, now: float) -> list[tuple[NodeInfo, bytes]]:
        """As `Lookup.around`."""
        asks: list[tuple[NodeInfo, bytes]] = []
        for path in self._paths:
            if path.lookup.points:
                asks += path.lookup.around(now)
                path.stir()
        return asks

    def told(self, contact: NodeInfo, nodes: Iterable[NodeInfo] | None) -> None:
        """As `Lookup.told`."""
        path = self._asked_on[contact]
        path.lookup.told(contact, nodes)
        path.stir()

    def end(self) -> None:
        """As `Lookup.end`."""
        for path in self._paths:
            path.lookup.end()

    def wake_at(self, now: float) -> float:
        for path in self._paths:
            self._look(path, now)
        return min((path.until for path in self._paths if not path.is_done), default=now)

    def closest(self) -> list[NodeInfo]:
        """The closest of all paths, nearest first; filled up as `Lookup` does it."""
        closest = [
            info
            for place, info in enumerate(self.all_answered())
            if self._reach.holds(place, distance(info.id, self.target))
        ]
        if len(closest) < self._reach.k:
            taken = {facts(info.address).neighbourhood for info in closest}
            others = self._merged(path.lookup.others_answered() for path in self._paths)
            free = [o for o in others if facts(o.address).neighbourhood not in taken]
            closest += free[: self._reach.k - len(closest)]
            closest.sort(key=lambda info: distance(info.id, self.target))
        return closest

    def steps(self) -> list[Step]:
        """As `Lookup.steps`, of all paths. A node that another path has queried is not twice."""
        steps = [
            step
            for path in self._paths
            for step in path.lookup.steps()
            if self._asked_on.get(step.info) is path
        ]
        return sorted(steps, key=lambda step: step.asked_at)

    def all_answered(self) -> list[NodeInfo]:
        """As `Lookup.all_answered`, of all paths."""
        return self._merged(path.lookup.all_answered() for path in self._paths)

    def _merged(self, answered: Iterable[Iterable[NodeInfo]]) -> list[NodeInfo]:
        """What the paths found, nearest first; one for each /24, as within each path."""
        responders = sorted(
            (info for part in answered for info in part),
            key=lambda info: distance(info.id, self.target),
        )
        places: dict[Home, NodeInfo] = {}
        for info in responders:
            places.setdefault(facts(info.address).neighbourhood, info)
        return list(places.values())
