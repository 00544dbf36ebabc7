"""What a node does by itself so that its table stays true: pings, bucket refreshes, queries where
contacts are missing. The rule: no node is pinged twice at once, and few at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from dht_torrent.bencode import Value
from dht_torrent.dht import krpc
from dht_torrent.dht.buckets import Contact
from dht_torrent.dht.krpc import NodeInfo, Reply
from dht_torrent.engine.dht.core import Core
from dht_torrent.engine.dht.transactions import Answer, Transaction
from dht_torrent.ids import Address

TICK: Final = 5.0
"""Seconds between two looks for contacts to ping and things to forget (libtorrent's tick)."""


class Maintenance:
    """Keeps a node's table true, by querying."""

    def __init__(self, core: Core) -> None:
        self._table = core.table
        self._ping_queue = core.ping_queue
        self._transactions = core.transactions
        self._lookups = core.lookups
        self._config = core.config
        self._rng = core.rng
        self._verifying = 0
        self._probing: set[Address] = set()
        self._transactions.on_timeout = self._timed_out

    def probe(self, contact: Contact, now: float) -> None:
        """Ping a contact; its response or the timeout reaches the table by itself."""
        address = contact.address
        if address in self._probing:
            return

        def probed(answer: Answer) -> None:
            self._probing.discard(address)

        if self._transactions.try_send(address, krpc.PING, {}, probed, contact.id, now):
            self._probing.add(address)

    def referred(self, nodes: Sequence[NodeInfo], referrer: Address, now: float) -> None:
        """`referrer` names these: ping those the table has room for."""
        for info in nodes[: self._config.k]:
            inside = info.address.is_local and not referrer.is_local
            if not inside and self._table.has_room(info, now):
                self._ping_queue.add(info.address, now, at_once=True)
        self.verify(now)

    def verify(self, now: float) -> None:
        """Ping the addresses in the queue whose time has come."""
        if not self._ping_queue:
            return
        for address in self._ping_queue.take(now, self._config.verify_at_once - self._verifying):
            if self._transactions.is_querying(address):
                continue  # that response will do
            if self._transactions.try_send(address, krpc.PING, {}, self._verified, None, now):
                self._verifying += 1

    def tick(self, now: float) -> None:
        """Query whom it is time to query. Call every `TICK` seconds."""
        self.verify(now)
        contact = self._table.doubtful(now)
        if contact is not None:
            self.probe(contact, now)
        sparse = self._table.sparse(now, self._rng)
        if sparse is not None:
            self._seek(*sparse, now)

    async def refresh(self) -> None:
        """A service: looks up a random id in each bucket unchanged for a while (BEP 5)."""
        while True:
            await trio.sleep(max(TICK, self._table.refresh_at() - trio.current_time()))
            for target in self._table.refresh_targets(trio.current_time(), self._rng):
                await self._lookups.find_node(target)

    def _timed_out(self, transaction: Transaction, now: float) -> None:
        if not isinstance(transaction.to, Address):
            return  # nobody knows which contact that would have been
        suspect = self._table.failed(transaction.to, transaction.sent_at, now)
        if suspect is not None:
            self.probe(suspect, now)

    def _verified(self, answer: Answer) -> None:
        self._verifying -= 1

    def _seek(self, contact: Contact, target: bytes, now: float) -> None:
        """Ask `contact` for nodes near `target`."""

        def came(answer: Answer) -> None:
            if isinstance(answer, Reply):
                nodes = answer.nodes(ipv6=self._table.ipv6)
                self.referred(nodes, contact.address, trio.current_time())

        args: dict[bytes, Value] = {b"target": target, **self._lookups.want()}
        address, expected = contact.address, contact.id
        self._transactions.try_send(address, krpc.FIND_NODE, args, came, expected, now)
