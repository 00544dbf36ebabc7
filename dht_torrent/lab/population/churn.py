"""Nodes that come and go. The rule: a network under churn keeps its size, and begins as one that
has been under it for ever.

A node dies without a word, and its address stays empty. After an exponential pause another
node else comes instead, with a new id at a new address: that is harder on the others than the same
node coming back. Session lengths are exponential, or Weibull with a shape below 1 as measured in
KAD and Mainline (Stutzbach & Rejaie, IMC 2006; Steiner et al., ToN 2009): most leave soon, a few
stay very long.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import trio

from dht_torrent.engine.dht.node import Dht
from dht_torrent.lab.population.dhtnet import DhtNet

Law = Literal["exponential", "weibull"]
LAWS: Final[tuple[Law, ...]] = ("exponential", "weibull")

WEIBULL_SHAPE: Final = 0.5
"""Between the 0.4 and 0.7 that were fitted to what was measured."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """How long nodes stay: Weibull of this `shape`, which with 1 is the exponential law."""

    median: float
    """Seconds."""
    shape: float = 1.0

    @classmethod
    def of(cls, law: Law, median: float) -> Sessions:
        return cls(median, WEIBULL_SHAPE if law == "weibull" else 1.0)

    @property
    def mean(self) -> float:
        """Seconds."""
        return self._scale * math.gamma(1 + 1 / self.shape)

    def whole(self, rng: random.Random) -> float:
        """Seconds a newcomer will stay."""
        return rng.weibullvariate(self._scale, self.shape)

    def rest(self, rng: random.Random) -> float:
        """Seconds one will stay who is met at any moment. Whom one meets has a session longer than
        the usual: such sessions are there more of the time."""
        # A session drawn in proportion to its length; the moment is any of it.
        stretched = rng.gammavariate(1 + 1 / self.shape, 1.0)
        return rng.random() * self._scale * math.pow(stretched, 1 / self.shape)

    @property
    def _scale(self) -> float:
        return self.median / math.pow(math.log(2), 1 / self.shape)


class Churn:
    """Kills the nodes of a network when their time has come, and replaces them."""

    def __init__(
        self,
        network: DhtNet,
        sessions: Sessions,
        rng: random.Random,
        *,
        pause: float = 30.0,
        stay: Collection[int] = (),
    ) -> None:
        """`pause`: mean seconds until one who left is replaced. `stay`: nodes that never leave."""
        self.network = network
        self.on_leave: Callable[[int], None] = lambda number: None
        """Hears of each node that has just left."""
        self.leaves = 0
        self.joins = 0
        self._sessions = sessions
        self._rng = rng
        self._pause = pause
        self._stay = frozenset(stay)
        # When what happens: the number of who leaves, or None for a newcomer. The counter keeps
        # what happens at the same moment in order.
        self._todo: list[tuple[float, int, int | None]] = []
        self._planned = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """A service. A node that lives when it starts is in the middle of a session."""
        now = trio.current_time()
        for number in self.network.nodes:
            if number not in self._stay:
                self._plan(now + self._sessions.rest(self._rng), number)
        task_status.started()
        while self._todo:
            when, _, leaver = heapq.heappop(self._todo)
            await trio.sleep_until(when)
            if leaver is None:
                await self._join(when)
            elif leaver in self.network.nodes:
                self._leave(leaver, when)

    def settled(self) -> list[int]:
        """Those who live and have found their way in."""
        return [number for number, dht in self.network.nodes.items() if dht.is_bootstrapped]

    async def _join(self, now: float) -> None:
        number = await self.network.add()
        self.joins += 1
        self._plan(now + self._sessions.whole(self._rng), number)

    def _leave(self, number: int, now: float) -> None:
        self.network.kill(number)
        self.leaves += 1
        self.on_leave(number)
        self._plan(now + self._rng.expovariate(1 / self._pause), None)

    def _plan(self, when: float, number: int | None) -> None:
        self._planned += 1
        heapq.heappush(self._todo, (when, self._planned, number))


@dataclass(frozen=True, slots=True)
class Health:
    """Routing tables, on average over some nodes."""

    good: float
    """Contacts that each thinks good (BEP 5: heard from within a quarter hour, and not silent)."""
    others: float
    dead: float
    """Share of all contacts that really live no more."""
    dead_good: float
    """The same among those thought good."""


def health(network: DhtNet, nodes: Sequence[Dht]) -> Health:
    good = others = dead = dead_good = 0
    for dht in nodes:
        for contact in dht.contacts():
            is_dead = network.net.host(contact.address.host).is_down
            good += contact.good
            others += not contact.good
            dead += is_dead
            dead_good += is_dead and contact.good
    count = max(1, len(nodes))
    return Health(
        good / count, others / count, dead / max(1, good + others), dead_good / max(1, good)
    )


def duration(text: str) -> float:
    """For argparse: a length of time above 0, in whatever unit, and finite."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("must be above 0")
    return number
