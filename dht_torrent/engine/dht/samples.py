"""Asks nodes what they store (BEP 51). The rule: no node is asked again before the interval it
named has passed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import trio

from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.engine.dht.core import Core
from dht_torrent.errors import NoReply
from dht_torrent.ids import Address, InfoHash


@dataclass(frozen=True, slots=True)
class Sample:
    """What a node says of its store."""

    address: Address
    interval: int
    """Seconds for which its answer will be the same."""
    num: int
    """Infohashes it has, as it says."""
    samples: tuple[InfoHash, ...]
    nodes: tuple[NodeInfo, ...]


class NoSamples(NoReply):
    """A node that responds, and does not tell what it stores: it knows nothing of BEP 51."""

    def __init__(self, message: str, nodes: tuple[NodeInfo, ...]) -> None:
        super().__init__(message, code=krpc.METHOD_UNKNOWN)
        self.nodes = nodes
        """Those it named all the same."""


class Samples:
    """Samples of other nodes' stores, remembered for as long as they hold."""

    def __init__(self, core: Core) -> None:
        self._transactions = core.transactions
        self._longest = core.config.samples_interval
        self._kept = core.config.samples_kept
        self._known: OrderedDict[Address, tuple[float, Sample]] = OrderedDict()

    async def get(self, address: Address, target: bytes) -> Sample:
        """Infohashes that the node at `address` stores, and nodes near `target`. Asked again before
        the interval it named is over, its earlier answer is given. Raises NoReply."""
        expires, known = self._known.get(address, (float("-inf"), None))
        if known is not None and trio.current_time() < expires:
            await trio.lowlevel.checkpoint()
            return known
        reply = await self._transactions.query(address, krpc.SAMPLE_INFOHASHES, {b"target": target})
        raw = reply.body.get(b"samples")
        if not isinstance(raw, bytes) or len(raw) % 20:
            nodes = tuple(reply.nodes(ipv6=address.is_ipv6))
            raise NoSamples(f"{address} gives no samples", nodes)
        interval, num = (reply.body.get(key) for key in (b"interval", b"num"))
        seconds = interval if isinstance(interval, int) else 0
        seconds = max(0, min(seconds, int(self._longest)))
        sample = Sample(
            address,
            seconds,
            num if isinstance(num, int) and num >= 0 else len(raw) // 20,
            tuple(InfoHash(raw[at : at + 20]) for at in range(0, len(raw), 20)),
            tuple(reply.nodes(ipv6=address.is_ipv6)),
        )
        self._known[address] = trio.current_time() + seconds, sample
        self._known.move_to_end(address)
        if len(self._known) > self._kept:
            self._known.popitem(last=False)
        return sample
