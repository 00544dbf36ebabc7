"""Prefix hash trees over slots that others write to as well, and that get lost."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.config import SearchConfig
from dht_torrent.engine.search.tree import Emit, Seen, Trees, Walked
from dht_torrent.errors import NoReply
from dht_torrent.search.codes import size_digits, word_digits
from dht_torrent.search.label import Index, Label
from dht_torrent.search.node import (
    LIFETIME,
    Entry,
    Posting,
    TrieNode,
    WordEntry,
    fits,
    made_of,
)
from tests.helpers.entries import NOW, WORD, posting, postings, word_entries
from tests.helpers.examples import examples
from tests.helpers.slots import MemorySlots
from tests.helpers.tries import key_of, linear

DICTIONARY = Label(Index.DICTIONARY, b"")
SIZES = Label(Index.SIZES, b"")
FULL = 11
"""Postings of `posting` that one leaf has room for."""


class Dice(random.Random):
    """Parents are told now and then, or not, as the test says."""

    def __init__(self, tells: bool) -> None:
        super().__init__(1)
        self.tells = tells

    def random(self) -> float:
        return 0.0 if self.tells else 0.99


def trees(slots: MemorySlots, *, tells: bool = False) -> Trees:
    return Trees(slots, Dice(tells))


def collect(into: list[Entry], enough: int = 10**9) -> Emit:
    async def emit(entries: Sequence[Entry]) -> bool:
        into.extend(entries)
        return len(into) >= enough

    return emit


async def all_below(slots: MemorySlots, top: Label = WORD) -> list[Entry]:
    """What a newcomer finds."""
    found: list[Entry] = []
    walked = await trees(slots).walk(top, collect(found), gets=10_000)
    assert walked.is_whole
    return sorted(found)


def place_of(slots: MemorySlots, entry: Entry, top: Label = WORD) -> Label:
    """Where a lookup level by level finds an entry."""
    nodes = {label: node for label in slots.labels if (node := slots.node(label)) is not None}
    return linear(nodes, top, key_of(top, entry))


def are_found(slots: MemorySlots, entries: Iterable[Entry], top: Label = WORD) -> bool:
    """Whether lookups level by level find them."""
    nodes = {label: node for label in slots.labels if (node := slots.node(label)) is not None}
    keys = [(linear(nodes, top, key_of(top, entry)), entry) for entry in entries]
    return all(entry in nodes[label].entries for label, entry in keys if label in nodes) and all(
        label in nodes for label, _ in keys
    )


def is_found(slots: MemorySlots, entry: Entry, top: Label = WORD) -> bool:
    node = slots.node(place_of(slots, entry, top))
    return node is not None and entry in node.entries


def same_digits(count: int, shared: int = 8, *, minutes: int = NOW) -> list[Posting]:
    """Postings whose infohashes have so many bytes in common."""
    start = b"\x1b" * shared
    return [
        posting(n, minutes=minutes)._replace(infohash=start + posting(n).infohash[shared:])
        for n in range(count)
    ]


# Inserting.


async def test_the_read_of_a_lookup_serves_the_write() -> None:
    slots = MemorySlots()
    assert await trees(slots).insert(WORD, [posting(1)])
    slots.gets.clear()
    slots.writes.clear()
    assert await trees(slots).insert(WORD, [posting(2)])
    assert slots.gets == slots.writes == [WORD]
    assert await all_below(slots) == sorted([posting(1), posting(2)])


async def test_several_entries_of_a_leaf_are_one_write() -> None:
    slots = MemorySlots()
    entries = [posting(number) for number in range(FULL)]
    assert await trees(slots).insert(WORD, entries)
    assert slots.writes == [WORD]
    assert slots.gets == [WORD, slots.gets[1]]  # there was no root: one look at a child
    assert slots.gets[1].parent == WORD
    assert await all_below(slots) == sorted(entries)


async def test_what_is_there_is_not_written_again() -> None:
    slots = MemorySlots()
    await trees(slots).insert(WORD, [posting(1)])
    assert await trees(slots).insert(WORD, [posting(1)])
    assert slots.writes == [WORD]


async def test_no_entries_cost_nothing() -> None:
    slots = MemorySlots()
    assert await trees(slots).insert(WORD, [])
    assert slots.gets == slots.writes == []


@settings(max_examples=examples(30))
@given(
    st.lists(postings, max_size=60) | st.lists(word_entries, max_size=200),
    st.integers(1, 20),
    st.booleans(),
)
def test_what_was_inserted_is_found_by_a_walk_and_by_a_lookup(
    entries: list[Entry], at_once: int, tells: bool
) -> None:
    top = DICTIONARY if entries and isinstance(entries[0], WordEntry) else WORD
    fresh = [entry._replace(minutes=NOW) for entry in entries]

    async def main() -> None:
        slots = MemorySlots()
        writer = trees(slots, tells=tells)
        for start in range(0, len(fresh), at_once):
            assert await writer.insert(top, fresh[start : start + at_once])
        wanted = made_of(fresh).entries
        shown = await all_below(slots, top)
        # An entry that was put there again, changed, may be shown as it was by a node above its
        # leaf, which is not written for that; nothing else is shown, and all of it is.
        assert made_of(shown).packed.keys() == made_of(wanted).packed.keys()
        assert len(shown) == len(wanted)
        assert set(shown) <= {one for entry in fresh for one in made_of([entry]).entries}
        assert are_found(slots, wanted, top)
        for label in slots.labels:
            node = slots.node(label)
            assert node is not None
            for digit in range(4):
                child = slots.node(label.child(digit)) if not label.is_deepest else None
                assert (digit in node.children) == (child is not None)

    trio.run(main)


async def test_a_split_writes_children_first_and_the_parent_last() -> None:
    slots = MemorySlots()
    entries = [posting(number) for number in range(FULL + 1)]
    await trees(slots).insert(WORD, entries[:-1])
    slots.writes.clear()
    assert await trees(slots).insert(WORD, entries[-1:])
    assert slots.writes[-1] == WORD
    assert {label.parent for label in slots.writes[:-1]} == {WORD}
    root = slots.node(WORD)
    assert root is not None
    assert set(root.children) == {label.digits[0] for label in slots.writes[:-1]}
    assert await all_below(slots) == sorted(entries)
    # The root keeps what it had, so that the first page of a common word is one read.
    assert len(root.packed) == FULL
    assert root.count >= FULL


async def test_entries_that_share_digits_make_a_chain() -> None:
    slots = MemorySlots()
    entries = same_digits(FULL + 1, shared=2)
    assert await trees(slots).insert(WORD, entries)
    depths = sorted(label.depth for label in slots.labels)
    assert depths[:9] == list(range(9))
    assert len([label for label in slots.labels if label.depth == 9]) > 1
    assert await all_below(slots) == sorted(entries)


async def test_a_leaf_that_cannot_be_split_keeps_the_newest() -> None:
    slots = MemorySlots()
    old, new = same_digits(30, minutes=NOW - 5)[15:], same_digits(8)
    assert await trees(slots).insert(WORD, old)
    assert await trees(slots).insert(WORD, new)
    deepest = slots.node(place_of(slots, new[0]))
    assert deepest is not None
    assert max(label.depth for label in slots.labels) == 32
    assert set(new) < set(deepest.entries)
    assert FULL - 1 <= len(deepest.packed) <= FULL


async def test_an_entry_under_a_split_leaf_goes_to_its_child() -> None:
    slots = MemorySlots()
    writer = trees(slots)
    entries = [posting(number) for number in range(60)]
    await writer.insert(WORD, entries[:-1])
    slots.gets.clear()
    slots.writes.clear()
    assert await writer.insert(WORD, entries[-1:])
    place = place_of(slots, entries[-1])
    assert slots.writes == [place]
    assert len(slots.gets) <= 2  # it knows that the root was split
    slots.gets.clear()
    again = entries[-1]._replace(record=bytes(20))
    assert await writer.insert(WORD, [again])
    assert slots.gets == [place]
    assert await all_below(slots) == sorted([*entries, again])


# Telling parents.


def two_levels() -> dict[Label, TrieNode]:
    """A root that knows of children 0 to 2."""
    numbers = [n for n in range(40) if posting(n).infohash[0] >> 6 != 3]
    leaves = {
        digit: [n for n in numbers if posting(n).infohash[0] >> 6 == digit] for digit in range(3)
    }
    nodes = {
        WORD.child(digit): made_of(posting(n, minutes=NOW - 9) for n in some[:6])
        for digit, some in leaves.items()
    }
    return nodes | {WORD: TrieNode(dict.fromkeys(range(3), 3))}


def planted(nodes: dict[Label, TrieNode]) -> MemorySlots:
    slots = MemorySlots()
    for label, node in nodes.items():
        slots.plant(label, node)
    return slots


def one_below(digit: int, number: int = 100) -> Posting:
    return next(
        p for n in range(number, number + 99) if (p := posting(n)).infohash[0] >> 6 == digit
    )


async def test_a_parent_is_always_told_of_a_new_child() -> None:
    slots = planted(two_levels())
    new = one_below(3)
    assert await trees(slots).insert(WORD, [new])
    assert slots.writes == [WORD.child(3), WORD]
    root = slots.node(WORD)
    assert root is not None
    assert root.children == {0: 3, 1: 3, 2: 3, 3: 1}
    assert root.entries == [new]
    assert slots.gets == [WORD, WORD.child(3)]


async def test_a_parent_is_told_of_counts_and_new_entries_now_and_then() -> None:
    for tells in (False, True):
        slots = planted(two_levels())
        entries = [one_below(1), one_below(1, 200), one_below(1, 300)]
        assert await trees(slots, tells=tells).insert(WORD, entries)
        root = slots.node(WORD)
        assert root is not None
        assert slots.writes == [WORD.child(1), WORD][: 1 + tells]
        assert root.children == {0: 3, 1: 4 if tells else 3, 2: 3}
        assert set(root.entries) == (set(entries) if tells else set())


async def test_parents_are_told_in_one_of_four_cases() -> None:
    rng = random.Random(7)
    told = 0
    for number in range(400):
        slots = planted(two_levels())
        assert await Trees(slots, rng).insert(WORD, [one_below(1, number)])
        told += slots.writes.count(WORD)
    assert 0.2 < told / 400 < 0.3


async def test_a_parent_that_knows_all_is_not_written() -> None:
    slots = planted(two_levels())
    old = one_below(1)._replace(minutes=NOW - 100)
    full = made_of(posting(n) for n in range(FULL))
    slots.plant(WORD, TrieNode(dict.fromkeys(range(4), 9), full.packed))
    assert await trees(slots, tells=True).insert(WORD, [old])
    assert slots.writes == [WORD.child(1)]


async def test_ancestors_of_ancestors_are_told_in_turn() -> None:
    slots = MemorySlots()
    entries = same_digits(FULL + 1, shared=1)
    await trees(slots).insert(WORD, entries)
    for label in slots.labels:
        node = slots.node(label)
        assert node is not None
        if node.children:
            slots.plant(label, TrieNode(node.children))
    new = entries[0]._replace(record=b"\1" * 20)
    place = place_of(slots, new)
    slots.writes.clear()
    assert await trees(slots, tells=True).insert(WORD, [new])
    assert slots.writes == [WORD.at(place.digits[:depth]) for depth in range(place.depth, -1, -1)]
    assert all(new in (slots.node(label) or TrieNode()).entries for label in slots.writes)


# Others write at the same time.


async def test_writers_of_one_leaf_lose_nothing() -> None:
    slots = MemorySlots()
    one, other = trees(slots), trees(slots)
    inserted = False

    def meanwhile(label: Label) -> None:
        nonlocal inserted
        if not inserted:
            inserted = True
            slots.plant(WORD, made_of([posting(2)]))

    slots.before_write = meanwhile
    assert await one.insert(WORD, [posting(1)])
    assert await all_below(slots) == sorted([posting(1), posting(2)])
    assert await other.insert(WORD, [posting(3)])
    assert len(await all_below(slots)) == 3


async def test_a_leaf_that_another_has_filled_is_split() -> None:
    slots = MemorySlots()
    mine = [posting(number) for number in range(6)]
    theirs = [posting(number) for number in range(20, 20 + FULL)]

    def meanwhile(label: Label) -> None:
        slots.before_write = lambda label: None
        slots.plant(WORD, made_of(theirs))

    slots.before_write = meanwhile
    assert await trees(slots).insert(WORD, mine)
    root = slots.node(WORD)
    assert root is not None
    assert root.children
    assert await all_below(slots) == sorted(mine + theirs)
    assert are_found(slots, mine + theirs)


async def test_an_entry_goes_on_into_the_children_of_a_leaf_that_another_has_split() -> None:
    theirs = [posting(number) for number in range(20, 40)]
    before, after = MemorySlots(), MemorySlots()
    for slots in (before, after):
        await trees(slots).insert(WORD, theirs[: FULL - 1])
    await trees(after).insert(WORD, theirs)
    mine = one_below(2)

    def meanwhile(label: Label) -> None:
        before.before_write = lambda label: None
        before.held.update(after.held)

    before.before_write = meanwhile
    assert await trees(before).insert(WORD, [mine])
    assert place_of(before, mine).depth >= 1
    assert is_found(before, mine)
    assert await all_below(before) == sorted([*theirs, mine])


async def test_who_splits_a_leaf_takes_along_what_came_to_it_meanwhile() -> None:
    slots = MemorySlots()
    first = [posting(number) for number in range(FULL)]
    await trees(slots).insert(WORD, first)
    late = posting(50)

    def meanwhile(label: Label) -> None:
        if label == WORD:  # the children have been written
            slots.before_write = lambda label: None
            node = slots.node(WORD)
            assert node is not None
            some = dict(list(node.packed.items())[1:])
            slots.plant(WORD, TrieNode(packed=some | dict(made_of([late]).packed)))

    slots.before_write = meanwhile
    assert await trees(slots).insert(WORD, [posting(49)])
    assert is_found(slots, late)
    assert place_of(slots, late).depth == 1
    assert await all_below(slots) == sorted([*first, posting(49), late])


@pytest.mark.parametrize("seed", [1, 2])
async def test_twenty_writers_of_one_word_lose_nothing_after_a_renewal(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    rng = random.Random(seed)
    slots = MemorySlots(rng, latency=1.0, copies=5)
    writers = [Trees(slots, random.Random(n)) for n in range(20)]
    entries = [[posting(50 * writer + n) for n in range(50)] for writer in range(20)]

    async def publish(writer: Trees, some: list[Posting]) -> None:
        for one in some:
            await writer.insert(WORD, [one])

    async with trio.open_nursery() as nursery:
        for writer, some in zip(writers, entries, strict=True):
            nursery.start_soon(publish, writer, some)
    every = [one for some in entries for one in some]
    at_once = len(set(await all_below(slots)) & set(every))
    assert at_once >= 0.98 * len(every)
    for writer, some in zip(writers, entries, strict=True):
        for one in some:
            assert await writer.renew(WORD, [one])
    assert await all_below(slots) == sorted(every)
    assert are_found(slots, every)


async def test_with_loss_all_is_there_after_a_few_renewals(
    autojump_clock: trio.testing.MockClock,
) -> None:
    slots = MemorySlots(random.Random(5), copies=8, loss=0.1, latency=0.5)
    writers = [Trees(slots, random.Random(n)) for n in range(5)]
    every = [posting(number) for number in range(100)]

    async def publish(writer: Trees, some: Iterable[Posting]) -> None:
        for one in some:
            await writer.insert(WORD, [one])

    async with trio.open_nursery() as nursery:
        for number, writer in enumerate(writers):
            nursery.start_soon(publish, writer, every[number::5])
    for _ in range(2):
        for number, one in enumerate(every):
            await writers[number % 5].renew(WORD, [one])
    slots.loss = 0.0
    assert await all_below(slots) == sorted(every)


# Writers that stop half-way.


class CrashError(Exception):
    pass


def crashing(slots: MemorySlots, writes: int) -> MemorySlots:
    """The same holders, for a writer that ends after so many writes."""

    def before(label: Label) -> None:
        if len(after.writes) == writes:
            raise CrashError

    after = MemorySlots(held=slots.held, before_write=before)
    return after


@pytest.mark.parametrize("top", [WORD, DICTIONARY])
@pytest.mark.parametrize("shared", [0, 1])
async def test_whoever_crashes_at_any_write_leaves_no_hole(top: Label, shared: int) -> None:
    old: list[Entry]
    new: list[Entry]
    if top == WORD:
        entries = same_digits(FULL + 12, shared)
        old, new = [*entries[:FULL]], [*entries[FULL:]]
    else:
        names = ["abcdefgh"[: 4 * shared] + f"{n * 7919 % 10000}word" for n in range(80)]
        words = [WordEntry(name, 1, NOW) for name in names]
        old, new = [*words[:60]], [*words[60:]]
    for crash in range(100):
        slots = MemorySlots()
        assert await trees(slots).insert(top, old)
        ends = crashing(slots, crash)
        crashed = False
        try:
            await trees(ends).insert(top, new)
        except (CrashError, ExceptionGroup):
            crashed = True
        found = await all_below(slots, top)
        assert set(old) <= set(found)
        assert are_found(slots, old, top)
        # The one who crashed tries again; or others come, and tell the parents sooner or later.
        assert await trees(slots, tells=True).renew(top, new)
        assert await all_below(slots, top) == sorted([*old, *new])
        assert are_found(slots, [*old, *new], top)
        if not crashed:
            break
    assert not crashed
    assert crash >= 3


async def test_whoever_is_cancelled_at_any_moment_leaves_no_hole(
    autojump_clock: trio.testing.MockClock,
) -> None:
    old = [posting(number) for number in range(FULL)]
    new = [posting(number) for number in range(FULL, FULL + 12)]
    for tenths in range(60):
        slots = MemorySlots(latency=1.0)
        assert await trees(slots).insert(WORD, old)
        with trio.move_on_after(tenths / 10):
            await trees(slots).insert(WORD, new)
        assert set(old) <= set(await all_below(slots))
        assert await trees(slots, tells=True).renew(WORD, [*old, *new])
        assert await all_below(slots) == sorted([*old, *new])


class Picky(MemorySlots):
    """Too few holders store what is not the root."""

    async def write(self, seen: Seen, node: TrieNode) -> tuple[Seen, bool]:
        after, enough = await super().write(seen, node)
        return after, enough and seen.label == WORD


async def test_a_parent_is_not_split_before_each_child_has_enough_copies() -> None:
    slots = Picky()
    first = [posting(number) for number in range(FULL)]
    assert await trees(slots).insert(WORD, first)
    assert not await trees(slots).insert(WORD, [posting(50)])
    root = slots.node(WORD)
    assert root is not None
    assert root.is_leaf
    assert await all_below(slots) == sorted(first)


async def test_after_a_split_that_failed_entries_are_put_where_others_find_them() -> None:
    slots = Picky()
    writer = trees(slots)
    first = [posting(number) for number in range(FULL)]
    assert await writer.insert(WORD, first)
    assert not await writer.insert(WORD, [posting(50)])
    healthy = MemorySlots(held=slots.held)
    writer._slots = healthy
    assert await writer.insert(WORD, [posting(51)])
    assert await all_below(healthy) == sorted([*first, *map(posting, (50, 51))])
    assert are_found(healthy, [*first, posting(51)])


async def test_a_parent_is_not_told_of_what_too_few_hold() -> None:
    slots = Picky()
    for label, node in two_levels().items():
        slots.plant(label, node)
    assert not await trees(slots, tells=True).insert(WORD, [one_below(3)])
    assert slots.writes == [WORD.child(3)]


class Silent(MemorySlots):
    """Nobody can be asked about some labels."""

    silent: tuple[Label, ...] = ()

    async def read(self, label: Label, *, first: bool = False) -> Seen:
        if label in self.silent:
            raise NoReply("nobody")
        return await super().read(label, first=first)


async def test_when_nobody_can_be_asked_it_is_said() -> None:
    slots = Silent()
    slots.silent = (WORD,)
    with pytest.raises(NoReply):
        await trees(slots).insert(WORD, [posting(1)])
    with pytest.raises(NoReply):
        await trees(slots).renew(WORD, [posting(1)])
    with pytest.raises(NoReply):
        await trees(slots).read(WORD)
    slots.silent = (DICTIONARY.at(word_digits("word")),)
    with pytest.raises(NoReply):
        await scan(slots, "word", "word", 24)


async def test_when_the_children_cannot_be_asked_the_leaf_stays() -> None:
    slots = Silent()
    first = [posting(number) for number in range(FULL)]
    await trees(slots).insert(WORD, first)
    slots.silent = (WORD.child(1), WORD.child(2))
    with pytest.raises(NoReply):
        await trees(slots).insert(WORD, [posting(50), posting(51), posting(52)])
    assert await trees(slots).read(WORD) == made_of(first)


async def test_an_entry_is_stored_though_the_parent_cannot_be_asked() -> None:
    slots = Silent()
    for label, node in two_levels().items():
        slots.plant(label, node)
    writer = trees(slots, tells=True)
    assert await writer.insert(WORD, [one_below(1)])
    slots.silent = (WORD,)
    assert await writer.insert(WORD, [one_below(1, 200)])
    assert is_found(slots, one_below(1, 200))


# Renewing.


async def test_what_is_there_and_young_is_not_renewed() -> None:
    slots = MemorySlots()
    await trees(slots).insert(WORD, [posting(1, minutes=NOW - 479)])
    slots.gets.clear()
    assert await trees(slots).renew(WORD, [posting(1)])
    assert slots.gets == slots.writes == [WORD]  # both of the past


async def test_an_entry_of_eight_hours_is_renewed() -> None:
    slots = MemorySlots()
    await trees(slots).insert(WORD, [posting(1, minutes=NOW - 480), posting(2, minutes=NOW - 9)])
    assert await trees(slots).renew(WORD, [posting(1), posting(2)])
    assert await all_below(slots) == sorted([posting(1), posting(2, minutes=NOW - 9)])


async def renewed(slots: MemorySlots, writer: Trees, entries: Sequence[Entry], hours: int) -> bool:
    """Whether a newcomer finds them all, after so many renewals at most."""
    for _ in range(hours):
        for entry in entries:
            assert await writer.renew(WORD, [entry])
        if set(entries) <= set(await all_below(slots)):
            return True
    return False


async def test_lost_nodes_come_back() -> None:
    for seed in range(20):
        slots = MemorySlots()
        writer = Trees(slots, random.Random(seed))
        entries = [posting(number) for number in range(60)]
        await writer.insert(WORD, entries)
        for label in random.Random(seed).sample(slots.labels, len(slots.labels) // 2):
            slots.lose(label)
        assert await renewed(slots, writer, entries, 3)
        assert are_found(slots, entries)


async def test_a_renewal_looks_at_the_nodes_above_every_now_and_then() -> None:
    slots = MemorySlots()
    entries = [*same_digits(60, shared=2), *(posting(number) for number in range(100, 200))]
    writer = Trees(slots, random.Random(1))
    await writer.insert(WORD, entries)
    slots.gets.clear()
    hours = 20
    for _ in range(hours):
        for entry in entries:
            assert await writer.renew(WORD, [entry])
    assert len(slots.gets) < 2 * hours * len(entries)
    for label in slots.labels:
        assert slots.gets.count(label) >= hours, label


async def test_an_entry_goes_deeper_where_a_leaf_has_become_a_node() -> None:
    slots = MemorySlots()
    slots.plant(WORD, TrieNode({0: 1}))
    slots.plant(WORD.child(0), made_of([one_below(0)]))
    assert await trees(slots).renew(WORD, [one_below(2)])
    assert place_of(slots, one_below(2)) == WORD.child(2)
    assert is_found(slots, one_below(2))


async def test_a_lost_root_does_not_hide_its_tree() -> None:
    slots = MemorySlots()
    entries = [posting(number) for number in range(60)]
    await trees(slots).insert(WORD, entries)
    slots.lose(WORD)
    assert await all_below(slots) == sorted(entries)
    new = posting(100)
    assert await trees(slots).insert(WORD, [new])
    assert place_of(slots, new).depth >= 1
    assert is_found(slots, new)
    assert await renewed(slots, Trees(slots, random.Random(1)), entries, 3)
    assert await all_below(slots) == sorted([*entries, new])


async def test_a_leaf_in_the_place_of_a_lost_root_takes_its_children_back() -> None:
    slots = MemorySlots()
    writer = Trees(slots, random.Random(3))
    entries = [posting(number) for number in range(60)]
    await writer.insert(WORD, entries)
    stranger = posting(100)
    slots.plant(WORD, made_of([stranger]))
    # Its publishers come every hour, and know where they had put it.
    assert await renewed(slots, writer, entries, 3)
    assert await all_below(slots) == sorted([*entries, stranger])
    assert is_found(slots, stranger)


async def test_what_is_a_day_old_is_gone() -> None:
    slots = MemorySlots()
    await trees(slots).insert(WORD, [posting(1)])
    slots.minutes = NOW + LIFETIME + 1
    assert await all_below(slots) == []
    await trees(slots).insert(WORD, [posting(2, minutes=slots.minutes)])
    slots.minutes = NOW
    assert await all_below(slots) == []


# Walking.


async def test_a_walk_stops_when_there_is_enough() -> None:
    slots = MemorySlots()
    entries = [posting(number) for number in range(300)]
    await trees(slots).insert(WORD, entries)
    slots.gets.clear()
    found: list[Entry] = []
    walked = await trees(slots).walk(WORD, collect(found, 30), gets=100)
    assert 30 <= len(found) < 60
    assert not walked.is_whole
    assert walked.gets == len(slots.gets) <= 20


async def test_a_walk_reads_no_more_than_it_may() -> None:
    slots = MemorySlots()
    await trees(slots).insert(WORD, [posting(number) for number in range(300)])
    for most in (1, 2, 9, 24):
        slots.gets.clear()
        walked = await trees(slots).walk(WORD, collect([]), gets=most)
        assert len(slots.gets) == walked.gets == most
        assert not walked.is_whole
    slots.gets.clear()
    root = await trees(slots).read(WORD)
    walked = await trees(slots).walk(WORD, collect([]), gets=5, known=root)
    assert walked.gets == 5
    assert slots.gets.count(WORD) == 1


async def test_a_slot_that_takes_two_lookups_counts_twice() -> None:
    class Overlapping(MemorySlots):
        def lookups(self, label: Label) -> int:
            return 2

    slots = Overlapping()
    await trees(slots).insert(WORD, [posting(number) for number in range(300)])
    for most in (2, 9, 24):
        slots.gets.clear()
        walked = await trees(slots).walk(WORD, collect([]), gets=most)
        assert 2 * len(slots.gets) == walked.gets == most // 2 * 2
        slots.gets.clear()
        first, last = bytes([0]), bytes([2])
        walked = await trees(slots).scan(WORD, first, last, collect([]), gets=most)
        assert 2 * len(slots.gets) == walked.gets <= max(most, 4)


async def test_a_walk_reads_eight_labels_side_by_side(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Counting(MemorySlots):
        now = most = 0

        async def read(self, label: Label, *, first: bool = False) -> Seen:
            self.now += 1
            self.most = max(self.most, self.now)
            await trio.sleep(1)
            self.now -= 1
            return await super().read(label, first=first)

    slots = Counting()
    await trees(slots).insert(WORD, [posting(number) for number in range(600)])
    slots.most = 0
    started = trio.current_time()
    found: list[Entry] = []
    walked = await trees(slots).walk(WORD, collect(found), gets=10_000)
    assert len(found) == 600
    assert slots.most == 8
    assert walked.rounds == trio.current_time() - started
    assert walked.rounds < walked.gets / 5


async def test_a_walk_hands_out_what_comes_before_it_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    slots = MemorySlots()
    await trees(slots).insert(WORD, [posting(number) for number in range(300)])
    slots.latency = 1.0
    times: list[float] = []

    async def emit(entries: Sequence[Entry]) -> bool:
        times.append(trio.current_time())
        return False

    started = trio.current_time()
    await trees(slots).walk(WORD, emit, gets=1000)
    assert times[0] - started <= 1
    assert len(set(times)) > 20


async def test_a_walk_leaves_out_what_cannot_be_read() -> None:
    slots = Silent()
    entries = [posting(number) for number in range(300)]
    await trees(slots).insert(WORD, entries)
    slots.silent = (WORD.child(2),)
    found: list[Entry] = []
    walked = await trees(slots).walk(WORD, collect(found), gets=1000)
    assert not walked.is_whole
    missing = set(entries) - {entry for entry in found if isinstance(entry, Posting)}
    assert missing
    assert all(entry.infohash[0] >> 6 == 2 for entry in missing)


async def test_readers_may_be_content_with_the_first_version() -> None:
    class Noting(MemorySlots):
        def __init__(self) -> None:
            super().__init__()
            self.firsts: set[bool] = set()

        async def read(self, label: Label, *, first: bool = False) -> Seen:
            self.firsts.add(first)
            return await super().read(label, first=first)

    slots = Noting()
    await trees(slots).insert(WORD, [posting(number) for number in range(30)])
    assert slots.firsts == {False}
    for first in (True, False):
        slots.firsts.clear()
        await trees(slots).walk(WORD, collect([]), gets=99, first=first)
        await trees(slots).read(WORD, first=first)
        await trees(slots).scan(WORD, b"\1", b"\2", collect([]), gets=99, first=first)
        assert slots.firsts == {first}


# Ranges.


async def scan(
    slots: MemorySlots, first: str, last: str, gets: int, reader: Trees | None = None
) -> tuple[list[str], Walked]:
    found: list[Entry] = []
    start, end = word_digits(first), word_digits(last)
    walked = await (reader or trees(slots)).scan(DICTIONARY, start, end, collect(found), gets=gets)
    return sorted(entry.word for entry in found if isinstance(entry, WordEntry)), walked


def some_words() -> list[str]:
    """A thousand words, many with long beginnings in common."""
    rng = random.Random(5)
    starts = ["python", "pyth", "django", "ubuntu", "un", "lib", "open", "\u043c\u0438\u0440"]
    made = {
        rng.choice(starts) + "".join(rng.choices("abcdefgh0123", k=rng.randint(0, 6)))
        for _ in range(1500)
    }
    return sorted(word for word in made if len(word.encode()) <= 24)[:1000]


DICTIONARIES: list[MemorySlots] = []


async def dictionary() -> tuple[MemorySlots, list[str]]:
    """A tree of a thousand words, which eight writers have made."""
    words = some_words()
    if DICTIONARIES:
        return MemorySlots(copies=1, held=dict(DICTIONARIES[0].held)), words
    slots = MemorySlots(copies=1)
    rng = random.Random(1)
    writers = [trees(slots, tells=number % 4 == 0) for number in range(8)]
    for number, word in enumerate(rng.sample(words, len(words))):
        assert await writers[number % 8].insert(DICTIONARY, [WordEntry(word, 1, NOW)])
    DICTIONARIES.append(slots)
    return MemorySlots(copies=1, held=dict(slots.held)), words


async def test_every_word_with_a_prefix_is_found_in_few_reads() -> None:
    slots, words = await dictionary()
    cold, warm = [], []
    reader = trees(slots)
    prefixes = sorted({word[: 2 + number % 6] for number, word in enumerate(words[::9])})
    for prefix in prefixes:
        wanted = sorted(word for word in words if word.startswith(prefix))
        found, walked = await scan(slots, prefix, prefix, 1000)
        assert found == wanted
        if len(wanted) <= 50:
            cold.append(walked.gets)
            assert walked.rounds <= 5
        await scan(slots, prefix, prefix, 1000, reader)
        found, walked = await scan(slots, prefix, prefix, 1000, reader)
        assert found == wanted
        if len(wanted) <= 50:
            warm.append(walked.gets)
    assert len(cold) > 30
    assert max(cold) <= 14
    assert sorted(warm)[len(warm) * 9 // 10] <= 3


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("", "zz"),
        ("python", "ub"),
        ("a", "b"),
        ("pyth0", "pyth1"),
        ("ub", "\u043c\u0438"),
        ("un", "un"),
    ],
)
async def test_every_word_of_a_range_is_found(first: str, last: str) -> None:
    slots, words = await dictionary()
    found, walked = await scan(slots, first, last, 10_000)
    assert found == [w for w in words if w >= first and (w <= last or w.startswith(last))]
    assert walked.is_whole


async def test_a_prefix_longer_than_a_key_finds_what_shares_the_key() -> None:
    slots = MemorySlots()
    words = ["abcdefghijklmnopqrst", "abcdefghijklmnopzzzz", "abcdefghijklmnox"]
    await trees(slots).insert(DICTIONARY, [WordEntry(word, 1, NOW) for word in words])
    found, _ = await scan(slots, words[0][:18], words[0][:18], 24)
    assert found == words[:2]


async def test_a_lost_node_does_not_hide_a_prefix() -> None:
    slots, words = await dictionary()
    wanted = [word for word in words if word.startswith("py")]
    for length in range(len(word_digits("py")) + 1):
        label = DICTIONARY.at(word_digits("py")[:length])
        held = slots.held.get(label)
        if held is None:
            continue
        slots.lose(label)
        found, _ = await scan(slots, "py", "py", 1000)
        assert found == wanted
        slots.held[label] = held


async def test_where_there_is_nothing_a_scan_ends_soon() -> None:
    slots, _ = await dictionary()
    found, walked = await scan(slots, "zebra", "zebra", 24)
    assert found == []
    assert walked.gets <= 9
    assert walked.is_whole
    assert (await scan(MemorySlots(), "zebra", "zebra", 24))[0] == []


async def test_a_scan_reads_no_more_than_it_may() -> None:
    slots, words = await dictionary()
    slots.gets.clear()
    found, walked = await scan(slots, "", "zz", 6)
    assert walked.gets == len(slots.gets) == 6
    assert not walked.is_whole
    assert 0 < len(found) < len(words)


async def test_sizes_are_found_by_range() -> None:
    slots = MemorySlots()
    entries = [posting(number)._replace(size_code=number * 40) for number in range(200)]
    assert await trees(slots).insert(SIZES, entries)
    found: list[Entry] = []
    await trees(slots).scan(SIZES, size_digits(1000), size_digits(3000), collect(found), gets=1000)
    assert sorted(found) == sorted(entry for entry in entries if 1000 <= entry.size_code <= 3000)


# Vandals.


async def test_a_false_node_that_leads_nowhere_costs_a_bounded_number_of_reads() -> None:
    slots = MemorySlots()
    slots.plant(WORD, TrieNode(dict.fromkeys(range(4), 15)))
    walked = await trees(slots).walk(WORD, collect([]), gets=1000)
    assert walked.gets <= 13
    slots.gets.clear()
    assert await trees(slots).insert(WORD, [posting(1)])
    assert len(slots.gets) <= 12
    assert is_found(slots, posting(1))
    assert await all_below(slots) == [posting(1)]


async def test_a_chain_of_false_nodes_costs_a_bounded_number_of_reads() -> None:
    slots = MemorySlots()
    key = key_of(WORD, posting(1))
    for depth in range(32):
        slots.plant(WORD.at(key[:depth]), TrieNode({key[depth]: 15}))
    assert await trees(slots).insert(WORD, [posting(1)])
    assert len(slots.gets) <= 14
    assert is_found(slots, posting(1))


async def test_a_node_with_entries_of_another_place_is_not_read() -> None:
    slots = planted(two_levels())
    slots.plant(WORD.child(2), made_of([one_below(1)]))
    found = await all_below(slots)
    assert one_below(1) not in found
    assert await trees(slots).insert(WORD, [one_below(2)])
    assert is_found(slots, one_below(2))


async def test_junk_in_a_slot_is_written_over() -> None:
    slots = MemorySlots()
    slots.plant_raw(WORD, b"4:junk")
    assert await trees(slots).insert(WORD, [posting(1)])
    assert await all_below(slots) == [posting(1)]
    assert fits(slots.node(WORD) or TrieNode())


# --- what can be set -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_how_often_a_parent_is_told_can_be_set(share: float) -> None:
    slots = planted(two_levels())
    config = SearchConfig(parent_share=share)
    for number in range(100, 1100, 100):
        assert await Trees(slots, random.Random(1), config).insert(WORD, [one_below(1, number)])
    assert slots.writes.count(WORD) >= 5 if share else WORD not in slots.writes


@pytest.mark.parametrize("checks", [0.0, 1000.0])
async def test_how_often_a_parent_is_looked_at_can_be_set(checks: float) -> None:
    slots = MemorySlots()
    entries = [posting(number) for number in range(60)]
    writer = Trees(slots, random.Random(1), SearchConfig(parent_checks=checks))
    await writer.insert(WORD, entries)
    slots.gets.clear()
    for entry in entries:
        await writer.renew(WORD, [entry])
    assert len(slots.gets) >= 120 if checks else len(slots.gets) < 90


async def test_how_many_labels_a_walk_reads_at_a_time_can_be_set(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Slow(MemorySlots):
        async def read(self, label: Label, *, first: bool = False) -> Seen:
            await trio.sleep(1)
            return await super().read(label, first=first)

    slots = Slow()
    await trees(slots).insert(WORD, [posting(number) for number in range(200)])
    started = trio.current_time()
    one = Trees(slots, random.Random(1), SearchConfig(gets_at_once=1))
    walked = await one.walk(WORD, collect([]), gets=10_000)
    assert trio.current_time() - started == walked.gets


async def test_how_often_a_writer_tries_and_how_much_it_remembers_can_be_set() -> None:
    slots = MemorySlots()
    entries = [posting(number) for number in range(200)]
    assert not await Trees(slots, random.Random(1), SearchConfig(tree_attempts=0)).insert(
        WORD, entries
    )
    assert await Trees(slots, random.Random(1), SearchConfig(hints=0)).insert(WORD, entries)
    forgetful = Trees(slots, random.Random(1), SearchConfig(hints=0, parent_checks=0))
    await forgetful.renew(WORD, entries[:1])
    slots.gets.clear()
    await forgetful.renew(WORD, entries[:1])
    assert WORD in slots.gets  # from the root again
