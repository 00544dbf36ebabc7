"""A DHT too large to exist: ten million nodes whose responses are computed when they are asked. The
rule: only the nodes are invented; the lookup among them is the real one.

All that is kept is a sorted array with the first 64 bits of each id, 80 MB for ten million. What a
node knows follows from its id alone: of each part of the network that its k-buckets cover it knows
k nodes, drawn by a keyed hash, or all where there are fewer. These are the tables nodes come to
have where all nodes stay: full, as Kademlia's paper assumes them.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, repeat
from math import log
from operator import mul
from typing import Final

from dht_torrent.config import DhtConfig
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.lookup import Lookup
from dht_torrent.dht.paths import Paths, search
from dht_torrent.ids import NodeId
from dht_torrent.lab.population.dhtnet import host_address

SIZES: Final = tuple(10**power for power in range(3, 8))
"""From a thousand to ten million."""
MOST: Final = 1 << 24
"""Nodes: each has an address of its own in 10.0.0.0/8."""
BITS: Final = 64
"""Of an id, are kept; the rest is a hash of them."""
_DRAWS: Final = 8  # 64-bit numbers in the longest digest of BLAKE2b


@dataclass(frozen=True, slots=True)
class LookupOutcome:
    """How one lookup went."""

    hops: int
    asked: int
    answered: int
    seconds: float
    right: int
    """Of the nodes found, those truly among the closest ..."""
    wanted: int
    """... which are so many: k, or all."""


class VirtualNetwork:
    """`size` nodes at random ids; a share of them, `dead`, is known to others and never answers.

    `latency`: seconds one way, on average; from half to one and a half of it.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        *,
        latency: float = 0.05,
        dead: float = 0.0,
        config: DhtConfig | None = None,
    ) -> None:
        if not 1 < size <= MOST:
            raise ValueError(f"from 2 to {MOST} nodes")
        self.prefixes = sorted_prefixes(size, random.Random(f"ids {seed}"))
        """The first 64 bits of all ids, in order: a node's place here is its number."""
        self.config = config or DhtConfig()
        self._latency = latency
        self._seed = seed
        self._key = hashlib.sha256(f"tables {seed}".encode()).digest()
        self._dead_below = int(dead * (1 << 32))

    def __len__(self) -> int:
        return len(self.prefixes)

    def info(self, number: int) -> NodeInfo:
        """The node with this number."""
        prefix = self.prefixes[number].to_bytes(8, "big")
        rest = hashlib.blake2b(prefix, digest_size=12).digest()
        return NodeInfo(NodeId(prefix + rest), host_address(number))

    def number(self, node_id: bytes) -> int:
        """The number of a node that exists."""
        return bisect_left(self.prefixes, _prefix(node_id))

    def is_dead(self, number: int) -> bool:
        if not self._dead_below:
            return False
        drawn = hashlib.blake2b(number.to_bytes(4, "big"), key=self._key, digest_size=4).digest()
        return int.from_bytes(drawn, "big") < self._dead_below

    def bucket(self, number: int, shared: int) -> list[int]:
        """The contacts of a node whose ids share exactly `shared` bits with its own."""
        own = self.prefixes[number]
        low, high = self._range(own ^ 1 << (BITS - 1 - shared), shared + 1)
        k = self.config.k
        if high - low <= k:
            return list(range(low, high))
        drawn: dict[int, None] = {}
        about = own.to_bytes(8, "big") + bytes([shared])
        for turn in range(1 << 16):
            digest = hashlib.blake2b(about + turn.to_bytes(2, "big"), key=self._key).digest()
            for at in range(0, 8 * _DRAWS, 8):
                place = int.from_bytes(digest[at : at + 8], "big")
                drawn[low + place % (high - low)] = None
                if len(drawn) == k:
                    return list(drawn)
        raise AssertionError("65,536 digests held no eight different numbers")

    def known(self, number: int, target: bytes, count: int) -> list[NodeInfo]:
        """The `count` nodes closest to `target` in the table of a node, nearest first: its answer
        to find_node."""
        found: list[int] = []
        for bucket in self._buckets_from(number, _prefix(target)):
            found += bucket
            if len(found) >= count:
                break
        return self._nearest(found, target, count)

    def closest(self, target: bytes, count: int, *, but: int) -> list[NodeInfo]:
        """The living nodes that really are closest to `target`, nearest first, without `but`."""
        wanted = _prefix(target)
        for shared in range(BITS, -1, -1):
            numbers = range(*self._range(wanted, shared))
            if len(numbers) <= count and shared:
                continue
            living = [one for one in numbers if one != but and not self.is_dead(one)]
            if len(living) >= count or not shared:
                return self._nearest(living, target, count)
        raise AssertionError("with no bit to share, all nodes were looked at")

    def lookup(self, which: int, *, paths: int = 1) -> LookupOutcome:
        """From a random node to a random target; both follow from `which`. `paths`: disjoint
        ways, as for a store."""
        rng = random.Random(f"lookup {self._seed} {which}")
        searcher = rng.randrange(len(self))
        while self.is_dead(searcher):
            searcher = rng.randrange(len(self))
        target, own_id = rng.randbytes(20), self.info(searcher).id
        k = self.config.k
        start = self.known(searcher, target, max(2, paths) * k)
        lookup = search(target, own_id, self.config, 0.0, start, paths=paths)
        seconds = self._run(lookup, rng)
        truly = {info.id for info in self.closest(target, k, but=searcher)}
        right = sum(info.id in truly for info in lookup.closest())
        return LookupOutcome(lookup.hops, lookup.asked, lookup.replies, seconds, right, len(truly))

    def _run(self, lookup: Lookup | Paths, rng: random.Random) -> float:
        """To its end, from moment 0; the moment of that."""
        now, count = 0.0, 0
        k, timeout = self.config.k, self.config.hard_timeout
        coming: list[tuple[float, int, NodeInfo, int | None]] = []  # a heap, by moment
        while not lookup.done(now):
            for contact in lookup.take(now):
                number = self.number(contact.id)
                delay = self._delay(rng) + self._delay(rng)
                count += 1
                if self.is_dead(number) or delay >= timeout:
                    heapq.heappush(coming, (now + timeout, count, contact, None))
                else:
                    heapq.heappush(coming, (now + delay, count, contact, number))
            now = min(coming[0][0], lookup.wake_at(now)) if coming else lookup.wake_at(now)
            while coming and coming[0][0] <= now:
                _, _, contact, answerer = heapq.heappop(coming)
                if answerer is None:
                    lookup.failed(contact)
                else:
                    lookup.answered(contact, self.known(answerer, lookup.target, k), now)
        return now

    def _delay(self, rng: random.Random) -> float:
        return rng.uniform(0.5 * self._latency, 1.5 * self._latency)

    def _range(self, prefix: int, shared: int) -> tuple[int, int]:
        """The numbers of all whose ids share the first `shared` bits with `prefix`."""
        width = BITS - shared
        first = prefix >> width << width
        low = bisect_left(self.prefixes, first)
        last = first + (1 << width)
        return low, len(self) if last >> BITS else bisect_left(self.prefixes, last, low)

    def _buckets_from(self, number: int, target: int) -> Iterator[list[int]]:
        """The buckets of a node, those nearest to `target` first."""
        own = self.prefixes[number]
        meets = BITS - (own ^ target).bit_length()  # bits they share
        if meets < BITS:
            yield self.bucket(number, meets)
        # Seen from the target, all that is nearer to the node is equally far in the leading bit.
        nearer: list[int] = []
        for shared in range(meets + 1, BITS):
            low, high = self._range(own, shared)
            if high - low == 1:
                break  # the node alone
            nearer += self.bucket(number, shared)
        yield nearer
        for shared in range(meets - 1, -1, -1):
            yield self.bucket(number, shared)

    def _nearest(self, numbers: list[int], target: bytes, count: int) -> list[NodeInfo]:
        wanted = _prefix(target)
        best = heapq.nsmallest(count, numbers, key=lambda one: self.prefixes[one] ^ wanted)
        return [self.info(number) for number in best]


def sorted_prefixes(size: int, rng: random.Random) -> Sequence[int]:
    """So many different numbers of 64 bits at random, in order.

    Sorting ten million Python integers takes 400 MB. The sums of exponential variates, divided by
    the last, are distributed as sorted uniform ones are (Devroye 1986, V.3.1).
    """
    draws = map(log, islice(iter(rng.random, 0.0), size + 1))
    sums = array("d", accumulate(draws))
    last = sums.pop()
    prefixes = array("Q", map(int, map(mul, sums, repeat((2.0**BITS - 1) / last))))
    for place in range(1, size):
        if prefixes[place] <= prefixes[place - 1]:
            prefixes[place] = prefixes[place - 1] + 1
    return prefixes


def _prefix(raw: bytes) -> int:
    return int.from_bytes(raw[: BITS // 8], "big")
