"""The way into the network, and back into it. The rule: a node without a good contact retries the
saved contacts, its bootstrap points and what torrents and peers named, with exponential back-off,
and never gives up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio

from dht_torrent.bencode import Value
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import Reply
from dht_torrent.engine.dht.core import Core
from dht_torrent.engine.dht.lookups import Lookups
from dht_torrent.engine.dht.transactions import Answer, ignore
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.ids import Address, HostPort

logger = logging.getLogger(__name__)

SAVED_BATCH: Final = 16
"""Saved contacts asked together when starting (Transmission paces likewise)."""
MAX_HINTS: Final = 32
"""Entry points remembered that torrents and peers named; the oldest is forgotten."""
MAX_RETRY: Final = 60.0
"""Seconds: the longest pause between two bootstraps."""


class Bootstrap:
    """Joins the DHT through bootstrap points and the contacts saved by an earlier run."""

    def __init__(self, core: Core, points: Sequence[HostPort], saved: Sequence[Address]) -> None:
        self.points = list(dict.fromkeys(points))
        self.saved = list(dict.fromkeys(saved))[: core.config.saved_contacts]
        self.answered: dict[HostPort, None] = {}
        """The points that have let us in."""
        self.hints: dict[HostPort, None] = {}
        """What torrents and peers named, asked while no contact is good."""
        self.done = trio.Event()
        """A node has responded, and our own neighbourhood was looked up."""
        if not self.points and not self.saved:
            self.done.set()  # the first node of a network: there is no node to ask
        self.grown = AutoResetEvent()
        """Set it when the table has new contacts,"""
        self.renamed = AutoResetEvent()
        """and this one when our id is another."""
        self.other_lookups: Lookups | None = None
        """Those of our node in the other address family."""
        self._core = core
        self._table = core.table
        self._transactions = core.transactions
        self._lookups = core.lookups
        self._config = core.config
        self._rng = core.rng
        self._stay = trio.CancelScope()
        self._attempts = 0  # tasks that ask entry points just now
        self._hinted = AutoResetEvent()
        self._new: dict[HostPort, None] = {}  # hints that are to be asked at once

    async def run(self) -> None:
        """A service: joins the network, now and whenever no contact is good any more."""
        while True:
            self._attempts = 0  # whatever a run before this one left undone
            with trio.CancelScope() as self._stay:
                async with trio.open_nursery() as nursery:
                    await self._run(nursery)

    def renew(self) -> None:
        """The network is back, or another one: look for our neighbours now. Until they are found
        we are not in it."""
        if self.done.is_set() and (self.points or self.saved or len(self._table)):
            self.done = trio.Event()
        self._stay.cancel()

    async def _run(self, nursery: trio.Nursery) -> None:
        first = self._config.bootstrap_retry
        pause = first
        while True:
            if self.is_alone() and not self._attempts:
                self._ask_all(nursery)
                if pause < MAX_RETRY:  # then it is a family that is out of our reach
                    nursery.start_soon(self._ask_other_family)
            with trio.move_on_after(pause):
                while not len(self._table):
                    await self.grown.wait()
            if len(self._table):
                if await self._find_neighbours():
                    if not self.done.is_set():
                        logger.info("in the DHT: %d contacts", len(self._table))
                    self.done.set()
                    await self._settle()
                    pause = first
                    continue
                await trio.sleep(pause)
            longer = min(2 * pause, MAX_RETRY)
            if self.points and longer > pause:  # said a few times, not for ever
                family = "IPv6" if self._table.ipv6 else "IPv4"
                logger.info("no %s DHT node answers; trying again for %.0f s", family, longer)
            pause = longer

    def hint(self, points: Sequence[HostPort], *, at_once: bool) -> None:
        """Somebody named these entry points. While we know no good contact they are asked, at once
        or with the others; else they are remembered for such a time."""
        for point in points:
            self.hints.pop(point, None)
            self.hints[point] = None
            if at_once:
                self._new[point] = None
        for kept in (self.hints, self._new):
            while len(kept) > MAX_HINTS:
                del kept[next(iter(kept))]
        self._hinted.set()

    async def follow_hints(self) -> None:
        """A service: asks new hints while we are not in the network."""
        while True:
            await self._hinted.wait()
            new, self._new = list(self._new), {}
            if self.is_alone():
                async with trio.open_nursery() as nursery:
                    for point in new:
                        self._attempts += 1
                        nursery.start_soon(self._ask_point, point, 0.0)

    async def _find_neighbours(self) -> bool:
        """Look up our own id (BEP 5); whether any node responded."""
        return (await self._lookups.find_node(self._table.own_id)).replies > 0

    async def follow_id(self) -> None:
        """A service: looks up the neighbours of a new id of ours."""
        while True:
            await self.renamed.wait()
            await self._find_neighbours()

    async def _settle(self) -> None:
        """Return when no contact is good any more. While there are few, look for more, with
        back-off: an early node knows only those that were there before it. And now and then ask an
        entry point again, for a network that was cut in two does not heal by itself."""
        pause = self._config.bootstrap_retry
        retry_at = trio.current_time() + self._config.refresh_interval
        while not self.is_alone():
            if self._table.knows_few:
                await trio.sleep(pause)
                pause = min(2 * pause, self._config.refresh_interval)
                await self._find_neighbours()
            else:
                await trio.sleep(MAX_RETRY)
            if trio.current_time() >= retry_at:
                retry_at = trio.current_time() + self._config.refresh_interval
                await self._retry_one()

    async def _retry_one(self) -> None:
        """Ask one entry point; if it is new to the table, look around."""
        known, asked = list(self.saved), False
        additions = self._table.additions
        if self.points:
            point = self._rng.choice(self.points)
            with trio.move_on_after(self._config.hard_timeout):
                found = await self._core.network.resolve(point)
                known += found
                if not found:
                    asked = self._ask_name_for_own(point, ignore, trio.current_time())
        unknown = [
            address
            for address in known
            if address.is_ipv6 == self._table.ipv6 and self._table.at(address) is None
        ]
        if unknown:
            self._ask_for_own(self._rng.choice(unknown), ignore, trio.current_time())
        elif not asked:
            return
        await trio.sleep(self._config.soft_timeout)
        if self._table.additions != additions:
            await self._find_neighbours()

    def is_alone(self) -> bool:
        """No contact is good."""
        now = trio.current_time()
        return not any(self._table.is_good(contact, now) for contact in self._table)

    def _ask_all(self, nursery: trio.Nursery) -> None:
        """Ask the saved contacts, and a second later the bootstrap points."""
        if self.saved:
            self._attempts += 1
            nursery.start_soon(self._ask_saved)
        for point in dict.fromkeys([*self.points, *self.hints]):
            self._attempts += 1
            delay = self._config.soft_timeout if self.saved else 0.0
            nursery.start_soon(self._ask_point, point, delay)

    async def _ask_saved(self) -> None:
        try:
            for at in range(0, len(self.saved), SAVED_BATCH):
                now = trio.current_time()
                for address in self.saved[at : at + SAVED_BATCH]:
                    self._ask_for_own(address, ignore, now)
                await trio.sleep(self._config.soft_timeout)
        finally:
            self._attempts -= 1

    async def _ask_point(self, point: HostPort, delay: float) -> None:
        def came(answer: Answer) -> None:
            if isinstance(answer, Reply) and point in self.points:
                self.answered[point] = None

        try:
            await trio.sleep(delay)
            with trio.move_on_after(MAX_RETRY):  # a name server may be slower than any node
                found = await self._core.network.resolve(point)
                for address in found:
                    self._ask_for_own(address, came, trio.current_time())
                if not found:
                    self._ask_name_for_own(point, came, trio.current_time())
        finally:
            self._attempts -= 1

    async def _ask_other_family(self) -> None:
        """Look up our own id in the other family: nodes there may know some in ours (BEP 32)."""
        if self.other_lookups is not None:
            await self.other_lookups.find_node(self._table.own_id)

    def _ask_for_own(self, address: Address, done: Callable[[Answer], None], now: float) -> None:
        if (
            address.is_usable
            and address.is_ipv6 == self._table.ipv6
            and address != self._core.address
        ):
            args = self._for_own()
            self._transactions.try_send(address, krpc.FIND_NODE, args, done, None, now)

    def _ask_name_for_own(
        self, point: HostPort, done: Callable[[Answer], None], now: float
    ) -> bool:
        """The same of a host whose name is resolved on the way there, if that can be done."""
        return self._transactions.try_send_to_name(
            point, krpc.FIND_NODE, self._for_own(), done, now
        )

    def _for_own(self) -> dict[bytes, Value]:
        return {b"target": self._table.own_id, **self._lookups.want()}
