"""Prefix hash trees over slots that strangers hold. The rule: an entry is where a lookup finds it
before it leaves the place where a lookup found it, so whoever stops half-way leaves duplicates, and
never a hole.

Writers do not know of each other. What a write meets is joined with what was to be written
(`Slots.write`); when another has split the leaf meanwhile, the entries go on into the children, and
the one who splits a leaf takes along what was added to it meanwhile. What is lost all the same, or
with the nodes that held it, the publisher's next `renew` brings back.

`TrieNode` is what the design calls `Node`: the package has a `Node` already. `Slots.write` returns
what it met as well as whether it succeeded, so that a writer goes on from there without reading
again.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeVar

import trio

from dht_torrent.config import SearchConfig
from dht_torrent.errors import NoReply
from dht_torrent.search import trie
from dht_torrent.search.label import Label
from dht_torrent.search.node import (
    MAX_COUNT,
    Entry,
    TrieNode,
    digits_of,
    fits,
    join,
    made_of,
    storable,
    unpack,
)
from dht_torrent.search.trie import Hints, Locate, Walk

_DEFAULT: Final = SearchConfig()
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Seen:
    """A label as it was read, or as a write has left it."""

    label: Label
    node: TrieNode | None
    """The join of all valid versions, without what is too old; None: nobody has one. The caller
    must not change it."""
    state: object = None
    """Whatever a later write needs: tokens and sequence numbers, for instance. Only the `Slots`
    that made it looks at it."""


class Slots(Protocol):
    """Where nodes are stored, each in many copies. Several tasks use it side by side."""

    async def read(self, label: Label, *, first: bool = False) -> Seen:
        """The node at the label. `first`: be content with a few valid copies; what is seen so
        is not for writing. Within the overlap of two epochs it is the join of both.

        Raises NoReply when nobody could be asked; that nobody has it is an answer."""
        ...

    async def write(self, seen: Seen, node: TrieNode) -> tuple[Seen, bool]:
        """Store the node, which holds all that was seen and fits. Where another has written since,
        store the join with that (`storable`); unless it does not fit: then leave it.

        Returns the label as it now is, for as much as this writer knows: the join of the node and
        of all that was met, which may be wider than what was stored; and whether enough holders
        have all of it. A node that does not fit is never stored: it must be split.

        Raises NoReply when nobody could be asked."""
        ...

    def lookups(self, label: Label) -> int:
        """How many lookups it takes to read the label now: two within the overlap of epochs."""
        ...

    def since(self, moment: float) -> Slots:
        """The same, for a reader to whom what was read before this moment, on Trio's clock, and is
        remembered, does not count."""
        ...


class Walked(NamedTuple):
    """What it took to walk a tree."""

    gets: int
    """Lookups, see `Slots.lookups`."""
    rounds: int
    """The longest chain of reads of which each had to wait for the one before."""
    is_whole: bool
    """False when there is more, or some of it could not be read."""


Emit = Callable[[Sequence[Entry]], Awaitable[bool]]
"""Takes entries as they come. True: there are enough, stop."""


class Trees:
    """All trees of the index, over one set of slots."""

    def __init__(self, slots: Slots, rng: random.Random, config: SearchConfig = _DEFAULT) -> None:
        self._slots = slots
        self._rng = rng
        self._config = config
        self._hints = Hints(config.hints)

    def since(self, moment: float) -> Trees:
        """The same trees, over `Slots.since`; what was learned of them is in common."""
        trees = copy(self)
        trees._slots = self._slots.since(moment)
        return trees

    def lookups(self, label: Label) -> int:
        """See `Slots.lookups`."""
        return self._slots.lookups(label)

    # Reading

    async def read(self, label: Label, *, first: bool = False) -> TrieNode | None:
        """The node at a label. That of a root says how common its word is (`TrieNode.count`).
        Raises NoReply."""
        return (await self._read(label, first)).node

    async def walk(
        self,
        start: Label,
        emit: Emit,
        *,
        gets: int,
        known: TrieNode | None = None,
        first: bool = False,
        useful: Callable[[], int] | None = None,
    ) -> Walked:
        """Hand all entries below a label to `emit`, each once, those of the upper levels first.

        At most `gets` lookups are made. `known`: the start itself, when it has been read. `first`:
        see `Slots.read`. `useful` tells how many reads may be under way at the moment, where fewer
        than `gets_at_once` will do; one is always. What cannot be read is left out."""
        seen: dict[Label, TrieNode | None] = {} if known is None else {start: known}
        walk = Walk(start, most=gets, price=partial(self._price, seen))
        return await self._walk(walk, emit, seen, first, useful)

    async def scan(
        self, top: Label, start: bytes, end: bytes, emit: Emit, *, gets: int, first: bool = False
    ) -> Walked:
        """Hand all entries from one key to another to `emit`, each once. Both are digits, or the
        beginning of some: what begins with `end` is included. What exceeds the levels of the tree
        is ignored: so there may be entries outside the range.

        At most `gets` lookups are made, and a few more where the way is not known. Raises NoReply
        when the way there cannot be read; what cannot be read below is left out."""
        start, end = start[: top.index.levels], end[: top.index.levels]
        place, path, rounds = await self._locate(top, trie.common(start, end), first=first)
        if place.digits and (place not in path or path[place].node is None):
            above = path.get(place.parent)
            if above is None or not _knows(above, place.digits[-1]):
                return Walked(self._spent(path), rounds, is_whole=True)  # there is nothing
        known = {
            label: seen.node
            for label, seen in path.items()
            if label.digits.startswith(place.digits)
        }
        spent, price = self._spent(path), partial(self._price, known)
        # The one below can be read, in the overlap of epochs as well.
        walk = Walk(place, first=start, last=end, most=max(gets - spent, 2), price=price)
        below = await self._walk(walk, emit, known, first)
        return Walked(spent + below.gets, rounds + below.rounds, below.is_whole)

    async def nearest(
        self, top: Label, key: bytes, emit: Emit, *, gets: int, enough: int, first: bool = False
    ) -> Walked:
        """Hand entries to `emit` whose keys begin like this one: those of the leaf where it belongs
        and of the nodes above that are read on the way; and if these are fewer than `enough`, those
        of the leaves beside it as well. Each at least once, as two of its nodes may have it.

        At most `gets` lookups are made, and a few more where the way is not known. Raises NoReply
        when the way there cannot be read."""
        place, path, rounds = await self._locate(top, key[: top.index.levels], first=first)
        nodes = [seen.node for seen in path.values() if seen.node is not None]
        entries = {(key, rest) for node in nodes for key, rest in node.packed.items()}
        spent = self._spent(path)
        walked = Walked(spent, rounds, is_whole=True)
        if await emit([unpack(key, rest) for key, rest in sorted(entries)]):
            return walked
        if len(entries) >= enough or not place.digits or gets <= spent:
            return walked
        known = {
            label: seen.node
            for label, seen in path.items()
            if label.digits.startswith(place.parent.digits)
        }
        walk = Walk(place.parent, most=gets - spent, price=partial(self._price, known))
        beside = await self._walk(walk, emit, known, first)
        return Walked(spent + beside.gets, rounds + beside.rounds, beside.is_whole)

    def _price(self, known: Collection[Label], label: Label) -> int:
        return 0 if label in known else self._slots.lookups(label)

    def _spent(self, path: Iterable[Label]) -> int:
        return sum(map(self._slots.lookups, path))

    async def _walk(
        self,
        walk: Walk,
        emit: Emit,
        known: Mapping[Label, TrieNode | None],
        first: bool,
        useful: Callable[[], int] | None = None,
    ) -> Walked:
        gets = rounds = running = chain = 0
        stopped = False
        # As many as are sent at most before one is received.
        at_once = self._config.gets_at_once
        came, results = trio.open_memory_channel[tuple[Label, Seen | None, int]](at_once)

        async def read(label: Label, place: int) -> None:
            seen = None
            with suppress(NoReply):
                seen = await self._read(label, first)
            came.send_nowait((label, seen, place))

        async with trio.open_nursery() as nursery:
            while True:
                most = at_once if useful is None else min(max(useful(), 1), at_once)
                while running < most and (label := walk.take()) is not None:
                    running += 1
                    if label in known:
                        came.send_nowait((label, Seen(label, known[label]), chain))
                    else:
                        gets += self._slots.lookups(label)
                        nursery.start_soon(read, label, chain + 1)
                if not running:
                    break
                label, seen, chain = await results.receive()
                rounds = max(rounds, chain)
                running -= 1
                if seen is None:
                    walk.failed(label)
                elif new := walk.saw(label, seen.node):
                    stopped = await emit([unpack(key, rest) for key, rest in new])
                    if stopped:
                        nursery.cancel_scope.cancel()
                        break
        return Walked(gets, rounds, walk.is_whole and not stopped)

    async def _locate(
        self, top: Label, key: bytes, *, first: bool = False, writes: bool = False
    ) -> tuple[Label, dict[Label, Seen], int]:
        """Where a key belongs, what was read on the way, and in how many rounds."""
        search = Locate(top, key, self._hints.depth(top, key), writes=writes)
        path: dict[Label, Seen] = {}
        rounds = 0
        while labels := search.take():
            rounds += 1
            for seen in await _all([partial(self._read, label, first) for label in labels]):
                path[seen.label] = seen
                search.saw(seen.label, seen.node)
        return search.place, path, rounds

    async def _read(self, label: Label, first: bool = False) -> Seen:
        seen = await self._slots.read(label, first=first)
        self._hints.saw(label, seen.node)
        return seen

    # Writing

    async def insert(self, top: Label, entries: Iterable[Entry]) -> bool:
        """Put entries into the tree with this root. True when enough holders have all of them; if
        not, or when it is cancelled, some may be there.

        Raises NoReply when nobody could be asked, and ValueError for entries without encoding."""
        return await self._insert(top, made_of(entries).packed, age=0)

    async def renew(
        self,
        top: Label,
        entries: Iterable[Entry],
        *,
        age: int = trie.RENEWAL,
        anew: bool = False,
    ) -> bool:
        """See that entries are in their tree: call it every hour, with the present time in them.
        What is missing, or is `age` minutes old or more, is put there, and lost nodes above come
        back in time. Otherwise nothing is written. Returns and raises as `insert`.

        `anew`: from the root, wherever entries of this tree were met before. For when the root does
        not lead to them (`trie.is_shown`)."""
        if anew:
            self._hints.forget(top)
        return await self._insert(top, made_of(entries).packed, age)

    async def _insert(self, top: Label, entries: Mapping[bytes, bytes], age: int) -> bool:
        is_stored = True
        left = dict(entries)
        while left:
            key, rest = next(iter(left.items()))
            place, path, _ = await self._locate(top, digits_of(top.index, key, rest), writes=True)
            here, left = trie.below(place, left)
            seen = path[place]
            new = trie.due(here, seen.node, age)
            if new:
                seen, enough = await self._put(seen, TrieNode(packed=new))
                self._hints.saw(seen.label, seen.node if enough else None)
                is_stored &= enough
                if not enough:
                    continue
            await self._tell(seen, new, path)
        return is_stored

    async def _put(
        self, seen: Seen, more: TrieNode, settled: Mapping[bytes, bytes] | None = None
    ) -> tuple[Seen, bool]:
        """Join something with what is at a label, and split that when it does not fit. Entries go
        down to the leaves; those that are `settled` are there.

        Returns the label as it is then, and whether enough holders have all of it."""
        label = seen.label
        below = dict(settled or {})
        for _ in range(self._config.tree_attempts):
            before = seen.node or TrieNode()
            node = join(before, more)
            splits = not node.is_leaf or not (fits(node) or label.is_deepest)
            if splits:
                # Children first: until the parent has been written they are not seen.
                down = node.packed if before.is_leaf else more.packed
                lengths, enough = await self._hand_down(label, trie.later(down, below))
                if not enough:
                    return seen, False
                known = not before.is_leaf and lengths.keys() <= before.children.keys()
                if known and settled is None:
                    return seen, True
                below.update(down)
                node = join(node, TrieNode(lengths))
            node = storable(label, node)
            if node == seen.node:
                return seen, True
            seen, enough = await self._slots.write(seen, node)
            met = seen.node or TrieNode()
            if met.is_leaf:
                if fits(met) or label.is_deepest:
                    return seen, enough
                # Others have filled it: nothing was stored.
            elif not before.is_leaf:
                return seen, enough
            else:
                # It has children since. What came to the leaf in between goes down to them.
                rest = trie.later(met.packed, below) if splits else more.packed
                if not rest:
                    return seen, enough
                more = TrieNode(packed=rest)
        return seen, False

    async def _hand_down(
        self, label: Label, entries: Mapping[bytes, bytes]
    ) -> tuple[dict[int, int], bool]:
        """Put entries into the children of a label. Returns the hints of these, and whether enough
        holders have everything."""

        async def put(child: Label, part: TrieNode) -> tuple[Seen, bool]:
            # Not hints for later: as long as the parent is a leaf, nobody looks below it.
            return await self._put(await self._slots.read(child), part)

        leaves = trie.parts(label, entries)
        done = await _all(
            [partial(put, label.child(digit), leaf) for digit, leaf in leaves.items()]
        )
        lengths = {seen.label.digits[-1]: _length(seen) for seen, _ in done}
        return lengths, all(enough for _, enough in done)

    async def _tell(
        self, seen: Seen, new: Mapping[bytes, bytes], path: Mapping[Label, Seen]
    ) -> None:
        """Tell the nodes above one what is below them: always of a child that they do not know,
        else now and then. `new` is what has been put there; when that is nothing, they are read for
        their own sake, see `SearchConfig.parent_checks`."""
        config = self._config
        chance = config.parent_share if new else config.parent_checks / max(_count(seen), 1)
        must, below = False, seen
        with suppress(NoReply):  # the entries are stored
            for depth in range(seen.label.depth - 1, -1, -1):
                digit = seen.label.digits[depth]
                label = seen.label.at(seen.label.digits[:depth])
                parent = path.get(label)
                must = must or (parent is not None and not _knows(parent, digit))
                if not must and self._rng.random() >= chance:
                    chance = 0.0  # only those that are known not to know
                    below = parent or Seen(label, None)
                    continue
                if parent is None:
                    parent = await self._read(label)
                more = TrieNode({digit: _length(below)}, new)
                after, _ = await self._put(parent, more, settled=new)
                self._hints.saw(label, after.node)
                must = parent.node is None
                if chance and not new:
                    chance = _count(below) / max(_count(after), 1)
                below = after


def _knows(parent: Seen, digit: int) -> bool:
    return parent.node is not None and digit in parent.node.children


def _count(seen: Seen) -> int:
    return seen.node.count if seen.node is not None else 0


def _length(seen: Seen) -> int:
    """The hint of how many entries there are."""
    return min(_count(seen).bit_length(), MAX_COUNT)


async def _all(calls: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
    """The results of all, which run side by side, in their order. When nobody could be asked in
    one, that is raised when all have ended."""
    if len(calls) == 1:
        return [await calls[0]()]
    results: dict[int, _T] = {}
    failures: list[NoReply] = []

    async def run(place: int, call: Callable[[], Awaitable[_T]]) -> None:
        try:
            results[place] = await call()
        except NoReply as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for place, call in enumerate(calls):
            nursery.start_soon(run, place, call)
    if failures:
        raise failures[0]
    return [results[place] for place in range(len(calls))]
