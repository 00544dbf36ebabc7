"""Lookups in the DHT. The rule: which nodes are queried is the decision of `dht.lookup`; here the
queries are sent, and a lookup ends when that says so or when its caller has enough.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import trio

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.density import Density
from dht_torrent.dht.krpc import NodeInfo, Reply
from dht_torrent.dht.lookup import POINTS, Lookup
from dht_torrent.dht.paths import Paths, search
from dht_torrent.dht.table import Table
from dht_torrent.engine.dht.transactions import Answer, Done, Transactions
from dht_torrent.engine.dht.walks import Walks
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import InputError
from dht_torrent.trace import LookupDone, Trace

logger = logging.getLogger(__name__)

OnReply = Callable[[NodeInfo, Reply], None]


class Lookups:
    """Makes lookups, from the contacts of one table."""

    def __init__(
        self, table: Table, transactions: Transactions, config: DhtConfig, trace: Trace
    ) -> None:
        self.table = table
        self.transactions = transactions
        self.config = config
        self.trace = trace
        self.density = Density(config)
        self.eclipses_suspected = 0
        """Lookups whose target had suspiciously dense surroundings."""
        self.walks = Walks()
        """For those who look on."""
        self.other_table: Table | None = None
        """The table of our node in the other address family (BEP 32)."""

    def want(self) -> Mapping[bytes, Value]:
        """What to add to a find_node: while our node of the other family knows few contacts, nodes
        of both are wanted (BEP 32)."""
        if self.other_table is None or not self.other_table.knows_few:
            return {}
        return {b"want": [b"n4", b"n6"]}

    async def find_node(self, target: bytes) -> Lookup | Paths:
        """Look for the nodes closest to `target`."""
        return await self.run(target, krpc.FIND_NODE, {b"target": target})

    async def run(
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
        """Query ever closer nodes with `method` and `args`. Returns what was found.

        `stores`: the result is for storing on. `paths`: along so many disjoint paths, where there
        are contacts for that. `enough` is asked after each reply; True ends the lookup early. Where
        the closest nodes are suspiciously dense, all around them are queried as well, and then it
        is known whether an eclipse is suspected; a store, and a lookup along several paths, query
        (and store on) those where the closest should be in any case. Raises InputError unless
        `target` is 20 bytes long.
        """
        if len(target) != 20:
            raise InputError(f"a target has 20 bytes, not {len(target)}")
        running = _Running(
            self, target, method, args, on_reply, stores=stores, paths=paths, enough=enough
        )
        with self.walks.under_way(running):
            await running.drive()
        if running.eclipse_suspected:
            self.eclipses_suspected += 1
            logger.info("%s: an eclipse is suspected, as its closest nodes are too dense", running)
        self._note(running)
        running.lookup.end()
        return running.lookup

    def _note(self, running: _Running) -> None:
        """Tell the density, the trace and the log how it went."""
        lookup, now = running.lookup, running.now
        closest = lookup.closest()
        # Nodes that may not be stored on are left out of a store's result: they would be missing.
        if lookup.done(now) and not running.stores:
            self.density.note(running.target, [info.id for info in closest])
        self.trace(
            LookupDone(
                running.target,
                lookup.asked,
                lookup.replies,
                lookup.hops,
                now - running.began,
                tuple([info.address for info in closest]),
                running.eclipse_suspected,
            )
        )
        logger.debug(
            "%s: %d queried, %d replied, %d hops, %.3f s",
            running,
            lookup.asked,
            lookup.replies,
            lookup.hops,
            now - running.began,
        )


class _Running:
    """One lookup under way: a decider, and the queries it asks for."""

    def __init__(
        self,
        lookups: Lookups,
        target: bytes,
        method: bytes,
        args: Mapping[bytes, Value],
        on_reply: OnReply | None,
        *,
        stores: bool,
        paths: int,
        enough: Callable[[], bool] | None,
    ) -> None:
        self.target = target
        self.stores = stores
        self.eclipse_suspected = False
        self.began = self.now = trio.current_time()
        config, table = lookups.config, lookups.table
        start = table.closest(target, max(2, paths) * config.k)
        self.lookup = search(
            target,
            table.own_id,
            config,
            self.now,
            [contact.info for contact in start],
            paths=paths,
            ipv6=table.ipv6,
            stores=stores,
        )
        self._lookups = lookups
        self._transactions = lookups.transactions
        self._ipv6 = table.ipv6
        self._method = method
        self._args = {**args, **lookups.want()} if method == krpc.FIND_NODE else args
        self._on_reply = on_reply
        self._paths = paths
        self._enough = enough
        self._widened = method == krpc.FIND_NODE  # which looks for no node in particular
        self._is_dense = False
        self._news = AutoResetEvent()

    @property
    def purpose(self) -> str:
        return self._method.decode("ascii", "backslashreplace")

    def __str__(self) -> str:
        return f"{self.purpose} {self.target.hex()[:8]}"

    async def drive(self) -> None:
        """Query until the decider or the caller has enough."""
        async with trio.open_nursery() as nursery:
            goes_on = True
            while goes_on:
                # One scope for all replies until the first timeout: a scope for each is dear.
                with trio.CancelScope() as patience:
                    while goes_on := self._step(nursery):
                        patience.deadline = self.lookup.wake_at(self.now)
                        await self._news.wait()
                        self.now = trio.current_time()
                self.now = trio.current_time()
            # Queries in flight stay so: their responses still serve the table.
            nursery.cancel_scope.cancel()

    def _step(self, nursery: trio.Nursery) -> bool:
        """Query the nodes whose turn it is; False when the lookup is over."""
        if self._enough is not None and self._enough():
            return False
        while self.lookup.done(self.now):
            if not self._widen():
                return False
        for contact in self.lookup.take(self.now):
            self._query(nursery, contact, self._method, self._args, partial(self._came, contact))
        for contact, point in self.lookup.around(self.now):
            args = {b"target": point, **self._lookups.want()}
            done = partial(self._came_around, contact)
            self._query(nursery, contact, krpc.FIND_NODE, args, done)
        return True

    def _query(
        self,
        nursery: trio.Nursery,
        to: NodeInfo,
        method: bytes,
        args: Mapping[bytes, Value],
        done: Done,
    ) -> None:
        transactions = self._transactions
        if not transactions.try_send(to.address, method, args, done, to.id, self.now):
            nursery.start_soon(transactions.send, to.address, method, args, done, to.id)

    def _came(self, contact: NodeInfo, answer: Answer) -> None:
        if isinstance(answer, Reply):
            nodes = answer.nodes(ipv6=self._ipv6)
            self.lookup.answered(contact, nodes, trio.current_time())
            if self._on_reply is not None:
                self._on_reply(contact, answer)
        else:
            self.lookup.failed(contact)
        self._news.set()

    def _came_around(self, contact: NodeInfo, answer: Answer) -> None:
        nodes = answer.nodes(ipv6=self._ipv6) if isinstance(answer, Reply) else None
        self.lookup.told(contact, nodes)
        self._news.set()

    def _widen(self) -> bool:
        """The closest nodes are known: look at those around them, as far as that is due. False
        when it is not."""
        if not self._widened:
            self._widened = True
            k = self._lookups.config.k
            self._is_dense = self._looks_dense(self.lookup.all_answered()[:k])
            self.lookup.widen(*self._bounds(self._is_dense))
            return True
        if self._is_dense:
            self._is_dense = False
            self.eclipse_suspected = self._looks_dense(self.lookup.all_answered())
            if self.stores and not self.eclipse_suspected:
                self.lookup.widen(*self._bounds(False))
        return False

    def _looks_dense(self, answered: Sequence[NodeInfo]) -> bool:
        return self._lookups.density.is_dense(self.target, [info.id for info in answered])

    def _bounds(self, is_dense: bool) -> tuple[int, int, Sequence[int]]:
        """How far around the target to query all nodes, how many at most, and about which points;
        no distance at all: the k closest are enough."""
        config, density = self._lookups.config, self._lookups.density
        k = config.k
        if density.is_small:
            return 0, k, ()
        if is_dense or (self._paths > 1 and not self.stores):
            # Twice as many as should be there: k honest ones are among them, wherever they stand.
            return density.radius(2 * k), config.lookup_widest, POINTS
        # An eclipse must not have a key to itself, even unnoticed. The radius is a guess, and a
        # young node's a poor one: a store on several times k nodes would be a burden to them.
        return (density.radius(k), 4 * k, ()) if self.stores else (0, k, ())
