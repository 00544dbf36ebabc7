"""A host with an address of each family. The rule: whatever is opened or reached is the business of
the fake host of that family; this one only chooses.
"""

from __future__ import annotations

from dht_torrent.engine.net.gateways import Gateway
from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.engine.net.surroundings import Surroundings
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.datagrams import FakeDatagramSocket
from dht_torrent.lab.net.multicast import MulticastSocket
from dht_torrent.lab.net.network import FakeHost, FakeNetwork
from dht_torrent.lab.net.streams import FakeListener, FakeStream


class DualHost:
    """One machine with an IPv4 and an IPv6 address: a `Network`."""

    def __init__(self, net: FakeNetwork, ipv4: str, ipv6: str) -> None:
        self.ipv4 = net.host(ipv4)
        self.ipv6 = net.host(ipv6)

    async def open_udp(self, bind: Address) -> FakeDatagramSocket:
        return await self._of(bind).open_udp(bind)

    async def listen(self, bind: Address) -> FakeListener:
        return await self._of(bind).listen(bind)

    async def connect(self, to: Address, *, local: Address | None = None) -> FakeStream:
        return await self._of(to).connect(to, local=local)

    async def resolve(self, point: HostPort) -> list[Address]:
        return await self.ipv4.resolve(point)

    def surroundings(self) -> Surroundings:
        both = self.ipv4.surroundings(), self.ipv6.surroundings()
        return Surroundings(both[0].addresses | both[1].addresses, max(one.slept for one in both))

    def interfaces(self) -> list[Interface]:
        return [*self.ipv4.interfaces(), *self.ipv6.interfaces()]

    def gateways(self) -> list[Gateway]:
        return self.ipv4.gateways()

    async def open_multicast(self, group: Address, on: Interface) -> MulticastSocket:
        return await self._of(group).open_multicast(group, on)

    def _of(self, address: Address) -> FakeHost:
        return self.ipv6 if address.is_ipv6 else self.ipv4
