"""A SOCKS5 proxy on the fake network, its bytes written by hand; and a network that only leads
there."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from dht_torrent.engine.net.gateways import Gateway
from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.engine.net.protocols import DatagramSocket, Listener, Network, OnDatagrams, Stream
from dht_torrent.engine.net.surroundings import Surroundings
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.network import FakeHost, FakeNetwork

PROXY = "10.9.0.1"
PORT = 1080
CONNECT, ASSOCIATE = 1, 3


class _Reader:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def exactly(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            buffer = memoryview(bytearray(count - len(got)))
            size = await self._stream.receive_into(buffer)
            if not size:
                raise EOFError
            got += buffer[:size]
        return bytes(got)

    async def address(self) -> HostPort:
        kind = (await self.exactly(1))[0]
        if kind == 3:
            (length,) = await self.exactly(1)
            host = (await self.exactly(length)).decode()
        else:
            family = socket.AF_INET6 if kind == 4 else socket.AF_INET
            host = socket.inet_ntop(family, await self.exactly(16 if kind == 4 else 4))
        return HostPort(host, int.from_bytes(await self.exactly(2), "big"))


@dataclass
class FakeProxy:
    """What it does can be changed at any time."""

    net: FakeNetwork
    password: tuple[bytes, bytes] | None = None
    """User name and password that it wants."""
    udp_refusal: int = 0
    """The number of the reply to UDP ASSOCIATE, if it refuses."""
    relay_host: str | None = None
    """Where it says that its relay is, if not where it is."""
    deaf: bool = False
    """Its relay hands nothing on any more."""
    mute: bool = False
    """It takes connections and says nothing."""
    connects: list[HostPort] = field(default_factory=list)
    """What it was asked to connect to."""
    names: list[HostPort] = field(default_factory=list)
    """Names that datagrams were for."""
    clients: list[Address] = field(default_factory=list)
    """From where the first datagram of each association came."""
    controls: dict[Stream, DatagramSocket] = field(default_factory=dict)
    """Associations and their relays, by their connections."""

    @property
    def host(self) -> FakeHost:
        return self.net.host(PROXY)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """It serves meanwhile; then all that goes through it ends."""
        listener = await self.host.listen(Address(PROXY, PORT))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._accept, listener, nursery)
                yield
                nursery.cancel_scope.cancel()
        finally:
            listener.close()

    def end_associations(self) -> None:
        for control in list(self.controls):
            control.close()

    async def _accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(self._serve, await listener.accept())

    async def _serve(self, stream: Stream) -> None:
        with contextlib.suppress(EOFError, OSError, trio.ClosedResourceError):
            try:
                await self._speak(stream)
            finally:
                stream.close()

    async def _speak(self, stream: Stream) -> None:
        if self.mute:
            await trio.sleep_forever()
        reader = _Reader(stream)
        version, count = await reader.exactly(2)
        assert version == 5
        methods = await reader.exactly(count)
        if self.password is None:
            assert 0 in methods
            await stream.send(b"\x05\0")
        elif 2 in methods:
            await stream.send(b"\x05\x02")
            said = []
            assert await reader.exactly(1) == b"\x01"
            for _ in range(2):
                (length,) = await reader.exactly(1)
                said.append(await reader.exactly(length))
            right = tuple(said) == self.password
            await stream.send(b"\x01\0" if right else b"\x01\x01")
            if not right:
                return
        else:
            await stream.send(b"\x05\xff")
            return
        version, command, reserved = await reader.exactly(3)
        assert (version, reserved) == (5, 0)
        to = await reader.address()
        if command == CONNECT:
            await self._connect(stream, to)
        else:
            assert command == ASSOCIATE
            await self._associate(stream)

    async def _connect(self, stream: Stream, to: HostPort) -> None:
        self.connects.append(to)
        try:
            other = await self.host.connect(Address(*to))
        except OSError as error:
            code = 5 if error.errno == errno.ECONNREFUSED else 4
            await stream.send(b"\x05" + bytes([code]) + b"\0\x01" + bytes(6))
            return
        try:
            await stream.send(b"\x05\0\0\x01" + bytes(6))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pump, stream, other, nursery.cancel_scope)
                nursery.start_soon(_pump, other, stream, nursery.cancel_scope)
        finally:
            other.close()

    async def _associate(self, stream: Stream) -> None:
        if self.udp_refusal:
            await stream.send(b"\x05" + bytes([self.udp_refusal]) + b"\0\x01" + bytes(6))
            return
        inside = await self.host.open_udp(Address(PROXY, 0))
        outside = await self.host.open_udp(Address(PROXY, 0))
        said = Address(self.relay_host or PROXY, inside.address.port)
        kind = b"\x04" if said.is_ipv6 else b"\x01"
        self.controls[stream] = inside
        try:
            await stream.send(b"\x05\0\0" + kind + said.compact())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._relay, inside, outside)
                with contextlib.suppress(OSError, trio.ClosedResourceError):
                    while await stream.receive_into(memoryview(bytearray(10))):
                        pass
                nursery.cancel_scope.cancel()
        finally:
            del self.controls[stream]
            inside.close()
            outside.close()

    async def _relay(self, inside: DatagramSocket, outside: DatagramSocket) -> None:
        client: list[Address] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inside.serve, partial(self._out, client, outside))
            nursery.start_soon(outside.serve, partial(self._back, client, inside))

    def _out(
        self,
        client: list[Address],
        outside: DatagramSocket,
        datagrams: Sequence[tuple[bytes, Address]],
    ) -> None:
        for data, source in datagrams:
            if not client:
                client.append(source)
                self.clients.append(source)
            if source != client[0] or self.deaf:
                continue
            assert data[:3] == b"\0\0\0"
            if data[3] == 3:
                end = 5 + data[4] + 2
                name = HostPort(
                    data[5 : end - 2].decode(), int.from_bytes(data[end - 2 : end], "big")
                )
                self.names.append(name)
                for host in self.net.names.get(name.host, [])[:1]:
                    outside.send(data[end:], Address(host, name.port))
            else:
                assert data[3] == 1
                to = Address(socket.inet_ntoa(data[4:8]), int.from_bytes(data[8:10], "big"))
                outside.send(data[10:], to)

    def _back(
        self,
        client: list[Address],
        inside: DatagramSocket,
        datagrams: Sequence[tuple[bytes, Address]],
    ) -> None:
        for data, source in datagrams:
            if client and not self.deaf:
                inside.send(b"\0\0\0\x01" + source.compact() + data, client[0])


async def _pump(source: Stream, to: Stream, scope: trio.CancelScope) -> None:
    buffer = memoryview(bytearray(65536))
    with contextlib.suppress(OSError, trio.ClosedResourceError):
        while size := await source.receive_into(buffer):
            await to.send(bytes(buffer[:size]))
    scope.cancel()


class OnlyTo:
    """A network in which everything but one host is a breach."""

    def __init__(self, network: Network, host: str = PROXY) -> None:
        self.breaches: list[str] = []
        self.resolved: list[HostPort] = []
        self._network = network
        self._host = host

    def _see(self, what: str, host: str) -> None:
        if host != self._host:
            self.breaches.append(f"{what} {host}")

    async def open_udp(self, bind: Address) -> DatagramSocket:
        return _SeenDatagrams(await self._network.open_udp(bind), self._see)

    async def listen(self, bind: Address) -> Listener:
        self._see("listening at", str(bind))
        return await self._network.listen(bind)

    async def connect(self, to: Address, *, local: Address | None = None) -> Stream:
        self._see("a connection to", to.host)
        return await self._network.connect(to, local=local)

    async def resolve(self, point: HostPort) -> list[Address]:
        self.resolved.append(point)
        return await self._network.resolve(point)

    def surroundings(self) -> Surroundings:
        return self._network.surroundings()

    def interfaces(self) -> list[Interface]:
        return self._network.interfaces()

    def gateways(self) -> list[Gateway]:
        return self._network.gateways()

    async def open_multicast(self, group: Address, on: Interface) -> DatagramSocket:
        self._see("multicast to", group.host)
        return await self._network.open_multicast(group, on)


class _SeenDatagrams:
    errors = 0

    def __init__(self, inner: DatagramSocket, see: Callable[[str, str], None]) -> None:
        self._inner = inner
        self._see = see
        self.address = inner.address
        self.close = inner.close

    async def receive(self) -> Sequence[tuple[bytes, Address]]:
        return await self._inner.receive()

    async def serve(self, take: OnDatagrams) -> None:
        await self._inner.serve(take)

    def send(self, data: bytes, to: Address) -> bool:
        self._see("a datagram to", to.host)
        return self._inner.send(data, to)

    def send_all(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        for _, to in datagrams:
            self._see("a datagram to", to.host)
        return self._inner.send_all(datagrams)

    def send_whole(self, data: bytes, to: Address) -> bool:
        self._see("a datagram to", to.host)
        return self._inner.send_whole(data, to)
