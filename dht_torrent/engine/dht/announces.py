"""Searches for peers, and our own announces (BEP 5). The rule: what we have announced is known to
the k closest nodes we could reach, also when the network grows after that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import trio

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.bloom import Bloom
from dht_torrent.dht.krpc import NodeInfo, Reply
from dht_torrent.dht.store import PeerStore
from dht_torrent.dht.table import Table
from dht_torrent.engine.dht.lookups import Walks
from dht_torrent.engine.dht.transactions import Answer, Bell, Questions
from dht_torrent.ids import Address, InfoHash

REANNOUNCE_PAUSE: Final = 2.0
"""Seconds between two rounds of announcing to newly met contacts."""
REANNOUNCE_AT_ONCE: Final = 8
"""Torrents announced side by side in such a round."""
ANNOUNCE_PATIENCE: Final = 2.0
"""Seconds to wait for answers to announce_peer. Those asked have answered a moment ago."""
MISLED: Final = 3
"""A search of whose questions not even one in so many was answered was led about by liars, or seven
nodes in ten have just died. Of honest nodes, half of those they tell of may be dead."""

OnPeers = Callable[[Sequence[Address]], None]


@dataclass(frozen=True, slots=True)
class PeerLookup:
    """How a search for peers went."""

    peers: tuple[Address, ...]
    asked: int
    answered: int
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
    under_way: int = 0  # announces of it at this moment


class Announces:
    """Finds peers and announces us, by `walks`. `port` gives our UDP port."""

    def __init__(
        self,
        walks: Walks,
        questions: Questions,
        table: Table,
        store: PeerStore,
        config: DhtConfig,
        rng: random.Random,
        *,
        port: Callable[[], int],
    ) -> None:
        self._walks = walks
        self._questions = questions
        self._table = table
        self._store = store
        self._config = config
        self._rng = rng
        self._port = port
        self._announcing: dict[InfoHash, _Announcement] = {}
        self._slots = trio.Semaphore(config.max_searches)
        self._watchers: dict[InfoHash, list[OnPeers]] = {}
        self._grown = Bell()
        self.last_at: float | None = None
        """When a node last confirmed an announce of ours."""

    async def find_peers(
        self, info_hash: InfoHash, announce_port: int | None, on_peers: OnPeers, seed: bool
    ) -> PeerLookup:
        """See `Dht.find_peers`."""
        if announce_port is not None:
            announcement = self._announcing.get(info_hash)
            if announcement is None:
                announcement = _Announcement(announce_port, seed, on_peers)
                self._announcing[info_hash] = announcement
            announcement.port, announcement.on_peers = announce_port, on_peers
            announcement.seed = seed
        return await self._search(info_hash, announce_port, on_peers)

    def withdraw(self, info_hash: InfoHash) -> None:
        """See `Dht.withdraw`."""
        self._announcing.pop(info_hash, None)

    def heard(self, info_hash: InfoHash, peer: Address) -> None:
        """A peer announced itself here: who is looking for one learns it at once."""
        announcement = self._announcing.get(info_hash)
        if announcement is not None:
            announcement.on_peers([peer])
        for watcher in list(self._watchers.get(info_hash, ())):
            watcher([peer])

    def grown(self) -> None:
        """The table has new contacts."""
        if self._announcing:
            self._grown.ring()

    async def scrape(self, info_hash: InfoHash) -> Scrape:
        """See `Dht.scrape`."""
        seeds, others = Bloom(), Bloom()
        answered = 0
        own = self._store.scrape(info_hash, trio.current_time())
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
            await self._walks.walk(info_hash, krpc.GET_PEERS, args, on_reply)
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

        async def again(info_hash: InfoHash, announcement: _Announcement) -> None:
            async with slots:
                if self._announcing.get(info_hash) is announcement:
                    await self._search(info_hash, announcement.port, announcement.on_peers)

        async with trio.open_nursery() as nursery:
            for info_hash, announcement in list(self._announcing.items()):
                if self._is_outgrown(announcement):
                    nursery.start_soon(again, info_hash, announcement)

    def _is_outgrown(self, announcement: _Announcement) -> bool:
        if self._table.additions == announcement.additions:
            return False
        if announcement.under_way and announcement.size >= self._config.k:
            return False  # what the search itself met; we look again when it has ended
        reached_all = announcement.reached >= self._config.k
        return not reached_all or len(self._table) >= 2 * announcement.size

    async def _search(
        self, info_hash: InfoHash, announce_port: int | None, on_peers: OnPeers
    ) -> PeerLookup:
        config = self._config
        found: dict[Address, None] = {}
        tokens: dict[NodeInfo, bytes] = {}
        late = trio.Event()
        searching = True

        def deliver(peers: Sequence[Address]) -> None:
            # Answers later than the lookup cared to wait for are welcome while we announce.
            if not searching and info_hash not in self._announcing:
                return
            fresh = [peer for peer in dict.fromkeys(peers) if peer not in found]
            fresh = fresh[: self._config.max_found - len(found)]
            if fresh:
                found.update(dict.fromkeys(fresh))
                on_peers(fresh)

        def on_reply(contact: NodeInfo, reply: Reply) -> None:
            if reply.token is not None:
                tokens[contact] = reply.token
            inside = contact.address.is_local
            deliver(
                [
                    peer
                    for peer in islice(reply.values(), self._config.max_told)
                    # Nobody outside knows local addresses of ours; it would make us knock there.
                    if peer.is_usable and (inside or not peer.is_local)
                ]
            )

        def on_announce(peers: Sequence[Address]) -> None:
            if info_hash not in self._announcing:
                deliver(peers)  # an announcement's callback has been told already
            else:
                found.update(dict.fromkeys(peers[: self._config.max_found - len(found)]))
            late.set()

        announcement = self._announcing.get(info_hash)
        if announcement is not None and announce_port is not None:
            announcement.additions = self._table.additions
            announcement.size = len(self._table)
            announcement.under_way += 1
        watchers = self._watchers.setdefault(info_hash, [])
        watchers.append(on_announce)
        try:
            stored = self._store.peers(
                info_hash, trio.current_time(), self._rng, config.values_per_reply
            )
            deliver(stored)
            announced_to = 0
            async with self._slots:
                args: dict[bytes, Value] = {b"info_hash": info_hash}
                announces = announce_port is not None
                paths = config.announce_paths if announces else 1
                lookup = await self._walks.walk(
                    info_hash,
                    krpc.GET_PEERS,
                    args,
                    on_reply,
                    stores=announces,
                    paths=paths,
                )
                again = config.paths * (1 if announces or config.paths == 1 else config.retry_ways)
                misled = lookup.asked > MISLED * lookup.replies
                if (misled or not found) and paths < again and lookup.replies >= config.k:
                    # Nobody has it, or liars were on the way, who may have told of false peers:
                    # they would have to be on all of these.
                    lookup = await self._walks.walk(
                        info_hash,
                        krpc.GET_PEERS,
                        args,
                        on_reply,
                        stores=announces,
                        paths=again,
                    )
                withdrawn = self._announcing.get(info_hash) is not announcement
                if announce_port is not None and not withdrawn:
                    closest = [(node, tokens[node]) for node in lookup.closest() if node in tokens]
                    seed = announcement is not None and announcement.seed
                    announced_to = await self._announce(info_hash, announce_port, closest, seed)
                    if announcement is not None:
                        announcement.reached = announced_to
            if not found and 0 < lookup.replies < config.k:
                # In a network this small every announce reaches us as well, but one by a node
                # that has only just met us may be on its way.
                with trio.move_on_after(config.soft_timeout):
                    await late.wait()
        finally:
            searching = False
            if announcement is not None and announce_port is not None:
                announcement.under_way -= 1
                if self._table.additions != announcement.additions:
                    self.grown()
            watchers.remove(on_announce)
            if not watchers:
                self._watchers.pop(info_hash, None)
        return PeerLookup(tuple(found), lookup.asked, lookup.replies, announced_to)

    async def _announce(
        self,
        info_hash: InfoHash,
        port: int,
        nodes: Sequence[tuple[NodeInfo, bytes]],
        seed: bool,
    ) -> int:
        """Announce to `nodes`, each with its token; how many confirmed."""
        confirmed = 0
        open_questions = len(nodes)
        bell = Bell()

        def came(answer: Answer) -> None:
            nonlocal confirmed, open_questions
            confirmed += isinstance(answer, Reply)
            open_questions -= 1
            bell.ring()

        for node, token in nodes:
            args: dict[bytes, Value] = {b"info_hash": info_hash, b"port": port, b"token": token}
            if port == self._port():
                args[b"implied_port"] = 1  # survives a NAT that changes ports
            if seed:
                args[b"seed"] = 1
            await self._questions.ask_when_possible(
                node.address, krpc.ANNOUNCE_PEER, args, came, node.id
            )
        with trio.move_on_after(ANNOUNCE_PATIENCE):
            while open_questions:
                await bell.wait()
        if confirmed:
            self.last_at = trio.current_time()
        return confirmed


def _filters(reply: Reply) -> tuple[Bloom, Bloom] | None:
    seeds, others = reply.body.get(b"BFsd"), reply.body.get(b"BFpe")
    if not isinstance(seeds, bytes) or not isinstance(others, bytes):
        return None
    try:
        return Bloom(seeds), Bloom(others)
    except ValueError:
        return None
