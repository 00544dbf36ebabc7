"""Links that are followed (BEP 46) in a network of full nodes that come and go, in virtual time.
The rule: who publishes and who follows is the node's own (`engine.following`); of them only the
network, time and dice are the lab's.

Followers leave like all others, with their node, and come back on another one with what they had
written down; while they are away, nobody waits for them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from dht_torrent.config import DhtConfig, FollowConfig
from dht_torrent.dht.items import MutableItem, SigningKey
from dht_torrent.dht.versions import Versions, named_by
from dht_torrent.engine.dht.items import Items
from dht_torrent.engine.dht.surveys import order
from dht_torrent.engine.following.watching import LinkWatch
from dht_torrent.engine.following.writing import LinkWriter
from dht_torrent.errors import NoReply
from dht_torrent.ids import InfoHash
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.churn import Churn, Sessions
from dht_torrent.lab.population.dhtnet import DhtNet
from dht_torrent.magnet import MutableLink

LATENCY: Final = (0.02, 0.12)
"""Seconds one way: from one city to across an ocean."""
GRAIN: Final = 0.001
"""Seconds to which arrivals are rounded up."""
BEGAN: Final = 1_798_761_600.0
"""Unix time at which the lab's clock begins: 2027-01-01."""
WARM_UP: Final = 900.0
"""Seconds of churn before anything is published, so that tables hold the dead they usually hold."""
AWAY: Final = 300.0
"""Seconds that a follower is away on average, once its node has left."""
REPLAY: Final = 120.0
"""Seconds between two puts of something old by each attacker."""
SALT: Final = b"lab"


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowPlan:
    """What the network is like, and what happens in it."""

    nodes: int
    followers: int
    gaps: Sequence[float]
    """Seconds before each version: a publisher with all it had ..."""
    median: float
    """Half of all nodes stay no longer, in seconds."""
    attackers: int = 0
    """They put old items, which they have kept, on whoever takes them."""
    config: FollowConfig = field(default_factory=FollowConfig)


@dataclass(slots=True)
class KnownVersion:
    """How one follower came to know one version."""

    version: int
    kind: str
    follower: int
    seconds: float | None
    """Since it was published, or since the follower came back if that was later; None: not until
    the next one."""


class LabFollower:
    """Follows the link, on one node after another."""

    def __init__(self, number: int, link: MutableLink) -> None:
        self.number = number
        self.versions = Versions(link.key, link.salt)
        self.node: int | None = None
        """Whose it is now; None while it is away."""
        self.since = 0.0
        """When it came, or went."""
        self.went_back = 0
        """Times it took an older version for a newer one."""
        self.scope = trio.CancelScope()
        self._link = link
        self._last: tuple[int, bytes] | None = None

    async def live(
        self, network: DhtNet, churn: Churn, plan: FollowPlan, rng: random.Random
    ) -> None:
        """A service."""
        while True:
            able = churn.settled()
            self.node, self.since = rng.choice(able), trio.current_time()
            with trio.CancelScope() as self.scope:
                watch = LinkWatch(
                    network.nodes[self.node].items,
                    self._link,
                    self.versions,
                    plan.config,
                    rng=rng,
                    turns=trio.Semaphore(1),
                    peers=lambda: plan.followers - 1,
                )
                await watch.run(self._seen)
            self.node, self.since = None, trio.current_time()
            # What it had written down is all that it has when it comes back.
            before = self.versions
            self.versions = Versions(self._link.key, self._link.salt, before.newest, before.seq)
            self.versions.stale = before.stale
            await trio.sleep(rng.expovariate(1 / AWAY))

    async def _seen(self) -> None:
        await trio.lowlevel.checkpoint()
        newest = self.versions.newest
        assert newest is not None  # nobody publishes anything malformed here
        if self._last is not None and order(newest) > self._last:
            self.went_back += 1
        self._last = order(newest)


class FollowStudy:
    """A publisher or two, followers, attackers, and all others."""

    def __init__(self, plan: FollowPlan, rng: random.Random) -> None:
        self.plan = plan
        self.known: list[KnownVersion] = []
        self.signed: list[MutableItem] = []
        """All that was ever put."""
        self.followers: list[LabFollower] = []
        self.reused = 0
        """Sequence numbers that a publisher signed twice, two writers at once left out."""
        self.split = 0
        """Followers that had another version than most, when the next one came."""
        self._rng = rng
        self._key = SigningKey(rng.randbytes(32))
        self._link = MutableLink(self._key.public, SALT)
        self._seq = 0

    async def run(self, done: Callable[[int], None]) -> None:
        """`done` hears of each version that was published, and given its time."""
        plan, rng = self.plan, self._rng
        wire = FakeNetwork(random.Random(rng.getrandbits(64)), latency=LATENCY, grain=GRAIN)
        async with trio.open_nursery() as nursery:
            network = DhtNet(rng, nursery, wire, config=DhtConfig(unlimited=True))
            await network.grow(plan.nodes)
            staying = list(network.nodes)[: 2 + plan.attackers]
            churn = Churn(network, Sessions(plan.median), rng, stay=staying)
            churn.on_leave = self._left
            await nursery.start(churn.run)
            await trio.sleep(WARM_UP)
            one, two, *attackers = [network.nodes[number].items for number in staying]
            self.followers = [LabFollower(n, self._link) for n in range(plan.followers)]
            for number, gap in enumerate(plan.gaps):
                kind = await self._publish(number, one, two)
                if not number:
                    for follower in self.followers:
                        nursery.start_soon(follower.live, network, churn, plan, rng)
                    for attacker in attackers:
                        nursery.start_soon(self._replay, attacker)
                await self._watch(number, kind, gap)
                done(number + 1)
            nursery.cancel_scope.cancel()

    # -- what happens ---------------------------------------------------------------------------

    async def _publish(self, number: int, one: Items, two: Items) -> str:
        """In turn: by a publisher with its records; by one who has lost these and its clock; by two
        at the same time."""
        kind = ("plain", "lost", "plain", "two writers")[number % 4]
        if kind != "two writers":
            seen = {item.seq for item in self.signed}
            await self._write(one, self._seq if kind == "plain" else 0, lost=kind == "lost")
            self.reused += self.signed[-1].seq in seen
            return kind
        async with trio.open_nursery() as nursery:
            for items in (one, two):
                nursery.start_soon(self._write, items, self._seq)
        return kind

    async def _write(self, items: Items, seq: int, lost: bool = False) -> None:
        def clock() -> float:
            return 0.0 if lost else BEGAN + trio.current_time()

        async def note(item: MutableItem) -> None:
            await trio.lowlevel.checkpoint()
            self.signed.append(item)
            self._seq = max(self._seq, item.seq)

        writer = LinkWriter(items, self._link, self.plan.config, rng=self._rng, clock=clock)
        info_hash = InfoHash(self._rng.randbytes(20))
        put = False
        while not put:
            try:
                await writer.write(self._key, info_hash, seq, note)
                put = True
            except NoReply:
                await trio.sleep(self.plan.config.retry_interval)

    async def _replay(self, items: Items) -> None:
        """Put what is old on all who are near, for ever."""
        while True:
            await trio.sleep(self._rng.uniform(0.5, 1.5) * REPLAY)
            newest = max(item.seq for item in self.signed)
            old = [item for item in self.signed if item.seq < newest]
            if old:
                item = self._rng.choice(old)
                survey = await items.get_all(item.target, salt=SALT)
                await items.put_to([one for one in survey.holders if one.token], item)

    def _left(self, number: int) -> None:
        for follower in self.followers:
            if follower.node == number:
                follower.scope.cancel()

    # -- what comes of it -----------------------------------------------------------------------

    @property
    def best(self) -> MutableItem:
        """What everybody should have: of all that was signed, what comes first."""
        return min(self.signed, key=order)

    async def _watch(self, number: int, kind: str, gap: float) -> None:
        """Note when each follower has it."""
        began, best = trio.current_time(), self.best
        came: dict[int, float] = {}
        while (now := trio.current_time()) < began + gap:
            for follower in self.followers:
                if follower.number not in came and follower.versions.newest == best:
                    came[follower.number] = now - max(began, min(follower.since, now))
            await trio.sleep(min(1.0, began + gap - now))
        for follower in self.followers:
            if follower.number not in came and follower.node is None:
                continue  # it was not there to see it
            self.known.append(
                KnownVersion(number, kind, follower.number, came.get(follower.number))
            )
            newest = follower.versions.newest
            self.split += (
                follower.number in came
                and newest is not None
                and named_by(newest) != named_by(best)
            )
