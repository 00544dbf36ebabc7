"""A DHT some of whose nodes are hostile, and what honest lookups find in it. The rule: who asks and
who publishes are full nodes with the defences people have, none of them lifted.

What is measured is seen from outside: datagrams on the network, and what the calls return.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.engine.dht.node import Dht
from dht_torrent.ids import Address, InfoHash
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.adversaries import (
    Behaviour,
    BlackHole,
    Coalition,
    Colluding,
    Late,
    Liar,
    Reflector,
    coalition,
    mined,
    mined_beside,
    random_id,
)
from dht_torrent.lab.population.dhtnet import PORT, DhtNet
from dht_torrent.trace import LookupDone, Record

Thing = TypeVar("Thing")

KINDS: Final = ("colluding", "blackhole", "liar", "late", "reflector")
LATENCY: Final = (0.02, 0.08)
"""Seconds one way: round trips of 40 to 160 ms, as between homes of one continent."""
SETTLED: Final = 30.0
"""Seconds until all have met, where all addresses are private ..."""
SETTLED_PUBLIC: Final = 600.0
"""... and where strangers are pinged after a minute and a half only."""
ADVERTISED: Final = 7777
"""The TCP port announced."""
VICTIMS: Final = tuple(Address("203.0.113.7", 1000 + n) for n in range(64))
"""One machine that is not part of the DHT, and ports of it that reflectors name."""
MIN_HONEST: Final = 40
"""Fewer would all be among those who store any key."""
FIRST_HONEST: Final = 8
"""Nodes there before the first adversary."""

_TARGETS: Final = (b"9:info_hash20:", b"6:target20:")


@dataclass(frozen=True, slots=True)
class Scene:
    """What network to build."""

    nodes: int
    """In all, adversaries included."""
    hostile: float = 0.0
    kind: str = "colluding"
    paths: int = 8
    """`DhtConfig.paths` and `announce_paths`."""
    public: bool = False
    """Public addresses: ids must fit them, and no two contacts may be of one /24."""
    subnets: int = 32
    """The /24s in which the adversaries have their addresses, if they are public."""


@dataclass(frozen=True, slots=True)
class Look:
    """How one lookup went. Shares are 0 where no node was asked."""

    method: str
    found: bool
    asked: int
    """Different addresses asked."""
    silent: int
    """Those among them that did not answer in time."""
    hostile_asked: float
    """Share of the adversaries, and of addresses they invented, among all asked."""
    hostile_closest: float
    """Share of the adversaries among the closest nodes it ended with."""
    eclipse_suspected: bool
    """Whether it took the target for eclipsed."""
    eclipsed: bool
    """Whether the k closest that answered were hostile, all of them."""
    seconds: float


class World:
    """The network of a scene, populated."""

    def __init__(self, rng: random.Random, scene: Scene, net: FakeNetwork) -> None:
        self.rng = rng
        self.scene = scene
        self.net = net
        self.config = DhtConfig(paths=scene.paths, announce_paths=scene.paths)
        self.dht: DhtNet
        self.foes: Coalition
        self.hostile: dict[Address, None] = {}
        """Where adversaries are, or have been."""
        self.victim_datagrams = 0
        self.victim_bytes = 0
        self.hostile_bytes = 0
        """Sent by adversaries."""
        self._homes: dict[str, None] = {}
        self._asked: dict[tuple[Address, bytes], dict[Address, None]] = {}
        self._done: dict[bytes, list[LookupDone]] = {}
        self._foes = 0

    def honest(self) -> list[NodeInfo]:
        return [NodeInfo(dht.node_id, dht.address) for dht in self.dht.nodes.values()]

    async def populate(self, progress: Callable[[int], None]) -> None:
        """All nodes join, honest and hostile mixed evenly, and gets to know each other."""
        scene = self.scene
        foes = round(scene.nodes * scene.hostile)
        honest = scene.nodes - foes
        while len(self.dht.nodes) < honest or len(self.foes.members) < foes:
            there = len(self.dht.nodes)
            await self.dht.grow(min(honest, there + max(FIRST_HONEST - there, 20)))
            known = self.honest()
            due = foes * len(self.dht.nodes) // honest
            while len(self.foes.members) < due:
                address = self.foe_address()
                await self.join(self.foes, NodeInfo(random_id(address, self.rng), address), known)
            progress(len(self.dht.nodes) + len(self.foes.members))
        self._homes = dict.fromkeys(one.address.host for one in self.honest())
        await trio.sleep(SETTLED_PUBLIC if scene.public else SETTLED)

    async def join(self, foes: Coalition, info: NodeInfo, honest: Sequence[NodeInfo]) -> None:
        self.hostile[info.address] = None
        await foes.join(info, honest)

    def foe_address(self) -> Address:
        """Where the next adversary lives."""
        number, self._foes = self._foes, self._foes + 1
        if not self.scene.public:
            return Address(f"172.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}", PORT)
        row, subnet = divmod(number, self.scene.subnets)
        return Address(f"12.{subnet >> 8}.{subnet & 255}.{row % 254 + 1}", PORT + row // 254)

    def dead(self) -> Address:
        """An unused address, a different one each time."""
        low = self.rng.randrange(1 << 16)
        net = "13.7" if self.scene.public else "192.168"
        return Address(f"{net}.{low >> 8}.{low & 255}", PORT)

    def forget_traffic(self) -> None:
        """Count from here on."""
        self.victim_datagrams = self.victim_bytes = self.hostile_bytes = 0

    def reflected(self, looks: int) -> dict[str, float]:
        """What the victim of reflectors got for each of so many lookups and what they needed, and
        per byte that adversaries sent."""
        return {
            "victim_datagrams_per_lookup": self.victim_datagrams / looks if looks else 0.0,
            "victim_bytes_per_lookup": self.victim_bytes / looks if looks else 0.0,
            "victim_bytes_per_byte": self.victim_bytes / max(1, self.hostile_bytes),
        }

    def nearest_sybil(self, target: bytes, within: int, place: int) -> NodeInfo:
        """An adversary made to be next to the target: nearer than `within`, if ids are free, and
        otherwise as near as the addresses of one /24 allow."""
        if not self.scene.public:
            return NodeInfo(mined(target, within, self.rng), self.foe_address())
        subnet = place % self.scene.subnets
        hosts = [f"12.{subnet >> 8}.{subnet & 255}.{number}" for number in range(1, 255)]
        host, node_id = mined_beside(target, hosts, self.rng)
        self._foes += 1
        return NodeInfo(node_id, Address(host, 1024 + self._foes % 60_000))

    def outsiders(self, target: bytes, lookers: Sequence[Dht] | None = None) -> tuple[Dht, Dht]:
        """A publisher and a looker, drawn at random. Neither is among those who store the target,
        which would make it too easy."""
        near = self.dht.closest(target, 2 * self.config.k)
        far = [dht for dht in self.dht.nodes.values() if dht not in near]
        looker = self.rng.choice([dht for dht in lookers or far if dht not in near] or far)
        return self.rng.choice([dht for dht in far if dht is not looker]), looker

    async def announce(self, publisher: Dht, target: bytes) -> None:
        """Once: it is not repeated when the network changes."""
        await publisher.announces.find_peers(
            InfoHash(target), announce_port=ADVERTISED, on_peers=lambda peers: None
        )
        publisher.announces.withdraw(InfoHash(target))

    async def look_for_peers(self, looker: Dht, target: bytes, publisher: Dht) -> Look:
        """Whether `looker` finds that `publisher` has the torrent."""
        wanted = Address(publisher.address.host, ADVERTISED)

        async def find() -> bool:
            found = await looker.announces.find_peers(InfoHash(target), on_peers=lambda peers: None)
            return wanted in found.peers

        return await self._look("get_peers", looker, target, find)

    async def look_for_item(self, looker: Dht, target: bytes) -> Look:
        """Whether `looker` gets the item."""

        async def find() -> bool:
            return await looker.items.get(target) is not None

        return await self._look("get", looker, target, find)

    async def _look(
        self,
        method: str,
        looker: Dht,
        target: bytes,
        find: Callable[[], Awaitable[bool]],
    ) -> Look:
        asked = self._asked[looker.address, target] = {}
        records = self._done[target] = []
        began = trio.current_time()
        try:
            found = await find()
        finally:
            del self._asked[looker.address, target], self._done[target]
        closest = records[-1].closest if records else ()
        nearest = closest[: self.config.k]
        return Look(
            method,
            found,
            asked=len(asked),
            silent=sum(record.asked - record.answered for record in records),
            hostile_asked=share(asked, self._is_hostile),
            hostile_closest=share(closest, self._is_hostile),
            eclipse_suspected=any(record.eclipse_suspected for record in records),
            eclipsed=len(nearest) == self.config.k and all(map(self._is_hostile, nearest)),
            seconds=trio.current_time() - began,
        )

    def _is_hostile(self, address: Address) -> bool:
        """Whether an adversary is there, or no node, so that an adversary must have invented it."""
        return address in self.hostile or address.host not in self._homes

    def note(self, record: Record) -> None:
        """For the honest nodes to tell their traces to."""
        if isinstance(record, LookupDone) and record.target in self._done:
            self._done[record.target].append(record)

    def heard(self, source: Address, to: Address, data: bytes) -> None:
        """For the network to tell of each datagram."""
        if to.host == VICTIMS[0].host:
            self.victim_datagrams += 1
            self.victim_bytes += len(data)
        if source in self.hostile:
            self.hostile_bytes += len(data)
        elif self._asked and data.endswith(krpc.QUERY_TAIL):
            for key in _TARGETS:
                at = data.find(key)
                if at >= 0:
                    start = at + len(key)
                    asked = self._asked.get((source, data[start : start + 20]))
                    if asked is not None:
                        asked[to] = None


@asynccontextmanager
async def world(
    rng: random.Random, scene: Scene, progress: Callable[[int], None] = lambda done: None
) -> AsyncIterator[World]:
    """The network of a scene, with all nodes in it and settled. At the end they all vanish."""
    net = FakeNetwork(random.Random(rng.getrandbits(64)), latency=LATENCY)
    made = World(rng, scene, net)
    net.tap = made.heard
    async with trio.open_nursery() as nursery:
        made.dht = DhtNet(
            rng,
            nursery,
            net,
            config=made.config,
            trace=made.note,
            address=public_home if scene.public else None,
        )
        async with coalition(net, rng, behaviour(scene.kind), dead=made.dead) as made.foes:
            await made.populate(progress)
            yield made
        nursery.cancel_scope.cancel()


def behaviour(kind: str) -> Behaviour:
    """One of `KINDS`."""
    if kind == "reflector":
        return Reflector(VICTIMS)
    plain: dict[str, Callable[[], Behaviour]] = {
        "colluding": Colluding,
        "blackhole": BlackHole,
        "liar": Liar,
        "late": Late,
    }
    return plain[kind]()


def public_home(number: int) -> Address:
    """Where the honest nodes of a public network live: each in a /24 of its own."""
    return Address(f"11.{number >> 8 & 255}.{number & 255}.1", PORT)


def share(things: Collection[Thing], test: Callable[[Thing], bool]) -> float:
    """Of how many the test is true; 0 of nothing."""
    return sum(map(test, things)) / len(things) if things else 0.0
