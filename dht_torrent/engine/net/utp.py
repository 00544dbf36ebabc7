"""uTP (BEP 29) on the UDP socket of the DHT: connections as streams, and the rest of the datagrams
for the DHT.

The rule: what happens on a connection is decided by `utp.table`. Here datagrams and time are
brought to it, and those woken who wait. One task keeps the time of all connections of a port; none
belongs to a single one.
"""

from __future__ import annotations

import errno
import logging
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import trio

from dht_torrent.config import UtpConfig
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.net.protocols import DatagramSocket, Encryption, OnDatagrams
from dht_torrent.engine.net.sockets import MAX_DRAIN
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.ids import Address, Transport
from dht_torrent.utp.connection import UtpConnection, UtpFailure
from dht_torrent.utp.packets import is_utp
from dht_torrent.utp.table import UtpTable

logger = logging.getLogger(__name__)

BACKLOG: Final = 256
"""Connections that are not accepted yet, as TCP's queue; further ones are reset."""
MAX_PACKET_IPV6: Final = 1452
"""Bytes: Ethernet's 1500 less IPv6's headers."""
SECRET: Final = 16
_LEAST_ROOM: Final = 16 * 1024
"""Bytes of room that are worth waking a sender for."""

_ERRORS: Final = {
    UtpFailure.REFUSED: (errno.ECONNREFUSED, "refused the connection"),
    UtpFailure.RESET: (errno.ECONNRESET, "reset the connection"),
    UtpFailure.TIMED_OUT: (errno.ETIMEDOUT, "did not answer in time"),
    UtpFailure.ABORTED: (errno.ECONNABORTED, "was given up"),
}


class UtpStream:
    """A `Stream`."""

    transport = Transport.UTP
    encryption: Encryption | None = None

    __slots__ = ("_closed", "_connection", "_low", "_news", "_port", "_room", "counted")

    def __init__(self, port: UtpPort, connection: UtpConnection, config: UtpConfig) -> None:
        self._port = port
        self._connection = connection
        self._low = config.receive_buffer // 2
        self._news = AutoResetEvent()
        self._room = AutoResetEvent()
        self._closed = False
        self.counted = 0
        """Bytes that wait to be acknowledged, as the port has counted them."""

    @property
    def local(self) -> Address:
        return self._port.address

    @property
    def remote(self) -> Address:
        return self._connection.address

    @property
    def scattered(self) -> UtpStream:
        return self

    @property
    def held(self) -> int:
        """Bytes that wait to be acknowledged."""
        return self._connection.outbound.held

    @property
    def writable(self) -> int:
        """Bytes that it would take now."""
        return self._connection.writable

    async def connected(self) -> None:
        """Raises OSError if there was no connection."""
        while not self._connection.is_connected:
            await self._room.wait()
            self._check()

    async def readable(self, gather: int = 0) -> None:
        await trio.lowlevel.checkpoint()
        while not self._has_news():
            await self._news.wait()

    def receive_now(self, buffers: Sequence[memoryview]) -> int | None:
        if not self._has_news():
            return None
        connection, size = self._connection, 0
        was_low = connection.inbound.window < self._low
        for buffer in buffers:
            taken = connection.read_into(buffer)
            size += taken
            if taken < len(buffer):
                break
        if was_low:
            self._port.changed(connection)  # or the peer would not know that there is room again
        return size

    async def receive_into(self, buffer: memoryview) -> int:
        if not buffer:
            raise ValueError("an empty buffer would look like the end of the stream")
        await self.readable()
        return self.receive_now([buffer]) or 0

    async def send(self, *buffers: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        connection = self._connection
        self._check()
        for buffer in buffers:
            at, size = 0, len(buffer)
            while at < size:
                self._check()
                if connection.inbound.ended:
                    raise BrokenPipeError(errno.EPIPE, f"{self.remote} closed the connection")
                room = self._port.room(self)
                if room < min(size - at, _LEAST_ROOM):
                    await self._room.wait()
                    continue
                # Bytes are kept as they are, where that is not more than there is room for.
                part = buffer if not at and size <= room else memoryview(buffer)[at : at + room]
                at += connection.send(part)
                self._port.count(self)
                self._port.changed(connection)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.close(trio.current_time())
            self._port.changed(self._connection)
            self.wake()

    def give_up(self) -> None:
        """Close it with a RESET, whatever was to be sent."""
        self._closed = True
        self._connection.abort()
        self._port.changed(self._connection)
        self.wake()

    def wake(self) -> None:
        """Something came, was acknowledged, or ended it."""
        connection = self._connection
        ended = connection.inbound.ended
        is_over = self._closed or ended or connection.failure is not None
        if is_over or connection.readable:
            self._news.set()
        if is_over or not self.held or self._port.room(self) >= _LEAST_ROOM:
            self._room.set()

    def _has_news(self) -> bool:
        """Whether there is something to receive, or the end. Raises as `receive_into`."""
        connection = self._connection
        self._check()
        return bool(connection.readable) or connection.at_end

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("closed here")
        failure = self._connection.failure
        if failure is not None:
            number, what = _ERRORS[failure]
            raise OSError(number, f"{self.remote} {what}")


class UtpPort:
    """All uTP connections of one open UDP socket: a `Listener` for those that come in. `dht` is the
    socket as it looks to the DHT, which gets everything else."""

    def __init__(
        self,
        socket: DatagramSocket,
        config: UtpConfig,
        secret: bytes,
        rng: random.Random,
        faults: Faults,
    ) -> None:
        """The socket belongs to the port from now on. `secret`: `SECRET` bytes that nobody can
        guess."""
        if socket.address.is_ipv6:
            config = replace(config, max_packet=min(config.max_packet, MAX_PACKET_IPV6))
        self._config = config
        self._socket = socket
        self._faults = faults
        self._table = UtpTable(config, secret, rng)
        self._streams: dict[UtpConnection, UtpStream] = {}
        self._arrived: deque[UtpStream] = deque()
        self._arrival = AutoResetEvent()
        self._due = AutoResetEvent()
        self._sleep = trio.CancelScope()
        self._held = 0
        self._closed = False
        self.dht = RestOfSocket(socket)

    @property
    def address(self) -> Address:
        return self._socket.address

    def __len__(self) -> int:
        """Connections, those that are ending included."""
        return len(self._table)

    async def run(self) -> None:
        """Receive, for the DHT as well, and keep the time, until cancelled or closed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            try:
                await self._socket.serve(self._take)
            except trio.ClosedResourceError:
                if not self._closed:
                    raise
            nursery.cancel_scope.cancel()

    async def connect(self, to: Address) -> UtpStream:
        """Raises OSError. It gives up by itself (`UtpConfig.syn_resends`); nothing leaks when it is
        cancelled before."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise OSError(errno.EBADF, "the port is closed")
        connection = self._table.connect(to, trio.current_time())
        if connection is None:
            raise OSError(errno.ENOBUFS, "too many uTP connections")
        stream = self._add(connection)
        self._due.set()
        try:
            await stream.connected()
        except BaseException:
            stream.close()
            raise
        return stream

    async def accept(self) -> UtpStream:
        await trio.lowlevel.checkpoint()
        while not self._closed:
            if self._arrived:
                return self._arrived.popleft()
            await self._arrival.wait()
        raise trio.ClosedResourceError("closed here")

    def close(self) -> None:
        """Idempotent. Each peer is told that its connection has ended; what it has not acknowledged
        by now is lost. Then the socket is closed, for the DHT as well."""
        if self._closed:
            return
        self._closed = True
        for stream in list(self._streams.values()):
            if stream.held:
                stream.give_up()
            else:
                stream.close()
        self._arrived.clear()
        self._arrival.set()
        self._flush(trio.current_time())
        self._streams.clear()
        self.dht.close()
        self._socket.close()

    # -- for the streams ------------------------------------------------------------------------

    def changed(self, connection: UtpConnection) -> None:
        """Something is to be sent, or may be: in the next turn, with what others have by then."""
        self._table.changed(connection)
        self._due.set()

    def room(self, stream: UtpStream) -> int:
        """Bytes that a connection may take now. When all together hold too much, each has still
        room for a little."""
        left = self._config.total_send_buffer - self._held
        return min(stream.writable, max(left, self._config.min_send_buffer - stream.held))

    def count(self, stream: UtpStream) -> None:
        """What it holds for the other side has changed."""
        held = stream.held
        self._held += held - stream.counted
        stream.counted = held

    # -- datagrams and time ---------------------------------------------------------------------

    def _take(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        ours = [one for one in datagrams if is_utp(one[0])]
        if len(ours) < len(datagrams):
            rest = [one for one in datagrams if not is_utp(one[0])] if ours else datagrams
            self.dht.give(rest)
        if ours:
            try:
                self._receive(ours)
            except Exception as error:  # noqa: BLE001 - a bug here must not cost the DHT its datagrams
                self._faults.take(error, "receiving uTP")

    def _receive(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        now = trio.current_time()
        touched, new = self._table.receive(datagrams, now)
        for connection in new:
            stream = self._add(connection)
            if len(self._arrived) < BACKLOG:
                self._arrived.append(stream)
                self._arrival.set()
            else:
                stream.give_up()
        for connection in touched:
            stream = self._streams[connection]
            self.count(stream)
            stream.wake()
        self._flush(now)
        when = self._table.next_time()
        if when is not None and when < self._sleep.deadline:
            self._sleep.deadline = when

    def _add(self, connection: UtpConnection) -> UtpStream:
        stream = self._streams[connection] = UtpStream(self, connection, self._config)
        return stream

    async def _keep_time(self) -> None:
        while True:
            self._flush(trio.current_time())
            when = self._table.next_time()
            with trio.CancelScope(deadline=math.inf if when is None else when) as self._sleep:
                await self._due.wait()

    def _flush(self, now: float) -> None:
        """Send what is due."""
        refused = True
        while refused:
            due = self._table.due(now)
            refused = False
            for probe, to in due.probes:
                if not self._socket.send_whole(probe, to):
                    self._table.probe_refused(probe, to)
                    refused = True
            if due.datagrams:
                self._socket.send_all(due.datagrams)
            for connection in due.ended:
                stream = self._streams.pop(connection)
                self._held -= stream.counted
                stream.counted = 0
                stream.wake()


class RestOfSocket:
    """The `DatagramSocket` that the DHT sees: what is not uTP. Closing it leaves the port open."""

    def __init__(self, socket: DatagramSocket) -> None:
        self._socket = socket
        self._taker: OnDatagrams | None = None
        self._failure: BaseException | None = None
        self._waiting: deque[tuple[bytes, Address]] = deque(maxlen=MAX_DRAIN)
        self._news = AutoResetEvent()
        self._closed = False
        self.send = socket.send
        self.send_all = socket.send_all
        self.send_whole = socket.send_whole

    @property
    def errors(self) -> int:
        return self._socket.errors

    @property
    def address(self) -> Address:
        return self._socket.address

    def give(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        """These have come. What the taker raises, `serve` raises in its own task."""
        if self._closed:
            return
        if self._taker is None:
            self._waiting.extend(datagrams)  # as a socket does: so many, and then they are lost
            self._news.set()
            return
        try:
            self._taker(datagrams)
        except BaseException as failure:  # noqa: BLE001 - see above
            self._taker, self._failure = None, failure
            self._news.set()

    async def receive(self) -> list[tuple[bytes, Address]]:
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError("closed here")
            if self._waiting:
                got = list(self._waiting)
                self._waiting.clear()
                return got
            await self._news.wait()

    async def serve(self, take: OnDatagrams) -> None:
        while self._waiting and not self._closed:
            take(await self.receive())
        self._taker = take
        try:
            while not self._closed and self._failure is None:
                await self._news.wait()
        finally:
            self._taker = None
        failure, self._failure = self._failure, None
        raise failure or trio.ClosedResourceError("closed here")

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._news.set()


class UtpPorts:
    """Those of a node: none, or one in each family."""

    def __init__(self, ports: Sequence[UtpPort] = ()) -> None:
        self._ports = {port.address.is_ipv6: port for port in ports}

    def __iter__(self) -> Iterator[UtpPort]:
        return iter(self._ports.values())

    def reach(self, address: Address) -> bool:
        """Whether there is one in the family of this address."""
        return address.is_ipv6 in self._ports

    async def connect(self, to: Address) -> UtpStream:
        """As `UtpPort.connect`."""
        port = self._ports.get(to.is_ipv6)
        if port is None:
            await trio.lowlevel.checkpoint()
            raise OSError(errno.ENETUNREACH, f"no uTP to {to}")
        return await port.connect(to)
