"""One iterative search (Kademlia). The rule: it ends. Whatever others promise, at most
`lookup_queries` queries are sent, `lookup_candidates` remembered, `lookup_timeout` spent.

The caller asks whom `take` names, reports what came, and wakes again at `wake_at`. What is asked
(find_node, get_peers, get) is the caller's affair; only `around` wants a find_node.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from dht_torrent.config import DhtConfig
from dht_torrent.dht.identity import is_compliant
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.origins import Home, facts
from dht_torrent.ids import NodeId

POINTS = range(8)
"""Places around its target that a widened lookup asks about. Asked for the target, all who know
their neighbourhood name the same k."""

NEVER = float("-inf")


class LookupGoal(NamedTuple):
    """Whom a lookup is to find: the `k` closest, and all within `radius`, but no more of them than
    `most`."""

    k: int
    radius: int = -1
    most: int = 0

    def holds(self, place: int, distance: int) -> bool:
        """Whether one at this distance is to be found, if so many are nearer."""
        return place < self.k or (distance <= self.radius and place < self.most)


class Step(NamedTuple):
    """A node that a lookup has queried."""

    info: NodeInfo
    hops: int
    """How far it is from our table: 1 if it was in it."""
    asked_at: float
    answered: bool
    failed: bool
    """Neither: we wait for its response."""
    referrer: NodeInfo | None
    """Who named it first; None: our table."""


_by_distance = attrgetter("distance")
_by_credit = attrgetter("credit")


class _Candidate:
    __slots__ = (
        "answered",
        "asked_at",
        "counts",
        "credit",
        "distance",
        "failed",
        "hops",
        "info",
        "named_by",
        "referrers",
        "sponsor",
    )

    def __init__(self, info: NodeInfo, distance: int, hops: int, counts: bool) -> None:
        self.info = info
        self.distance = distance
        self.counts = counts  # among the k closest; else it only refers us to others
        self.hops = hops  # 1: from our own table; 2: referred to by one of those; ...
        self.asked_at: float | None = None
        self.answered = False
        self.failed = False
        self.referrers: list[_Candidate] = []  # in whose replies it was; none: it was in our table
        self.named_by: NodeInfo | None = None  # the first of them, to be told of
        self.sponsor: _Candidate | None = None  # the one on whose credit it was asked
        self.credit = 0

    def is_believed(self) -> bool:
        """Whether it is in our table, or one of its referrers has credit."""
        for referrer in self.referrers:
            if referrer.credit > 0:
                return True
        return not self.referrers

    def ask(self, now: float) -> None:
        self.asked_at = now
        if self.referrers:
            self.sponsor = max(self.referrers, key=_by_credit)
            self.sponsor.credit -= 1


class Lookup:
    """Finds the `k` nodes closest to `target` that answer. With `stores`, those among them on
    whom something is best stored: whose id fits their IP (BEP 42). Only where fewer than `k` of
    those answer, as in a small network of clients that do not know BEP 42, others fill up."""

    def __init__(
        self,
        target: bytes,
        own_id: NodeId,
        config: DhtConfig,
        now: float,
        *,
        ipv6: bool = False,
        stores: bool = False,
    ) -> None:
        self.target = target
        self.asked = 0
        self.replies = 0
        self.is_alone = True
        """Whether no other path gets on, so that it is worth waiting for the first reply."""
        self._own_id = own_id
        self._config = config
        self._ipv6 = ipv6
        self._strict = stores and config.secure_ids
        self._reach = LookupGoal(config.k)
        self.points: list[int] = []
        """Still to be asked `around` about, by their distances from the target."""
        self._around: dict[NodeInfo, float] = {}  # asked about one then, or long ago if it answered
        self._number = int.from_bytes(target, "big")
        self._deadline = now + config.lookup_timeout
        self._known: dict[NodeInfo, _Candidate] = {}
        self._places: set[Home] = set()
        self._sorted: list[_Candidate] = []  # by distance, failed ones removed
        self._flying: dict[NodeInfo, float] = {}  # asked then, and neither answered nor failed yet
        self._times: list[float] = []  # seconds the answers took, in order of size
        # How long to wait for an answer, by what answers took so far; see `_learn_pace`.
        self._soft = self._patience = config.soft_timeout

    @property
    def hops(self) -> int:
        """How far from our table the farthest of the closest nodes was: 1 if they were in it."""
        return max((candidate.hops for candidate in self._best()), default=0)

    def add(self, contacts: Iterable[NodeInfo]) -> None:
        """Candidates from our own table."""
        for info in contacts:
            if info not in self._known:
                self._add(info, 1)

    def take(self, now: float) -> list[NodeInfo]:
        """Whom to ask now. Each is named once, and counted as asked."""
        config = self._config
        if self.done(now):
            return []
        soft = self._soft
        flying = sum([now < asked_at + soft for asked_at in self._flying.values()])
        taken: list[NodeInfo] = []
        # The whole window, before asking one of it costs the credit by which others are in it.
        for candidate in list(self._window(now, soft)):
            if flying >= config.alpha or self.asked >= config.lookup_queries:
                break
            if candidate.asked_at is None and candidate.is_believed():
                candidate.ask(now)
                self._flying[candidate.info] = now
                self.asked += 1
                flying += 1
                taken.append(candidate.info)
        return taken

    def answered(self, contact: NodeInfo, nodes: Iterable[NodeInfo], now: float) -> None:
        """`contact`, whom `take` named, responded and refers to `nodes`."""
        candidate = self._known.get(contact)
        if candidate is None or candidate.asked_at is None:
            return
        if candidate.answered or candidate.failed:
            return
        candidate.answered = True
        # With less than may be in flight, the referrals of an honest node would wait for each
        # other, and those that all colluders name would not.
        candidate.credit += max(self._config.lookup_credit, self._config.alpha)
        if candidate.sponsor is not None:
            candidate.sponsor.credit += 2
        del self._flying[contact]
        self.replies += 1
        bisect.insort(self._times, now - candidate.asked_at)
        self._learn_pace()
        self._hear(candidate, nodes)

    def failed(self, contact: NodeInfo) -> None:
        """`contact` refused, responded with another id, or timed out."""
        candidate = self._known.get(contact)
        if candidate is None or candidate.answered or candidate.failed:
            return
        candidate.failed = True
        self._flying.pop(contact, None)
        self._sorted.remove(candidate)
        self._places.discard(facts(contact.address).neighbourhood)

    def skip(self, contact: NodeInfo) -> None:
        """`contact`, just named by `take`, is not queried after all: another path has done so."""
        candidate = self._known[contact]
        candidate.failed = True
        self._flying.pop(contact, None)
        self._sorted.remove(candidate)
        self.asked -= 1
        if candidate.sponsor is not None:
            candidate.sponsor.credit += 1

    def done(self, now: float) -> bool:
        """Whether the closest nodes that answer are known, or a bound is reached.

        Unresponsive nodes delay nothing: after `patience` a contact no longer holds up the end,
        unless no node has responded at all.
        """
        if now >= self._deadline:
            return True
        if self.is_alone and not self.replies and self._flying:
            return False
        if not self._has_closest(now):
            return False
        patience = self._patience
        return not self.points and all(now >= at + patience for at in self._around.values())

    def _has_closest(self, now: float) -> bool:
        counting, others_wait = 0, False
        for candidate in self._window(now, self._patience):  # mostly the first one shows it
            if candidate.counts:
                if not candidate.answered:
                    break
                counting += 1
            elif not candidate.answered:
                others_wait = True
        else:
            if counting >= self._config.k or not others_wait:
                return True
        spent = self.asked >= self._config.lookup_queries
        return spent and all(
            c.answered or c.asked_at is None for c in self._window(now, self._patience)
        )

    def widen(self, radius: int, most: int, points: Sequence[int] = POINTS) -> None:
        """Go on until all nodes within this distance of the target have been queried, but no more
        than `most`, for the closest k may not be whom they should be; and until `around` has asked
        about these points. `done` may be False again."""
        self._reach = self._reach._replace(radius=radius, most=most)
        self.points = [(2 * point + 1) * radius // (2 * len(POINTS)) for point in points]

    def around(self, now: float) -> list[tuple[NodeInfo, bytes]]:
        """After `widen`: whom to send a find_node for which id around the target, once all within
        the radius have been asked. They have answered before."""
        if not self.points or not self._has_closest(now):
            return []
        asks: list[tuple[NodeInfo, bytes]] = []
        for point in self.points:
            near = [c for c in self._sorted if c.answered and c.info not in self._around]
            if near and self.asked < self._config.lookup_queries:
                info = min(near, key=lambda c: c.distance ^ point).info
                self._around[info] = now
                self.asked += 1
                asks.append((info, (self._number ^ point).to_bytes(20, "big")))
        self.points = []
        return asks

    def told(self, contact: NodeInfo, nodes: Iterable[NodeInfo] | None) -> None:
        """What `contact`, whom `around` named, answered; None if it did not."""
        if self._around.get(contact, NEVER) > NEVER:
            self._around[contact] = NEVER
            if nodes is not None:
                self.replies += 1
                self._hear(self._known[contact], nodes)

    def end(self) -> None:
        """It is over: nobody is asked any more. Candidates forget who vouched for them, for they do
        that in circles, which only the garbage collector would find."""
        for candidate in self._known.values():
            candidate.referrers.clear()
            candidate.sponsor = None

    def wake_at(self, now: float) -> float:
        """When, without any event, `take` or `done` may say something new."""
        wake = self._deadline
        waits = self._soft, self._patience
        for asked_at in (*self._flying.values(), *self._around.values()):
            for wait in waits:
                if now < asked_at + wait < wake:
                    wake = asked_at + wait
        return wake

    def closest(self) -> list[NodeInfo]:
        """The closest nodes that answered, nearest first: k at most, or those within the radius."""
        return [candidate.info for candidate in self._best()]

    def all_answered(self) -> list[NodeInfo]:
        """All that answered and count, nearest first."""
        return [c.info for c in self._sorted if c.answered and c.counts]

    def others_answered(self) -> list[NodeInfo]:
        """All that answered and do not count, nearest first."""
        return [c.info for c in self._sorted if c.answered and not c.counts]

    def steps(self) -> list[Step]:
        """Whom it has queried, in that order."""
        asked = [
            Step(
                candidate.info,
                candidate.hops,
                candidate.asked_at,
                candidate.answered,
                candidate.failed,
                candidate.named_by,
            )
            for candidate in self._known.values()
            if candidate.asked_at is not None
        ]
        return sorted(asked, key=lambda step: step.asked_at)

    def _best(self) -> list[_Candidate]:
        answered = [c for c in self._sorted if c.answered and c.counts]
        best = [
            candidate
            for place, candidate in enumerate(answered)
            if self._reach.holds(place, candidate.distance)
        ]
        if len(best) < self._config.k and self._strict:
            others = (c for c in self._sorted if c.answered and not c.counts)
            best += islice(others, self._config.k - len(best))
            best.sort(key=_by_distance)
        return best

    def _window(self, now: float, wait: float) -> Iterator[_Candidate]:
        """The k closest candidates that are believed and not silent for `wait` seconds already, and
        those within the radius. Among them may be k that do not count, but could know closer ones.
        """
        counting = others = 0
        k = self._config.k
        for candidate in self._sorted:
            if counting >= k and not self._reach.holds(counting, candidate.distance):
                break
            asked_at = candidate.asked_at
            if candidate.answered or (
                candidate.is_believed() if asked_at is None else now < asked_at + wait
            ):
                if candidate.counts:
                    counting += 1
                elif others < k:
                    others += 1
                else:
                    continue
                yield candidate

    def _learn_pace(self) -> None:
        """By the median of the seconds the answers took, work out

        - `_soft`: seconds of silence after which the next contact is asked as well: `soft_timeout`,
          or less where answers come quickly;
        - `_patience`: seconds of silence after which a contact no longer holds up the end. Longer
          where answers take long, for then a second means nothing; bounded, for some come late on
          purpose.
        """
        soft, times = self._config.soft_timeout, self._times
        usual = (times[len(times) // 2] + times[~(len(times) // 2)]) / 2
        self._soft = min(soft, max(0.25 * soft, 4 * usual))
        self._patience = max(min(soft, max(0.5 * soft, 10 * usual)), min(2 * usual, 3 * soft))

    def _hear(self, referrer: _Candidate, nodes: Iterable[NodeInfo]) -> None:
        # No node out there knows a local address of ours; it would make us call inside.
        inside = facts(referrer.info.address).is_local
        known_ones, hops = self._known, referrer.hops + 1
        # BEP 5's answer has k; a datagram could hold 77 inventions.
        for info in islice(nodes, 2 * self._config.k):
            if not inside and info.address.is_local:
                continue
            known = known_ones.get(info)
            if known is None:
                self._add(info, hops, referrer)
            elif known.referrers:
                known.referrers.append(referrer)

    def _add(self, info: NodeInfo, hops: int, referrer: _Candidate | None = None) -> None:
        """One that is not known yet."""
        if info.id == self._own_id:
            return
        origin = facts(info.address)
        if info.address.is_ipv6 != self._ipv6 or not origin.is_usable:
            return
        # One candidate per /24 (a local address: per port): a hundred invented ids on one host
        # must not crowd out the honest ones.
        place = origin.neighbourhood
        if place in self._places:
            return
        counts = not self._strict or is_compliant(info.id, info.address)
        candidate = _Candidate(info, int.from_bytes(info.id, "big") ^ self._number, hops, counts)
        if referrer is not None:
            candidate.referrers.append(referrer)
            candidate.named_by = referrer.info
        if len(self._sorted) >= self._config.lookup_candidates and not self._drop_farthest(
            candidate
        ):
            return
        self._known[info] = candidate
        self._places.add(place)
        bisect.insort(self._sorted, candidate, key=_by_distance)

    def _drop_farthest(self, newcomer: _Candidate) -> bool:
        """Make room, at the cost of the farthest we can do without: one not queried yet, or a
        responder that is not among the best; or else one whose referrers have no credit."""
        spare_answers = sum(candidate.answered for candidate in self._sorted) > self._config.k
        for index in range(len(self._sorted) - 1, -1, -1):
            farthest = self._sorted[index]
            unbelieved = farthest.asked_at is None and not farthest.is_believed()
            if farthest.distance <= newcomer.distance and not unbelieved:
                continue
            if farthest.asked_at is None:
                del self._known[farthest.info]
                self._places.discard(facts(farthest.info.address).neighbourhood)
            elif not (farthest.answered and spare_answers):
                continue
            del self._sorted[index]
            return True
        return False
