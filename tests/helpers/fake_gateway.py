"""A gateway that speaks PCP and NAT-PMP as plain code, by bytes that are put together by hand; and
one of UPnP. Each can be told to lie.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import trio

from dht_torrent.engine.portmap.upnp import UpnpError
from dht_torrent.ids import Address
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.portmap.ports import LocalPort

PUBLIC = "8.7.6.5"


@dataclass
class FakeGateway:
    """What it answers to a datagram. Times are those of the caller."""

    public: str = PUBLIC
    speaks_pcp: bool = True
    speaks_natpmp: bool = True
    result: int = 0
    """Of all its answers to mappings."""
    lifetime: int | None = None
    """That it grants, whatever is asked for."""
    offset: int = 0
    """The external port is so much above the one that was asked for."""
    began: float = 0.0
    """When it started."""
    mappings: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """External port and lifetime, by protocol and internal port."""
    heard: list[bytes] = field(default_factory=list)
    spoil: Callable[[bytes], bytes | None] | None = None
    """What becomes of its answers."""

    def restart(self, now: float) -> None:
        self.began = now
        self.mappings.clear()

    def answer(self, data: bytes, now: float) -> bytes | None:
        self.heard.append(data)
        if data[0] == 2 and self.speaks_pcp:
            answer = self._pcp(data, now)
        elif data[0] == 2 and self.speaks_natpmp:
            answer = struct.pack(">BBHI", 0, 0x80, 1, self._epoch(now))
        elif data[0] == 0 and self.speaks_natpmp:
            answer = self._natpmp(data, now)
        else:
            return None
        return self.spoil(answer) if self.spoil is not None else answer

    def announce(self, now: float) -> bytes:
        """What it tells everybody when it starts, by PCP."""
        return struct.pack(">BBBBII12x", 2, 0x80, 0, 0, 0, self._epoch(now))

    def _epoch(self, now: float) -> int:
        return int(now - self.began)

    def _map(self, protocol: int, internal: int, wanted: int, lifetime: int) -> tuple[int, int]:
        if self.result:
            return 0, 0
        if lifetime == 0:
            self.mappings.pop((protocol, internal), None)
            return 0, 0
        if self.lifetime is not None:
            lifetime = self.lifetime
        external, _ = self.mappings.get((protocol, internal), (wanted + self.offset, 0))
        self.mappings[protocol, internal] = external, lifetime
        return external, lifetime

    def _pcp(self, data: bytes, now: float) -> bytes:
        opcode = data[1]
        if opcode == 0:
            return self.announce(now)
        (lifetime,) = struct.unpack_from(">I", data, 4)
        nonce, protocol = data[24:36], data[36]
        internal, wanted = struct.unpack_from(">HH", data, 40)
        external, granted = self._map(protocol, internal, wanted, lifetime)
        head = struct.pack(
            ">BBBBII12x", 2, 0x80 | opcode, 0, self.result, granted, self._epoch(now)
        )
        host = bytes(10) + b"\xff\xff" + ipaddress.ip_address(self.public).packed
        return (
            head
            + nonce
            + bytes((protocol, 0, 0, 0))
            + struct.pack(">HH", internal, external)
            + host
        )

    def _natpmp(self, data: bytes, now: float) -> bytes:
        opcode = data[1]
        head = struct.pack(">BBHI", 0, 0x80 | opcode, self.result, self._epoch(now))
        if opcode == 0:
            return head + ipaddress.ip_address(self.public).packed
        internal, wanted, lifetime = struct.unpack(">HHI", data[4:12])
        external, granted = self._map({1: 17, 2: 6}[opcode], internal, wanted, lifetime)
        return head + struct.pack(">HHI", internal, external, granted)

    async def run(
        self,
        net: FakeNetwork,
        ip: str,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """A service: be the host with this address."""
        with closing(await net.host(ip).open_udp(Address(ip, 5351))) as socket:
            task_status.started()
            while True:
                for data, source in await socket.receive():
                    answer = self.answer(data, trio.current_time())
                    if answer is not None:
                        socket.send(answer, source)


@dataclass
class FakeUpnp:
    """A UPnP gateway."""

    public: str = PUBLIC
    mappings: dict[tuple[str, int], tuple[Address, int]] = field(default_factory=dict)
    """Where it leads and for how long, by protocol and external port."""
    local: str = "192.168.1.2"
    knows_lifetimes: bool = True
    conflicts: set[int] = field(default_factory=set)
    """External ports that it does not give away, and does not say who has."""
    trouble: str | None = None
    hangs: bool = False
    found: int = 0
    is_lost: bool = False
    """It has started again, and is somewhere else now."""

    async def find(self, local: str) -> None:
        await self._question(lost=False)
        self.found += 1
        self.is_lost = False
        self.local = local

    async def address(self) -> str:
        await self._question()
        return self.public

    async def holder(self, port: LocalPort, external: int) -> Address | None:
        await self._question()
        found = self.mappings.get((port.protocol.name, external))
        return found[0] if found is not None else None

    async def map(self, port: LocalPort, external: int, lifetime: int) -> None:
        await self._question()
        if external in self.conflicts:
            raise UpnpError("ConflictInMappingEntry")
        if lifetime and not self.knows_lifetimes:
            raise UpnpError("OnlyPermanentLeasesSupported")
        key = port.protocol.name, external
        self.mappings[key] = Address(self.local, port.port), lifetime

    async def unmap(self, port: LocalPort, external: int) -> None:
        await self._question()
        self.mappings.pop((port.protocol.name, external), None)

    async def _question(self, *, lost: bool = True) -> None:
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.trouble is not None:
            raise UpnpError(self.trouble)
        if self.is_lost and lost:
            raise UpnpError("HTTP error")
