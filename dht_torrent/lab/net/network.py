"""A network in memory. The rule: same seed, same calls, same events; and whatever the Protocols of
`engine.net` promise holds here too (one test suite runs over both).

Nothing runs in the background. A datagram or a chunk of a stream gets its moment of arrival when it
is sent, and the receiver waits for that moment; with neither latency nor rate it is there at once,
without a timer. Meant for `lab.run`'s virtual clock, but any Trio clock will do.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterable
from typing import Final

import trio

from dht_torrent.engine.net.gateways import Gateway
from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.engine.net.surroundings import Surroundings
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.datagrams import FakeDatagramSocket
from dht_torrent.lab.net.link import Link, Stats, Wire
from dht_torrent.lab.net.multicast import Lan, MulticastSocket
from dht_torrent.lab.net.nat import Nat
from dht_torrent.lab.net.streams import FakeListener, FakeStream, open_streams
from dht_torrent.lab.net.topology import Breakable

_EPHEMERAL: Final = range(49152, 65536)  # RFC 6335
_SYN_RETRIES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # Linux: gives up after 127 s


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
        self._lans: dict[str, Lan] = {}

    def host(self, ip: str) -> FakeHost:
        """The host with this IP, made when first asked for. It is a `Network`."""
        host = self._hosts.get(ip)
        if host is None:
            host = self._hosts[ip] = FakeHost(self, ip)
        return host

    def rename(self, host: FakeHost, ip: str) -> None:
        """This host has another IP from now on."""
        if ip in self._hosts:
            raise ValueError(f"there is a host {ip}")
        del self._hosts[host.ip]
        self._hosts[ip] = host

    def lan(self, name: str, *ips: str) -> Lan:
        """The local network of this name, made when first asked for, with these hosts in it too.
        Hosts are in none by themselves, and then have no interface for multicast."""
        lan = self._lans.get(name)
        if lan is None:
            lan = self._lans[name] = Lan(name, len(self._lans) + 1)
        for ip in ips:
            lan.plug_in(ip)
        return lan

    def lans(self, ip: str) -> list[Lan]:
        """Those that this host is in."""
        return [lan for lan in self._lans.values() if lan.has(ip)]

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
        if host is None or host.is_down or (self._side and self.is_cut(source, target)):
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
        self.nat: Nat | None = None
        """The router it is behind: connections do not come in, and datagrams only from where one
        was sent."""
        self.is_down = False
        self.router: str | None = None
        """Its default gateway, where that is in a local network with it."""
        self.slept = 0.0
        """Seconds for which it was suspended, as it tells. Its tasks go on: they have no clock of
        their own."""
        self.streams: dict[Breakable, None] = {}  # a set in order of opening
        self._net = net
        self._udp: dict[int, FakeDatagramSocket] = {}
        self._listeners: dict[int, FakeListener] = {}
        self._next_port = 0

    @property
    def behind_nat(self) -> bool:
        """There is one. It may be set: to one that keeps all ports as they are."""
        return self.nat is not None

    @behind_nat.setter
    def behind_nat(self, is_behind: bool) -> None:
        self.nat = Nat() if is_behind else None

    def go_down(self) -> None:
        """Pull the cable: streams break, at both ends; datagrams are lost, also those in flight."""
        self.is_down = True
        for stream in list(self.streams):
            stream.reset()
        for socket in self._udp.values():
            socket.forget()

    def come_up(self) -> None:
        self.is_down = False

    def lose_streams(self) -> None:
        """Its connections are dead, and neither end is told: a NAT has forgotten them."""
        for stream in list(self.streams):
            stream.lose()

    def move(self, ip: str) -> None:
        """Have another IP from now on, as a laptop in another network: connections are dead, and
        what is sent to the old IP is lost. Sockets that are bound to no IP go on."""
        self.lose_streams()
        lans = self._net.lans(self.ip)
        for lan in lans:
            lan.unplug(self.ip)
        self._net.rename(self, ip)
        self.ip = ip
        for lan in lans:
            lan.plug_in(ip)
        for socket in self._udp.values():
            socket.moved()

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
        stream = open_streams(self._net, self, Address(self.ip, port), target, to, listener)
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

    def surroundings(self) -> Surroundings:
        return Surroundings(frozenset(() if self.is_down else (self.ip,)), self.slept)

    def interfaces(self) -> list[Interface]:
        return [] if self.is_down else [lan.interface(self.ip) for lan in self._net.lans(self.ip)]

    def gateways(self) -> list[Gateway]:
        router = self.router
        if self.is_down or router is None:
            return []
        return [Gateway(router, lan.name) for lan in self._net.lans(self.ip) if lan.has(router)]

    async def open_multicast(self, group: Address, on: Interface) -> MulticastSocket:
        await trio.lowlevel.checkpoint()
        return self._net.lan(on.name).join(self._net, self, group)

    def seen_as(self, port: int, to: Address) -> Address:
        nat = self.nat if to.host != self.ip else None
        return Address(self.ip, port if nat is None else nat.outside(port, to))

    def heard_at(self, port: int, source: Address | None = None) -> FakeDatagramSocket | None:
        inside: int | None = port
        if self.nat is not None and source is not None and source.host != self.ip:
            inside = self.nat.inside(port, source)
        return None if inside is None else self._udp.get(inside)

    def opened(self, stream: Breakable) -> None:
        self.streams[stream] = None

    def ended(self, stream: Breakable) -> None:
        self.streams.pop(stream, None)

    def release_udp(self, port: int) -> None:
        self._udp.pop(port, None)

    def release_tcp(self, port: int) -> None:
        self._listeners.pop(port, None)

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


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await trio.sleep(seconds)


def _error(code: int, address: Address) -> OSError:
    return OSError(code, f"{address}: {os.strerror(code)}")
