"""Local networks in the network in memory, and multicast in them. A host is in as many as it was
put into, and has an interface in each.
"""

from __future__ import annotations

import errno
import ipaddress
from typing import Final

import trio

from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.ids import Address
from dht_torrent.lab.net.datagrams import FakeDatagramSocket
from dht_torrent.lab.net.topology import Machine, Topology

_IPV4_BITS: Final = 24
_IPV6_BITS: Final = 64


class Lan:
    """A local network: hosts that hear each other's multicast."""

    def __init__(self, name: str, index: int) -> None:
        self.name = name
        self._index = index
        self._hosts: dict[str, None] = {}
        self._members: dict[Address, dict[MulticastSocket, None]] = {}

    def plug_in(self, ip: str) -> None:
        self._hosts[ip] = None

    def unplug(self, ip: str) -> None:
        self._hosts.pop(ip, None)

    def has(self, ip: str) -> bool:
        return ip in self._hosts

    def interface(self, ip: str) -> Interface:
        """That of this host: in its /24, or /64."""
        ipv6 = ":" in ip
        bits = _IPV6_BITS if ipv6 else _IPV4_BITS
        network = ipaddress.ip_interface(f"{ip}/{bits}")
        return Interface(self.name, self._index, ipv6, (network,))

    def join(self, net: Topology, host: Machine, group: Address) -> MulticastSocket:
        """A socket of the host, which is here, in the group. Raises OSError."""
        if not self.has(host.ip):
            raise OSError(errno.ENODEV, f"{host.ip} has no interface in {self.name}")
        socket = MulticastSocket(net, host, group, self)
        self._members.setdefault(group, {})[socket] = None
        return socket

    def leave(self, socket: MulticastSocket) -> None:
        self._members.get(socket.address, {}).pop(socket, None)

    def members(self, group: Address) -> list[MulticastSocket]:
        return [one for one in self._members.get(group, {}) if self.has(one.ip)]


class MulticastSocket(FakeDatagramSocket):
    """A `DatagramSocket` in a group. Sends to that group and nowhere else."""

    def __init__(self, net: Topology, host: Machine, group: Address, lan: Lan) -> None:
        super().__init__(net, host, group)
        self.ip = host.ip
        self._lan = lan

    def send(self, data: bytes, to: Address) -> bool:
        net, ip = self._net, self.ip
        if self._closed or self._host.is_down or to != self._address or not self._lan.has(ip):
            self.errors += 1
            return False
        net.stats.datagrams += 1
        net.stats.datagram_bytes += len(data)
        if net.tap is not None:
            net.tap(self._source, to, data)
        now = trio.current_time()
        for member in self._lan.members(self._address):
            link = net.link(ip, member.ip)
            if (
                net.find(ip, member.ip) is None
                or (link.loss and net.rng.random() < link.loss)
                or not member.accept(now + link.delay(net.rng), data, self._source, now)
            ):
                net.stats.lost += 1
        return True

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue.clear()
            self._lan.leave(self)
            self._alarm.ring()

    def _passes_nat(self, source: Address, when: float) -> bool:
        return True  # it is of the same side
