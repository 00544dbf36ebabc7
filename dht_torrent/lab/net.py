"""A network in memory. The rule: same seed, same calls, same events; and whatever the Protocols of
`engine.net` promise holds here too (one test suite runs over both).

Nothing runs in the background. A datagram or a chunk of a stream gets its moment of arrival when it
is sent, and the receiver waits for that moment; with neither latency nor rate it is there at once,
without a timer. Meant for `lab.run`'s virtual clock, but any Trio clock will do.

It is a queueing simulator, not a TCP: a stream delivers everything in order, holds a bounded number
of bytes in flight, and shares the rates of links and hosts first come, first served.
"""

from __future__ import annotations

import errno
import heapq
import math
import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from dht_torrent.engine.net import MAX_DATAGRAM, MAX_DRAIN, Take
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.clock import VirtualClock

_EPHEMERAL: Final = range(49152, 65536)  # RFC 6335
_MAX_UDP: Final = 65507
_UDP_QUEUE: Final = 8192
"""Datagrams on their way to one socket. Further ones are lost, as when SO_RCVBUF is full."""
_BACKLOG: Final = 256
"""Connections nobody has accepted yet. Further ones are refused."""
_SYN_RETRIES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # Linux: gives up after 127 s
_AHEAD: Final = 0.05
"""Seconds a sender may book a shaped wire ahead: more, and the others would wait behind it."""
_SEGMENT: Final = 16 * 1024
_NAT_MAPPING: Final = 60.0
"""Seconds a NAT lets answers in after the last datagram out. Common routers: 30 to 180."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How traffic fares between two hosts; each direction by itself."""

    latency: float | tuple[float, float] = 0.0
    """Seconds one way: fixed, or drawn evenly from a range (so datagrams overtake each other)."""
    loss: float = 0.0
    """Chance that a datagram is lost. Streams lose nothing."""
    duplication: float = 0.0
    """Chance that a datagram arrives twice."""
    reordering: float = 0.0
    """Chance that a datagram is held back, so that later ones overtake it ..."""
    holdback: float = 0.05
    """... by at most this many seconds."""
    rate: float | None = None
    """Bytes per second, all streams together. Datagrams are too few to count."""

    def delay(self, rng: random.Random) -> float:
        if isinstance(self.latency, tuple):
            return rng.uniform(*self.latency)
        return self.latency


@dataclass(slots=True)
class Stats:
    """What the network carried so far."""

    datagrams: int = 0
    datagram_bytes: int = 0
    lost: int = 0
    """Datagrams: by chance, partition, NAT, full queue, or because nobody was there."""
    duplicated: int = 0
    connections: int = 0
    refused: int = 0
    stream_bytes: int = 0


class FakeNetwork:
    """All hosts and what lies between them."""

    def __init__(
        self,
        rng: random.Random,
        *,
        latency: float | tuple[float, float] = 0.0,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        rate: float | None = None,
        window: int = 256 * 1024,
        grain: float = 0.0,
    ) -> None:
        """`window`: bytes one direction of a stream holds before its sender must wait. `grain`:
        datagrams arrive at multiples of so many seconds; where thousands of nodes talk, many
        then arrive at one moment, which is cheaper than as many moments."""
        self.rng = rng
        self.window = window
        self.grain = grain
        self.stats = Stats()
        self.names: dict[str, list[str]] = {}
        """What `resolve` finds: IPs by host name."""
        self.tap: Callable[[Address, Address, bytes], None] | None = None
        """Hears of each datagram sent: from where, to where, and what. For experiments that count;
        it must change nothing."""
        self._default = Link(
            latency=latency, loss=loss, duplication=duplication, reordering=reordering, rate=rate
        )
        self._links: dict[tuple[str, str], Link] = {}
        self._wires: dict[tuple[str, str], Wire] = {}
        self._hosts: dict[str, FakeHost] = {}
        self._side: dict[str, int] = {}

    def host(self, ip: str) -> FakeHost:
        """The host with this IP, made when first asked for. It is a `Network`."""
        host = self._hosts.get(ip)
        if host is None:
            host = self._hosts[ip] = FakeHost(self, ip)
        return host

    def set_link(self, one: str, other: str, link: Link) -> None:
        """What lies between these two IPs from now on, in both directions."""
        for pair in ((one, other), (other, one)):
            self._links[pair] = link
            self._wires.pop(pair, None)

    def link(self, source: str, target: str) -> Link:
        links = self._links
        return links.get((source, target), self._default) if links else self._default

    def wire(self, source: str, target: str) -> Wire:
        """The wire that streams from `source` to `target` share."""
        pair = (source, target)
        if pair not in self._wires:
            self._wires[pair] = Wire(self.link(source, target).rate)
        return self._wires[pair]

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut the network: only IPs of one group reach each other; all unnamed ones are a group.

        Datagrams across the cut are lost; streams stand still until it heals, as TCP's do.
        """
        self._side = {ip: side for side, group in enumerate(groups, 1) for ip in group}
        self._wake_streams()

    def heal(self) -> None:
        """End the partition."""
        self.partition()

    def is_cut(self, one: str, other: str) -> bool:
        return bool(self._side) and self._side.get(one, 0) != self._side.get(other, 0)

    def find(self, source: str, target: str) -> FakeHost | None:
        """The target's host, if a packet from `source` gets there now."""
        host = self._hosts.get(target)
        if host is None or host.is_down or self.is_cut(source, target):
            return None
        return host

    def _wake_streams(self) -> None:
        for host in self._hosts.values():
            for stream in host.streams:
                stream.wake()


class FakeHost:
    """One machine with one IP: a `Network`."""

    def __init__(self, net: FakeNetwork, ip: str) -> None:
        self.ip = ip
        self.uplink = Wire(None)
        """Its `rate` may be set at any time: bytes per second of all its streams together."""
        self.downlink = Wire(None)
        self.behind_nat = False
        """When true, connections do not come in, and datagrams only from where one was sent."""
        self.is_down = False
        self.streams: dict[FakeStream, None] = {}  # a set in order of opening
        self._net = net
        self._udp: dict[int, FakeDatagramSocket] = {}
        self._listeners: dict[int, FakeListener] = {}
        self._next_port = 0

    def go_down(self) -> None:
        """Pull the cable: streams break, at both ends; datagrams are lost, also those in flight."""
        self.is_down = True
        for stream in list(self.streams):
            stream.reset()
        for socket in self._udp.values():
            socket.forget()

    def come_up(self) -> None:
        self.is_down = False

    async def open_udp(self, bind: Address) -> FakeDatagramSocket:
        await trio.lowlevel.checkpoint()
        address = bind._replace(port=self._take_port(bind, self._udp))
        socket = FakeDatagramSocket(self._net, self, address)
        self._udp[address.port] = socket
        return socket

    async def listen(self, bind: Address) -> FakeListener:
        await trio.lowlevel.checkpoint()
        address = bind._replace(port=self._take_port(bind, self._listeners))
        listener = FakeListener(self, address)
        self._listeners[address.port] = listener
        return listener

    async def connect(self, to: Address, *, local: Address | None = None) -> FakeStream:
        await trio.lowlevel.checkpoint()
        if (":" in to.host) != (":" in self.ip) or self.is_down:
            raise _error(errno.ENETUNREACH, to)
        if local is None:
            local = Address(self.ip, 0)
        self._check_own(local)
        port = local.port or self._free_port()
        out, back = self._net.link(self.ip, to.host), self._net.link(to.host, self.ip)
        # As TCP's SYN: repeated while nothing comes back, then given up.
        for pause in _SYN_RETRIES:
            target = self._net.find(self.ip, to.host)
            if target is not None and (not target.behind_nat or target is self):
                break
            await trio.sleep(pause)
        else:
            raise _error(errno.ETIMEDOUT, to)
        await _sleep(out.delay(self._net.rng))
        listener = target._listeners.get(to.port)
        if listener is None or listener.is_full:
            self._net.stats.refused += 1
            await _sleep(back.delay(self._net.rng))
            raise _error(errno.ECONNREFUSED, to)
        stream = _open_streams(self._net, self, Address(self.ip, port), target, to, listener)
        try:
            await _sleep(back.delay(self._net.rng))
        except BaseException:
            stream.close()
            raise
        self._net.stats.connections += 1
        return stream

    async def resolve(self, point: HostPort) -> list[Address]:
        await trio.lowlevel.checkpoint()
        is_literal = ":" in point.host or point.host.replace(".", "").isdigit()
        ips = [point.host] if is_literal else self._net.names.get(point.host, [])
        return [Address(ip, point.port) for ip in ips]

    def heard_at(self, port: int) -> FakeDatagramSocket | None:
        return self._udp.get(port)

    def release(self, socket: FakeDatagramSocket | FakeListener) -> None:
        """Its port is free again."""
        ports: dict[int, FakeDatagramSocket] | dict[int, FakeListener]
        ports = self._udp if isinstance(socket, FakeDatagramSocket) else self._listeners
        ports.pop(socket.address.port, None)

    def _check_own(self, address: Address) -> None:
        if address.host not in (self.ip, "::" if ":" in self.ip else "0.0.0.0"):  # noqa: S104 - the wildcard is a value here
            raise _error(errno.EADDRNOTAVAIL, address)

    def _take_port(
        self, bind: Address, taken: dict[int, FakeDatagramSocket] | dict[int, FakeListener]
    ) -> int:
        self._check_own(bind)
        if bind.port in taken:
            raise _error(errno.EADDRINUSE, bind)
        return bind.port or self._free_port()

    def _free_port(self) -> int:
        for _ in _EPHEMERAL:
            port = _EPHEMERAL[self._next_port]
            self._next_port = (self._next_port + 1) % len(_EPHEMERAL)
            if port not in self._udp and port not in self._listeners:
                return port
        raise OSError(errno.EADDRINUSE, f"no free port on {self.ip}")


class FakeDatagramSocket:
    """A `DatagramSocket`."""

    def __init__(self, net: FakeNetwork, host: FakeHost, address: Address) -> None:
        self.errors = 0
        self._net = net
        self._host = host
        self._address = address
        self._source = Address(host.ip, address.port)
        self._is_ipv6 = self._source.is_ipv6
        self._queue: list[tuple[float, int, bytes, Address]] = []  # a heap, by arrival
        self._received = 0
        self._alarm = Alarm()
        self._taker: tuple[VirtualClock, Take] | None = None
        self._failure: BaseException | None = None
        self._mappings: dict[Address, float] = {}
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
        return sum(not self.send(data, to) for data, to in datagrams)

    async def serve(self, take: Take) -> None:
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
        raise self._failure or trio.ClosedResourceError("closed here")

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
        if net.tap is not None:
            net.tap(self._source, to, data)
        now = trio.current_time()
        if host.behind_nat:
            self._mappings[to] = now
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
            if net.grain:
                when = math.ceil(when / net.grain) * net.grain
            there = net.find(host.ip, to.host)
            target = None if there is None else there.heard_at(to.port)
            if target is None or not target.accept(when, data, self._source, now):
                stats.lost += 1
        return True

    def accept(self, when: float, data: bytes, source: Address, now: float) -> bool:
        """Put a datagram on its way to this socket. False when it will not arrive."""
        if self._host.behind_nat and source.host != self._host.ip:
            mapped = self._mappings.get(source)
            if mapped is None or when - mapped > _NAT_MAPPING:
                return False
        if len(self._queue) >= _UDP_QUEUE:
            return False
        self._received += 1
        # The counter keeps datagrams of the same moment in order.
        heapq.heappush(self._queue, (when, self._received, bytes(data[:MAX_DATAGRAM]), source))
        if self._taker is not None:
            self._taker[0].call_at(when, self._hand_over)
        elif when <= now:
            self._alarm.ring()
        else:
            self._alarm.bring_forward(when)
        return True

    def forget(self) -> None:
        """What is on its way is lost."""
        self._net.stats.lost += len(self._queue)
        self._queue.clear()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.clear()
            self._host.release(self)
            self._alarm.ring()

    def _arrived(self, now: float) -> list[tuple[bytes, Address]]:
        """Takes what is here from the queue, `MAX_DRAIN` at most."""
        queue = self._queue
        got: list[tuple[bytes, Address]] = []
        while queue and queue[0][0] <= now and len(got) < MAX_DRAIN:
            _, _, data, source = heapq.heappop(queue)
            got.append((data, source))
        return got

    def _hand_over(self, now: float) -> None:
        """Gives `serve`'s `take` what is here; what it raises, to `serve`."""
        try:
            while self._taker is not None and (got := self._arrived(now)):
                self._taker[1](got)
        except BaseException as failure:  # noqa: BLE001 - `serve` raises it, in its own task
            self._failure = failure
            self._taker = None
            self._alarm.ring()


class FakeListener:
    """A `Listener`."""

    def __init__(self, host: FakeHost, address: Address) -> None:
        self._host = host
        self._address = address
        self._waiting: deque[FakeStream] = deque()
        self._alarm = Alarm()
        self._closed = False

    @property
    def address(self) -> Address:
        return self._address

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= _BACKLOG

    def offer(self, stream: FakeStream) -> None:
        """A connection came in."""
        self._waiting.append(stream)
        self._alarm.ring()

    async def accept(self) -> FakeStream:
        await trio.lowlevel.checkpoint()
        while not self._closed:
            if self._waiting:
                return self._waiting.popleft()
            await self._alarm.wait_until(math.inf)
        raise trio.ClosedResourceError("closed here")

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._host.release(self)
            for stream in self._waiting:
                stream.reset()
            self._waiting.clear()
            self._alarm.ring()


class FakeStream:
    """A `Stream`. Made in pairs, each end with a pipe in and a pipe out."""

    def __init__(
        self, host: FakeHost, local: Address, remote: Address, incoming: Pipe, outgoing: Pipe
    ) -> None:
        self._host = host
        self._local = local
        self._remote = remote
        self._in = incoming
        self._out = outgoing
        self._closed = False
        host.streams[self] = None

    @property
    def local(self) -> Address:
        return self._local

    @property
    def remote(self) -> Address:
        return self._remote

    async def receive_into(self, buffer: memoryview) -> int:
        if not buffer:
            raise ValueError("an empty buffer would look like the end of the stream")
        await trio.lowlevel.checkpoint()
        while True:
            self._check_open()
            taken = self._in.take(buffer, trio.current_time())
            if taken is not None:
                return taken
            await self._in.receiver.wait_until(self._in.next_arrival())

    async def send(self, *buffers: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._check_open()
        left = memoryview(b"".join(buffers))  # a copy: the caller may use its buffers again
        while left:
            taken = self._out.put(left, trio.current_time())
            left = left[taken:]
            if left and not taken:
                await self._out.sender.wait_until(self._out.ready_at(len(left)))
                self._check_open()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._host.streams.pop(self, None)
            self._out.finish(trio.current_time())
            self._in.abandon(self._out.end)
            self.wake()

    def reset(self) -> None:
        """Break the connection, at both ends."""
        for pipe in (self._in, self._out):
            pipe.is_broken = True
            pipe.wake()

    def wake(self) -> None:
        """Look again: the network changed."""
        self._in.receiver.ring()
        self._out.sender.ring()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("closed here")
        if self._in.is_broken:
            raise ConnectionResetError(errno.ECONNRESET, "connection reset")


class Pipe:
    """One direction of a stream: chunks in order, each with its moment of arrival.

    At most `window` bytes were sent and not yet received.
    """

    def __init__(self, net: FakeNetwork, source: FakeHost, target: FakeHost) -> None:
        self.receiver = Alarm()
        self.sender = Alarm()
        self.is_broken = False
        self.end = math.inf
        """When the receiver learns that the sender closed."""
        self._abandoned = math.inf
        self._net = net
        self._source = source
        self._target = target
        self._chunks: deque[tuple[float, memoryview]] = deque()
        self._size = 0
        self._last = -math.inf
        self._wanted = 0

    def put(self, data: memoryview, now: float) -> int:
        """Send the first bytes of `data`, as many as the window and the wires take now.

        Raises BrokenPipeError once the receiver is known to be gone.
        """
        if now >= self._abandoned:
            raise BrokenPipeError(errno.EPIPE, "the peer closed the connection")
        room = self._net.window - self._size
        if room < self._least(len(data)) or self._bookable_at() > now:
            return 0
        link = self._net.link(self._source.ip, self._target.ip)
        wires = self._wires()
        size = min(len(data), room)
        if wires:
            slowest = min(wire.rate for wire in wires if wire.rate)
            size = min(size, max(1, min(_SEGMENT, int(slowest * _AHEAD))))
        when = now
        for wire in wires:
            when = wire.book(when, size)
        when = self._target.downlink.book(when + link.delay(self._net.rng), size)
        self._last = max(self._last, when)
        self._chunks.append((self._last, data[:size]))
        self._size += size
        self._net.stats.stream_bytes += size
        self._announce(self._last, now)
        return size

    def ready_at(self, size: int) -> float:
        """When `put` may take something of `size` bytes, as far as time alone decides."""
        self._wanted = self._least(size)
        has_room = self._net.window - self._size >= self._wanted
        return min(self._abandoned, self._bookable_at() if has_room else math.inf)

    def take(self, buffer: memoryview, now: float) -> int | None:
        """Fill `buffer` with what has arrived. 0 is the end; None: nothing is there yet."""
        if self._net.is_cut(self._source.ip, self._target.ip):
            return None
        taken, room = 0, len(buffer)
        while self._chunks and taken < room:
            when, chunk = self._chunks[0]
            if when > now:
                break
            size = min(len(chunk), room - taken)
            buffer[taken : taken + size] = chunk[:size]
            taken += size
            if size == len(chunk):
                self._chunks.popleft()
            else:
                self._chunks[0] = (when, chunk[size:])
        if not taken:
            return 0 if not self._chunks and self.end <= now else None
        self._size -= taken
        if self._net.window - self._size >= self._wanted:
            self.sender.ring()
        return taken

    def next_arrival(self) -> float:
        if self._net.is_cut(self._source.ip, self._target.ip):
            return math.inf  # healing wakes the receiver
        return self._chunks[0][0] if self._chunks else self.end

    def finish(self, now: float) -> None:
        """The sender closed. What it sent still arrives."""
        delay = self._net.link(self._source.ip, self._target.ip).delay(self._net.rng)
        self.end = max(self._last, now + delay)
        self._announce(self.end, now)

    def abandon(self, when: float) -> None:
        """The receiver closed, which the sender learns at `when`."""
        self._abandoned = when
        self.sender.ring()  # to wait for that moment instead

    def wake(self) -> None:
        self.receiver.ring()
        self.sender.ring()

    def _announce(self, when: float, now: float) -> None:
        if when <= now:
            self.receiver.ring()
        else:
            self.receiver.bring_forward(when)

    def _least(self, size: int) -> int:
        """Room below which a sender of `size` bytes rather waits: half a window, or all it has."""
        return min(size, max(1, self._net.window // 2))

    def _wires(self) -> list[Wire]:
        """The shaped wires at which a sender queues."""
        wires = [self._source.uplink]
        link = self._net.link(self._source.ip, self._target.ip)
        if link.rate is not None:
            wires.append(self._net.wire(self._source.ip, self._target.ip))
        return [wire for wire in wires if wire.rate is not None]

    def _bookable_at(self) -> float:
        return max((wire.free_at for wire in self._wires()), default=-math.inf) - _AHEAD


class Wire:
    """Carries bytes one after the other, at `rate` bytes per second (None: at once)."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self.free_at = -math.inf

    def book(self, when: float, size: int) -> float:
        """When `size` bytes that are here at `when` have passed."""
        if self.rate is None:
            return when
        self.free_at = max(self.free_at, when) + size / self.rate
        return self.free_at


class Alarm:
    """Lets one task wait for a moment that others may bring forward."""

    __slots__ = ("_clock", "_scope", "_task", "_when")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._when = math.inf
        self._clock: VirtualClock | None = None
        self._scope: trio.CancelScope | None = None

    async def wait_until(self, when: float) -> None:
        """Returns at `when`, or earlier. Raises `trio.BusyResourceError` if a task waits here."""
        if self._task is not None:
            raise trio.BusyResourceError("another task is waiting for the same thing")
        clock = trio.lowlevel.current_clock()
        self._task = trio.lowlevel.current_task()
        self._when = math.inf
        if isinstance(clock, VirtualClock):
            self._clock = clock
            self.bring_forward(when)
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
            return
        with trio.CancelScope(deadline=when) as self._scope:
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        self._scope = None

    def bring_forward(self, when: float) -> None:
        if self._task is None or when >= self._when:
            return
        self._when = when
        if self._clock is not None:
            self._clock.call_at(when, self._due)
        elif self._scope is not None and when < self._scope.deadline:
            self._scope.deadline = when

    def ring(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def _due(self, now: float) -> None:
        if self._when <= now:  # else this call is of an earlier wait
            self.ring()

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


def _open_streams(
    net: FakeNetwork,
    client: FakeHost,
    local: Address,
    server: FakeHost,
    remote: Address,
    listener: FakeListener,
) -> FakeStream:
    """A connected pair: the server's end goes to the listener, the client's is returned."""
    out, back = Pipe(net, client, server), Pipe(net, server, client)
    listener.offer(FakeStream(server, remote, local, out, back))
    return FakeStream(client, local, remote, back, out)


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await trio.sleep(seconds)


def _error(code: int, address: Address) -> OSError:
    return OSError(code, f"{address}: {os.strerror(code)}")
