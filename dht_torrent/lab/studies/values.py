"""What nodes put into the DHT and others look for there. The rule: only what a lookup gives is
believed here; who has asked whom for it is read off the wire.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from dht_torrent.config import TorrentConfig
from dht_torrent.dht.items import Item, SigningKey, immutable, sign
from dht_torrent.engine.dht.node import Dht
from dht_torrent.ids import Address, InfoHash
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.dhtnet import PORT, DhtNet, host_address

Kind = Literal["immutable", "mutable", "announce"]
KINDS: Final[tuple[Kind, ...]] = ("immutable", "mutable", "announce")

ANNOUNCE_INTERVAL: Final = TorrentConfig().find_peers_interval
"""Seconds between two announces of a torrent, as the node's own torrents do it."""


@dataclass(slots=True, eq=False)
class Value:
    """An item, or a torrent's announces."""

    kind: Kind
    target: bytes
    item: Item | None
    """None for announces."""
    salt: bytes = b""
    peers: dict[Address, None] = field(default_factory=dict)
    """Who ever announced it."""

    async def find(self, dht: Dht) -> bool:
        """Look it up from `dht`, as a client would; whether it was found."""
        if self.item is None:
            found = await dht.announces.find_peers(
                InfoHash(self.target), on_peers=lambda peers: None
            )
            return any(peer in self.peers for peer in found.peers)
        return await dht.items.get(self.target, salt=self.salt) == self.item


def make(kind: Kind, rng: random.Random) -> Value:
    """A value that no other node has."""
    if kind == "announce":
        return Value(kind, rng.randbytes(20), None)
    content = rng.randbytes(60)
    if kind == "immutable":
        item: Item = immutable(content)
        return Value(kind, item.target, item)
    salt = rng.randbytes(4)
    item = sign(SigningKey(rng.randbytes(32)), content, 1, salt)
    return Value(kind, item.target, item, salt)


async def put(network: DhtNet, number: int, value: Value, *, keep: bool) -> None:
    """Let a node put the value; returns when it is there. With `keep` the node goes on to put it
    again by itself; an announce needs `announce_again` for that."""
    dht = network.nodes[number]
    if value.item is not None:
        await dht.items.put(value.item, keep=keep)
        return
    value.peers[host_address(number)] = None
    await dht.announces.find_peers(
        InfoHash(value.target), announce_port=PORT, on_peers=lambda peers: None
    )
    if not keep:
        dht.announces.withdraw(InfoHash(value.target))


async def announce_again(network: DhtNet, number: int, value: Value) -> None:
    """A service: announces it as a torrent does, as long as the node lives. Ends at once for an
    item, which its node keeps by itself."""
    while value.item is None:
        await trio.sleep(ANNOUNCE_INTERVAL)
        if number not in network.nodes:
            return
        await put(network, number, value, keep=True)


@dataclass(slots=True)
class Asked:
    """The nodes one lookup has asked."""

    alive: dict[Address, None] = field(default_factory=dict)
    dead: dict[Address, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.alive) + len(self.dead)

    @property
    def dead_share(self) -> float:
        return len(self.dead) / max(1, len(self))


class QueryTap:
    """Sees which node asks which: a query bears its target. One per network."""

    def __init__(self, net: FakeNetwork) -> None:
        self._net = net
        self._watches: dict[str, list[tuple[bytes, Asked]]] = {}  # by host
        net.tap = self._heard

    @contextmanager
    def watch(self, asker: Dht, target: bytes) -> Iterator[Asked]:
        """Counts the nodes `asker` asks for `target` meanwhile. Of two lookups for the same at the
        same time each counts what both ask: on the wire they look alike."""
        host, asked = asker.address.host, Asked()
        self._watches.setdefault(host, []).append((target, asked))
        try:
            yield asked
        finally:
            # By identity: two that have counted the same are equal.
            left = [watch for watch in self._watches.pop(host) if watch[1] is not asked]
            if left:
                self._watches[host] = left

    def _heard(self, source: Address, to: Address, data: bytes) -> None:
        for target, asked in self._watches.get(source.host, ()):
            if target in data:
                is_dead = self._net.host(to.host).is_down
                (asked.dead if is_dead else asked.alive)[to] = None
