"""What a node does with its torrents from time to time: counts how long each has been at work, ends
the seeding of those that were shared enough, gives turns where only so many may be at work, leaves
room on the disk, and switches limits by the clock.

The rule: nothing here but looks at all torrents, each `Config.keeping_interval`, so that a thousand
torrents at rest cost one loop; `torrent.queueing` and `torrent.seeding_limits` decide.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import trio

from dht_torrent.config.node import AfterSeeding
from dht_torrent.engine.speed import SpeedLimits
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.keeping import decode_times, encode_times
from dht_torrent.engine.torrent.space_guard import SpaceGuard
from dht_torrent.engine.torrent.stages import Failed, Paused, state_of
from dht_torrent.engine.torrent.statistics import Counting, Statistics, decode_statistics
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.torrent.queueing import Waiting, turns

logger = logging.getLogger(__name__)

SAVE_INTERVAL = 600.0
"""Seconds between two saves of the times."""
_FOLDER, _NAME, _SUFFIX = "times", "torrents", ".times"
_NODE, _COUNTED = "node", ".statistics"


@dataclass(slots=True)
class NodeRules:
    """What holds for all torrents of a node. May be changed while it runs."""

    active_downloads: int | None
    active_seeds: int | None
    seed_ratio: float | None
    seed_idle: float | None
    """Seconds."""
    after_seeding: AfterSeeding
    min_free: int
    """Bytes of each disk that stay free."""


class Housekeeping:
    """Looks after all torrents of a node."""

    def __init__(
        self,
        context: NodeContext,
        supervisors: Mapping[InfoHash, Supervisor],
        speed: SpeedLimits,
    ) -> None:
        config = context.config
        self.rules = NodeRules(
            config.active_downloads,
            config.active_seeds,
            config.seed_ratio,
            config.seed_idle,
            config.after_seeding,
            config.min_free,
        )
        self.speed = speed
        self.counting = Counting()
        self._guard = SpaceGuard(context, supervisors)
        self._started_at = trio.current_time()
        self.warnings: list[str] = []
        """Of times that could not be read, in a line."""
        self._context = context
        self._supervisors = supervisors
        self._again = AutoResetEvent()
        self._saved = b"de"

    async def run(self) -> None:
        """Look after them until cancelled."""
        interval = self._context.config.keeping_interval
        looked_at = saved_at = trio.current_time()
        while True:
            with trio.move_on_after(interval):
                await self._again.wait()
            now = trio.current_time()
            await self.look(now - looked_at)
            looked_at = now
            if now - saved_at >= SAVE_INTERVAL:
                saved_at = now
                await self.save()

    def look_soon(self) -> None:
        """Something changed that decides who is at work."""
        self._again.set()

    async def look(self, seconds: float) -> None:
        """Count these seconds, and do what is due."""
        totals = self._totals()
        for info_hash, supervisor in self._supervisors.items():
            core = supervisor.core
            core.keeping.looked(state_of(core.stage), sum(totals[info_hash]), seconds)
        self.speed.look()
        self._count(totals)
        await self._guard.look(self.rules.min_free)
        await self._retire()
        await self._give_turns()

    def count(self) -> None:
        """Have the statistics up to date."""
        self._count(self._totals())

    def _count(self, totals: Mapping[InfoHash, tuple[int, int]]) -> None:
        self.counting.look(totals, trio.current_time() - self._started_at)

    def _totals(self) -> dict[InfoHash, tuple[int, int]]:
        return {
            info_hash: (one.core.totals.uploaded, one.core.totals.downloaded)
            for info_hash, one in self._supervisors.items()
        }

    # -- what is kept over a restart ------------------------------------------------------------

    async def restore(self) -> None:
        """Give the torrents the times of earlier runs."""
        self.counting.known(self._totals())
        state = self._context.state
        if state is None:
            return
        counted, warnings = await self._context.disk.run(
            state.load_folder, _FOLDER, _COUNTED, decode_statistics
        )
        self.counting.before = counted.get(_NODE, Statistics())
        found, self.warnings = await self._context.disk.run(
            state.load_folder, _FOLDER, _SUFFIX, decode_times
        )
        self.warnings += warnings
        for info_hash, times in found.get(_NAME, {}).items():
            if info_hash in self._supervisors:
                self._supervisors[info_hash].core.keeping.times = times

    async def save(self) -> None:
        """Save the statistics, and the times of all torrents; what cannot be saved now is logged,
        and is no loss."""
        state = self._context.state
        if state is None:
            return
        times = {info_hash: one.core.keeping.times for info_hash, one in self._supervisors.items()}
        payload = encode_times(times)
        self.count()
        try:
            statistics = self.counting.ever.encode()
            await self._context.disk.run(state.save_in, _FOLDER, _NODE + _COUNTED, statistics)
            if payload == self._saved:
                return
            await self._context.disk.run(state.save_in, _FOLDER, _NAME + _SUFFIX, payload)
            self._saved = payload
        except StorageError as error:
            logger.warning("could not save what torrents have done: %s", error)

    # -- seeded enough --------------------------------------------------------------------------

    async def _retire(self) -> None:
        rules = self.rules
        for info_hash, supervisor in list(self._supervisors.items()):
            core = supervisor.core
            if not core.keeping.has_limits(rules.seed_ratio, rules.seed_idle):
                continue
            if core.gone or state_of(core.stage) != "seeding":
                continue
            reached = core.keeping.enough(core.ratio, rules.seed_ratio, rules.seed_idle)
            if reached is None:
                continue
            logger.info("%s: shared enough, by its limit of %s", core.name, reached)
            with core.confined(ends=None):
                if rules.after_seeding == "remove":
                    await self._context.remove(info_hash, False)
                else:
                    core.keeping.retired = reached
                    await supervisor.commands.pause()

    # -- turns ----------------------------------------------------------------------------------

    async def _give_turns(self) -> None:
        rules = self.rules
        unlimited = rules.active_downloads is None and rules.active_seeds is None
        if unlimited and not any(one.core.queued for one in self._supervisors.values()):
            return
        patience = self._context.config.stalled_after
        waiting = [
            Waiting(
                info_hash,
                "seed" if core.is_all_here else "download",
                not core.queued,
                core.keeping.still >= patience,
            )
            for info_hash, core in self._order()
            if not core.paused and not isinstance(core.stage, Failed | Paused)
        ]
        admitted = turns(waiting, rules.active_downloads, rules.active_seeds)
        for one in waiting:
            supervisor = self._supervisors.get(one.info_hash)
            if supervisor is not None and supervisor.core.queued == (one.info_hash in admitted):
                with supervisor.core.confined(ends=None):
                    await supervisor.commands.queue(one.info_hash not in admitted)

    def _order(self) -> list[tuple[InfoHash, TorrentCore]]:
        found = [(info_hash, one.core) for info_hash, one in self._supervisors.items()]
        return sorted(found, key=lambda pair: pair[1].keeping.rank)

    def positions(self) -> dict[InfoHash, int]:
        """The place of each torrent in the queue, from 0."""
        return {info_hash: place for place, (info_hash, _) in enumerate(self._order())}

    async def move(self, info_hash: InfoHash, position: int) -> None:
        """Put a torrent there in the queue, others make room. Raises InputError."""
        if position < 0:
            raise InputError(f"places in the queue begin with 0, not {position}")
        order = [core for other, core in self._order() if other != info_hash]
        supervisor = self._supervisors[info_hash]
        position = min(position, len(order))
        before = order[position - 1].keeping.rank if position else None
        after = order[position].keeping.rank if position < len(order) else None
        match before, after:
            case None, None:
                return
            case float(), None:
                rank = before + 1.0
            case None, float():
                rank = after - 1.0
            case float(), float():
                rank = (before + after) / 2
        supervisor.core.keeping.rank = rank
        supervisor.record.changed()
        self.look_soon()
