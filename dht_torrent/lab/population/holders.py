"""A DHT of which only what it stores exists: thousands of nodes that hold items (BEP 44), without
tables, tasks or datagrams. The rule: a holder refuses exactly what `dht.items.ItemStore` refuses,
and a client sees exactly what `engine.dht.items.Items` would tell it.

The nodes are one sorted array of random ids. The k living ones closest to a target are asked and
stored on, as a lookup that goes well finds them (`lab_lookup.py --scale` measures how often it
does); one that does not answer is passed over for the next. Left out: lookups, so a get is one
operation that may be given a duration; signatures, which are not verified here, as no node of the
model could make a false one; quotas by address. Signers still sign, so what is stored are the very
bytes that would be.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.items import MAX_SALT, MAX_VALUE, Item, MutableItem
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.engine.dht.surveys import Holder, ItemSurvey, Stored, mismatches, seq_of
from dht_torrent.ids import NodeId
from dht_torrent.lab.clock import VirtualClock
from dht_torrent.lab.population.dhtnet import host_address
from dht_torrent.lab.population.virtual import BITS, sorted_prefixes

_PASSED_OVER: Final = 2
"""A lookup of the real node knows about so many times k of the closest nodes when it ends."""


class Holders:
    """The nodes, and what they hold. Moments are the caller's, in seconds."""

    def __init__(
        self, size: int, rng: random.Random, *, config: DhtConfig | None = None, loss: float = 0.0
    ) -> None:
        """`loss`: the share of queries that come to nothing; of half of them only the response is
        lost."""
        self.prefixes = sorted_prefixes(size, rng)
        """The first 64 bits of the ids of all who live, in order."""
        self.config = config or DhtConfig()
        self.loss = loss
        self._rng = rng
        self._held: dict[bytes, dict[int, tuple[Item, float]]] = {}
        """By target and by the holder's prefix: an item, and when it expires."""
        self._closest: dict[bytes, tuple[int, ...]] = {}
        self._infos: dict[int, NodeInfo] = {}
        self._empty: dict[int, Holder] = {}
        """What nodes answer that have nothing: most answers."""
        self._numbers = {prefix: number for number, prefix in enumerate(self.prefixes)}

    def __len__(self) -> int:
        return len(self.prefixes)

    def info(self, prefix: int) -> NodeInfo:
        """The node whose id begins so."""
        info = self._infos.get(prefix)
        if info is None:
            raw = prefix.to_bytes(8, "big")
            node_id = NodeId(raw + hashlib.blake2b(raw, digest_size=12).digest())
            info = self._infos[prefix] = NodeInfo(node_id, host_address(self._numbers[prefix]))
        return info

    def empty(self, prefix: int) -> Holder:
        """The answer of this node when it has nothing there."""
        found = self._empty.get(prefix)
        if found is None:
            found = self._empty[prefix] = Holder(self.info(prefix), _TOKEN, None)
        return found

    def lives(self, prefix: int) -> bool:
        """Whether that node is still there."""
        return prefix in self._numbers

    def closest(self, target: bytes) -> tuple[int, ...]:
        """The prefixes of those who live and are closest to `target`, nearest first: twice k."""
        found = self._closest.get(target)
        if found is None:
            found = self._closest[target] = self._nearest(target, _PASSED_OVER * self.config.k)
        return found

    def get(self, target: bytes, prefix: int, now: float) -> Item | None:
        """What this node has there."""
        held = self._held.get(target)
        copy = held.get(prefix) if held is not None else None
        return copy[0] if copy is not None and copy[1] > now else None

    def put(
        self, prefix: int, item: Item, cas: int | None, now: float, target: bytes | None = None
    ) -> int | None:
        """None when the node stored the item, else the code of its refusal. `target`: the item's,
        if that has been computed."""
        if len(item.encoded) > MAX_VALUE:
            return krpc.VALUE_TOO_BIG
        target = target or item.target
        if isinstance(item, MutableItem):
            if len(item.salt) > MAX_SALT:
                return krpc.SALT_TOO_BIG
            stored = self.get(target, prefix, now)
            if isinstance(stored, MutableItem):
                if cas is not None and cas != stored.seq:
                    return krpc.CAS_MISMATCH
                same = item.seq == stored.seq and item.encoded == stored.encoded
                if item.seq <= stored.seq and not same:
                    return krpc.SEQUENCE_TOO_LOW
        self._held.setdefault(target, {})[prefix] = (item, now + self.config.item_ttl)
        return None

    def targets(self) -> list[bytes]:
        """All where something is, in the order in which they came up."""
        return [target for target, held in self._held.items() if held]

    def lose(self, target: bytes, prefix: int | None = None) -> None:
        """All who hold something there, or one of them, have it no more."""
        if prefix is None:
            self._held.pop(target, None)
        else:
            self._held.get(target, {}).pop(prefix, None)

    def overwrite(self, target: bytes, encoded: bytes, seq: int, now: float) -> int:
        """What somebody does who has the key of the mutable item there: put this value on the k
        closest nodes, over whatever they hold. Returns how many stored it."""
        held = self._held.get(target, {})
        known = next((item for item, _ in held.values() if isinstance(item, MutableItem)), None)
        if known is None:
            return 0
        item = MutableItem(encoded, known.key, known.salt, seq, bytes(64))
        closest = self.closest(target)[: self.config.k]
        return sum(self.put(prefix, item, None, now) is None for prefix in closest)

    def salts(self) -> dict[bytes, bytes]:
        """Of each target where a mutable item is, its salt."""
        found: dict[bytes, bytes] = {}
        for target, held in self._held.items():
            for item, _ in held.values():
                if isinstance(item, MutableItem):
                    found[target] = item.salt
                break
        return found

    def expire(self, now: float) -> None:
        """Forget what has expired, to save memory; it is not given out anyway."""
        for target, held in list(self._held.items()):
            for prefix in [prefix for prefix, (_, until) in held.items() if until <= now]:
                del held[prefix]
            if not held:
                del self._held[target]

    def kill(self, share: float) -> None:
        """So many of the nodes, drawn at random, vanish with all they hold."""
        count = int(share * len(self.prefixes))
        dead = dict.fromkeys(self._rng.sample(self.prefixes, count))
        self.prefixes = array("Q", (prefix for prefix in self.prefixes if prefix not in dead))
        for prefix in dead:
            del self._numbers[prefix]
        for held in self._held.values():
            for prefix in [prefix for prefix in held if prefix in dead]:
                del held[prefix]
        self._closest.clear()

    def until(self, answers: list[Holder], enough: Callable[[Item], bool]) -> list[Holder]:
        """Those that have answered, nearest first, when the first has one that is `enough`."""
        order = self._rng.sample(range(len(answers)), len(answers))
        for count, place in enumerate(order, 1):
            item = answers[place].item
            if item is not None and enough(item):
                return [answers[one] for one in sorted(order[:count])]
        return answers

    def is_lost(self, share: float = 1.0) -> bool:
        """Whether the next query comes to nothing, at `share` of the usual odds."""
        return self.loss > 0 and self._rng.random() < self.loss * share

    def _nearest(self, target: bytes, count: int) -> tuple[int, ...]:
        wanted = int.from_bytes(target[: BITS // 8], "big")
        prefixes = self.prefixes
        shared = max(0, (len(prefixes) // max(1, count)).bit_length())
        while True:
            width = BITS - shared
            first = wanted >> width << width
            low = bisect_left(prefixes, first)
            last = first + (1 << width)
            high = len(prefixes) if last >> BITS else bisect_left(prefixes, last, low)
            if high - low >= count or not shared:
                break
            shared -= 1
        return tuple(heapq.nsmallest(count, prefixes[low:high], key=wanted.__xor__))


class ModelItems:
    """One participant's way to the items: what `engine.dht.items.Items` offers, over `Holders`.

    Counts what it does. A get takes `get_seconds` and a put `put_seconds` of the clock; without
    them either is done at once, and no other task runs meanwhile. What takes time ends at a
    multiple of `grain` seconds: of hundreds of publishers many then go on at the same moment, which
    costs much less than as many moments.
    """

    def __init__(
        self,
        holders: Holders,
        *,
        get_seconds: float = 0.0,
        put_seconds: float = 0.0,
        grain: float = 0.0,
    ) -> None:
        self.holders = holders
        self.grain = grain
        self.get_seconds = get_seconds
        self.put_seconds = put_seconds
        self.gets = 0
        """Lookups for all that there is under a target ..."""
        self.finds = 0
        """... and for one item."""
        self.puts = 0
        """Rounds of puts, however many nodes there are in one ..."""
        self.puts_of: Counter[bytes] = Counter()
        """... and of how many the item has this salt."""
        self.queries = 0
        """Puts, by node."""
        self.own: dict[bytes, Item] = {}
        """What is kept alive by `republish`."""

    async def get(
        self, target: bytes, *, salt: bytes = b"", seq: int | None = None, first: bool = False
    ) -> Item | None:
        """As `Items.get`; `first` makes no difference, as no node is slow here."""
        self.finds += 1
        newest = (await self._survey(target, salt)).newest
        if isinstance(newest, MutableItem) and seq is not None and newest.seq <= seq:
            return None
        return newest

    async def get_all(
        self, target: bytes, *, salt: bytes = b"", enough: Callable[[Item], bool] | None = None
    ) -> ItemSurvey:
        """As `Items.get_all`. With `enough`, the k answer in an order that is drawn."""
        self.gets += 1
        return await self._survey(target, salt, enough)

    async def _survey(
        self, target: bytes, salt: bytes, enough: Callable[[Item], bool] | None = None
    ) -> ItemSurvey:
        await self._pass(self.get_seconds)
        model, now = self.holders, trio.current_time()
        k, is_lossy = model.config.k, model.loss > 0
        answers: list[Holder] = []
        for prefix in model.closest(target):
            if is_lossy and model.is_lost():
                continue
            item, answer = model.get(target, prefix, now), model.empty(prefix)
            if isinstance(item, MutableItem):
                if item.salt == salt:
                    answer = Holder(answer.contact, _TOKEN, item, item.seq)
            elif item is not None:
                answer = Holder(answer.contact, _TOKEN, item)
            answers.append(answer)
            if len(answers) == k:
                break
        if enough is not None:
            answers = model.until(answers, enough)
        return ItemSurvey(target, tuple(answers), tuple([answer.contact for answer in answers]))

    async def _pass(self, seconds: float) -> None:
        """Let so much time pass, and until the next moment at which something is done here."""
        if not seconds:
            return
        moment = trio.current_time() + seconds
        if self.grain:
            moment = math.ceil(moment / self.grain) * self.grain
        clock = trio.lowlevel.current_clock()
        if isinstance(clock, VirtualClock):
            await clock.sleep_until(moment)
        else:
            await trio.sleep_until(moment)

    async def put_to(
        self, holders: Sequence[Holder], item: Item, *, cas: Mapping[NodeId, int] | None = None
    ) -> Stored:
        """As `Items.put_to`."""
        self.puts += 1
        self.puts_of[item.salt if isinstance(item, MutableItem) else b""] += 1
        await self._pass(self.put_seconds)
        model, now, target = self.holders, trio.current_time(), item.target
        stored: list[NodeInfo] = []
        refused: dict[NodeInfo, int] = {}
        silent = 0
        for holder in holders:
            self.queries += 1
            contact = holder.contact
            prefix = int.from_bytes(contact.id[: BITS // 8], "big")
            if model.is_lost(0.5) or not model.lives(prefix):
                silent += 1
                continue
            code = model.put(prefix, item, cas.get(contact.id) if cas else None, now, target)
            if model.is_lost(0.5):
                silent += 1  # it has been stored for all that
            elif code is None:
                stored.append(contact)
            else:
                refused[contact] = code
        return Stored(target, tuple(stored), refused, silent)

    async def put(self, item: Item, *, cas: int | None = None, keep: bool = True) -> Stored:
        """As `Items.put`; what is to be kept is put again by `republish`."""
        if keep:
            self.own[item.target] = item
        survey = await self.get_all(
            item.target, salt=item.salt if isinstance(item, MutableItem) else b""
        )
        newest = survey.newest
        if cas is not None and newest is not None and seq_of(newest) != cas:
            return Stored(item.target, (), mismatches(survey, cas))
        targets = survey.targets()
        wanted = {one.contact.id: cas for one in targets} if cas is not None else {}
        return await self.put_to(targets, item, cas=wanted)

    def forget(self, target: bytes) -> None:
        """As `Items.forget`."""
        self.own.pop(target, None)

    async def republish(self) -> None:
        """Put what is kept alive once more, as `Items.run` does every hour."""
        for item in list(self.own.values()):
            await self.put(item)


_TOKEN: Final = b"modelled"
