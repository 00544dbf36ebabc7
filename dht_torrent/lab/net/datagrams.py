"""Datagrams of the network in memory. The rule: each gets its moment of arrival when it is sent, or
is lost.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Final

import trio

from dht_torrent.engine.net.protocols import OnDatagrams
from dht_torrent.engine.net.sockets import MAX_DATAGRAM, MAX_DRAIN
from dht_torrent.ids import Address
from dht_torrent.lab.clock import Alarm, VirtualClock
from dht_torrent.lab.net.topology import Machine, Topology

_MAX_UDP: Final = 65507
_UDP_QUEUE: Final = 8192
"""Datagrams on their way to one socket. Further ones are lost, as when SO_RCVBUF is full."""
_NAT_MAPPING: Final = 60.0
"""Seconds a NAT lets answers in after the last datagram out. Common routers: 30 to 180."""


class FakeDatagramSocket:
    """A `DatagramSocket`."""

    def __init__(self, net: Topology, host: Machine, address: Address) -> None:
        self.errors = 0
        self._net = net
        self._host = host
        self._address = address
        self._source = Address(host.ip, address.port)
        self._is_ipv6 = self._source.is_ipv6
        self._queue: list[tuple[float, int, bytes, Address]] = []  # a heap, by arrival
        self._received = 0
        self._alarm = Alarm()
        self._taker: tuple[VirtualClock, OnDatagrams] | None = None
        self._failure: BaseException | None = None
        self._mappings: dict[Address, tuple[float, float]] = {}
        """Of the NAT, by whom was sent to: since when, and when last."""
        self._closed = False

    @property
    def address(self) -> Address:
        return self._address

    async def receive(self) -> list[tuple[bytes, Address]]:
        queue = self._queue
        if self._closed or (queue and queue[0][0] <= trio.current_time()):
            await trio.lowlevel.checkpoint()  # below it waits; a step of its own only if it cannot
        while True:
            if self._closed:
                raise trio.ClosedResourceError("closed here")
            got = self._arrived(trio.current_time())
            if got:
                return got
            await self._alarm.wait_until(queue[0][0] if queue else math.inf)

    def send_all(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        refused = 0
        for data, to in datagrams:
            if not self.send(data, to):
                refused += 1
        return refused

    def send_whole(self, data: bytes, to: Address) -> bool:
        self.send(data, to)
        return True

    async def serve(self, take: OnDatagrams) -> None:
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, VirtualClock):
            while True:
                take(await self.receive())
        # The lab's clock calls: switching to a task for each datagram would cost half as much as
        # what the task then does.
        self._taker = clock, take
        for when, _, _, _ in self._queue:
            clock.call_at(when, self._hand_over)
        try:
            while not self._closed and self._failure is None:
                await self._alarm.wait_until(math.inf)
        finally:
            self._taker = None
        failure, self._failure = self._failure, None
        raise failure or trio.ClosedResourceError("closed here")

    def send(self, data: bytes, to: Address) -> bool:
        unsendable = len(data) > _MAX_UDP or not 0 < to.port < 65536
        net, host = self._net, self._host
        if self._closed or host.is_down or unsendable or to.is_ipv6 != self._is_ipv6:
            self.errors += 1
            return False
        rng, link = net.rng, net.link(host.ip, to.host)
        stats = net.stats
        stats.datagrams += 1
        stats.datagram_bytes += len(data)
        now, source = trio.current_time(), self._source
        if host.behind_nat:
            self._map(to, now)
            source = host.seen_as(self._address.port, to)
        if net.tap is not None:
            net.tap(source, to, data)
        if link.loss and rng.random() < link.loss:
            stats.lost += 1
            return True
        copies = 1
        if link.duplication and rng.random() < link.duplication:
            stats.duplicated += 1
            copies = 2
        for _ in range(copies):
            when = now + link.delay(rng)
            if link.reordering and rng.random() < link.reordering:
                when += rng.uniform(0.0, link.holdback)
            if grain := net.grain:
                when = math.ceil(when / grain) * grain
            there = net.find(host.ip, to.host)
            target = None if there is None else there.heard_at(to.port, source)
            if target is None or not target.accept(when, data, source, now):
                stats.lost += 1
        return True

    def accept(self, when: float, data: bytes, source: Address, now: float) -> bool:
        """Put a datagram on its way to this socket. False when it will not arrive."""
        if when <= now and self._host.behind_nat and not self._passes_nat(source, when):
            return False  # later it would be asked too late
        if len(self._queue) >= _UDP_QUEUE:
            return False
        self._received += 1
        # The counter keeps datagrams of the same moment in order.
        heapq.heappush(self._queue, (when, self._received, bytes(data[:MAX_DATAGRAM]), source))
        if (taker := self._taker) is not None:
            taker[0].call_at(when, self._hand_over)
        elif when <= now:
            self._alarm.ring()
        else:
            self._alarm.bring_forward(when)
        return True

    def moved(self) -> None:
        """The host has another IP."""
        self.forget()
        self._source = Address(self._host.ip, self._address.port)
        self._mappings.clear()

    def forget(self) -> None:
        """What is on its way is lost."""
        self._net.stats.lost += len(self._queue)
        self._queue.clear()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.clear()
            self._host.release_udp(self._address.port)
            self._alarm.ring()

    def _map(self, to: Address, now: float) -> None:
        since, last = self._mappings.get(to, (now, now))
        self._mappings[to] = (since if now - last <= _NAT_MAPPING else now, now)

    def _passes_nat(self, source: Address, when: float) -> bool:
        mapped = self._mappings.get(source)
        is_answer = mapped is not None and mapped[0] <= when <= mapped[1] + _NAT_MAPPING
        return is_answer or source.host == self._host.ip

    def _arrived(self, now: float) -> list[tuple[bytes, Address]]:
        """Takes what is here from the queue, `MAX_DRAIN` at most."""
        queue = self._queue
        got: list[tuple[bytes, Address]] = []
        while queue and queue[0][0] <= now and len(got) < MAX_DRAIN:
            when, _, data, source = heapq.heappop(queue)
            if self._host.behind_nat and not self._passes_nat(source, when):
                self._net.stats.lost += 1
            else:
                got.append((data, source))
        return got

    def _hand_over(self, now: float) -> None:
        """Gives `serve`'s `take` what is here; what it raises, to `serve`."""
        queue = self._queue
        try:
            while (taker := self._taker) is not None and queue and queue[0][0] <= now:
                taker[1](self._arrived(now))
        except BaseException as failure:  # noqa: BLE001 - `serve` raises it, in its own task
            self._failure = failure
            self._taker = None
            self._alarm.ring()
