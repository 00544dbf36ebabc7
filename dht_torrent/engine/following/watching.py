"""Watches the item of one link in the DHT: looks for newer versions, and keeps it alive.

The rule: what to believe, when to look and whom to put it on is decided by `dht.versions`; whoever
owns this hears only of a version that is to be gone over to.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import trio

from dht_torrent.config import FollowConfig
from dht_torrent.dht.items import Item, MutableItem, mutable_target
from dht_torrent.dht.versions import PollSchedule, Versions, lacking, puts_again, refresh_pause
from dht_torrent.engine.dht.surveys import Holder, ItemSurvey, Stored
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.ids import NodeId
from dht_torrent.magnet import MutableLink

logger = logging.getLogger(__name__)


class LinkItems(Protocol):
    """What is needed of the DHT: `DualStack` has it, and so have the `items` of a node."""

    async def get(
        self, target: bytes, *, salt: bytes = b"", seq: int | None = None, first: bool = False
    ) -> Item | None: ...

    async def get_all(
        self, target: bytes, *, salt: bytes = b"", enough: Callable[[Item], bool] | None = None
    ) -> ItemSurvey: ...

    async def put_to(
        self, holders: Sequence[Holder], item: Item, *, cas: Mapping[NodeId, int] | None = None
    ) -> Stored: ...


class LinkWatch:
    """Watches one link, for as long as `run` runs."""

    def __init__(
        self,
        items: LinkItems,
        link: MutableLink,
        versions: Versions,
        config: FollowConfig,
        *,
        rng: random.Random,
        turns: trio.Semaphore,
        peers: Callable[[], int] = lambda: 0,
        first: float = 0.0,
    ) -> None:
        """`versions` is kept up to date. A lookup takes one of the `turns`. `peers` says how many
        others are known who follow the link too. The first look is after `first` seconds."""
        self.versions = versions
        self.schedule = PollSchedule(config, trio.current_time(), first=first)
        self.looked_at: float | None = None
        """When it was last looked for a new version, on Trio's clock."""
        self._items = items
        self._link = link
        self._target = mutable_target(link.key, link.salt)
        self._config = config
        self._rng = rng
        self._turns = turns
        self._peers = peers
        self._hurry = AutoResetEvent()

    def hurry(self) -> None:
        """Look at once."""
        self._hurry.set()

    async def run(self, on_version: Callable[[], Awaitable[None]]) -> None:
        """A service. `on_version` is awaited each time when `versions` has a newer one; what was
        seen is to be written down before it returns."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._poll, on_version)
            nursery.start_soon(self._keep_alive, on_version)

    async def _poll(self, on_version: Callable[[], Awaitable[None]]) -> None:
        while True:
            with trio.move_on_at(self.schedule.due):
                await self._hurry.wait()
            await self._look(on_version)

    async def _look(self, on_version: Callable[[], Awaitable[None]]) -> None:
        versions = self.versions
        # While much happens all is asked for, so that of two values with one number each is seen;
        # later only what is newer, which mostly saves the value on the way.
        eager = self.schedule.is_eager(trio.current_time())
        known = None if eager or not versions.seq else versions.seq
        async with self._turns:
            item = await self._items.get(self._target, salt=self._link.salt, seq=known)
        self.looked_at = now = trio.current_time()
        self.schedule.looked(now)
        await self._considered([item], on_version)

    async def _keep_alive(self, on_version: Callable[[], Awaitable[None]]) -> None:
        while True:
            await trio.sleep(refresh_pause(self._config, self._rng))
            await self.refresh(on_version)

    async def refresh(self, on_version: Callable[[], Awaitable[None]]) -> None:
        """Look at all that the closest nodes have, and put the newest on those that lack it; now
        and then on all of them, since nodes forget what is not put again."""
        async with self._turns:
            survey = await self._items.get_all(self._target, salt=self._link.salt)
            await self._considered(survey.variants(), on_version)
            newest = self.versions.newest
            if newest is None or newest.seq < self.versions.seq:
                return  # its owner has gone on to what nobody can read
            holders = survey.targets()
            if not puts_again(self._config, self._peers(), self._rng):
                held = [_mutable(holder.item) for holder in holders]
                holders = [holders[number] for number in lacking(held, newest)]
            if holders:
                stored = await self._items.put_to(holders, newest)
                logger.debug("%s: put again on %d nodes", self._link.title, len(stored.stored))

    async def _considered(
        self, items: Sequence[Item | None], on_version: Callable[[], Awaitable[None]]
    ) -> None:
        before = self.versions.seq
        genuine = [item for item in items if isinstance(item, MutableItem)]
        newer = [self.versions.consider(item) for item in genuine]
        if any(newer):
            self.schedule.changed(trio.current_time())
        if any(newer) or self.versions.seq != before:
            await on_version()


def _mutable(item: Item | None) -> MutableItem | None:
    return item if isinstance(item, MutableItem) else None
