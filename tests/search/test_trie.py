"""What is read next in a prefix hash tree, and how its nodes are split."""

from __future__ import annotations

from math import ceil, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.codes import word_digits
from dht_torrent.search.label import Index, Label
from dht_torrent.search.node import Entry, TrieNode, WordEntry, made_of
from dht_torrent.search.trie import (
    FURTHER,
    MAX_LOST,
    RENEWAL,
    Hints,
    Locate,
    Walk,
    below,
    common,
    due,
    is_shown,
    later,
    parts,
)
from tests.helpers.entries import NOW, WORD, digits, posting, postings, word_entries
from tests.helpers.tries import grown, key_of, linear, located

DICTIONARY = Label(Index.DICTIONARY, b"")
SIZES = Label(Index.SIZES, b"")
LEAF = TrieNode(packed=made_of([posting(1)]).packed)
INTERIOR = TrieNode({0: 4, 1: 4, 2: 4, 3: 4})
keys = st.lists(st.integers(0, 3), max_size=48).map(bytes)

wordy: st.SearchStrategy[tuple[Label, list[Entry]]] = st.tuples(
    st.just(DICTIONARY), st.lists(word_entries, min_size=1, max_size=40)
)
hashed: st.SearchStrategy[tuple[Label, list[Entry]]] = st.tuples(
    st.sampled_from([WORD, SIZES, Label(Index.DAYS, b"\1\2")]),
    st.sets(st.integers(0, 1000), min_size=1, max_size=60).map(lambda some: [*map(posting, some)])
    | st.lists(postings, min_size=1, max_size=20),
)


@st.composite
def trees(draw: st.DrawFn) -> tuple[dict[Label, TrieNode], Label, bytes]:
    """A tree, its root, and a key that is in it or not, or the beginning of one."""
    top, entries = draw(wordy | hashed)
    nodes = grown(top, entries, draw(st.integers(1, 12)))
    key = key_of(top, draw(st.sampled_from(entries)))
    if draw(st.booleans()):
        other = draw(st.lists(st.integers(0, 3), min_size=len(key), max_size=len(key)))
        shared = draw(st.integers(0, len(key)))
        key = key[:shared] + bytes(other[shared:])
    return nodes, top, key[: draw(st.integers(0, len(key)))] if draw(st.booleans()) else key


# Locating.


@given(trees(), st.none() | st.integers(0, 50), st.booleans())
def test_it_finds_the_same_place_as_a_walk_from_the_root(
    tree: tuple[dict[Label, TrieNode], Label, bytes], hint: int | None, writes: bool
) -> None:
    nodes, top, key = tree
    place, _, _ = located(nodes, Locate(top, key, hint, writes=writes))
    assert place == linear(nodes, top, key)


@given(trees())
def test_a_place_for_writing_has_been_read(
    tree: tuple[dict[Label, TrieNode], Label, bytes],
) -> None:
    nodes, top, key = tree
    search = Locate(top, key, writes=True)
    read = []
    while labels := search.take():
        read += labels
        for label in labels:
            search.saw(label, nodes.get(label))
    assert search.place in read


@given(trees())
def test_a_deep_tree_is_searched_by_quarters(
    tree: tuple[dict[Label, TrieNode], Label, bytes],
) -> None:
    nodes, top, key = tree
    _, rounds, reads = located(nodes, Locate(top, key))
    if not top.index.is_hashed:
        # One more looks below what is missing, or reads the place of a leaf to come.
        assert rounds <= ceil(log(top.index.levels + 1, 4)) + 1
        assert reads <= 3 * ceil(log(top.index.levels + 1, 4)) + FURTHER


@pytest.mark.parametrize("depth", range(49))
def test_a_leaf_in_a_deep_tree_is_found_in_three_rounds(depth: int) -> None:
    key = bytes(48)
    nodes = {DICTIONARY.at(key[:level]): INTERIOR for level in range(depth)}
    nodes[DICTIONARY.at(key[:depth])] = LEAF
    place, rounds, reads = located(nodes, Locate(DICTIONARY, key))
    assert place.depth == depth
    assert rounds <= 3
    assert reads <= 9
    assert located(nodes, Locate(DICTIONARY, key, depth)) == (place, 1, 1)


@pytest.mark.parametrize("length", range(49))
def test_the_node_of_a_prefix_is_found_in_three_rounds(length: int) -> None:
    key = bytes(length)
    nodes = {DICTIONARY.at(key[:level]): INTERIOR for level in range(length + 1)}
    place, rounds, reads = located(nodes, Locate(DICTIONARY, key))
    assert place.digits == key
    assert rounds <= (1 if length <= 24 else 3)
    assert reads <= 9


@pytest.mark.parametrize(("count", "reads"), [(1, 1), (10, 1), (30, 2), (200, 3), (3000, 3)])
def test_the_hints_of_the_root_lead_to_the_leaf_of_a_common_word(count: int, reads: int) -> None:
    entries = [posting(number) for number in range(count)]
    nodes = grown(WORD, entries, 10)
    asked = [located(nodes, Locate(WORD, key_of(WORD, entry)))[2] for entry in entries[:100]]
    assert sorted(asked)[len(asked) // 2] == reads


def test_a_common_word_is_entered_at_its_root() -> None:
    assert Locate(WORD, digits(1)).take() == [WORD]


@pytest.mark.parametrize("hint", [0, 1, 2, 3, 4, 6, 9, 40])
def test_a_wrong_hint_costs_a_few_reads(hint: int) -> None:
    for top, key in ((WORD, bytes(32)), (DICTIONARY, bytes(48))):
        nodes = {top.at(key[:level]): INTERIOR for level in range(3)} | {top.at(key[:3]): LEAF}
        place, rounds, reads = located(nodes, Locate(top, key, hint))
        assert place.depth == 3
        assert rounds <= 6
        assert reads <= (1 if hint == 3 else 11)


def test_what_a_leaf_became_is_found_one_below_the_hint() -> None:
    nodes = {WORD: INTERIOR, WORD.at(b"\0"): INTERIOR, WORD.at(b"\0\0"): LEAF}
    assert located(nodes, Locate(WORD, bytes(32), 1)) == (WORD.at(b"\0\0"), 2, 2)


def test_a_new_child_is_found_with_its_parent_by_a_hint() -> None:
    nodes = {WORD: TrieNode({1: 3})}
    place, rounds, reads = located(nodes, Locate(WORD, bytes(32), 1, writes=True))
    assert (place, rounds, reads) == (WORD.child(0), 2, 2)


# Lost nodes.


def test_below_a_lost_node_two_levels_are_looked_at() -> None:
    key = bytes(32)
    nodes = {WORD.at(key[:level]): INTERIOR for level in (0, 2)}
    nodes[WORD.at(key[:3])] = LEAF
    assert located(nodes, Locate(WORD, key))[0].depth == 3
    del nodes[WORD.at(key[:2])]
    assert located(nodes, Locate(WORD, key))[0].depth == 3
    del nodes[WORD.at(key[:3])]
    place, _, reads = located(nodes, Locate(WORD, key))
    assert place.depth == 1  # an empty leaf, in the place of the lost node
    assert reads == 4


@pytest.mark.parametrize("top", [WORD, DICTIONARY])
def test_below_a_lost_root_one_level_is_looked_at(top: Label) -> None:
    key = bytes(top.index.levels)
    assert located({top.at(key[:1]): LEAF}, Locate(top, key))[0].depth == 1
    place, _, reads = located({}, Locate(top, key))
    assert place == top
    assert reads == (2 if top is WORD else 8)


@given(trees(), st.data())
def test_one_lost_node_hides_no_leaf_below_it(
    tree: tuple[dict[Label, TrieNode], Label, bytes], data: st.DataObject
) -> None:
    nodes, top, key = tree
    place = linear(nodes, top, key)
    if place.depth == 0 or place not in nodes or nodes[place].children:
        return
    gone = data.draw(st.integers(0, place.depth - 1))
    left = {label: node for label, node in nodes.items() if label != top.at(key[:gone])}
    assert located(left, Locate(top, key))[0] == place


# Vandals.


@given(keys, st.none() | st.integers(0, 50), st.booleans(), st.data())
def test_whatever_nodes_say_a_lookup_ends(
    key: bytes, hint: int | None, writes: bool, data: st.DataObject
) -> None:
    top = data.draw(st.sampled_from([WORD, DICTIONARY]))
    key = key[: top.index.levels]
    some = st.sampled_from([None, LEAF, INTERIOR, TrieNode({0: 15}), TrieNode({3: 0})])
    lies = data.draw(st.lists(some, min_size=len(key) + 1, max_size=len(key) + 1))
    nodes = {top.at(key[:depth]): node for depth, node in enumerate(lies)}
    place, rounds, reads = located(nodes, Locate(top, key, hint, writes=writes))
    assert key.startswith(place.digits)
    assert rounds <= 12
    assert reads <= 24


def test_a_chain_of_false_nodes_costs_a_bounded_number_of_reads() -> None:
    for top in (WORD, DICTIONARY):
        key = bytes(top.index.levels)
        nodes = {top.at(key[:depth]): INTERIOR for depth in range(len(key))}
        _, rounds, reads = located(nodes, Locate(top, key))
        assert rounds <= 6
        assert reads <= 13


# Hints.


def test_the_next_lookup_begins_where_the_last_one_ended() -> None:
    hints = Hints(100)
    key = digits(1)
    assert hints.depth(WORD, key) is None
    hints.saw(WORD, INTERIOR)
    assert hints.depth(WORD, key) == 1
    hints.saw(WORD.at(key[:1]), INTERIOR)
    assert hints.depth(WORD, key) == 2
    hints.saw(WORD.at(key[:4]), LEAF)
    assert hints.depth(WORD, key) == 4
    assert hints.depth(WORD, key[:1]) == 1
    assert hints.depth(Label(Index.WORDS, b"debian"), key) is None
    assert hints.depth(Label(Index.PAIRS, b"ubuntu"), key) is None


def test_what_is_gone_is_no_hint() -> None:
    hints = Hints(100)
    hints.saw(WORD, INTERIOR)
    hints.saw(WORD.child(digits(1)[0]), LEAF)
    hints.saw(WORD.child(digits(1)[0]), None)
    assert hints.depth(WORD, digits(1)) == 1
    hints.saw(WORD, LEAF)
    assert hints.depth(WORD, digits(1)) is None
    assert len(hints) == 0


def test_a_tree_can_be_forgotten() -> None:
    hints = Hints(100)
    hints.forget(WORD)
    other = Label(Index.WORDS, b"other")
    for top in (WORD, other):
        hints.saw(top, INTERIOR)
        hints.saw(top.child(digits(1)[0]), LEAF)
    hints.forget(WORD)
    assert hints.depth(WORD, digits(1)) is None
    assert hints.depth(other, digits(1)) == 1
    assert len(hints) == 2


def test_rare_words_are_not_remembered() -> None:
    hints = Hints(100)
    hints.saw(WORD, LEAF)
    hints.saw(WORD, None)
    assert len(hints) == 0


def test_of_too_many_trees_the_one_not_used_for_longest_is_forgotten() -> None:
    hints = Hints(most=4)
    words = [Label(Index.WORDS, b"%d" % number) for number in range(3)]
    for word in words[:2]:
        hints.saw(word, INTERIOR)
        hints.saw(word.child(0), LEAF)
        hints.saw(word.child(0), LEAF)
    assert len(hints) == 4
    hints.saw(words[0], INTERIOR)
    hints.saw(words[2], INTERIOR)
    assert len(hints) == 3
    assert [hints.depth(word, bytes(32)) for word in words] == [1, None, 1]


@given(st.lists(st.tuples(keys, st.sampled_from([None, LEAF, INTERIOR]))))
def test_hints_are_counted_and_bounded(seen: list[tuple[bytes, TrieNode | None]]) -> None:
    hints = Hints(most=5)
    for key, node in seen:
        hints.saw(Label(Index.WORDS, key[:1], key[1:]), node)
        assert 0 <= len(hints) <= 5


# Walking.


def walked(nodes: dict[Label, TrieNode], walk: Walk, at_once: int = 1) -> tuple[list[bytes], int]:
    """The keys of what was found, and how many reads it took."""
    found: list[bytes] = []
    reads = 0
    while not walk.is_done:
        labels = [label for label in (walk.take() for _ in range(at_once)) if label is not None]
        reads += len(labels)
        assert labels
        for label in labels:
            found += [key for key, _ in walk.saw(label, nodes.get(label))]
    assert walk.take() is None
    return found, reads


@given(wordy | hashed, st.integers(1, 12), st.integers(1, 8))
def test_a_walk_finds_all_once(made: tuple[Label, list[Entry]], room: int, at_once: int) -> None:
    top, entries = made
    nodes = grown(top, entries, room)
    walk = Walk(top, most=1000)
    found, reads = walked(nodes, walk, at_once)
    assert sorted(found) == sorted(made_of(entries).packed)
    assert reads == len(nodes)
    assert walk.is_whole


@given(wordy | hashed, st.integers(1, 12), keys, keys, st.data())
def test_a_range_has_what_is_between_and_reads_nothing_else(
    made: tuple[Label, list[Entry]], room: int, one: bytes, other: bytes, data: st.DataObject
) -> None:
    top, entries = made
    some = st.sampled_from([key_of(top, entry) for entry in entries]).map(lambda key: key[:9])
    one, other = data.draw(some | st.just(one)), data.draw(some | st.just(other))
    one, other = sorted((one[: top.index.levels], other[: top.index.levels]))
    nodes = grown(top, entries, room)
    reads: list[Label] = []
    walk = Walk(top, first=one, last=other, most=1000)
    found = []
    while (label := walk.take()) is not None:
        reads.append(label)
        found += [key for key, _ in walk.saw(label, nodes[label])]

    def is_between(digits: bytes) -> bool:
        return digits >= one and (digits <= other or digits.startswith(other))

    wanted = [
        key for key in made_of(entries).packed if is_between(key_of_packed(top, entries, key))
    ]
    assert sorted(found) == sorted(wanted)
    for label in reads:
        low = label.digits + bytes(99)
        high = label.digits + b"\3" * 99
        assert high >= one
        assert low[: len(other)] <= other


def key_of_packed(top: Label, entries: list[Entry], key: bytes) -> bytes:
    (entry,) = [
        unpacked for unpacked in made_of(entries).entries if key in made_of([unpacked]).packed
    ]
    return key_of(top, entry)


def test_both_ends_of_a_range_are_in_it() -> None:
    words = [WordEntry(word, 1, NOW) for word in ("a", "ab", "abc", "b", "ba", "c")]
    nodes = grown(DICTIONARY, words, 1)

    def between(first: str, last: str) -> list[bytes]:
        walk = Walk(DICTIONARY, first=word_digits(first), last=word_digits(last), most=1000)
        return sorted(walked(nodes, walk)[0])

    assert between("ab", "b") == [b"ab", b"abc", b"b", b"ba"]
    assert between("b", "b") == [b"b", b"ba"]
    assert between("", "") == [b"a", b"ab", b"abc", b"b", b"ba", b"c"]
    assert between("d", "e") == []


def test_a_walk_reads_no_more_than_it_may() -> None:
    nodes = grown(WORD, [posting(number) for number in range(300)], 5)
    walk = Walk(WORD, most=7)
    _, reads = walked(nodes, walk, 8)
    assert reads == 7
    assert not walk.is_whole


def test_a_walk_pays_the_price_of_each_label_and_leaves_none_out_for_a_cheaper_one() -> None:
    nodes = grown(WORD, [posting(number) for number in range(300)], 5)
    order: list[Label] = []
    walk = Walk(WORD, most=1000)
    while (label := walk.take()) is not None:
        order.append(label)
        walk.saw(label, nodes.get(label))
    second = order[1]
    for most, reads in ((1, 1), (2, 1), (3, 2), (4, 3), (5, 4)):
        walk = Walk(WORD, most=most, price=lambda label: 2 if label == second else 1)
        assert walked(nodes, walk)[1] == reads, most
        assert walk.is_done
        assert not walk.is_whole
    free = Walk(WORD, most=2, price=lambda label: 0 if label == WORD else 1)
    assert walked(nodes, free)[1] == 3


def test_upper_levels_come_first() -> None:
    nodes = grown(WORD, [posting(number) for number in range(300)], 5)
    walk = Walk(WORD, most=1000)
    depths = []
    while (label := walk.take()) is not None:
        depths.append(label.depth)
        walk.saw(label, nodes[label])
    assert depths == sorted(depths)


def test_an_entry_of_an_interior_node_is_not_given_again() -> None:
    entries = made_of([posting(number) for number in range(30)]).packed
    nodes = grown(WORD, [posting(number) for number in range(30)], 8)
    nodes[WORD] = TrieNode(nodes[WORD].children, dict(list(entries.items())[:5]))
    found, _ = walked(nodes, Walk(WORD, most=100))
    assert sorted(found) == sorted(entries)


def test_a_walk_goes_on_below_a_lost_node() -> None:
    nodes = grown(WORD, [posting(number) for number in range(300)], 5)
    whole = sorted(walked(nodes, Walk(WORD, most=1000))[0])
    for lost in (WORD, WORD.child(2)):
        left = {label: node for label, node in nodes.items() if label != lost}
        walk = Walk(WORD, most=1000)
        assert sorted(walked(left, walk, 8)[0]) == whole
        assert walk.is_whole


def test_an_empty_tree_costs_a_read_and_a_look_at_the_children() -> None:
    assert walked({}, Walk(WORD, most=24), 8) == ([], 5)
    deepest = Label(Index.WORDS, b"x", bytes(32))
    assert walked({}, Walk(deepest, most=24), 8) == ([], 1)


def test_false_children_cost_a_bounded_number_of_reads() -> None:
    walk = Walk(WORD, most=1000)
    assert walked({WORD: INTERIOR}, walk, 8) == ([], 5 + 4 * MAX_LOST)


@given(st.data(), st.integers(1, 40))
def test_whatever_nodes_say_a_walk_ends(data: st.DataObject, most: int) -> None:
    some = st.sampled_from([None, LEAF, INTERIOR, TrieNode({0: 15}), TrieNode({3: 0})])
    walk = Walk(WORD, most=most)
    reads = 0
    while not walk.is_done:
        label = walk.take()
        assert label is not None
        reads += 1
        if data.draw(st.booleans()):
            walk.saw(label, data.draw(some) if not label.is_deepest else None)
        else:
            walk.failed(label)
    assert reads <= most


def test_what_could_not_be_read_leaves_a_walk_incomplete() -> None:
    walk = Walk(WORD, most=24)
    label = walk.take()
    assert label == WORD
    assert not walk.is_done
    assert not walk.is_whole
    walk.failed(label)
    assert walk.is_done
    assert not walk.is_whole


# Splitting.


@given(hashed)
def test_a_split_keeps_all_where_it_belongs(made: tuple[Label, list[Entry]]) -> None:
    top, entries = made
    leaf = made_of(entries)
    children = parts(top, leaf.packed)
    assert list(children) == sorted(children)
    together: dict[bytes, bytes] = {}
    for digit, child in children.items():
        assert child.is_leaf
        assert child.packed
        assert all(key_of(top, entry)[0] == digit for entry in child.entries)
        together.update(child.packed)
    assert together == leaf.packed


@given(hashed, st.integers(0, 4))
def test_entries_are_below_a_label_or_not(made: tuple[Label, list[Entry]], depth: int) -> None:
    top, entries = made
    kept = made_of(entries).entries  # of two for the same torrent the later
    label = top.at(key_of(top, kept[0])[:depth])
    inside, outside = below(label, made_of(entries).packed)
    assert inside | outside == made_of(entries).packed
    assert not inside.keys() & outside.keys()
    assert inside
    assert all(key_of(top, e).startswith(label.digits) for e in TrieNode(packed=inside).entries)
    assert not any(
        key_of(top, e).startswith(label.digits) for e in TrieNode(packed=outside).entries
    )


def test_later_entries_are_those_that_are_missing_or_newer() -> None:
    ours = made_of([posting(1), posting(2, minutes=NOW + 1), posting(3), posting(4)]).packed
    theirs = made_of([posting(1), posting(2), posting(3, minutes=NOW + 1)]).packed
    expected = made_of([posting(2, minutes=NOW + 1), posting(4)]).packed
    assert later(ours, theirs) == expected
    assert later(ours, {}) == ours


@pytest.mark.parametrize(("age", "is_due"), [(0, False), (RENEWAL - 1, False), (RENEWAL, True)])
def test_an_entry_is_due_after_eight_hours(age: int, is_due: bool) -> None:
    assert RENEWAL == 480
    ours = made_of([posting(1)]).packed
    there = made_of([posting(1, minutes=NOW - age), posting(2)])
    assert (due(ours, there) == ours) == is_due
    assert due(ours, None) == due(ours, TrieNode()) == ours
    assert due(ours, made_of([posting(1)]), 0) == ours


@given(keys, keys)
def test_the_common_digits_are_those_of_all_between(one: bytes, other: bytes) -> None:
    shared = common(one, other)
    assert one.startswith(shared)
    assert other.startswith(shared)
    length = len(shared)
    assert length == min(len(one), len(other)) or one[length] != other[length]


def test_a_root_shows_what_it_has_and_what_it_leads_to() -> None:
    here = posting(1)
    first = digits(2)[0]
    deeper = posting(2)
    root = TrieNode({first: 1}, made_of([here]).packed)
    assert is_shown(WORD, root, [])
    assert is_shown(WORD, root, [here, deeper])
    assert not is_shown(WORD, None, [here])
    other = TrieNode({(first + 1) % 4: 1}, made_of([here]).packed)
    assert not is_shown(WORD, other, [here, deeper])
    assert not is_shown(WORD, other, [deeper])
    assert is_shown(WORD, other, [here])
