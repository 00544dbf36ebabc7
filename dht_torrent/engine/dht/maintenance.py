"""What a node does unasked so that its table stays true: pings, refreshes, looks for those who are
missing. The rule: nobody is pinged twice at once, and few at a time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import trio

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import NodeInfo, Reply
from dht_torrent.dht.ping_queue import Strangers
from dht_torrent.dht.table import Contact, Table
from dht_torrent.engine.dht.lookups import Walks
from dht_torrent.engine.dht.transactions import Answer, Question, Questions
from dht_torrent.ids import Address

TEND_INTERVAL: Final = 5.0
"""Seconds between two looks for contacts to ping and things to forget (libtorrent's tick)."""


class Upkeep:
    """Keeps `table` true, by asking."""

    def __init__(
        self,
        table: Table,
        strangers: Strangers,
        questions: Questions,
        walks: Walks,
        config: DhtConfig,
        rng: random.Random,
    ) -> None:
        self._table = table
        self._strangers = strangers
        self._questions = questions
        self._walks = walks
        self._config = config
        self._rng = rng
        self._verifying = 0
        self._probing: set[Address] = set()

    def probe(self, contact: Contact, now: float) -> None:
        """Ping a contact; the answer or the silence goes to the table by itself."""
        address = contact.address
        if address in self._probing:
            return

        def probed(answer: Answer) -> None:
            self._probing.discard(address)

        if self._questions.ask_now(address, krpc.PING, {}, probed, contact.id, now):
            self._probing.add(address)

    def silent(self, question: Question, now: float) -> None:
        """Nobody answered it."""
        suspect = self._table.failed(question.to, question.asked_at, now)
        if suspect is not None:
            self.probe(suspect, now)

    def told_of(self, nodes: Sequence[NodeInfo], source: Address, now: float) -> None:
        """`source` tells of these: ping those the table has room for."""
        for info in nodes[: self._config.k]:
            inside = info.address.is_local and not source.is_local
            if not inside and self._table.has_room(info, now):
                self._strangers.add(info.address, now, at_once=True)
        self.verify(now)

    def verify(self, now: float) -> None:
        """Ping strangers whose time has come."""
        for address in self._strangers.take(now, self._config.verify_at_once - self._verifying):
            if self._questions.is_asking(address):
                continue  # that answer will do
            if self._questions.ask_now(address, krpc.PING, {}, self._verified, None, now):
                self._verifying += 1

    def tend(self, now: float) -> None:
        """Ask whom it is time to ask. Call every `TEND_INTERVAL` seconds."""
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
            await trio.sleep(max(TEND_INTERVAL, self._table.refresh_at() - trio.current_time()))
            for target in self._table.refresh_targets(trio.current_time(), self._rng):
                await self._walks.find_node(target)

    def _verified(self, answer: Answer) -> None:
        self._verifying -= 1

    def _seek(self, contact: Contact, target: bytes, now: float) -> None:
        """Ask `contact` for nodes near `target`."""

        def told(answer: Answer) -> None:
            if isinstance(answer, Reply):
                nodes = answer.nodes(ipv6=self._table.ipv6)
                self.told_of(nodes, contact.address, trio.current_time())

        args: dict[bytes, Value] = {b"target": target, **self._walks.want()}
        self._questions.ask_now(contact.address, krpc.FIND_NODE, args, told, contact.id, now)
