"""Mutated answers of a gateway, by PCP and by NAT-PMP. The rule: a client believes in no mapping
that cannot be, and for no longer than it may; and however it is answered, it asks at a bounded
rate.
"""

from __future__ import annotations

import ipaddress
import random
import struct
from typing import Final

from dht_torrent.config import PortMapConfig
from dht_torrent.errors import PortMapError
from dht_torrent.ids import Address
from dht_torrent.lab.studies.codec_fuzz import HELD, Findings, Input, mutated
from dht_torrent.portmap import natpmp, pcp
from dht_torrent.portmap.client import GatewayClient
from dht_torrent.portmap.ports import IpProtocol, LocalPort, MappingBy

_GATEWAY: Final = Address("192.168.1.1", pcp.PORT)
_OURS: Final = "192.168.1.2"
_PUBLIC: Final = ipaddress.IPv4Address("93.184.216.34").packed
_PORTS: Final = (LocalPort(IpProtocol.TCP, 6881), LocalPort(IpProtocol.UDP, 6881))
_STEP: Final = 0.05
"""Seconds between two inputs."""
_LIFE: Final = 2000
"""Inputs of one client."""
_KEPT: Final = 40
"""Answers that are spoilt again."""
_AT_ONCE: Final = 60
"""Datagrams a client may send at any time of its life, and ..."""
_A_SECOND: Final = 2.0
"""... as many more for each second of it."""
_UNSUPPORTED: Final = struct.pack(">BBHI", 0, 0x80, 1, 5000)


class GatewayCodec:
    """Clients that talk with a gateway whose answers are spoilt, one after the other."""

    flat = HELD

    def __init__(self, seed: int, by: MappingBy) -> None:
        self._by = by
        self._rng = random.Random(seed)
        self._config = PortMapConfig()
        self._client = self._new(0.0)
        self._began = 0.0
        self._sent = 0
        self._answers = [_UNSUPPORTED]

    def _new(self, now: float) -> GatewayClient:
        return GatewayClient(
            self._config,
            _GATEWAY.host,
            _OURS,
            _PORTS,
            secret=bytes(32),
            rng=self._rng,
            now=now,
        )

    def input(self, number: int, rng: random.Random) -> Input:
        """What the gateway says, and when."""
        now = number * _STEP
        if number % _LIFE == 0 or self._client.failed is not None:
            self._client, self._began, self._sent = self._new(now), now, 0
        asked = self._client.take(now)
        self._sent += len(asked)
        for request in asked:
            self._answers.append(_answer(request, int(now) + 5000, rng))
        del self._answers[:-_KEPT]
        is_new = self._began == now and self._by is MappingBy.NAT_PMP
        data = _UNSUPPORTED if is_new else mutated(self._answers, rng)
        return Input(data, lambda found: self._feed(data, now, found))

    def _feed(self, data: bytes, now: float, found: Findings) -> None:
        for decode in (pcp.decode, natpmp.decode):
            try:
                decode(data)
            except PortMapError:
                continue
            found.decoded += 1
        client = self._client
        try:
            client.datagram(data, _GATEWAY, now)
        except PortMapError:
            return
        found.answered += 1
        for one in client.mappings:
            most = now + self._config.max_lifetime
            if one.local not in _PORTS or not one.external.is_usable or one.expires > most:
                found.faults.append(f"{one} is believed of {data!r}")
        if self._sent > _AT_ONCE + _A_SECOND * (now - self._began):
            found.faults.append(f"{self._sent} datagrams in {now - self._began:.0f} s")


class PcpCodec(GatewayCodec):
    """By PCP."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, MappingBy.PCP)


class NatPmpCodec(GatewayCodec):
    """By NAT-PMP."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, MappingBy.NAT_PMP)


def _answer(request: bytes, epoch: int, rng: random.Random) -> bytes:
    """A valid one, most often of success."""
    result = rng.choice((0, 0, 0, 0, 1, 2, 3, 8, 13))
    opcode = request[1]
    if request[0] == natpmp.VERSION:
        head = struct.pack(">BBHI", 0, 0x80 | opcode, result, epoch)
        if opcode == natpmp.ADDRESS:
            return head + _PUBLIC
        internal, external, lifetime = struct.unpack(">HHI", request[4:12])
        return head + struct.pack(">HHI", internal, external, lifetime)
    lifetime = rng.choice((7200, 60, 1, (1 << 32) - 1))
    head = struct.pack(">BBBBII12x", 2, 0x80 | opcode, 0, result, lifetime, epoch)
    if opcode == pcp.ANNOUNCE:
        return head
    return head + request[24:44] + bytes(10) + b"\xff\xff" + _PUBLIC
