"""A DHT of full nodes on a network in memory. The rule: they are the very nodes people run; only
sockets, time and dice are the lab's.

Node number n lives on a host of its own with an address in 10.0.0.0/8, where ids need not fit
addresses (BEP 42 exempts private ones).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from typing import Final

import trio

from dht_torrent.config import DhtConfig
from dht_torrent.engine.dht import Dht
from dht_torrent.ids import Address, HostPort, distance
from dht_torrent.lab.net import FakeNetwork
from dht_torrent.trace import Trace, nothing

PORT: Final = 6881
BOOTSTRAPS: Final = 3
"""Living nodes a newcomer is told of."""


class DhtNet:
    """Many nodes, added and killed while it runs."""

    def __init__(
        self,
        rng: random.Random,
        nursery: trio.Nursery,
        net: FakeNetwork,
        *,
        config: DhtConfig | None = None,
        trace: Trace = nothing,
    ) -> None:
        self.net = net
        self.nodes: dict[int, Dht] = {}
        """Those that live, by number."""
        self.config = config or DhtConfig(unlimited=True)
        self.trace = trace
        self._rng = rng
        self._nursery = nursery
        self._scopes: dict[int, trio.CancelScope] = {}
        self._added = 0

    async def add(
        self, *, via: Sequence[int] | None = None, config: DhtConfig | None = None
    ) -> int:
        """Start one more node and return its number; it bootstraps by itself, from `via` or from
        a few others drawn at random."""
        number, self._added = self._added, self._added + 1
        if via is None:
            via = self._rng.sample(list(self.nodes), min(BOOTSTRAPS, len(self.nodes)))
        address = host_address(number)
        dht = Dht(
            self.net.host(address.host),
            address,
            config or self.config,
            rng=random.Random(self._rng.getrandbits(64)),
            bootstrap=[HostPort(*host_address(one)) for one in via],
            trace=self.trace,
        )
        await self._nursery.start(self._live, number, dht)
        return number

    async def grow(self, count: int, *, at_once: int = 20) -> None:
        """Add nodes until there are `count`, `at_once` at a time; returns once all have
        bootstrapped."""
        while len(self.nodes) < count:
            batch = min(at_once, count - len(self.nodes), max(1, len(self.nodes)))
            for number in [await self.add() for _ in range(batch)]:
                await self.nodes[number].bootstrapped()

    def kill(self, number: int) -> None:
        """The node vanishes without a word."""
        self._scopes.pop(number).cancel()
        del self.nodes[number]
        self.net.host(host_address(number).host).go_down()

    def some(self) -> Dht:
        """A living node, drawn at random."""
        return self.nodes[self._rng.choice(list(self.nodes))]

    def closest(self, target: bytes, count: int = 8) -> list[Dht]:
        """The living nodes that really are closest to `target`, nearest first."""
        return heapq.nsmallest(
            count, self.nodes.values(), key=lambda dht: distance(dht.node_id, target)
        )

    async def _live(self, number: int, dht: Dht, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            self._scopes[number] = nursery.cancel_scope
            await nursery.start(dht.run)
            self.nodes[number] = dht
            task_status.started()


def host_address(number: int) -> Address:
    """Where node `number` lives: addresses of consecutive nodes lie in different /24s."""
    if not 0 <= number < 1 << 24:
        raise ValueError("10.0.0.0/8 has 2**24 addresses")
    swapped = int.from_bytes(number.to_bytes(3, "little"), "big")
    return Address(f"10.{swapped >> 16}.{swapped >> 8 & 255}.{swapped & 255}", PORT)
