"""The way into the network, and back into it. The rule: a node with nobody to talk to knocks at the
doors it was told of, ever more patiently, and never gives up.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

import trio

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import Reply
from dht_torrent.dht.table import Table
from dht_torrent.engine.dht.lookups import Walks
from dht_torrent.engine.dht.transactions import Answer, Bell, Questions, ignore
from dht_torrent.engine.net.protocols import Network
from dht_torrent.ids import Address, HostPort

logger = logging.getLogger(__name__)

SAVED_BATCH: Final = 16
"""Saved contacts asked together when starting (Transmission paces likewise)."""
MAX_RETRY: Final = 60.0
"""Seconds: the longest pause between two bootstraps."""


class Joining:
    """Knocks at `points` and at the `saved` contacts of an earlier life."""

    def __init__(
        self,
        network: Network,
        table: Table,
        questions: Questions,
        walks: Walks,
        config: DhtConfig,
        rng: random.Random,
        *,
        points: Sequence[HostPort],
        saved: Sequence[Address],
        own_address: Callable[[], Address],
    ) -> None:
        self.points = list(dict.fromkeys(points))
        self.saved = list(dict.fromkeys(saved))[: config.saved_contacts]
        self.answered: dict[HostPort, None] = {}
        """The points that have let us in."""
        self.done = trio.Event()
        """Somebody has answered, and our own neighbourhood was looked up."""
        if not self.points and not self.saved:
            self.done.set()  # the first node of a network: there is nobody to ask
        self.grown = Bell()
        """Ring it when the table has new contacts,"""
        self.renamed = Bell()
        """and this one when our id is another."""
        self.sibling: Walks | None = None
        """Walks of our node in the other address family."""
        self._network = network
        self._table = table
        self._questions = questions
        self._walks = walks
        self._config = config
        self._rng = rng
        self._own_address = own_address
        self._knocking = 0  # tasks of `_knock` at work

    async def run(self) -> None:
        """A service: finds a way in, now and whenever no contact is good any more."""
        self._knocking = 0  # whatever a run before this one left undone
        async with trio.open_nursery() as nursery:
            await self._run(nursery)

    async def _run(self, nursery: trio.Nursery) -> None:
        first = self._config.bootstrap_retry
        pause = first
        while True:
            if self._is_alone() and not self._knocking:
                self._knock(nursery)
                if pause < MAX_RETRY:  # then it is a family that is out of our reach
                    nursery.start_soon(self._ask_sibling)
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

    async def _find_neighbours(self) -> bool:
        """Look up our own id (BEP 5); whether anybody answered."""
        return (await self._walks.find_node(self._table.own_id)).replies > 0

    async def follow_id(self) -> None:
        """A service: makes the acquaintance of the neighbours of a new id."""
        while True:
            await self.renamed.wait()
            await self._find_neighbours()

    async def _settle(self) -> None:
        """Returns when no contact is good any more. As long as there are few, look for more, ever
        more rarely: who came in early knows only those who were there before. And now and then
        knock at an old door, for a network that was cut in two does not heal by itself."""
        few = 2 * self._config.k
        pause = self._config.bootstrap_retry
        knock_at = trio.current_time() + self._config.refresh_interval
        while not self._is_alone():
            if len(self._table) < few:
                await trio.sleep(pause)
                pause = min(2 * pause, self._config.refresh_interval)
                await self._find_neighbours()
            else:
                await trio.sleep(MAX_RETRY)
            if trio.current_time() >= knock_at:
                knock_at = trio.current_time() + self._config.refresh_interval
                await self._knock_again()

    async def _knock_again(self) -> None:
        """Ask one of those who let us in once; if that is news, look around."""
        doors = list(self.saved)
        if self.points:
            point = self._rng.choice(self.points)
            with trio.move_on_after(self._config.hard_timeout):
                doors += await self._network.resolve(point)
        strangers = [
            address
            for address in doors
            if address.is_ipv6 == self._table.ipv6 and self._table.at(address) is None
        ]
        if not strangers:
            return
        additions = self._table.additions
        self._ask_for_own(self._rng.choice(strangers), ignore, trio.current_time())
        await trio.sleep(self._config.soft_timeout)
        if self._table.additions != additions:
            await self._find_neighbours()

    def _is_alone(self) -> bool:
        now = trio.current_time()
        return not any(self._table.is_good(contact, now) for contact in self._table)

    def _knock(self, nursery: trio.Nursery) -> None:
        """Ask the saved contacts, and a second later the bootstrap points, to let us in."""
        if self.saved:
            self._knocking += 1
            nursery.start_soon(self._ask_saved)
        for point in self.points:
            self._knocking += 1
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
            self._knocking -= 1

    async def _ask_point(self, point: HostPort, delay: float) -> None:
        def came(answer: Answer) -> None:
            if isinstance(answer, Reply):
                self.answered[point] = None

        try:
            await trio.sleep(delay)
            with trio.move_on_after(MAX_RETRY):  # a name server may be slower than any node
                for address in await self._network.resolve(point):
                    self._ask_for_own(address, came, trio.current_time())
        finally:
            self._knocking -= 1

    async def _ask_sibling(self) -> None:
        """Look up our own id in the other family: who is there may know nodes in ours (BEP 32)."""
        if self.sibling is not None:
            await self.sibling.find_node(self._table.own_id)

    def _ask_for_own(self, address: Address, done: Callable[[Answer], None], now: float) -> None:
        if (
            address.is_usable
            and address.is_ipv6 == self._table.ipv6
            and address != self._own_address()
        ):
            args: dict[bytes, Value] = {b"target": self._table.own_id, **self._walks.want()}
            self._questions.ask_now(address, krpc.FIND_NODE, args, done, None, now)
