"""UDP through a SOCKS5 proxy: a `DatagramSocket` for as long as the node runs, over one association
after the other.

The rule: a datagram goes to the proxy or nowhere, and what did not come from the proxy's relay was
not sent to us.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Final

import trio

from dht_torrent.config import ProxyConfig, ProxyServer
from dht_torrent.engine.net.protocols import DatagramSocket, Network, OnDatagrams, Stream
from dht_torrent.engine.time_limit import TimeLimit
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import SocksError
from dht_torrent.ids import Address, HostPort
from dht_torrent.socks.datagrams import unwrap, wrap
from dht_torrent.socks.dialogue import Dialogue

logger = logging.getLogger(__name__)

MAX_EARLY: Final = 64
"""Datagrams that wait for the proxy's first answer: what a DHT node asks when it begins. Further
ones are lost."""
_CHUNK: Final = 512
_CONNECTING: Final = "the proxy has not been asked yet"


class ProxyDownError(OSError):
    """The proxy cannot be reached, or does not let us in. That says nothing of who is behind it."""


class RelayedDatagrams:
    """A `DatagramSocket` whose datagrams the proxy hands on. `keep` is its task."""

    def __init__(
        self,
        bind: Address,
        network: Network,
        server: ProxyServer,
        config: ProxyConfig,
        *,
        open_control: Callable[[], Awaitable[Stream]],
        on_renewed: Callable[[Address], None],
        rng: random.Random,
    ) -> None:
        """`bind` says of which family it is, and nothing else: where it is bound is where the proxy
        is reached from. `open_control` connects to the proxy, and raises ProxyDownError.
        `on_renewed` is called with `bind` for each association but one that is had at once."""
        self.errors = 0
        self.dropped = 0
        """Datagrams that came and were not of the proxy, or that it should not have handed on."""
        self.trouble: str | None = _CONNECTING
        """Why nothing can be sent, in a line; None: it can."""
        self._bind = bind
        self._is_ipv6 = bind.is_ipv6
        self._network = network
        self._server = server
        self._config = config
        self._open_control = open_control
        self._on_renewed = on_renewed
        self._rng = rng
        self._socket: DatagramSocket | None = None  # while there is an association,
        self._relay = bind  # and where the proxy takes datagrams
        self._heard_at = 0.0
        self._unanswered = 0  # datagrams sent since we last heard anything
        self._changed = AutoResetEvent()  # there is an association, or this was closed
        self._scope: trio.CancelScope | None = None
        self._early: list[bytes] = []  # wrapped; while the proxy was not asked yet
        self.tried = trio.Event()
        """The proxy was asked, whatever it answered."""
        self.is_closed = False

    async def keep(self) -> None:
        """A service: has an association with the proxy, and another one when it ends."""
        config = self._config
        pause = config.first_retry
        with trio.CancelScope() as self._scope:
            while not self.is_closed:
                began = trio.current_time()
                try:
                    why = await self._associate()
                except (ProxyDownError, SocksError) as error:
                    why = str(error)
                except trio.TooSlowError:
                    why = "the proxy did not answer in time"
                except (OSError, trio.ClosedResourceError) as error:
                    why = f"the proxy hung up: {error}"
                if why != self.trouble:
                    logger.warning("%s: no UDP, so no DHT: %s", self._server, why)
                    self.trouble = why
                self.errors += len(self._try_is_over())
                if trio.current_time() - began >= config.max_retry:
                    pause = config.first_retry  # it has lasted
                await trio.sleep(pause * self._rng.uniform(0.75, 1.25))
                pause = min(2 * pause, config.max_retry)

    # -- as a socket ------------------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """Nobody sends there: it is what was asked for."""
        return self._bind

    async def receive(self) -> Sequence[tuple[bytes, Address]]:
        while True:
            if self.is_closed:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("closed here")
            socket = self._socket
            if socket is None:
                await self._changed.wait()
                continue
            try:
                datagrams = await socket.receive()
            except trio.ClosedResourceError:
                if self._socket is socket:
                    self._socket = None  # or this would spin
                continue
            if unwrapped := self._unwrapped(datagrams):
                return unwrapped

    async def serve(self, take: OnDatagrams) -> None:
        while True:
            take(await self.receive())

    def send(self, data: bytes, to: Address) -> bool:
        return self._send(data, to) if to.is_ipv6 is self._is_ipv6 else self._unsent()

    def send_to_name(self, data: bytes, to: HostPort) -> bool:
        """The same, to a host that the proxy resolves. It may be of the other family; then what it
        answers does not come in here."""
        return self._send(data, to)

    def send_all(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        socket = self._socket
        if socket is None:
            return sum(not self.send(data, to) for data, to in datagrams)
        relay, ipv6 = self._relay, self._is_ipv6
        wrapped = [
            (wrap(data, to), relay)
            for data, to in datagrams
            if to.is_ipv6 is ipv6 and 0 < to.port < 65536
        ]
        self._unanswered += len(wrapped)
        unsent = len(datagrams) - len(wrapped) + socket.send_all(wrapped)
        self.errors += unsent
        return unsent

    def send_whole(self, data: bytes, to: Address) -> bool:
        socket = self._socket
        if socket is None or to.is_ipv6 is not self._is_ipv6 or not 0 < to.port < 65536:
            self.errors += 1
            return True  # what is lost is not too large
        self._unanswered += 1
        return socket.send_whole(wrap(data, to), self._relay)

    def close(self) -> None:
        self.is_closed = True
        if self._scope is not None:
            self._scope.cancel()
        if self._socket is not None:
            self._socket.close()
        self._changed.set()

    def _send(self, data: bytes, to: Address | HostPort) -> bool:
        socket = self._socket
        if not 0 < to.port < 65536:
            return self._unsent()
        try:
            wrapped = wrap(data, to)
        except SocksError:  # no name of a host
            return self._unsent()
        if socket is None:
            if self.tried.is_set() or len(self._early) >= MAX_EARLY:
                return self._unsent()
            self._early.append(wrapped)
            return True
        self._unanswered += 1
        return socket.send(wrapped, self._relay) or self._unsent()

    def _try_is_over(self) -> list[bytes]:
        """The proxy has answered, once at least. Returns what has waited for that."""
        early, self._early = self._early, []
        self.tried.set()
        return early

    def _unsent(self) -> bool:
        self.errors += 1
        return False

    def _unwrapped(self, datagrams: Sequence[tuple[bytes, Address]]) -> list[tuple[bytes, Address]]:
        """What the proxy handed on."""
        relay, ipv6 = self._relay, self._is_ipv6
        unwrapped = []
        for datagram, hop in datagrams:
            if hop == relay:
                try:
                    data, source = unwrap(datagram)
                except SocksError:
                    continue
                if source.is_ipv6 is ipv6:
                    unwrapped.append((data, source))
        self.dropped += len(datagrams) - len(unwrapped)
        if unwrapped:
            self._heard_at = trio.current_time()
            self._unanswered = 0
        return unwrapped

    # -- the association --------------------------------------------------------------------------

    async def _associate(self) -> str:
        """Have an association until it ends; returns why it did. Raises what the proxy's answers,
        or its silence, raise, if there was none."""
        with closing(await self._open_control()) as control:
            with TimeLimit(self._config.connect_timeout):
                named = await self._agree(control)
            proxy = control.remote.host
            # Only the port is believed. Any other host would be one beside the proxy, and what it
            # names where there is a NAT between us is of no use.
            if named.host not in (proxy, "0.0.0.0", "::"):  # noqa: S104 - a value
                logger.info("%s: its relay is said to be at %s", self._server, named)
            relay = Address(proxy, named.port)
            socket = await self._network.open_udp(Address(control.local.host, 0))
            try:
                self._begin(socket, relay)
                return await self._last(control)
            finally:
                self._socket = None
                socket.close()

    async def _agree(self, control: Stream) -> Address | HostPort:
        """Ask for the association. Returns where the proxy takes datagrams."""
        dialogue = Dialogue(self._server.user, self._server.password)
        buffer = memoryview(bytearray(_CHUNK))
        await control.send(dialogue.begin())
        while dialogue.relay is None:
            size = await control.receive_into(buffer)
            if not size:
                raise SocksError("the proxy hung up when it was asked for UDP")
            said = dialogue.receive(bytes(buffer[:size]))
            if said:
                await control.send(said)
        if not dialogue.relay.port:
            raise SocksError("the proxy names no port for UDP")
        return dialogue.relay

    def _begin(self, socket: DatagramSocket, relay: Address) -> None:
        self._socket, self._relay = socket, relay
        self._heard_at, self._unanswered = trio.current_time(), 0
        if self.trouble not in (None, _CONNECTING):
            logger.info("%s: UDP works again", self._server)
        self.trouble = None
        is_first = not self.tried.is_set()
        for early in self._try_is_over():
            self._unanswered += 1
            if not socket.send(early, relay):
                self.errors += 1
        self._changed.set()
        if not is_first:
            self._on_renewed(self._bind)

    async def _last(self, control: Stream) -> str:
        """Returns when the association has ended, or seems to have: why it did."""
        silence = self._config.silence
        buffer = memoryview(bytearray(_CHUNK))
        while True:
            with trio.move_on_after(silence / 3):
                try:
                    while await control.receive_into(buffer):
                        pass  # nothing that it says now has a meaning
                except (OSError, trio.ClosedResourceError):
                    pass
                return "the proxy ended the UDP association"
            silent = trio.current_time() - self._heard_at
            if silent >= silence and self._unanswered >= self._config.silent_sends:
                return "nothing comes through the proxy's UDP any more"
