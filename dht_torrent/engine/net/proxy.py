"""The network through a SOCKS5 proxy: a `Network` around another one.

The rule: nothing goes beside the proxy. Through the network below go connections to the proxy,
datagrams to the proxy, and the look-up of the proxy's own name, and nothing else; without the proxy
there is no network. Nobody can connect to us, and names are the proxy's to resolve.

python-socks says what is to be said on TCP connections; it is given ours, and opens none.
"""

from __future__ import annotations

import errno
import logging
import os
import random
from collections.abc import Callable
from typing import Any, Final, cast

import trio
from python_socks import ProxyError, ProxyType
from python_socks.async_.trio import Proxy

from dht_torrent.config import ProxyConfig, ProxyServer
from dht_torrent.engine.net.gateways import Gateway
from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.engine.net.protocols import Encryption, Network, Scattered, Stream
from dht_torrent.engine.net.relayed import ProxyDownError, RelayedDatagrams
from dht_torrent.engine.net.surroundings import Surroundings
from dht_torrent.engine.time_limit import TimeLimit
from dht_torrent.engine.views import ProxyStatus
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.ids import Address, HostPort, Transport, is_ip

logger = logging.getLogger(__name__)

_ERRNO: Final = {
    2: errno.EACCES,
    3: errno.ENETUNREACH,
    4: errno.EHOSTUNREACH,
    5: errno.ECONNREFUSED,
    6: errno.ETIMEDOUT,
    8: errno.EAFNOSUPPORT,
}
"""What a refusal means here, by its number (RFC 1928, 6)."""
_FOREVER: Final = 3600.0
"""Seconds: who connects has a time limit of his own."""


class ProxiedNetwork:
    """All that a node has of the network. `run` is its task."""

    def __init__(
        self, network: Network, server: ProxyServer, config: ProxyConfig, *, rng: random.Random
    ) -> None:
        """`network` leads to the proxy."""
        self.on_renewed: Callable[[Address], None] = _do_nothing
        """Called when the UDP socket that is bound there works again after it did not."""
        self._network = network
        self._server = server
        self._config = config
        self._rng = rng
        self._found: list[Address] = []  # of the proxy's name, until it does not answer there
        self._sockets: list[RelayedDatagrams] = []
        self._opened = AutoResetEvent()
        self._trouble: str | None = None
        self._rests_until = 0.0

    async def run(self) -> None:
        """A service: keeps an association with the proxy for each UDP socket."""
        async with trio.open_nursery() as nursery:
            kept: set[RelayedDatagrams] = set()
            while True:
                self._sockets = [socket for socket in self._sockets if not socket.is_closed]
                for socket in self._sockets:
                    if socket not in kept:
                        nursery.start_soon(socket.keep)
                kept = set(self._sockets)
                await self._opened.wait()

    async def tried(self) -> None:
        """Returns when the proxy was asked for all associations that are wanted so far."""
        for socket in list(self._sockets):
            await socket.tried.wait()

    def status(self) -> ProxyStatus:
        """For people."""
        troubles = [socket.trouble for socket in self._sockets]
        return ProxyStatus(
            server=str(self._server),
            trouble=self._trouble,
            udp_trouble=next((one for one in troubles if one is not None), None),
        )

    def sender_to_names(self, bound: Address) -> Callable[[bytes, HostPort], bool]:
        """How to send from the UDP socket that is bound there to a host that the proxy resolves: it
        may be one of the other family. Gives False when it certainly did not leave."""
        return self._bound(bound).send_to_name

    def trouble_at(self, bound: Address) -> Callable[[], str | None]:
        """What tells why nothing can be sent from that socket, in a line; None: it can."""
        socket = self._bound(bound)
        return lambda: socket.trouble

    def _bound(self, bound: Address) -> RelayedDatagrams:
        (socket,) = (one for one in self._sockets if one.address == bound)
        return socket

    def check_udp(self, to: Address) -> None:
        """Raises ProxyDownError, if no datagram can be sent there now."""
        for socket in self._sockets:
            is_down = socket.trouble is not None and socket.tried.is_set()
            if socket.address.is_ipv6 is to.is_ipv6 and is_down:
                raise ProxyDownError(socket.trouble)

    # -- as a network -----------------------------------------------------------------------------

    async def open_udp(self, bind: Address) -> RelayedDatagrams:
        await trio.lowlevel.checkpoint()
        socket = RelayedDatagrams(
            bind,
            self._network,
            self._server,
            self._config,
            open_control=self.open,
            on_renewed=lambda bound: self.on_renewed(bound),
            rng=self._rng,
        )
        self._sockets.append(socket)
        self._opened.set()
        return socket

    async def listen(self, bind: Address) -> NobodyComes:
        await trio.lowlevel.checkpoint()
        return NobodyComes(bind)

    async def connect(self, to: Address, *, local: Address | None = None) -> ProxiedStream:
        """As `Network.connect`; from where is the proxy's affair. Raises ProxyDownError if it is
        the proxy that fails."""
        if self._trouble is not None and trio.current_time() < self._rests_until:
            await trio.lowlevel.checkpoint()
            raise ProxyDownError(self._trouble)
        door = _Door(self)
        proxy = Proxy(
            ProxyType.SOCKS5,
            *self._server.address,
            username=self._server.user,
            password=self._server.password,
            rdns=True,
            forward=cast(Any, door),
        )
        try:
            await proxy.connect(to.host, to.port, timeout=_FOREVER)
        except ProxyError as error:
            knock = door.knock
            if error.error_code is None and (knock is None or not knock.answered_and_left):
                raise self.failed(f"the proxy does not let us in: {error}") from error
            self.answers()
            code = _ERRNO.get(error.error_code or 0, errno.EHOSTUNREACH)
            raise OSError(code, f"{to}, said the proxy: {error}") from error
        self.answers()
        assert door.knock is not None
        return ProxiedStream(door.knock.stream, to)

    async def resolve(self, point: HostPort) -> list[Address]:
        """Literals alone. What a name means is the proxy's to find out; see `send_to_name`."""
        await trio.lowlevel.checkpoint()
        return await self._network.resolve(point) if is_ip(point.host) else []

    def surroundings(self) -> Surroundings:
        return self._network.surroundings()

    def interfaces(self) -> list[Interface]:
        return []

    def gateways(self) -> list[Gateway]:
        """None: what the router does is beside the proxy."""
        return []

    async def open_multicast(self, group: Address, on: Interface) -> RelayedDatagrams:
        await trio.lowlevel.checkpoint()
        raise OSError(errno.ENETUNREACH, "there is no multicast through a proxy")

    # -- the proxy itself -------------------------------------------------------------------------

    async def open(self) -> Stream:
        """A connection to the proxy. Raises ProxyDownError."""
        why = "its name has no address"
        try:
            with TimeLimit(self._config.connect_timeout):
                found = self._found or await self._network.resolve(self._server.address)
                for address in found:
                    try:
                        stream = await self._network.connect(address)
                    except OSError as error:
                        why = os.strerror(error.errno) if error.errno else str(error)
                        continue
                    self._found = found
                    return stream
        except trio.TooSlowError:
            why = f"no answer in {self._config.connect_timeout:g} seconds"
        self._found = []
        raise self.failed(f"the proxy cannot be reached: {why}")

    def failed(self, why: str) -> ProxyDownError:
        """It is the proxy that fails. Returns what to raise."""
        if why != self._trouble:
            logger.warning("%s: %s", self._server, why)
            self._trouble = why
        self._rests_until = trio.current_time() + self._config.first_retry
        return ProxyDownError(why)

    def answers(self) -> None:
        """It has done, or refused to do, what it was asked."""
        if self._trouble is not None:
            logger.info("%s: the proxy answers again", self._server)
            self._trouble = None


def _do_nothing(bound: Address) -> None:
    """Nobody wants to know."""


class NobodyComes:
    """A `Listener` of a host to which nobody can connect."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._closed = trio.Event()

    async def accept(self) -> Stream:
        await self._closed.wait()
        raise trio.ClosedResourceError("closed here")

    def close(self) -> None:
        self._closed.set()


class ProxiedStream:
    """A `Stream` that the proxy hands on to `remote`."""

    transport = Transport.TCP
    encryption: Encryption | None = None

    def __init__(self, stream: Stream, remote: Address) -> None:
        self._stream = stream
        self.remote = remote
        self.receive_into = stream.receive_into
        self.send = stream.send
        self.close = stream.close

    @property
    def local(self) -> Address:
        return self._stream.local

    @property
    def scattered(self) -> Scattered | None:
        return self._stream.scattered


class _Door:
    """Where python-socks has its connections from: what it takes for a proxy before the proxy."""

    def __init__(self, network: ProxiedNetwork) -> None:
        self._network = network
        self.knock: _Knock | None = None

    async def connect(self, dest_host: str, dest_port: int, timeout: float | None) -> _Knock:
        self.knock = _Knock(await self._network.open())
        return self.knock


class _Knock:
    """A connection to the proxy, as python-socks wants its sockets."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.answered_and_left = False
        """The proxy hung up, after it had spoken SOCKS with us."""
        self._received = 0

    async def send(self, data: bytes) -> int:
        await self.stream.send(bytes(data))
        return len(data)

    async def recv(self, most: int) -> bytes:
        buffer = memoryview(bytearray(most))
        try:
            size = await self.stream.receive_into(buffer)
        except OSError:
            size = 0  # how it hangs up does not matter
        self._received += size
        self.answered_and_left = not size and self._received > 0
        return bytes(buffer[:size])

    def close(self) -> None:
        self.stream.close()
