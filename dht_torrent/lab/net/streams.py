"""Streams of the network in memory. The rule: everything arrives in order, and a bounded number of
bytes is in flight. A queueing simulator, not a TCP: the rates of links and hosts are shared first
come, first served.
"""

from __future__ import annotations

import errno
import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from dht_torrent.engine.net.protocols import Encryption
from dht_torrent.ids import Address, Transport
from dht_torrent.lab.clock import Alarm
from dht_torrent.lab.net.link import Wire
from dht_torrent.lab.net.topology import Machine, Topology

_BACKLOG: Final = 256
"""Connections that are not accepted yet. Further ones are refused."""
_AHEAD: Final = 0.05
"""Seconds a sender may book a shaped wire ahead: more, and the others would wait behind it."""
_SEGMENT: Final = 16 * 1024


class FakeListener:
    """A `Listener`."""

    def __init__(self, host: Machine, address: Address) -> None:
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
            self._host.release_tcp(self._address.port)
            for stream in self._waiting:
                stream.reset()
            self._waiting.clear()
            self._alarm.ring()


class FakeStream:
    """A `Stream`. Made in pairs, each end with a pipe in and a pipe out."""

    transport = Transport.TCP
    encryption: Encryption | None = None

    def __init__(
        self, host: Machine, local: Address, remote: Address, incoming: Pipe, outgoing: Pipe
    ) -> None:
        self._host = host
        self._local = local
        self._remote = remote
        self._in = incoming
        self._out = outgoing
        self._closed = False
        host.opened(self)

    @property
    def local(self) -> Address:
        return self._local

    @property
    def remote(self) -> Address:
        return self._remote

    @property
    def scattered(self) -> FakeStream:
        return self

    async def readable(self, gather: int = 0) -> None:
        await trio.lowlevel.checkpoint()
        while True:
            self._check_open()
            arrives = self._in.next_arrival()
            if arrives <= trio.current_time():
                return
            await self._in.receiver.wait_until(arrives)

    def receive_now(self, buffers: Sequence[memoryview]) -> int | None:
        self._check_open()
        size: int | None = None
        for buffer in buffers:
            taken = self._in.take(buffer, trio.current_time())
            if taken is not None:
                size = (size or 0) + taken
            if taken != len(buffer):
                break
        return size

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
            self._host.ended(self)
            self._out.finish(trio.current_time())
            self._in.abandon(self._out.end)
            self.wake()

    def reset(self) -> None:
        """Break the connection, at both ends."""
        for pipe in (self._in, self._out):
            pipe.is_broken = True
            pipe.wake()

    def lose(self) -> None:
        """Nothing gets through any more, and neither end is told."""
        self._in.is_lost = self._out.is_lost = True

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

    def __init__(self, net: Topology, source: Machine, target: Machine) -> None:
        self.receiver = Alarm()
        self.sender = Alarm()
        self.is_broken = False
        self.is_lost = False
        """What is sent does not arrive, nor does the end."""
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
        if self.is_lost or self._net.is_cut(self._source.ip, self._target.ip):
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
        if self.is_lost or self._net.is_cut(self._source.ip, self._target.ip):
            return math.inf  # healing wakes the receiver
        return self._chunks[0][0] if self._chunks else self.end

    def finish(self, now: float) -> None:
        """The sender closed. What it sent still arrives."""
        delay = self._net.link(self._source.ip, self._target.ip).delay(self._net.rng)
        self.end = max(self._last, now + delay)
        self._announce(self.end, now)

    def abandon(self, when: float) -> None:
        """The receiver closed, which the sender learns at `when`."""
        if self.is_lost:
            return
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


def open_streams(
    net: Topology,
    client: Machine,
    local: Address,
    server: Machine,
    remote: Address,
    listener: FakeListener,
) -> FakeStream:
    """A connected pair: the server's end goes to the listener, the client's is returned."""
    out, back = Pipe(net, client, server), Pipe(net, server, client)
    listener.offer(FakeStream(server, remote, local, out, back))
    return FakeStream(client, local, remote, back, out)
