"""The network of this machine through one interface only (`--interface`). The rule: no packet goes
any other way, whatever comes and goes. A socket that cannot be tied to the interface is not used.

While the interface is away there are no sockets at all: its connections are broken off, and what
listens waits until it is back, maybe with another address. Names are asked of the system's name
servers by ourselves, since the system's resolver cannot be told which way to ask.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import Final

import trio

from dht_torrent.engine.net import names
from dht_torrent.engine.net.binding import REFUSED, Binding, bind_address, find, is_ip, tie
from dht_torrent.engine.net.gateways import Gateway
from dht_torrent.engine.net.interfaces import Interface, all_interfaces, interfaces
from dht_torrent.engine.net.lasting import LastingDatagrams, LastingListener
from dht_torrent.engine.net.notices import Notices
from dht_torrent.engine.net.protocols import DatagramSocket, Listener
from dht_torrent.engine.net.rests import Rests
from dht_torrent.engine.net.sockets import RealDatagramSocket, RealNetwork
from dht_torrent.engine.net.surroundings import Surroundings, slept
from dht_torrent.engine.net.tcp import RealListener, RealStream
from dht_torrent.ids import Address, HostPort
from dht_torrent.relief import Relief, no_relief

logger = logging.getLogger(__name__)

REMEMBERED: Final = 15 * 60.0
"""Seconds for which rests of connections are kept while it is away: as long as the other end's TCP
goes on to send (tcp_retries2)."""
NAMELESS: Final = (
    f"host names are not looked up: {names.RESOLV_CONF} names no server outside this machine, and "
    "others may not be asked with an interface; give addresses instead"
)
_ABSENT: Final = frozenset({errno.ENODEV, errno.ENETDOWN, errno.ENXIO})
"""It went since we looked."""


class InsideNetwork:
    """A `Network`. `run` keeps it true."""

    def __init__(
        self,
        wanted: str,
        interval: float,
        relief: Relief = no_relief,
        *,
        look: Callable[[], Sequence[Interface]] = all_interfaces,
    ) -> None:
        """`wanted`: the name of an interface, or an address that it has. `interval`: seconds
        between two looks whether it is there, by `look`."""
        self._wanted = wanted
        self._interval = interval
        self._look = look
        self._rests = Rests()
        self._real = RealNetwork(relief, self._pin, self._rests.add)
        self._lasting: dict[LastingDatagrams | LastingListener, None] = {}
        self._streams: weakref.WeakSet[RealStream] = weakref.WeakSet()
        self._to_address = is_ip(wanted)
        self._refused: OSError | None = None
        self._asleep: Binding | None = None  # what kept sockets are tied to
        self._asleep_at = 0.0
        self._generation = 0
        self._is_nameless = False
        self._binding = find(wanted, look())
        self._is_ready = True  # what listens was opened since it is here
        if self._binding is None:
            logger.warning(
                "%s is not here: nothing is sent or received until it is", self._description
            )

    @property
    def binding(self) -> Binding | None:
        """The interface, once it is in use; None while it is away."""
        return self._binding if self._is_ready else None

    def text(self) -> str:
        """Where we are, for people."""
        binding = self.binding
        if binding is None:
            return f"{self._wanted} is not here: nothing is sent or received"
        rest = [host for host in binding.hosts if not ipaddress.ip_address(host).is_link_local]
        return f"{binding.name} ({', '.join(rest or binding.hosts)})"

    def warnings(self) -> list[str]:
        """What the user has to know, in lines."""
        if self.binding is None:
            return [f"{self._description} is not here: nothing is sent or received until it is"]
        told = [one.trouble for one in self._lasting if one.trouble is not None]
        return [*told, *([NAMELESS] if self._is_nameless else []), *self._refusal()]

    def _refusal(self) -> list[str]:
        if self._refused is None:
            return []
        why = self._refused.strerror
        told = f"the system does not tie sockets to an interface ({why}): they are bound to its "
        return [told + "addresses, and the routes decide which way their packets go"]

    async def run(self) -> None:
        """A service: looks again and again, and at once when the system says that something has
        changed: what comes for an interface that has just been made should find our sockets."""
        with closing(Notices()) as notices:
            while True:
                await self.look_again()
                await notices.wait(self._interval)

    def close(self) -> None:
        """When all that it opened is closed."""
        self._rests.close()

    async def look_again(self) -> None:
        """Let go of what was lost with the interface, and open again what listens."""
        before = self._binding
        found = find(self._wanted, self._look(), before)
        if not self._is_same(before, found):
            self._binding, self._is_ready = found, False
            if before is not None:
                self._break_off(before)
            if found is not None:
                self._settle(found)
            if found is None:
                logger.warning(
                    "%s has gone: nothing is sent or received until it is back", self._description
                )
        self._binding = found
        now = trio.current_time()
        if found is None and now - self._asleep_at >= REMEMBERED:
            self._rests.close()
        if found is not None:
            self._rests.look(now)
            for one in [one for one in self._lasting if not one.is_open]:
                await one.reopen()
        if not self._is_ready:
            self._is_ready = True
            if found is not None:
                logger.warning("%s is here: going on at %s", self._description, self.text())

    # -- a Network ------------------------------------------------------------------------------

    async def open_udp(self, bind: Address) -> DatagramSocket:
        inner = None
        try:
            inner = await self._real.open_udp(bind)
        except OSError as error:
            bind = self._later(bind, error)
        else:
            bind = bind._replace(port=inner.address.port)
        lasting = LastingDatagrams(bind, inner, self._real.open_udp, self._forget)
        self._lasting[lasting] = None
        return lasting

    async def listen(self, bind: Address) -> Listener:
        inner = None
        try:
            inner = await self._listen(bind)
        except OSError as error:
            bind = self._later(bind, error)
        else:
            bind = bind._replace(port=inner.address.port)
        lasting = LastingListener(bind, inner, self._listen, self._forget)
        self._lasting[lasting] = None
        return lasting

    async def connect(self, to: Address, *, local: Address | None = None) -> RealStream:
        binding = self._binding
        stream = await self._real.connect(to, local=local)
        if not self._is_same(binding, self._binding):
            stream.close()
            raise OSError(errno.ENETDOWN, f"{self._wanted} went while connecting to {to}")
        return self._opened(stream)

    async def resolve(self, point: HostPort) -> list[Address]:
        with suppress(ValueError):
            ipaddress.ip_address(point.host)
            return await self._real.resolve(point)  # which asks nobody
        servers = await names.name_servers()
        if not servers and not self._is_nameless:
            logger.warning("%s", NAMELESS)
        self._is_nameless = not servers
        return await names.resolve(self, servers, point)

    def surroundings(self) -> Surroundings:
        hosts = self.binding.hosts if self.binding is not None else ()
        outward = [host for host in hosts if not ipaddress.ip_address(host).is_link_local]
        return Surroundings(frozenset(outward), slept(), self._generation)

    def interfaces(self) -> list[Interface]:
        found: list[Interface] = []
        binding = self._binding
        for one in interfaces() if binding is not None else []:
            if binding is not None and one.name.partition(":")[0] == binding.name:
                networks = tuple(net for net in one.networks if str(net.ip) in binding.hosts)
                found += [replace(one, networks=networks)] if networks else []
        return found

    def gateways(self) -> list[Gateway]:
        binding = self._binding
        found = self._real.gateways() if binding is not None else []
        return [one for one in found if binding is not None and one.interface == binding.name]

    async def open_multicast(self, group: Address, on: Interface) -> RealDatagramSocket:
        binding = self._binding
        if binding is None or on.index != binding.index:
            await trio.lowlevel.checkpoint()
            raise OSError(errno.ENETDOWN, f"{on.name} is not {self._wanted}")
        return await self._real.open_multicast(group, on)

    # -- within ---------------------------------------------------------------------------------

    @property
    def _description(self) -> str:
        kind = "an interface with the address" if is_ip(self._wanted) else "the interface"
        return f"{kind} {self._wanted}"

    async def _listen(self, bind: Address) -> Listener:
        return _Listening(await self._real.listen(bind), self._opened)

    def _pin(self, sock: socket.socket, where: Address | None) -> Address | None:
        binding = self._binding
        if binding is None:
            raise OSError(errno.ENETDOWN, f"{self._description} is not here")
        if self._refused is None:
            try:
                tie(sock, binding)
            except OSError as error:
                if error.errno not in REFUSED:
                    raise
                self._refused = error
                self._to_address = True
                logger.warning("%s", *self._refusal())
        ipv6 = sock.family == socket.AF_INET6
        return bind_address(binding, where, ipv6=ipv6, to_address=self._to_address)

    def _is_same(self, one: Binding | None, other: Binding | None) -> bool:
        """Whether sockets opened for one of them are of use with the other."""
        if one is None or other is None:
            return one is other
        if (one.name, one.index) != (other.name, other.index):
            return False
        return not self._to_address or all(
            one.source(ipv6=ipv6) == other.source(ipv6=ipv6) for ipv6 in (False, True)
        )

    def _opened(self, stream: RealStream) -> RealStream:
        stream.keep_rest = self._rests.add
        self._streams.add(stream)
        return stream

    def _break_off(self, before: Binding) -> None:
        """It went. Where it is only down, the system has the sockets still: what comes for them as
        soon as it is up again must not find them gone."""
        self._generation += 1
        for stream in list(self._streams):
            stream.close()
        self._streams.clear()
        for lasting in self._lasting:
            lasting.sleep()
        self._asleep, self._asleep_at = before, trio.current_time()
        if self._refused is not None or not _is_left(before):
            self._let_go()

    def _settle(self, found: Binding) -> None:
        """It is back: what was kept goes on, if it is still the same."""
        if self._asleep is not None and not self._is_same(self._asleep, found):
            self._let_go()
        self._asleep = None

    def _let_go(self) -> None:
        for lasting in self._lasting:
            lasting.lose()
        self._rests.close()

    def _later(self, bind: Address, error: OSError) -> Address:
        """Where a socket is opened once the interface is there, if that is all that is missing."""
        if error.errno not in _ABSENT:
            raise error
        return bind if bind.port else bind._replace(port=_some_port())

    def _forget(self, lasting: object) -> None:
        if isinstance(lasting, LastingDatagrams | LastingListener):
            self._lasting.pop(lasting, None)


class _Listening:
    """A listener that tells of the streams it has accepted."""

    def __init__(self, listener: RealListener, accepted: Callable[[RealStream], object]) -> None:
        self._listener = listener
        self._accepted = accepted

    @property
    def address(self) -> Address:
        return self._listener.address

    async def accept(self) -> RealStream:
        stream = await self._listener.accept()
        self._accepted(stream)
        return stream

    def close(self) -> None:
        self._listener.close()


def _is_left(binding: Binding) -> bool:
    """Whether the system still has the interface, if only as one that is down."""
    try:
        return socket.if_nametoindex(binding.name) == binding.index
    except OSError:
        return False


def _some_port() -> int:
    """One that is probably free when it is needed. Nothing is sent for it, and nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
