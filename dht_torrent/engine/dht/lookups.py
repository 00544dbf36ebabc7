"""Lookups on their way. The rule: who is asked is `dht.lookup`'s decision; here it is asked, and
the walk ends when that says so or when its caller has enough.
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
from dht_torrent.engine.dht.transactions import Answer, Bell, Done, Questions
from dht_torrent.errors import InputError
from dht_torrent.trace import LookupDone, Trace

logger = logging.getLogger(__name__)

OnReply = Callable[[NodeInfo, Reply], None]


class Walks:
    """Walks towards targets, from the contacts of one table."""

    def __init__(self, table: Table, questions: Questions, config: DhtConfig, trace: Trace) -> None:
        self.density = Density(config)
        self.crowds = 0
        """Walks that found a target besieged."""
        self.want: Callable[[], Mapping[bytes, Value]] = dict
        """What to add to a find_node, to hear of nodes in another family (BEP 32)."""
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
        closest nodes are suspiciously dense, all around them are asked as well, and then we know
        whether the target is besieged; a store, and a search on several paths, ask (and store on)
        those where the closest should be in any case. Raises InputError unless `target` is 20 bytes
        long.
        """
        if len(target) != 20:
            raise InputError(f"a target has 20 bytes, not {len(target)}")
        config, ipv6 = self._config, self._table.ipv6
        if method == krpc.FIND_NODE:
            args = {**args, **self.want()}
        began = now = trio.current_time()
        start = self._table.first(target, max(2, paths) * config.k)
        lookup = search(
            target,
            self._table.own_id,
            config,
            now,
            [contact.info for contact in start],
            paths=paths,
            ipv6=ipv6,
            stores=stores,
        )
        bell = Bell()

        def came(contact: NodeInfo, answer: Answer) -> None:
            if isinstance(answer, Reply):
                lookup.answered(contact, answer.nodes(ipv6=ipv6), trio.current_time())
                if on_reply is not None:
                    on_reply(contact, answer)
            else:
                lookup.failed(contact)
            bell.ring()

        def told(contact: NodeInfo, answer: Answer) -> None:
            nodes = answer.nodes(ipv6=ipv6) if isinstance(answer, Reply) else None
            lookup.told(contact, nodes)
            bell.ring()

        widened = method == krpc.FIND_NODE  # which looks for nobody in particular
        suspected = besieged = False
        async with trio.open_nursery() as nursery:

            def ask(to: NodeInfo, what: bytes, args: Mapping[bytes, Value], done: Done) -> None:
                address, questions = to.address, self._questions
                if not questions.ask_now(address, what, args, done, to.id, now):
                    nursery.start_soon(
                        questions.ask_when_possible, address, what, args, done, to.id
                    )

            def goes_on() -> bool:
                """Ask whom there is to ask; False when the walk is over."""
                nonlocal widened, suspected, besieged
                if enough is not None and enough():
                    return False
                if lookup.done(now) and not widened:
                    widened, suspected = True, self._is_crowded(target, lookup.closest())
                    lookup.widen(*self._bounds(suspected, stores=stores, retries=paths > 1))
                if lookup.done(now):  # not by calling itself, which would be a reference cycle
                    if suspected:
                        besieged = self._is_crowded(target, lookup.all_answered())
                        if stores and not besieged:
                            lookup.widen(*self._bounds(False, stores=True, retries=False))
                    return False
                for contact in lookup.take(now):
                    ask(contact, method, args, partial(came, contact))
                for contact, point in lookup.around(now):
                    about = {b"target": point, **self.want()}
                    ask(contact, krpc.FIND_NODE, about, partial(told, contact))
                return True

            is_on = True
            while is_on:
                # One scope for all replies until the first silence: a scope for each is dear.
                with trio.CancelScope() as patience:
                    while is_on := goes_on():
                        patience.deadline = lookup.wake_at(now)
                        await bell.wait()
                        now = trio.current_time()
                now = trio.current_time()
            # Questions in flight go on: their answers still serve the table.
            nursery.cancel_scope.cancel()
        if besieged:
            self.crowds += 1
            logger.info("%s is besieged: its closest nodes are too dense", target.hex()[:8])
        closest = lookup.closest()
        if lookup.done(now) and not stores:  # else those who do not count would be missing
            self.density.note(target, [info.id for info in closest])
        self._trace(
            LookupDone(
                target,
                lookup.asked,
                lookup.replies,
                lookup.hops,
                now - began,
                tuple([info.address for info in closest]),
                besieged,
            )
        )
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

    def _is_crowded(self, target: bytes, answered: Sequence[NodeInfo]) -> bool:
        return self.density.is_crowded(target, [info.id for info in answered])

    def _bounds(
        self, suspected: bool, *, stores: bool, retries: bool
    ) -> tuple[int, int, Sequence[int]]:
        """How far around a target to ask everybody, how many at most, and about which points; no
        distance at all: the k closest are enough."""
        k = self._config.k
        if self.density.is_small:
            return 0, k, ()
        if suspected or (retries and not stores):
            # Twice as many as should be there: k honest ones are among them, wherever they stand.
            return self.density.radius(2 * k), self._config.lookup_widest, POINTS
        # Who crowds a key out must not have it alone, even unnoticed. The radius is a guess, and a
        # young node's a poor one: a store on several times k nodes would be a burden to them.
        return (self.density.radius(k), 4 * k, ()) if stores else (0, k, ())
