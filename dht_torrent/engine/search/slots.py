"""Slots of the index on items of the DHT (BEP 44). The rule: a slot is whatever its closest nodes
hold, taken together. No copy is believed that is malformed or from the future, and none is
overwritten that was not read: each node is given, as `cas`, the sequence number that it told, and 0
if it had nothing.

Sequence numbers are milliseconds of Unix time, or one more than what was there. So they tell when a
slot was last put, by whomever; and one is never used for two values, because some nodes would
silently keep the first. A copy from the future is vandalism: it cannot be replaced before its node
forgets it, so that node counts as if it were not there.

A search reads with `first`: what it gets is kept for a while, is not for writing, and waits for its
turn as searches do. A publisher's read asks all of the closest nodes, and keeps the slot alive:
nodes forget it two hours after the last put, so what nobody has put for a while, what too few of
them have, and what only the slot of the epoch before has, is put again. A search that ends early
could not tell.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, Protocol

import trio

from dht_torrent import bencode
from dht_torrent.config import SearchConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.items import MAX_SEQ, Item, MutableItem, SigningKey, mutable_target, sign
from dht_torrent.engine.dht.surveys import Holder, ItemSurvey, Stored
from dht_torrent.engine.search.meter import Meter
from dht_torrent.engine.search.tree import Seen, Slots
from dht_torrent.errors import NoReply, SearchFormatError
from dht_torrent.ids import NodeId
from dht_torrent.search.label import Label, epochs_of, salt_of, seed_of
from dht_torrent.search.node import (
    TrieNode,
    decode,
    encode,
    fits,
    fresh,
    join,
    minutes_at,
    storable,
)

MAX_KNOWN_KEYS: Final = 2000
"""Slots whose key pair is remembered (65 us each), and those whose last sequence number of ours
is."""
_CONFLICTS: Final = (krpc.CAS_MISMATCH, krpc.SEQUENCE_TOO_LOW)


class SlotItems(Protocol):
    """The items, as `DualStack` has them, and the lab's model of one."""

    async def get_all(
        self, target: bytes, *, salt: bytes = b"", enough: Callable[[Item], bool] | None = None
    ) -> ItemSurvey: ...

    async def put_to(
        self, holders: Sequence[Holder], item: Item, *, cas: Mapping[NodeId, int] | None = None
    ) -> Stored: ...


class SlotCache:
    """Nodes that were read a short while ago."""

    def __init__(self, config: SearchConfig) -> None:
        self._most = config.slot_cache
        self._seen: OrderedDict[Label, tuple[float, Seen]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def get(self, label: Label, since: float) -> Seen | None:
        """What was last seen there, if that was after a moment on Trio's clock."""
        at, seen = self._seen.get(label, (float("-inf"), None))
        return seen if at > since else None

    def put(self, seen: Seen, now: float) -> None:
        """Remember it, unless nothing was there: that may change at any moment, and somebody who
        has just published something looks for it."""
        self._seen.pop(seen.label, None)
        if seen.node is None:
            return
        self._seen[seen.label] = now, Seen(seen.label, seen.node)
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def forget(self, label: Label) -> None:
        """What was seen there is no longer so."""
        self._seen.pop(label, None)


@dataclass(frozen=True, slots=True)
class Slot:
    """A label in an epoch."""

    key: SigningKey
    salt: bytes
    target: bytes


class SlotKeys:
    """The key pairs of slots, which are the same for everybody; the `most` that were used last."""

    def __init__(self, most: int = MAX_KNOWN_KEYS) -> None:
        self._most = most
        self._slots: OrderedDict[tuple[Label, int], Slot] = OrderedDict()

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, label: Label, epoch: int) -> Slot:
        """Where the label is in that epoch."""
        place = label, epoch
        slot = self._slots.get(place)
        if slot is None:
            key, salt = SigningKey(seed_of(label, epoch)), salt_of(label)
            slot = self._slots[place] = Slot(key, salt, mutable_target(key.public, salt))
            if len(self._slots) > self._most:
                self._slots.popitem(last=False)
        else:
            self._slots.move_to_end(place)
        return slot


@dataclass(frozen=True, slots=True)
class _Survey:
    """What a write needs to know: who has what in the slot of the current epoch."""

    slot: Slot
    targets: tuple[Holder, ...]
    """The closest nodes, without those that a vandal has burned."""
    highest: int
    """Sequence number among what they have; -1: they have nothing."""
    newest: int
    """The same among their valid copies ..."""
    copies: int
    """... and how many of them have that one."""


class DhtSlots:
    """`engine.search.tree.Slots` on the DHT."""

    def __init__(
        self,
        items: SlotItems,
        config: SearchConfig,
        meter: Meter,
        *,
        rng: random.Random,
        clock: Callable[[], float],
        keys: SlotKeys | None = None,
    ) -> None:
        """`clock` gives Unix time; `keys` may be shared."""
        self.cache = SlotCache(config)
        self.refused = 0
        """Copies that were malformed or from the future."""
        self._items = items
        self._config = config
        self._meter = meter
        self._rng = rng
        self._clock = clock
        self._keys = keys if keys is not None else SlotKeys()
        self._last: OrderedDict[bytes, int] = OrderedDict()
        """The highest sequence number that we have used, by target."""

    def lookups(self, label: Label) -> int:
        """See `Slots.lookups`."""
        return len(epochs_of(label, self._clock()))

    def since(self, moment: float) -> Slots:
        """See `Slots.since`."""
        return _SlotsSince(self, moment)

    async def read(self, label: Label, *, first: bool = False, since: float | None = None) -> Seen:
        """See `Slots.read` and `Slots.since`."""
        if since is None:
            since = trio.current_time() - self._config.slot_cache_time
        if first and (known := self.cache.get(label, since)) is not None:
            await trio.lowlevel.checkpoint()
            return known
        epochs = epochs_of(label, self._clock())
        slots = [self._keys.slot(label, epoch) for epoch in epochs]
        surveys: dict[int, ItemSurvey] = {}

        async def one(number: int) -> None:
            surveys[number] = await self._survey(label, slots[number], first=first)

        if len(slots) == 1:
            await one(0)
        else:
            async with trio.open_nursery() as nursery:
                for number in range(len(slots)):
                    nursery.start_soon(one, number)
        found = [surveys[number] for number in range(len(slots))]
        if not any(survey.holders or survey.own for survey in found):
            raise NoReply(f"nobody could be asked for a slot of the index ({label.index.name})")
        nodes = [self._nodes(label, survey) for survey in found]
        node = self._join([node for versions in nodes for node in versions.values()])
        if not first:
            state = self._state(slots[0], found[0], nodes[0])
            return await self._kept(Seen(label, node, state), state)
        seen = Seen(label, node)
        self.cache.put(seen, trio.current_time())
        return seen

    async def write(self, seen: Seen, node: TrieNode) -> tuple[Seen, bool]:
        """See `Slots.write`."""
        label, survey = seen.label, seen.state
        if not isinstance(survey, _Survey):
            again = await self.read(label)
            survey = again.state
            assert isinstance(survey, _Survey)
            node = join(node, again.node) if again.node is not None else node
        met = node
        config = self._config
        for attempt in range(config.write_retries + 1):
            wanted = storable(label, met)
            if not fits(wanted):
                return Seen(label, met, survey), False
            stored, survey = await self._put(survey, wanted, has_turn=attempt > 0)
            copies = len(stored.stored)
            enough = 0 < copies >= min(config.enough_copies, len(survey.targets))
            conflict = any(code in _CONFLICTS for code in stored.refused.values())
            if enough or not conflict or attempt == config.write_retries:
                break
            # Somebody else wrote since we read. Not at once again, or so does everybody; and the
            # more often that happens, the more there are.
            most = min(config.retry_most * 2**attempt, config.retry_longest)
            await trio.sleep(self._rng.uniform(config.retry_least, most))
            # The turn to put is waited for before the look: what others write after it, we would
            # have to read again.
            await self._meter.put()
            slot = survey.slot
            found = await self._survey(label, slot, first=False)
            nodes = self._nodes(label, found)
            survey = self._state(slot, found, nodes)
            now = self._join(list(nodes.values()))
            met = join(met, now) if now is not None else met
        after = Seen(label, met, survey)
        if enough:
            self.cache.put(after, trio.current_time())
        else:
            self.cache.forget(label)  # somebody has changed it, be it we
        return after, enough

    # -- within ---------------------------------------------------------------------------------

    async def _kept(self, seen: Seen, survey: _Survey) -> Seen:
        """What was read, put once more for its nodes not to forget it; unless somebody did so a
        short while ago and enough of them have it."""
        age = self._clock() - survey.newest / 1000
        enough = min(self._config.enough_copies, len(survey.targets))
        is_empty = seen.node is None or not (seen.node.packed or seen.node.children)
        if is_empty or (age < self._config.fresh_time and survey.copies >= enough):
            self.cache.put(seen, trio.current_time())
            return seen
        assert seen.node is not None
        return (await self.write(seen, seen.node))[0]

    async def _survey(self, label: Label, slot: Slot, *, first: bool) -> ItemSurvey:
        await self._meter.get(searching=first)
        copies = 0

        def enough(item: Item) -> bool:
            nonlocal copies
            node = self._read(label, item)
            copies += node is not None and bool(node.packed or node.children)
            return copies >= self._config.read_copies

        return await self._items.get_all(
            slot.target, salt=slot.salt, enough=enough if first else None
        )

    def _nodes(self, label: Label, survey: ItemSurvey) -> dict[Item, TrieNode]:
        """What each of the different valid copies says."""
        found: dict[Item, TrieNode] = {}
        for item in survey.variants():
            node = self._read(label, item)
            if node is None:
                self.refused += 1
            else:
                found[item] = node
        return found

    def _read(self, label: Label, item: Item) -> TrieNode | None:
        """What a copy says; None when it says nothing."""
        if not isinstance(item, MutableItem) or item.seq > self._latest():
            return None
        try:
            node = decode(item.encoded, label)
        except SearchFormatError:
            return None
        return fresh(node, minutes_at(self._clock()))

    def _latest(self) -> float:
        """The highest sequence number that is not from the future."""
        return (self._clock() + self._config.clock_skew) * 1000

    @staticmethod
    def _join(versions: Sequence[TrieNode]) -> TrieNode | None:
        return reduce(join, versions) if versions else None

    def _state(self, slot: Slot, survey: ItemSurvey, nodes: Mapping[Item, TrieNode]) -> _Survey:
        """`nodes`: what `_nodes` has of the survey."""
        latest = self._latest()
        targets = tuple([one for one in survey.targets() if _seq(one) <= latest])
        copies = [_seq(one) for one in targets if one.item in nodes]
        newest = max(copies, default=-1)
        highest = max(map(_seq, targets), default=-1)
        return _Survey(slot, targets, highest, newest, copies.count(newest))

    async def _put(
        self, survey: _Survey, node: TrieNode, *, has_turn: bool
    ) -> tuple[Stored, _Survey]:
        """Put it on all of them; and what they hold after that. `has_turn`: the meter's."""
        slot = survey.slot
        if not survey.targets:
            return Stored(slot.target, ()), survey
        if not has_turn:
            await self._meter.put()
        last = self._last.pop(slot.target, -1)
        seq = max(survey.highest + 1, last + 1, int(self._clock() * 1000))
        self._last[slot.target] = seq
        if len(self._last) > MAX_KNOWN_KEYS:
            self._last.popitem(last=False)
        item = sign(slot.key, bencode.decode(encode(node)), min(seq, MAX_SEQ), slot.salt)
        # With `cas`, a node that had nothing stores as well, unless it has something by now: then
        # no number fits but that one.
        cas = {one.contact.id: max(_seq(one), 0) for one in survey.targets}
        stored = await self._items.put_to(survey.targets, item, cas=cas)
        took = {info.id for info in stored.stored}
        after = tuple(
            Holder(one.contact, one.token, item, seq) if one.contact.id in took else one
            for one in survey.targets
        )
        return stored, _Survey(slot, after, seq, seq, len(took))


class _SlotsSince:
    """`Slots` to whom what was read before a moment does not count."""

    def __init__(self, slots: DhtSlots, moment: float) -> None:
        self._slots = slots
        self._moment = moment

    async def read(self, label: Label, *, first: bool = False) -> Seen:
        return await self._slots.read(label, first=first, since=self._moment)

    async def write(self, seen: Seen, node: TrieNode) -> tuple[Seen, bool]:
        return await self._slots.write(seen, node)

    def lookups(self, label: Label) -> int:
        return self._slots.lookups(label)

    def since(self, moment: float) -> Slots:
        return _SlotsSince(self._slots, moment)


def _seq(holder: Holder) -> int:
    """The sequence number of what a node has, as far as it tells; -1: nothing."""
    if isinstance(holder.item, MutableItem):
        return holder.item.seq
    if holder.seq is not None and 0 <= holder.seq <= MAX_SEQ:
        return holder.seq
    return -1
