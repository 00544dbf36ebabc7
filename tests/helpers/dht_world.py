"""A network that is only a dictionary, and lookups that run on it in virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from dht_torrent.config import DhtConfig
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.lookup import Lookup
from dht_torrent.dht.paths import Paths
from dht_torrent.dht.table import Table
from dht_torrent.ids import Address, NodeId, distance

CONFIG = DhtConfig(secure_ids=False)  # ids here are invented, not made from the IPs
OWN = NodeId(b"\x55" * 20)


def address(number: int) -> Address:
    return Address(f"11.{number >> 8 & 255}.{number & 255}.1", 6881)


class World:
    """Nodes that know each other as BEP 5 nodes do, and a clock that jumps."""

    def __init__(self, size: int, seed: int, *, dead: float = 0.0, rtt: float = 0.1) -> None:
        rng = random.Random(seed)
        self.rng = rng
        self.rtt = rtt
        self.nodes = [NodeInfo(NodeId(rng.randbytes(20)), address(n)) for n in range(size)]
        self.tables = {node.id: Table(node.id, CONFIG, 0) for node in self.nodes}
        numbers = [(int.from_bytes(node.id, "big"), node) for node in self.nodes]
        for node in self.nodes:
            # Whom it met by chance, and what its own self-lookup would have shown it.
            near = sorted(numbers, key=_distance_to(node.id))[:12]
            for other in [pair[1] for pair in near] + rng.sample(self.nodes, min(size, 80)):
                self.tables[node.id].replied(other.id, other.address, 0)
        self.dead = {node.id for node in self.nodes if rng.random() < dead}
        self.alive = [node for node in self.nodes if node.id not in self.dead]

    def answer(self, node: NodeInfo, target: bytes) -> tuple[float, list[NodeInfo]] | None:
        if node.id in self.dead or node.id not in self.tables:
            return None
        delay = self.rtt * self.rng.uniform(0.5, 1.5)
        return delay, [contact.info for contact in self.tables[node.id].healthy(target, 8)]

    def closest(self, target: bytes) -> list[NodeInfo]:
        return heapq.nsmallest(8, self.alive, key=lambda node: distance(node.id, target))

    def some(self, count: int) -> list[NodeInfo]:
        return self.rng.sample(self.nodes, count)


def _distance_to(target: bytes) -> Callable[[tuple[int, NodeInfo]], int]:
    number = int.from_bytes(target, "big")
    return lambda pair: pair[0] ^ number


Answer = Callable[[NodeInfo, bytes], "tuple[float, list[NodeInfo]] | None"]


def run_lookup(
    answer: Answer,
    target: bytes,
    start: list[NodeInfo],
    config: DhtConfig = CONFIG,
) -> tuple[Lookup, float]:
    """Run a lookup to its end; also the virtual seconds it took."""
    lookup = Lookup(target, OWN, config, 0)
    lookup.add(start)
    return lookup, finish(lookup, answer, config)


def finish(
    lookup: Lookup | Paths, answer: Answer, config: DhtConfig = CONFIG, now: float = 0
) -> float:
    """Run it to its end; the virtual time of that."""
    target = lookup.target
    events: list[tuple[float, int, NodeInfo, bytes, list[NodeInfo] | None]] = []
    asked: set[Address] = set()
    count = 0
    while not lookup.done(now):
        asks = [(contact, target) for contact in lookup.take(now)]
        for contact, _ in asks:
            assert contact.address not in asked, "nobody is asked twice for the target"
            asked.add(contact.address)
        for contact, where in asks + lookup.around(now):
            came = answer(contact, where)
            count += 1
            if came is None or came[0] >= config.hard_timeout:
                heapq.heappush(events, (now + config.hard_timeout, count, contact, where, None))
            else:
                heapq.heappush(events, (now + came[0], count, contact, where, came[1]))
        if lookup.done(now):
            break
        wake = lookup.wake_at(now)
        assert wake > now
        now = min(wake, events[0][0]) if events else wake
        while events and events[0][0] <= now:
            _, _, contact, where, nodes = heapq.heappop(events)
            if where != target:
                lookup.told(contact, nodes)
            elif nodes is None:
                lookup.failed(contact)
            else:
                lookup.answered(contact, nodes, now)
    return now
