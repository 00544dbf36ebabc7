"""A DHT of full nodes on a network in memory. The rule: they are the very nodes people run; only
sockets, time and dice are the lab's.

Node number n lives on a host of its own with an address in 10.0.0.0/8, where ids need not fit
addresses (BEP 42 exempts private ones). With other addresses, ids are made to fit.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

from dht_torrent.config import DhtConfig
from dht_torrent.dht.identity import make_id
from dht_torrent.engine.dht.node import Dht
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.pages import use_large_pages
from dht_torrent.trace import Trace, nothing

PORT: Final = 6881
BOOTSTRAPS: Final = 3
"""Living nodes a newcomer is told of."""
MANY: Final = 500
"""Nodes after which what has been allocated is worth large pages, each time."""


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
        address: Callable[[int], Address] | None = None,
    ) -> None:
        """`address` says where each node lives; None is `host_address`."""
        self.net = net
        self.address = address or host_address
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
        address = self.address(number)
        dht = Dht(
            self.net.host(address.host),
            address,
            config or self.config,
            rng=random.Random(self._rng.getrandbits(64)),
            bootstrap=[HostPort(*self.address(one)) for one in via],
            node_id=None if address.is_local else make_id(address.host, self._rng),
            trace=self.trace,
        )
        await self._nursery.start(self._live, number, dht)
        if self._added % MANY == 0:
            use_large_pages()
        return number

    async def grow(
        self, count: int, *, at_once: int | None = None, via: Sequence[int] | None = None
    ) -> None:
        """Add nodes until there are `count`; returns once all have bootstrapped. They come
        `at_once` at a time (None: twenty, or an eighth of a large network), each from `via` or
        from a few drawn among those who were there before."""
        while len(self.nodes) < count:
            here = list(self.nodes)
            most = at_once or max(20, len(here) // 8)
            batch = []
            for _ in range(min(most, count - len(here), max(1, len(here)))):
                entry_points = via or self._rng.sample(here, min(BOOTSTRAPS, len(here)))
                batch.append(
                    await self.add(via=[entry for entry in entry_points if entry in self.nodes])
                )
            for number in batch:
                await self.nodes[number].bootstrapped()

    def kill(self, number: int) -> None:
        """The node vanishes without a word."""
        self._scopes.pop(number).cancel()
        del self.nodes[number]
        self.net.host(self.address(number).host).go_down()

    def some(self) -> Dht:
        """A living node, drawn at random."""
        return self.nodes[self._rng.choice(list(self.nodes))]

    def closest(self, target: bytes, count: int = 8) -> list[Dht]:
        """The living nodes that really are closest to `target`, nearest first."""
        return nearest(self.by_id(), target, count)

    def by_id(self) -> dict[int, Dht]:
        """The living nodes by the ids they have now, as numbers."""
        return {int.from_bytes(dht.node_id, "big"): dht for dht in self.nodes.values()}

    async def _live(self, number: int, dht: Dht, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            self._scopes[number] = nursery.cancel_scope
            await nursery.start(dht.run)
            self.nodes[number] = dht
            task_status.started()


def nearest(by_id: Mapping[int, Dht], target: bytes, count: int) -> list[Dht]:
    """Those closest to `target`, nearest first."""
    number = int.from_bytes(target, "big")
    distances = heapq.nsmallest(count, map(number.__xor__, by_id))
    return [by_id[distance ^ number] for distance in distances]


def host_address(number: int) -> Address:
    """Where node `number` lives: addresses of consecutive nodes lie in different /24s."""
    if not 0 <= number < 1 << 24:
        raise ValueError("10.0.0.0/8 has 2**24 addresses")
    swapped = int.from_bytes(number.to_bytes(3, "little"), "big")
    return Address(f"10.{swapped >> 16}.{swapped >> 8 & 255}.{swapped & 255}", PORT)
