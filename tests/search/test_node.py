"""Nodes of prefix hash trees: their bytes, and how two versions become one."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import SearchFormatError
from dht_torrent.search.codes import size_digits, word_key
from dht_torrent.search.label import Index, Label, tree_root
from dht_torrent.search.node import (
    LIFETIME,
    MAX_ITEM,
    MAX_NODE,
    SKEW,
    Entry,
    Posting,
    TrieNode,
    WordEntry,
    decode,
    digits_of,
    encode,
    fit,
    fits,
    fresh,
    hidden_word,
    join,
    key_in,
    length_of,
    made_of,
    minutes_at,
    pack,
    storable,
    unpack,
    with_key,
)
from tests.helpers.entries import (
    NOW,
    WORD,
    nodes,
    posting,
    postings,
    times,
    word_entries,
)

DICTIONARY = Label(Index.DICTIONARY, b"")
CONTENT = Label(Index.CONTENT, tree_root(0))
some_nodes = nodes() | nodes(word_entries)
SAMPLE = Posting(b"\x11" * 20, b"\x22" * 20, 0x030201, 0x0504, 6, "Ub\u00fcn", (0x0708, 9))
# By hand: "P1", no children, infohash, record, minutes, size code, flags, 5 bytes, 2 words.
LEAF = (
    b"P1\0\0" + b"\x11" * 20 + b"\x22" * 20 + b"\x03\x02\x01\x05\x04\x06\x05\x02"
    b"Ub\xc3\xbcn\x07\x08\x00\x09"
)
# Children 0, 1 and 3 with 2^1, 2^2 and 2^15; then the word "iso", minutes and frequency.
INTERIOR = b"P1\x00\x0b\x12\xf0" + b"\x03iso\x03\x02\x01\x07"


def item(payload: bytes) -> bytes:
    return b"%d:%b" % (len(payload), payload)


def label_of(node: TrieNode) -> Label:
    """A root that may hold the node."""
    return DICTIONARY if any(len(key) != 40 for key in node.packed) else WORD


def test_a_leaf_has_the_bytes_of_the_protocol() -> None:
    leaf = made_of([SAMPLE])
    assert encode(leaf) == item(LEAF)
    assert decode(item(LEAF), WORD) == leaf
    assert leaf.entries == [SAMPLE]
    assert leaf.is_leaf
    assert leaf.count == 1


def test_an_interior_node_has_the_bytes_of_the_protocol() -> None:
    node = join(TrieNode({3: 15, 0: 1, 1: 2}), made_of([WordEntry("iso", 7, 0x030201)]))
    assert encode(node) == item(INTERIOR)
    assert decode(item(INTERIOR), DICTIONARY) == node
    assert not node.is_leaf
    assert node.count == 1 + 3 + 3 * 2**13


@given(some_nodes)
def test_what_is_encoded_is_decoded_again(node: TrieNode) -> None:
    encoded = encode(fit(node))
    assert len(encoded) <= MAX_ITEM
    assert decode(encoded, label_of(node)) == fit(node)


@given(st.lists(postings | word_entries))
def test_the_length_is_known_without_encoding(entries: list[Entry]) -> None:
    node = made_of(entries)
    if fits(node):
        assert len(encode(node)) == len(item(bytes(length_of(node))))
    else:
        with pytest.raises(ValueError, match="split"):
            encode(node)
    assert fits(node) == (length_of(node) <= MAX_NODE)


@given(postings | word_entries)
def test_a_packed_entry_is_that_entry(entry: Entry) -> None:
    assert unpack(*pack(entry)) == entry


@pytest.mark.parametrize(
    "entry",
    [
        SAMPLE._replace(infohash=bytes(19)),
        SAMPLE._replace(record=bytes(21)),
        SAMPLE._replace(minutes=-1),
        SAMPLE._replace(minutes=2**24),
        SAMPLE._replace(size_code=65536),
        SAMPLE._replace(flags=256),
        SAMPLE._replace(preview="x" * 49),
        SAMPLE._replace(preview="\u00e9" * 25),
        SAMPLE._replace(hidden=tuple(range(25))),
        SAMPLE._replace(hidden=(65536,)),
        WordEntry("", 1, 1),
        WordEntry("Iso", 1, 1),
        WordEntry("two words", 1, 1),
        WordEntry("x" * 25, 1, 1),
        WordEntry("iso", 256, 1),
        WordEntry("iso", 1, 2**24),
    ],
)
def test_an_entry_that_has_no_encoding_is_refused(entry: Entry) -> None:
    with pytest.raises(ValueError):
        pack(entry)


# What a stranger may store in a slot.


def test_a_node_that_is_cut_anywhere_is_refused() -> None:
    for whole, label in ((LEAF, WORD), (INTERIOR, DICTIONARY)):
        refused = 0
        for end in range(len(whole)):
            try:
                decode(item(whole[:end]), label)
            except SearchFormatError:
                refused += 1
        # Cut right after the header, and after the children, it is a node without entries.
        assert refused == len(whole) - 1


@pytest.mark.parametrize(
    ("payload", "label"),
    [
        (b"", WORD),
        (b"P1", WORD),
        (b"P2" + LEAF[2:], WORD),
        (b"P1\x00\x10\x10", WORD),  # a fifth child
        (b"P1\x00\x01\x11", WORD),  # a second hint, of no child
        (b"P1\x00\x03", WORD),  # no hints
        (LEAF + b"\0", WORD),
        (LEAF + LEAF[4:], WORD),  # the same key again
        (LEAF[:50] + b"\xff" + LEAF[51:], WORD),
        (LEAF.replace(b"\xc3\xbc", b"\xc3x"), WORD),
        (LEAF.replace(b"\x06\x05", b"\x06\x31") + bytes(44), WORD),  # a preview of 49 bytes
        (LEAF.replace(b"\x05\x02Ub", b"\x05\x19Ub") + bytes(46), WORD),  # 25 hidden words
        (LEAF, Label(Index.WORDS, b"ubuntu", b"\1")),  # belongs at b"\0\1"
        (b"P1\x00\x01\x10", Label(Index.WORDS, b"ubuntu", bytes(32))),
        (b"P1\0\0\0\0\0\0\0", DICTIONARY),
        (b"P1\0\0\x03isO\0\0\0\0", DICTIONARY),
        (b"P1\0\0\x02\xc3x\0\0\0\0", DICTIONARY),
        (b"P1\0\0\x19" + b"x" * 25 + bytes(4), DICTIONARY),
        (b"P1\0\0\x01b\0\0\0\0\x01a\0\0\0\0", DICTIONARY),
        (b"P1\0\0\x01b\0\0\0\0\x01b\0\0\0\0", DICTIONARY),
        (b"P1\0\0\x01b\0\0\0\0\x01", DICTIONARY),
        (INTERIOR, DICTIONARY.at(word_key("is")[:6] + b"\0")),
        (LEAF, CONTENT.at(b"\1")),  # belongs at b"\0\7"
        (LEAF.replace(b"\x05\x02Ub", b"\x05\x01Ub")[:-2], CONTENT),  # half a key
        (LEAF.replace(b"\x05\x02Ub", b"\x05\x03Ub") + b"\0\0", CONTENT),
        (b"P1\xff\xff" + bytes(8), CONTENT.at(bytes(8))),
    ],
)
def test_a_malformed_node_is_refused(payload: bytes, label: Label) -> None:
    with pytest.raises(SearchFormatError):
        decode(item(payload), label)


@pytest.mark.parametrize("raw", [b"", b"i1e", b"de", b"le", b"4:P1\0", b"4:P1\0\0x", b"4:P1"])
def test_what_is_not_one_bencoded_string_is_refused(raw: bytes) -> None:
    with pytest.raises(SearchFormatError):
        decode(raw, WORD)


def test_a_node_of_more_than_a_thousand_bytes_is_refused() -> None:
    words = [b"\x08%08d" % n + bytes(4) for n in range(77)]
    payload = b"P1\0\0" + b"".join(words)
    decode(item(payload[: 4 + 13 * 76]), DICTIONARY)
    with pytest.raises(SearchFormatError, match="thousand"):
        decode(item(payload), DICTIONARY)


@given(
    st.binary(max_size=1100), st.sampled_from([WORD, DICTIONARY, CONTENT, Label(Index.SIZES, b"")])
)
def test_any_bytes_give_a_node_or_our_error(raw: bytes, label: Label) -> None:
    for attempt in (raw, item(raw), item(b"P1" + raw), item(b"P1\0\0" + raw)):
        try:
            node = decode(attempt, label)
        except SearchFormatError:
            continue
        assert encode(node) == attempt
        assert made_of(node.entries).packed == node.packed


@given(some_nodes, st.integers(0, 200), st.integers(0, 255), st.integers(0, 24))
def test_a_node_with_a_byte_changed_gives_a_node_or_our_error(
    node: TrieNode, at: int, byte: int, depth: int
) -> None:
    raw = bytearray(encode(fit(node)))
    raw[at % len(raw)] = byte
    for label in (label_of(node), label_of(node).at(bytes(depth))):
        try:
            decoded = decode(bytes(raw), label)
        except SearchFormatError:
            continue
        assert encode(decoded) == bytes(raw)
        for key, rest in decoded.packed.items():
            assert digits_of(label.index, key, rest).startswith(label.digits)


@given(st.lists(postings | word_entries, min_size=1, max_size=8), st.sampled_from(Index), st.data())
def test_entries_that_belong_elsewhere_are_found(
    entries: list[Entry], index: Index, data: st.DataObject
) -> None:
    if index.has_sketches:
        keyed = st.binary(min_size=4, max_size=4)
        entries = [with_key(one, data.draw(keyed)) for one in entries if isinstance(one, Posting)]
    wanted = WordEntry if index is Index.DICTIONARY else Posting
    packed = made_of([entry for entry in entries if isinstance(entry, wanted)]).packed
    all_digits = [digits_of(index, *one) for one in packed.items()]
    start = data.draw(st.sampled_from(all_digits)) if all_digits else b""
    label = Label(index, b"", start[: data.draw(st.integers(0, 4))])
    encoded = encode(fit(TrieNode(packed=packed)))
    belongs = all(one.startswith(label.digits) for one in all_digits)
    if belongs:
        assert decode(encoded, label).packed == fit(TrieNode(packed=packed)).packed
    elif len(encoded) == len(item(bytes(length_of(TrieNode(packed=packed))))):
        with pytest.raises(SearchFormatError):
            decode(encoded, label)


def test_each_index_has_its_own_order() -> None:
    key, rest = pack(SAMPLE)
    assert digits_of(Index.WORDS, key, rest) == b"\0\1" * 16 == digits_of(Index.DAYS, key, rest)
    assert digits_of(Index.SIZES, key, rest) == size_digits(0x0504) + b"\0\1" * 12
    assert digits_of(Index.DICTIONARY, *pack(WordEntry("iso", 1, 1))) == word_key("iso")
    assert digits_of(Index.CONTENT, *pack(SAMPLE)) == bytes([0, 7, 0, 8, 0, 0, 0, 9])
    keyed = with_key(SAMPLE, b"\x12\x34\xab\xcd")
    for index in (Index.CONTENT, Index.NAMES):
        assert digits_of(index, *pack(keyed)) == bytes([1, 2, 3, 4, 10, 11, 12, 13])
    assert unpack(*pack(keyed)) == keyed
    assert key_in(keyed) == b"\x12\x34\xab\xcd"


def test_a_tree_of_sketches_has_sixteen_children() -> None:
    node = TrieNode({digit: 15 - digit for digit in range(16)})
    raw = encode(node)
    assert raw == item(b"P1\xff\xff" + bytes.fromhex("fedcba9876543210"))
    assert decode(raw, CONTENT) == node


# Joining.


@given(some_nodes, some_nodes)
def test_the_join_is_commutative(one: TrieNode, other: TrieNode) -> None:
    assert join(one, other) == join(other, one)


@given(nodes(), nodes(), nodes())
def test_the_join_is_associative(one: TrieNode, two: TrieNode, three: TrieNode) -> None:
    assert join(join(one, two), three) == join(one, join(two, three))


@given(some_nodes, some_nodes)
def test_the_join_is_idempotent(one: TrieNode, other: TrieNode) -> None:
    both = join(one, other)
    assert join(one, one) == one
    assert join(both, one) == join(both, other) == both


@given(nodes(), nodes())
def test_the_join_has_all_of_both_and_nothing_else(one: TrieNode, other: TrieNode) -> None:
    both = join(one, other)
    assert both.packed.keys() == one.packed.keys() | other.packed.keys()
    assert both.children.keys() == one.children.keys() | other.children.keys()
    for key, rest in both.packed.items():
        said = [node.packed[key] for node in (one, other) if key in node.packed]
        assert rest == max(said)
    for digit, count in both.children.items():
        assert count == max(node.children.get(digit, 0) for node in (one, other))


def test_of_two_entries_for_the_same_torrent_the_later_wins() -> None:
    old, new = posting(1, title="old"), posting(1, minutes=NOW + 1, title="a new one")
    for order in ([old, new], [new, old]):
        assert join(made_of(order[:1]), made_of(order[1:])).entries == [new]
        assert made_of(order).entries == [new]


def test_two_records_for_one_torrent_are_two_entries() -> None:
    one, other = SAMPLE, SAMPLE._replace(record=b"\x33" * 20)
    assert made_of([one, other]).entries == [one, other]


@given(times, nodes())
def test_joining_and_expiring_may_come_in_any_order(now: int, node: TrieNode) -> None:
    # Of one entry the later wins: one from the future must not hide an honest one.
    other = TrieNode(
        packed={key: (NOW).to_bytes(3, "big") + rest[3:] for key, rest in node.packed.items()}
    )
    fresh_first = join(fresh(node, now), fresh(other, now))
    assert fresh(fresh_first, now) == fresh_first
    assert fresh_first.packed.keys() >= fresh(join(node, other), now).packed.keys()


# What is too old, and what does not fit.


@pytest.mark.parametrize(
    ("age", "kept"),
    [(0, True), (LIFETIME, True), (LIFETIME + 1, False), (-SKEW, True), (-SKEW - 1, False)],
)
def test_an_entry_is_believed_for_a_day(age: int, kept: bool) -> None:
    node = TrieNode({1: 3}, made_of([posting(1, minutes=NOW - age), posting(2)]).packed)
    left = fresh(node, NOW)
    assert (posting(1, minutes=NOW - age) in left.entries) == kept
    assert posting(2) in left.entries
    assert left.children == {1: 3}


def test_at_both_ends_of_time_nothing_overflows() -> None:
    ends = made_of([posting(1, minutes=0), posting(2, minutes=2**24 - 1)])
    assert [e.minutes for e in fresh(ends, 0).entries] == [0]
    assert [e.minutes for e in fresh(ends, 2**24 - 1).entries] == [2**24 - 1]


@given(nodes(most=30))
def test_what_fits_is_kept_and_else_the_newest(node: TrieNode) -> None:
    kept = fit(node)
    assert fits(kept)
    assert kept.children == node.children
    assert kept.packed.items() <= node.packed.items()
    assert (kept == node) == fits(node)
    lost = node.packed.keys() - kept.packed.keys()
    for key in lost:  # no room was left when its turn came
        newer = {k: r for k, r in kept.packed.items() if r[:3] >= node.packed[key][:3]}
        with_it = TrieNode(node.children, newer | {key: node.packed[key]})
        assert not fits(with_it)


@given(st.permutations(range(30)))
def test_all_writers_keep_the_same(order: list[int]) -> None:
    node = made_of(posting(number) for number in order)
    assert fit(node) == fit(made_of(posting(number) for number in range(30)))


@given(nodes(most=30), st.integers(0, 32))
def test_only_a_leaf_that_can_be_split_is_left_too_large(node: TrieNode, depth: int) -> None:
    label = WORD.at(bytes(depth))
    stored = storable(label, node)
    if node.is_leaf and depth < 32:
        assert stored == node
    else:
        assert stored == fit(node)


# Counts and times.


@given(st.integers(0, 2**14 - 1))
def test_a_hint_of_a_count_is_near_it(count: int) -> None:
    estimate = TrieNode({0: count.bit_length()}).count
    assert count / 1.5 - 1 <= estimate <= count * 1.5 + 1


def test_more_entries_seen_than_hinted_count() -> None:
    assert TrieNode({0: 1}, made_of(map(posting, range(5))).packed).count == 5


@pytest.mark.parametrize(
    ("now", "minutes"),
    [
        (0.0, 0),
        (1_767_225_600.0, 0),
        (1_767_225_659.9, 0),
        (1_767_225_660.0, 1),
        (1e12, 2**24 - 1),
    ],
)
def test_minutes_count_from_2026(now: float, minutes: int) -> None:
    assert minutes_at(now) == minutes


def test_hidden_words_are_those_of_the_protocol() -> None:
    assert [hidden_word(word) for word in ("ubuntu", "\u00fc")] == [30724, 24692]


# Speed: the lab reads and writes half a million nodes on one core.


def fastest(call: object, *args: object) -> float:
    assert callable(call)
    times = []
    for _ in range(20):
        start = process_time()
        for _ in range(20):
            call(*args)
        times.append((process_time() - start) / 20)
    return min(times)


def test_a_full_leaf_is_read_and_written_in_microseconds() -> None:
    postings = made_of(posting(n, title="x" * 43) for n in range(10))
    dictionary = made_of(WordEntry(f"words{n}", 3, NOW) for n in range(80))
    for node, label in ((fit(postings), WORD), (fit(dictionary), DICTIONARY)):
        raw = encode(node)
        assert len(raw) > 900
        assert fastest(decode, raw, label) < 200e-6
        assert fastest(encode, node) < 200e-6
