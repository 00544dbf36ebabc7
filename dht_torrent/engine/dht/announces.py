"""Lookups for peers, and our own announces (BEP 5). The rule: what we have announced is known to
the k closest nodes we could reach, also when the network grows after that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import trio

from dht_torrent.bencode import Value
from dht_torrent.dht import krpc
from dht_torrent.dht.bloom import Bloom
from dht_torrent.dht.krpc import NodeInfo, Reply
from dht_torrent.dht.lookup import Lookup
from dht_torrent.dht.paths import Paths
from dht_torrent.engine.dht.core import Core
from dht_torrent.engine.dht.transactions import Answer
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.ids import Address, InfoHash

REANNOUNCE_PAUSE: Final = 2.0
"""Seconds between two rounds of announcing to newly met contacts."""
REANNOUNCE_AT_ONCE: Final = 8
"""Torrents announced side by side in such a round."""
ANNOUNCE_PATIENCE: Final = 2.0
"""Seconds to wait for answers to announce_peer. Those asked have answered a moment ago."""
MISLED: Final = 3
"""A lookup that got no response to more than two queries in three was misled by liars, or seven
nodes in ten have just died. Of the nodes that honest ones refer to, half may be dead."""

OnPeers = Callable[[Sequence[Address]], None]


@dataclass(frozen=True, slots=True)
class PeerLookup:
    """How a lookup for peers went."""

    peers: tuple[Address, ...]
    asked: int
    """Nodes queried,"""
    answered: int
    """and those that responded."""
    announced_to: int
    """Nodes that confirmed our announce."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """How large a swarm is, by those who keep its announces (BEP 33). Estimates."""

    seeds: float
    downloaders: float
    answered: int
    """Nodes that told."""


@dataclass(slots=True, eq=False)
class _Announcement:
    """A torrent of ours that the DHT should know of."""

    port: int
    seed: bool
    on_peers: OnPeers
    reached: int = 0  # nodes that confirmed the last announce
    additions: int = 0  # the table's, when it began
    size: int = 0
    running: int = 0  # lookups that announce it at this moment


class Announces:
    """Finds peers, and announces our torrents."""

    def __init__(self, core: Core) -> None:
        self.last_at: float | None = None
        """When a node last confirmed an announce of ours, on Trio's clock."""
        self._core = core
        self._table = core.table
        self._config = core.config
        self._announced: dict[InfoHash, _Announcement] = {}
        self._running: dict[InfoHash, list[_PeerLookup]] = {}
        self._slots = trio.Semaphore(core.config.max_searches)
        self._grown = AutoResetEvent()

    async def find_peers(
        self,
        info_hash: InfoHash,
        *,
        announce_port: int | None = None,
        seed: bool = False,
        on_peers: OnPeers,
    ) -> PeerLookup:
        """Look for peers, and with `announce_port` tell the closest nodes that we are one, or even
        a `seed` (BEP 33).

        `on_peers` is called with each new batch as it comes in. With `announce_port` the torrent
        stays known until `withdraw`: it is announced again when the node meets new contacts in a
        network too small to hold it, and `on_peers` hears of peers that turn up meanwhile, also
        after this has returned. Repeat every quarter of an hour. We may be among the peers.
        Cancelled, it ends the lookup; what was announced stays so.
        """
        if announce_port is not None:
            announcement = self._announced.get(info_hash)
            if announcement is None:
                announcement = _Announcement(announce_port, seed, on_peers)
                self._announced[info_hash] = announcement
            announcement.port, announcement.on_peers = announce_port, on_peers
            announcement.seed = seed
        return await self._look_up(info_hash, announce_port, on_peers)

    def withdraw(self, info_hash: InfoHash) -> None:
        """Announce it no more. What others have stored expires by itself."""
        self._announced.pop(info_hash, None)

    def announced(self, info_hash: InfoHash) -> _Announcement | None:
        """What we announce of this torrent, as long as we do."""
        return self._announced.get(info_hash)

    def heard(self, info_hash: InfoHash, peer: Address) -> None:
        """A peer announced itself here: those who look for one learn it at once."""
        announcement = self._announced.get(info_hash)
        if announcement is not None:
            announcement.on_peers([peer])
        for lookup in list(self._running.get(info_hash, ())):
            lookup.heard(peer)

    def grown(self) -> None:
        """The table has new contacts."""
        if self._announced:
            self._grown.set()

    async def scrape(self, info_hash: InfoHash) -> Scrape:
        """How large the torrent's swarm is, about (BEP 33)."""
        seeds, others = Bloom(), Bloom()
        answered = 0
        own = self._core.peers.scrape(info_hash, trio.current_time())
        if own is not None:
            seeds.unite(own[0])
            others.unite(own[1])

        def on_reply(contact: NodeInfo, reply: Reply) -> None:
            nonlocal answered
            filters = _filters(reply)
            if filters is not None:
                answered += 1
                seeds.unite(filters[0])
                others.unite(filters[1])

        args: dict[bytes, Value] = {b"info_hash": info_hash, b"scrape": 1}
        async with self._slots:
            await self._core.lookups.run(info_hash, krpc.GET_PEERS, args, on_reply)
        return Scrape(seeds.estimate(), others.estimate(), answered)

    async def run(self) -> None:
        """A service: brings our torrents to contacts met after they were announced. In a network
        smaller than k every node should know them, and in a growing one the closest change."""
        while True:
            await self._grown.wait()
            await self._announce_outgrown()
            await trio.sleep(REANNOUNCE_PAUSE)

    async def _announce_outgrown(self) -> None:
        """In a frame of its own, which does not hold a torrent's callback until the next time."""
        slots = trio.Semaphore(REANNOUNCE_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for info_hash, announcement in list(self._announced.items()):
                if self._is_outgrown(announcement):
                    nursery.start_soon(self._announce_again, info_hash, announcement, slots)

    async def _announce_again(
        self, info_hash: InfoHash, announcement: _Announcement, slots: trio.Semaphore
    ) -> None:
        async with slots:
            if self._announced.get(info_hash) is announcement:
                await self._look_up(info_hash, announcement.port, announcement.on_peers)

    def _is_outgrown(self, announcement: _Announcement) -> bool:
        if self._table.additions == announcement.additions:
            return False
        if announcement.running and announcement.size >= self._config.k:
            return False  # what the lookup itself met; we look again when it has ended
        reached_all = announcement.reached >= self._config.k
        return not reached_all or len(self._table) >= 2 * announcement.size

    async def _look_up(
        self, info_hash: InfoHash, announce_port: int | None, on_peers: OnPeers
    ) -> PeerLookup:
        announcement = self._announced.get(info_hash) if announce_port is not None else None
        if announcement is not None:
            announcement.additions = self._table.additions
            announcement.size = len(self._table)
            announcement.running += 1
        lookup = _PeerLookup(self._core, self, info_hash, announcement, on_peers)
        running = self._running.setdefault(info_hash, [])
        running.append(lookup)
        try:
            return await lookup.run(self._slots)
        finally:
            if announcement is not None:
                announcement.running -= 1
                if self._table.additions != announcement.additions:
                    self.grown()
            running.remove(lookup)
            if not running:
                self._running.pop(info_hash, None)


class _PeerLookup:
    """One lookup for the peers of a torrent, and with an `announcement` one announce of it."""

    def __init__(
        self,
        core: Core,
        announces: Announces,
        info_hash: InfoHash,
        announcement: _Announcement | None,
        on_peers: OnPeers,
    ) -> None:
        self._core = core
        self._announces = announces
        self._config = core.config
        self._info_hash = info_hash
        self._announcement = announcement
        self._on_peers = on_peers
        self._found: dict[Address, None] = {}
        self._tokens: dict[NodeInfo, bytes] = {}
        self._late = AutoResetEvent()
        self._running = True

    async def run(self, slots: trio.Semaphore) -> PeerLookup:
        """Look up, and announce. `slots` bounds how many do so at once."""
        config, core = self._config, self._core
        now = trio.current_time()
        announced_to = 0
        try:
            stored = core.peers.peers(self._info_hash, now, core.rng, config.values_per_reply)
            self._deliver(stored)
            async with slots:
                lookup = await self._look_up()
                if self._is_announced():
                    announced_to = await self._announce(lookup.closest())
            if not self._found and 0 < lookup.replies < config.k:
                # In a network this small every announce reaches us as well, but one by a node
                # that has only just met us may be on its way.
                with trio.move_on_after(config.soft_timeout):
                    await self._late.wait()
        finally:
            self._running = False
        return PeerLookup(tuple(self._found), lookup.asked, lookup.replies, announced_to)

    def heard(self, peer: Address) -> None:
        """A peer announced itself here."""
        if self._announces.announced(self._info_hash) is None:
            self._deliver([peer])
        elif len(self._found) < self._config.max_found:
            self._found[peer] = None  # the announcement's `on_peers` has been told already
        self._late.set()

    async def _look_up(self) -> Lookup | Paths:
        config = self._config
        announces = self._announcement is not None
        paths = config.announce_paths if announces else 1
        lookup = await self._ask_around(paths)
        more = config.paths * (1 if announces or config.paths == 1 else config.retry_paths)
        misled = lookup.asked > MISLED * lookup.replies
        if (misled or not self._found) and paths < more and lookup.replies >= config.k:
            # No node has it, or liars were on the path, who may have named false peers: they would
            # have to be on all of these.
            lookup = await self._ask_around(more)
        return lookup

    async def _ask_around(self, paths: int) -> Lookup | Paths:
        args: dict[bytes, Value] = {b"info_hash": self._info_hash}
        stores = self._announcement is not None
        return await self._core.lookups.run(
            self._info_hash, krpc.GET_PEERS, args, self._on_reply, stores=stores, paths=paths
        )

    def _on_reply(self, contact: NodeInfo, reply: Reply) -> None:
        if reply.token is not None:
            self._tokens[contact] = reply.token
        inside = contact.address.is_local
        self._deliver(
            [
                peer
                for peer in islice(reply.values(), self._config.max_told)
                # No node outside knows local addresses of ours; it would make us call them.
                if peer.is_usable and (inside or not peer.is_local)
            ]
        )

    def _deliver(self, peers: Sequence[Address]) -> None:
        # Responses later than the lookup cared to wait for are welcome while we announce.
        if not self._running and self._announces.announced(self._info_hash) is None:
            return
        found = self._found
        fresh = [peer for peer in dict.fromkeys(peers) if peer not in found]
        fresh = fresh[: self._config.max_found - len(found)]
        if fresh:
            found.update(dict.fromkeys(fresh))
            self._on_peers(fresh)

    def _is_announced(self) -> bool:
        """Whether there is something to announce, and it was not withdrawn meanwhile."""
        announcement = self._announcement
        return (
            announcement is not None and self._announces.announced(self._info_hash) is announcement
        )

    async def _announce(self, closest: Sequence[NodeInfo]) -> int:
        """Announce to those of the closest nodes that gave a token; how many confirmed."""
        announcement, transactions = self._announcement, self._core.transactions
        assert announcement is not None
        confirmed = 0
        nodes = [(node, self._tokens[node]) for node in closest if node in self._tokens]
        pending = len(nodes)
        news = AutoResetEvent()

        def came(answer: Answer) -> None:
            nonlocal confirmed, pending
            confirmed += isinstance(answer, Reply)
            pending -= 1
            news.set()

        base: dict[bytes, Value] = {b"info_hash": self._info_hash, b"port": announcement.port}
        if announcement.port == self._core.address.port and self._core.mapped_port() is None:
            base[b"implied_port"] = 1  # survives a NAT that changes ports
        if announcement.seed:
            base[b"seed"] = 1
        for node, token in nodes:
            args = {**base, b"token": token}
            await transactions.send(node.address, krpc.ANNOUNCE_PEER, args, came, node.id)
        with trio.move_on_after(ANNOUNCE_PATIENCE):
            while pending:
                await news.wait()
        if confirmed:
            self._announces.last_at = trio.current_time()
        announcement.reached = confirmed
        return confirmed


def _filters(reply: Reply) -> tuple[Bloom, Bloom] | None:
    seeds, others = reply.body.get(b"BFsd"), reply.body.get(b"BFpe")
    if not isinstance(seeds, bytes) or not isinstance(others, bytes):
        return None
    try:
        return Bloom(seeds), Bloom(others)
    except ValueError:
        return None
