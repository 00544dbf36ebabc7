"""Lookups on their way. The rule: who is asked is `dht.lookup`'s decision; here it is asked, and
the walk ends when that says so or when its caller has enough.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

import trio

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.density import Density
from dht_torrent.dht.krpc import NodeInfo, Reply
from dht_torrent.dht.lookup import Lookup
from dht_torrent.dht.paths import Paths
from dht_torrent.dht.table import Table
from dht_torrent.engine.questions import Answer, Bell, Questions
from dht_torrent.trace import LookupDone, Trace

logger = logging.getLogger(__name__)

OnReply = Callable[[NodeInfo, Reply], None]


class Walks:
    """Walks towards targets, from the contacts of one table."""

    def __init__(self, table: Table, questions: Questions, config: DhtConfig, trace: Trace) -> None:
        self.density = Density(config)
        self.crowds = 0
        """Walks that found a target besieged."""
        self._table = table
        self._questions = questions
        self._config = config
        self._trace = trace

    async def find_node(self, target: bytes) -> Lookup | Paths:
        """To the nodes closest to `target`."""
        return await self.walk(target, krpc.FIND_NODE, {b"target": target})

    async def walk(
        self,
        target: bytes,
        method: bytes,
        args: Mapping[bytes, Value],
        on_reply: OnReply | None = None,
        *,
        stores: bool = False,
        paths: int = 1,
        enough: Callable[[], bool] | None = None,
    ) -> Lookup | Paths:
        """Ask `method` with `args` of ever closer nodes.

        `stores`: the result is for storing on. `paths`: on so many disjoint ways, where there are
        contacts for that. `enough` is asked after each reply; True ends the walk early. Where the
        closest nodes are suspiciously dense, all around them are asked as well.
        """
        config, ipv6 = self._config, self._table.ipv6
        own_id = self._table.own_id
        began = now = trio.current_time()
        start = self._table.closest(target, max(2, paths) * config.k)
        lookup: Lookup | Paths
        if paths > 1 and len(start) >= 2 * config.k:
            lookup = Paths(target, own_id, config, now, count=paths, ipv6=ipv6, stores=stores)
        else:
            lookup = Lookup(target, own_id, config, now, ipv6=ipv6, stores=stores)
        lookup.add(contact.info for contact in start)
        bell = Bell()

        def came(contact: NodeInfo, answer: Answer) -> None:
            if isinstance(answer, Reply):
                lookup.answered(contact, answer.nodes(ipv6=ipv6), trio.current_time())
                if on_reply is not None:
                    on_reply(contact, answer)
            else:
                lookup.failed(contact)
            bell.ring()

        widened = method == krpc.FIND_NODE  # which looks for nobody in particular
        async with trio.open_nursery() as nursery:
            while enough is None or not enough():
                if lookup.done(now):
                    if widened or not self._is_crowded(lookup):
                        break
                    widened = True
                    continue
                for contact in lookup.take(now):
                    done = partial(came, contact)
                    to = contact.address
                    if not self._questions.ask_now(to, method, args, done, contact.id, now):
                        nursery.start_soon(
                            self._questions.ask_when_possible, to, method, args, done, contact.id
                        )
                with trio.move_on_at(lookup.wake_at(now)):
                    await bell.wait()
                now = trio.current_time()
            # Questions in flight go on: their answers still serve the table.
            nursery.cancel_scope.cancel()
        if lookup.done(now) and not stores:  # else those who do not count would be missing
            self.density.note(target, [info.id for info in lookup.closest()])
        self._trace(LookupDone(target, lookup.asked, lookup.replies, lookup.hops, now - began))
        logger.debug(
            "%s %s: %d asked, %d answered, %d hops, %.3f s",
            method.decode("ascii", "backslashreplace"),
            target.hex()[:8],
            lookup.asked,
            lookup.replies,
            lookup.hops,
            now - began,
        )
        return lookup

    def _is_crowded(self, lookup: Lookup | Paths) -> bool:
        ids = [info.id for info in lookup.closest()]
        if not self.density.is_crowded(lookup.target, ids):
            return False
        self.crowds += 1
        logger.info(
            "%s is besieged: its closest nodes are too dense; asking all around",
            lookup.target.hex()[:8],
        )
        # Twice as many as should be there: k honest ones are among them, wherever they stand.
        lookup.widen(self.density.radius(2 * self._config.k))
        return True
