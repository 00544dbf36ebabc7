"""Two ends of uTP with a line between them, on virtual time: no sockets, no Trio.

A line has a rate, a delay, a queue that overflows, and loss, duplication and reordering by a seeded
generator.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from dht_torrent.config import UtpConfig
from dht_torrent.ids import Address
from dht_torrent.utp.connection import UtpConnection
from dht_torrent.utp.table import UtpTable

HEADERS = 28
"""Bytes of IPv4 and UDP around a datagram."""
CHUNK = b"".join(n.to_bytes(4, "big") for n in range(1 << 16))


def pattern(begin: int, size: int) -> bytes:
    """Bytes of a stream in which no two places look alike."""
    at = begin % len(CHUNK)
    data = CHUNK[at : at + size]
    while len(data) < size:
        data += CHUNK[: size - len(data)]
    return data


@dataclass(slots=True, kw_only=True)
class Line:
    """One direction of a path. Several connections may share it."""

    rate: float = 1.25e6
    """Bytes per second, headers included."""
    delay: float = 0.01
    """Seconds, one way."""
    queue: float = 0.25
    """Seconds of traffic that fit into the queue; more is dropped."""
    loss: float = 0.0
    duplicates: float = 0.0
    reordered: float = 0.0
    """Share of datagrams that are late by up to `late` seconds."""
    late: float = 0.02
    largest: int = 65_535
    """Longer datagrams are fragmented, or vanish if they must not be."""
    is_down: bool = False
    free_at: float = 0.0
    carried: int = 0
    longest_queue: float = 0.0
    queued: list[tuple[float, float]] = field(default_factory=list)
    """When, and how long the queue was, if `watched`."""
    watched: bool = False

    def arrivals(self, size: int, now: float, rng: random.Random) -> list[float]:
        """When a datagram sent now arrives: never, once or twice."""
        if self.is_down or (self.loss and rng.random() < self.loss):
            return []
        wait = max(0.0, self.free_at - now)
        if wait > self.queue:
            return []
        self.longest_queue = max(self.longest_queue, wait)
        if self.watched:
            self.queued.append((now, wait))
        self.carried += size + HEADERS
        self.free_at = now + wait + (size + HEADERS) / self.rate
        at = self.free_at + self.delay
        if self.reordered and rng.random() < self.reordered:
            at += rng.random() * self.late
        if self.duplicates and rng.random() < self.duplicates:
            return [at, at + rng.random() * self.late]
        return [at]


class End:
    """A table with applications that write and read a pattern as fast as they can."""

    def __init__(self, world: World, address: Address, config: UtpConfig, seed: int) -> None:
        self.world = world
        self.address = address
        self.table = UtpTable(config, b"secret of " + str(address).encode(), random.Random(seed))
        self.connections: list[UtpConnection] = []
        self.to_send: dict[UtpConnection, int] = {}
        self.sent: dict[UtpConnection, int] = {}
        self.received: dict[UtpConnection, int] = {}
        self.on_accept: Callable[[UtpConnection], None] = lambda _: None
        self.ended: list[UtpConnection] = []
        self.reads = True
        self.finish_when_sent = False
        self._wake_at: float | None = None
        self._buffer = memoryview(bytearray(1 << 16))
        self.clock = 0.0
        self.drift = 0.0

    def time(self) -> float:
        return self.world.now * (1 + self.drift) + self.clock

    def dial(self, other: End, size: int = 0) -> UtpConnection:
        connection = self.table.connect(other.address, self.time())
        assert connection is not None
        self.take(connection, size)
        self.act()
        return connection

    def take(self, connection: UtpConnection, size: int = 0) -> None:
        self.connections.append(connection)
        self.to_send[connection] = size
        self.sent[connection] = self.received[connection] = 0

    def receive(self, datagrams: list[tuple[bytes, Address]]) -> None:
        _, new = self.table.receive(datagrams, self.time())
        for connection in new:
            self.take(connection)
            self.on_accept(connection)
        self.act()

    def act(self) -> None:
        """Read, write, and send what is due."""
        world = self.world
        for connection in self.connections:
            if self.reads:
                while size := connection.read_into(self._buffer):
                    begin = self.received[connection]
                    assert self._buffer[:size] == pattern(begin, size)
                    self.received[connection] += size
            left = self.to_send[connection] - self.sent[connection]
            while left and (room := min(left, connection.writable, 1 << 16)):
                taken = connection.send(pattern(self.sent[connection], room))
                self.sent[connection] += taken
                left -= taken
            if self.finish_when_sent and not left and connection.is_connected:
                connection.finish()
            self.table.changed(connection)
        box = self.table.due(self.time())
        for datagram, to in box.probes:
            world.carry(datagram, self, to, whole=True)
        for datagram, to in box.datagrams:
            world.carry(datagram, self, to)
        for connection in box.ended:
            self.ended.append(connection)
            if connection in self.connections:
                self.connections.remove(connection)
        when = self.table.next_time()
        if when is not None:
            when = (when - self.clock) / (1 + self.drift) + 1e-7
            if self._wake_at is None or when < self._wake_at or self._wake_at <= world.now:
                self._wake_at = when
                world.at(when, lambda: self._wake(when))

    def _wake(self, when: float) -> None:
        if self._wake_at == when:
            self._wake_at = None
            self.act()


class World:
    """Ends, lines and the time."""

    def __init__(self, seed: int = 1, *, config: UtpConfig | None = None) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.config = config or UtpConfig()
        self._seed = seed
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.ends: dict[Address, End] = {}
        self.lines: dict[tuple[Address, Address], Line] = {}
        self.before: Callable[[bytes, Address, Address], bytes] = lambda data, _, __: data

    def end(self, host: str, *, config: UtpConfig | None = None) -> End:
        address = Address(host, 6881)
        end = self.ends[address] = End(self, address, config or self.config, self.rng.randrange(99))
        return end

    def join(self, one: End, other: End, there: Line, back: Line) -> None:
        self.lines[one.address, other.address] = there
        self.lines[other.address, one.address] = back

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._order), act))

    def carry(self, datagram: bytes, source: End, to: Address, *, whole: bool = False) -> None:
        datagram = self.before(datagram, source.address, to)
        line = self.lines.get((source.address, to))
        if line is not None and not (whole and len(datagram) > line.largest):
            for when in line.arrivals(len(datagram), self.now, self.rng):
                self.at(when, lambda: self.ends[to].receive([(datagram, source.address)]))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Let time pass; how much did."""
        began, end = self.now, self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, act = heapq.heappop(self._events)
            act()
            if until():
                return self.now - began
        self.now = end
        return seconds


def two_ends(
    there: Line | None = None,
    back: Line | None = None,
    *,
    seed: int = 1,
    config: UtpConfig | None = None,
) -> tuple[World, End, End]:
    """Joined by a line each way."""
    world = World(seed, config=config)
    one, other = world.end("10.0.0.1"), world.end("10.0.0.2")
    world.join(one, other, there or Line(), back or Line())
    return world, one, other
