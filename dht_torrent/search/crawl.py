"""Which node a crawl of the DHT asks next, and which of the infohashes they name it looks at.

A crawl asks nodes for samples of what they store (BEP 51) and goes through the keyspace as it does:
the keyspace is divided into regions, gone through in turn. Each answer names nodes near a target,
which is anywhere, in the region of the node that is asked, or in the next one of which no node is
known.

The rules:
- no node is asked again before the interval it named has passed, nor another at the same public
  address: one address is one node, however many ids and ports it shows;
- everything is bounded (`CrawlConfig` has the bytes); what finds no room is left out, and those who
  are in stay in, so that a flood does not push them out;
- nodes take turns in what is looked at: one that names a thousand infohashes that nobody has holds
  up its own other infohashes, and after a few no more are looked at.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dht_torrent.config import CrawlConfig
from dht_torrent.ids import Address, InfoHash, address_from_compact
from dht_torrent.search.seen import RestingNodes, SeenHashes

_SLOT: Final = 60.0
"""Seconds: nodes whose interval ends within one come up together."""
_NEAR: Final = 64
"""Regions after the present one that are looked at for one of which no node is known."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this node for its sample."""

    address: Address
    target: bytes
    region: int


@dataclass(frozen=True, slots=True)
class Want:
    """Look at this infohash."""

    infohash: InfoHash
    named_by: Address
    """The node whose sample had it."""
    again: bool
    """It was looked at before, in vain."""


class CrawlPlan:
    """What one crawl knows. Whoever takes an `Ask` or a `Want` tells how it ended."""

    def __init__(self, config: CrawlConfig, rng: random.Random, now: float) -> None:
        self.named = 0
        """Infohashes in answers, of which some come again and again."""
        self.waiting = 0
        """Infohashes to be looked at, those that are being looked at not among them."""
        self._config = config
        self._rng = rng
        self._resting = RestingNodes(config.resting_bytes, rng.randbytes(16), now)
        self._failed = SeenHashes(config.seen_bytes // 2, rng.randbytes(16))
        self._done = SeenHashes(config.seen_bytes // 2, rng.randbytes(16))
        self._regions: dict[int, deque[bytes]] = {}
        """Nodes that wait, by the region of their ids: compact addresses."""
        self._nodes = 0
        self._region = rng.randrange(config.regions)
        self._later: dict[int, bytearray] = {}
        """Nodes to be asked again, by the slot of time in which they may: of each its region and
        its compact address, in few bytes, as there are many."""
        self._later_count = 0
        self._hashes: OrderedDict[Address, deque[InfoHash]] = OrderedDict()
        """By the node that named them, whose turn is next first."""
        self._misses: dict[Address, int] = {}
        """In a row, of nodes that are in `_hashes` or have one of theirs looked at."""
        self._open: dict[InfoHash, Address] = {}
        """All that wait or are looked at."""

    # -- nodes ----------------------------------------------------------------------------------

    @property
    def nodes(self) -> int:
        """Nodes known that wait to be asked."""
        return self._nodes

    @property
    def is_full(self) -> bool:
        """No more nodes should be asked, for now: there is enough to look at."""
        return self.waiting >= self._config.max_waiting // 2

    @property
    def is_idle(self) -> bool:
        """No infohash waits or is being looked at."""
        return not self._open

    def heard_of(self, nodes: Iterable[tuple[bytes, Address]], now: float) -> int:
        """Ids and addresses of nodes, from whoever. Returns how many were new and found room."""
        return sum(self._put(self._region_of(id_), address, now) for id_, address in nodes)

    def next_node(self, now: float) -> Ask | None:
        """Whom to ask now; from then on it counts as asked. None: nobody, before `next_time`."""
        self._wake(now)
        while self._nodes:
            region = self._next_region()
            waiting = self._regions[region]
            compact = waiting.popleft()
            self._nodes -= 1
            if not waiting:
                del self._regions[region]
            address = address_from_compact(compact)
            place = _place(address)
            if self._resting.is_resting(place, now):
                continue
            # Whatever becomes of the query, even if we never hear: not before the longest time.
            if self._resting.rest(place, now + self._config.most_interval + _SLOT, now):
                return Ask(address, self._target(region), region)
        return None

    def next_time(self) -> float | None:
        """When a node may be asked again; None: not that we know."""
        return min(self._later) * _SLOT if self._later else None

    def answered(
        self,
        ask: Ask,
        interval: float,
        samples: Sequence[InfoHash],
        nodes: Sequence[tuple[bytes, Address]],
        now: float,
    ) -> None:
        """It told what it has, and of nodes."""
        config = self._config
        rest = min(max(interval, config.least_interval), config.most_interval)
        self._resting.rest(_place(ask.address), now + rest, now)
        if samples:
            self._come_back(ask, now + rest)
        self.told_of(ask, nodes, now)
        kept = self._hashes.get(ask.address, deque())
        for infohash in list(dict.fromkeys(samples))[: config.samples_heard]:
            self.named += 1
            is_new = infohash not in self._open and infohash not in self._done
            if is_new and self.waiting < config.max_waiting:
                kept.append(infohash)
                self._open[infohash] = ask.address
                self.waiting += 1
        if kept:
            self._hashes[ask.address] = kept

    def told_of(self, ask: Ask, nodes: Sequence[tuple[bytes, Address]], now: float) -> None:
        """It named these nodes, be it with samples or without."""
        named = [
            (id_, address)
            for id_, address in nodes[: self._config.nodes_named]
            if address != ask.address and ask.address.may_name(address)
        ]
        self.heard_of(named, now)

    # -- infohashes -----------------------------------------------------------------------------

    def next_hash(self) -> Want | None:
        """What to look at next: each node that named some has its turn."""
        while self._hashes:
            address, waiting = self._hashes.popitem(last=False)
            infohash = waiting.popleft()
            self.waiting -= 1
            if waiting:
                self._hashes[address] = waiting
            return Want(infohash, address, infohash in self._failed)
        return None

    def settled(self, want: Want) -> None:
        """What it is is known, or that it is nothing for us: it is not looked at again."""
        self._close(want)
        self._misses.pop(want.named_by, None)
        self._done.add(want.infohash)

    def missed(self, want: Want) -> None:
        """Nobody had it. It is looked at once more, should it be named again."""
        self._close(want)
        (self._done if want.again else self._failed).add(want.infohash)
        misses = self._misses.get(want.named_by, 0) + 1
        if misses < self._config.max_misses:
            self._misses[want.named_by] = misses
            return
        # The others may be as false. If they are true, other nodes name them too.
        dropped = self._hashes.pop(want.named_by, deque())
        self.waiting -= len(dropped)
        for infohash in dropped:
            self._open.pop(infohash, None)
        self._misses.pop(want.named_by, None)

    def put_back(self, want: Want) -> None:
        """It was not looked at after all."""
        self._close(want)

    # -- within ---------------------------------------------------------------------------------

    def _close(self, want: Want) -> None:
        self._open.pop(want.infohash, None)
        if len(self._misses) > self._config.max_waiting:
            self._misses = {
                address: count for address, count in self._misses.items() if address in self._hashes
            }

    def _region_of(self, id_: bytes) -> int:
        return int.from_bytes(id_[:4], "big") * self._config.regions >> 32

    def _target(self, region: int) -> bytes:
        """Anywhere, or in this region, or in the next one of which no node is known.

        Those near a node name each other, and nobody else: who asked for these alone would stay
        among a dozen. Of far ones a node knows few, and each node knows others."""
        regions = self._config.regions
        choice = self._rng.random()
        if choice < 0.5:
            return self._rng.randbytes(20)
        if choice < 0.75:
            after = (region + step for step in range(1, min(_NEAR, regions)))
            region = next((r % regions for r in after if r % regions not in self._regions), region)
        # Every number of four bytes that `_region_of` puts there.
        first = -(-(region << 32) // regions)
        last = -(-((region + 1) << 32) // regions)
        return self._rng.randrange(first, last).to_bytes(4, "big") + self._rng.randbytes(16)

    def _next_region(self) -> int:
        """The next in turn of which a node waits."""
        regions = self._config.regions
        for step in range(1, regions + 1):
            region = (self._region + step) % regions
            if region in self._regions:
                self._region = region
                return region
        raise AssertionError("nodes wait, and in no region")

    def _put(self, region: int, address: Address, now: float) -> bool:
        if not address.is_usable or self._resting.is_resting(_place(address), now):
            return False
        compact = address.compact()
        waiting = self._regions.get(region)
        if waiting is None:
            self._regions[region] = deque([compact])
        elif compact in waiting or len(waiting) >= self._config.nodes_in_region:
            return False
        else:
            waiting.append(compact)
        self._nodes += 1
        return True

    def _come_back(self, ask: Ask, when: float) -> None:
        if self._later_count < self._config.revisits:
            # The end of the slot: then none of them is resting any more.
            slot = int(when // _SLOT) + 1
            compact = ask.address.compact()
            head = ask.region.to_bytes(2, "big") + bytes([len(compact)])
            self._later.setdefault(slot, bytearray()).extend(head + compact)
            self._later_count += 1

    def _wake(self, now: float) -> None:
        """Those whose interval is over wait again, as far as there is room."""
        while self._later and (slot := min(self._later)) * _SLOT <= now:
            nodes, at = bytes(self._later.pop(slot)), 0
            while at < len(nodes):
                region, end = int.from_bytes(nodes[at : at + 2], "big"), at + 3 + nodes[at + 2]
                self._later_count -= 1
                self._put(region, address_from_compact(nodes[at + 3 : end]), now)
                at = end


def _place(address: Address) -> bytes:
    """What counts as one node: a public address whatever its port (v6: its /64), a local one with
    its port."""
    compact = address.compact()
    if address.is_local:
        return compact
    return compact[:4] if len(compact) == 6 else compact[:8]
