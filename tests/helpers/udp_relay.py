"""A UDP relay between one client and one server: what it is given reaches the other side late, not
at all, or out of order.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import trio

from dht_torrent.engine.net.protocols import DatagramSocket
from dht_torrent.engine.net.sockets import RealNetwork
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.ids import Address


class Relay:
    """Made by `open_relay`."""

    def __init__(
        self,
        front: DatagramSocket,
        back: DatagramSocket,
        server: Address,
        delay: float,
        loss: float,
        reordering: float,
        rng: random.Random,
    ) -> None:
        self.address = front.address
        """Whoever sends here speaks to the server."""
        self.lost = self.late = self.carried = 0
        """Datagrams."""
        self._front, self._back, self._server = front, back, server
        self._client: Address | None = None
        self._delay, self._loss, self._reordering = delay, loss, reordering
        self._rng = rng
        self._queue: list[tuple[float, int, bool, bytes]] = []
        self._order = count()
        self._news = AutoResetEvent()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._front.serve, self._take_front)
            nursery.start_soon(self._back.serve, self._take_back)
            while True:
                self._send(trio.current_time())
                when = self._queue[0][0] if self._queue else float("inf")
                with trio.CancelScope(deadline=when):
                    await self._news.wait()

    def _take_front(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        self._client = datagrams[-1][1]
        self._take([data for data, _ in datagrams], forth=True)

    def _take_back(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        self._take([data for data, source in datagrams if source == self._server], forth=False)

    def _take(self, datagrams: Sequence[bytes], *, forth: bool) -> None:
        now, rng = trio.current_time(), self._rng
        for data in datagrams:
            if rng.random() < self._loss:
                self.lost += 1
                continue
            when = now + self._delay
            if rng.random() < self._reordering:
                self.late += 1
                when += rng.uniform(0.0005, 0.003)
            heapq.heappush(self._queue, (when, next(self._order), forth, data))
        self._news.set()

    def _send(self, now: float) -> None:
        while self._queue and self._queue[0][0] <= now:
            _, _, forth, data = heapq.heappop(self._queue)
            self.carried += 1
            if forth:
                self._back.send(data, self._server)
            elif self._client is not None:
                self._front.send(data, self._client)


@asynccontextmanager
async def open_relay(
    server: Address,
    *,
    host: str = "127.0.0.1",
    delay: float = 0.005,
    loss: float = 0.01,
    reordering: float = 0.02,
    seed: int = 1,
) -> AsyncIterator[Relay]:
    """One to this server, for the length of the block."""
    network = RealNetwork()
    front = await network.open_udp(Address(host, 0))
    back = await network.open_udp(Address(host, 0))
    relay = Relay(front, back, server, delay, loss, reordering, random.Random(seed))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay.run)
        yield relay
        nursery.cancel_scope.cancel()
    front.close()
    back.close()
