"""The contacts of the routing table and the buckets that hold them.

Buckets are the Kademlia library's. Its replacement lists hold verified contacts too, waiting for
a place in a full bucket.
"""

from __future__ import annotations

import importlib
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from dht_torrent.config import DhtConfig
from dht_torrent.dht.identity import is_compliant
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.origins import facts
from dht_torrent.ids import Address, NodeId

_LOOP: Final = "asyncio"
"""What the library's network half runs on, which we do not use: 2 MB of memory."""


class _Later(ModuleType):
    """A module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system's own questions
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _later(name: str) -> Iterator[None]:
    """What is imported in the block gets this module once it uses it. Nobody else sees a difference
    afterwards."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = _Later(name)
    try:
        yield
    finally:
        del sys.modules[name]


with _later(_LOOP):
    from kademlia.node import Node
    from kademlia.routing import KBucket

NEVER = float("-inf")

HEALTHY_FAILS = 2
"""With so many queries unanswered in a row we do not recommend a contact (BEP 5: retry once)."""

SEEK_AGAIN = 5.0
"""Seconds between two queries about one bucket with room; doubled as long as it does not grow, up
to `refresh_interval`, for there may be no more nodes."""


class Contact(Node):  # type: ignore[misc] # the library has no types
    """A DHT node that has answered us. `long_id` is its id as a number."""

    id: NodeId
    long_id: int

    def __init__(self, node_id: NodeId, address: Address, now: float) -> None:
        super().__init__(node_id, address.host, address.port)
        self.address = address
        self.last_replied = now
        self.last_queried = NEVER
        """When it last asked us something."""
        self.last_asked = now
        self.fails = 0
        """Queries unanswered since its last reply."""
        self.is_compliant = is_compliant(node_id, address)
        """Whether its id fits its IP (BEP 42)."""
        origin = facts(address)
        self.home = origin.home
        self.is_public = not origin.is_local
        self.neighbourhood = origin.neighbourhood
        self._compact: bytes | None = None

    @property
    def info(self) -> NodeInfo:
        return NodeInfo(self.id, self.address)

    @property
    def compact(self) -> bytes:
        """Its compact node info, made once."""
        if self._compact is None:
            self._compact = self.info.compact()
        return self._compact

    @property
    def last_heard(self) -> float:
        return max(self.last_replied, self.last_queried)


class Bucket(KBucket):  # type: ignore[misc] # the library has no types
    """The library's bucket on our clock, over a range whose both ends are inclusive."""

    range: tuple[int, int]
    nodes: OrderedDict[bytes, Contact]
    replacement_nodes: OrderedDict[bytes, Contact]
    max_replacement_nodes: int

    def __init__(self, lower: int, upper: int, k: int, now: float) -> None:
        super().__init__(lower, upper, k)
        self.changed = now
        """When a contact of it last answered, came or went (BEP 5's "last changed")."""
        self.seek_at = now
        """When to look for more of its nodes, if there is room."""
        self.seek_pause = SEEK_AGAIN
        self.seek_size = 0  # live contacts when we last did
        # Worked out when they are asked for; `shift` forgets them.
        self._fit: dict[int, Contact] | None = None
        self._told: tuple[bytes, int, bool] | None = None
        self._heard_since: float | None = None

    def touch_last_updated(self) -> None:
        """The library would read the machine's clock here; `changed` is what counts."""

    def shift(self) -> None:
        """Call whenever a live contact came, went, failed or recovered."""
        self._fit = self._told = self._heard_since = None

    def fit(self) -> dict[int, Contact]:
        """Its live contacts that are fit to be recommended, by their ids as numbers."""
        if self._fit is None:
            self._fit = {c.long_id: c for c in self.nodes.values() if c.fails < HEALTHY_FAILS}
        return self._fit

    def told(self) -> tuple[bytes, int, bool]:
        """The compact node info of those, how many they are, and whether all are public."""
        if self._told is None:
            fit = self.fit().values()
            joined = b"".join([contact.compact for contact in fit])
            self._told = joined, len(fit), all(contact.is_public for contact in fit)
        return self._told

    def is_all_good(self, now: float, config: DhtConfig) -> bool:
        """Whether every live contact is good, as `Table.is_good` has it."""
        # Until `shift` they can only be heard from again, so what was true remains true.
        if self._heard_since is None or now - self._heard_since > config.good_for:
            contacts = self.nodes.values()
            bad = any(contact.fails >= config.max_fails for contact in contacts)
            heard = min((contact.last_heard for contact in contacts), default=now)
            self._heard_since = NEVER if bad else heard
        return now - self._heard_since <= config.good_for

    def halves(self, now: float) -> tuple[Bucket, Bucket]:
        middle = (self.range[0] + self.range[1]) // 2
        k: int = self.ksize
        pair = (Bucket(self.range[0], middle, k, now), Bucket(middle + 1, self.range[1], k, now))
        for contact in [*self.nodes.values(), *self.replacement_nodes.values()]:
            pair[contact.long_id > middle].add_node(contact)
        return pair

    def __iter__(self) -> Iterator[Contact]:
        """Live contacts, then those waiting for a place."""
        yield from self.nodes.values()
        yield from self.replacement_nodes.values()
