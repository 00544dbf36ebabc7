from __future__ import annotations

import contextlib
import time
import tracemalloc

import bencoder
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.bencode import (
    Value,
    decode,
    decode_lenient,
    decode_prefix,
    decode_tolerant,
    encode,
    raw_slice,
)
from dht_torrent.errors import BencodeError
from tests.helpers.examples import examples

INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.binary(max_size=24) | INT64,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)
# Letters that mean something, so that random bytes often get past the first one.
SOUP = st.lists(st.sampled_from([bytes([c]) for c in b"0123459:ilde-ea\xff"]), max_size=40).map(
    b"".join
)

# BEP 5's examples, word for word.
KRPC_EXAMPLES = [
    b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
    b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
    b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
    b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
    (
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e"
        b"1:q9:get_peers1:t2:aa1:y1:qe"
    ),
    b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
    (
        b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz123456"
        b"4:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe"
    ),
]

MALFORMED = [
    b"",
    b"i",
    b"ie",
    b"i-e",
    b"i-0e",
    b"i00e",
    b"i01e",
    b"i-01e",
    b"i03e",
    b"i+1e",
    b"i 1e",
    b"i1 e",
    b"i1_0e",
    b"i--1e",
    b"i1.0e",
    b"i0x1e",
    b"i1",
    b"i9223372036854775808e",
    b"i-9223372036854775809e",
    b"i99999999999999999999999999e",
    b"1",
    b"1:",
    b"2:a",
    b"01:a",
    b"00:",
    b"-1:a",
    b"+1:a",
    b"1_0:aaaaaaaaaa",
    b" 1:a",
    b"1 :a",
    b"1a:b",
    b"2147483647:",
    b"4294967297:a",
    b"18446744073709551617:a",
    b"99999999999999999999:a",
    b":a",
    b"l",
    b"li1e",
    b"d",
    b"d1:a",
    b"d1:ae",
    b"d1:ai1e",
    b"di1ei1ee",
    b"dlei1ee",
    b"dd1:ai1eei1ee",
    b"d1:ai1e1:be",
    b"e",
    b"x",
    b"\xff",
    b"i1ei2e",
    b"i1e\n",
    b"lee",
    b"\xd9\xa1:a",
]


@given(VALUES)
def test_what_is_encoded_decodes_to_the_same(value: Value) -> None:
    raw = encode(value)
    assert decode(raw) == value
    assert decode_tolerant(memoryview(raw)) == value
    assert decode(bytearray(raw)) == value


@given(VALUES)
def test_an_independent_codec_writes_the_same_bytes(value: Value) -> None:
    assert encode(value) == bencoder.encode(value)


@given(st.binary(max_size=60) | SOUP)
def test_any_bytes_give_a_canonical_value_or_a_bencode_error(raw: bytes) -> None:
    try:
        value = decode(raw)
    except BencodeError:
        pass
    else:
        assert encode(value) == raw


@given(st.binary(max_size=60) | SOUP)
def test_the_other_readers_agree_with_decode(raw: bytes) -> None:
    def attempt() -> Value | None:
        try:
            return decode(raw)
        except BencodeError:
            return None

    strict = attempt()
    try:
        tolerant = decode_tolerant(raw)
    except BencodeError:
        assert strict is None
    else:
        assert strict is None or strict == tolerant
    try:
        prefix, end = decode_prefix(raw)
    except BencodeError:
        assert strict is None
    else:
        assert decode(raw[:end]) == prefix
        assert (strict is not None) == (end == len(raw))


@pytest.mark.parametrize("raw", KRPC_EXAMPLES)
def test_bep_5_examples_survive_decode_and_encode(raw: bytes) -> None:
    assert encode(decode(raw, max_depth=10, max_tokens=500, max_size=2048)) == raw


@pytest.mark.parametrize("raw", KRPC_EXAMPLES)
def test_every_prefix_of_a_message_is_refused(raw: bytes) -> None:
    for cut in range(len(raw)):
        for read in (decode, decode_tolerant, decode_prefix):
            with pytest.raises(BencodeError):
                read(raw[:cut])


@pytest.mark.parametrize("raw", KRPC_EXAMPLES[::3])
def test_a_message_with_one_byte_changed_is_read_or_refused(raw: bytes) -> None:
    for at in range(len(raw)):
        for byte in b"0129:ilde-\x00\xff":
            mutated = raw[:at] + bytes([byte]) + raw[at + 1 :]
            for read in (decode, decode_tolerant):
                try:
                    value = read(mutated)
                except BencodeError:
                    continue
                if read is decode:
                    assert encode(value) == mutated


@pytest.mark.parametrize("raw", MALFORMED)
def test_malformed_bytes_are_refused_by_every_reader(raw: bytes) -> None:
    with pytest.raises(BencodeError):
        decode(raw)
    with pytest.raises(BencodeError):
        decode_tolerant(raw)
    with pytest.raises(BencodeError):
        raw_slice(raw, b"info")


def test_integers_reach_exactly_to_int64() -> None:
    for number in (2**63 - 1, -(2**63), 0, -1):
        raw = b"i%de" % number
        assert decode(raw) == decode_tolerant(raw) == decode_prefix(raw)[0] == number


def test_a_string_that_looks_like_a_long_integer_is_a_string() -> None:
    text = b"i" + b"9" * 30 + b"e"
    assert decode(b"32:" + text) == text


@pytest.mark.parametrize("digits", [21, 4301, 1_000_000])
def test_a_huge_integer_is_refused_at_once(digits: int) -> None:
    raw = b"i" + b"9" * digits + b"e"
    started = time.process_time()
    for read in (decode, decode_tolerant, decode_prefix):
        with pytest.raises(BencodeError):
            read(raw)
    assert time.process_time() - started < 2.0


@pytest.mark.parametrize("opener", [b"l", b"d1:a"])
@pytest.mark.parametrize("depth", [11, 1000, 5000, 100_000, 1_000_000])
def test_nesting_beyond_the_bound_is_refused(opener: bytes, depth: int) -> None:
    closed = opener * (depth - 1) + b"le" + b"e" * (depth - 1)
    for raw in (closed, opener * depth):
        for read in (decode, decode_tolerant, decode_prefix):
            with pytest.raises(BencodeError):
                read(raw, max_depth=10)


@pytest.mark.parametrize("read", [decode, decode_tolerant, lambda *a, **k: decode_prefix(*a, **k)])
def test_nesting_up_to_the_bound_is_read(read: object) -> None:
    assert callable(read)
    for depth in (9, 10):
        read(b"l" * depth + b"e" * depth, max_depth=10)
        read(b"d1:a" * depth + b"i1e" + b"e" * depth, max_depth=10)
    read(b"l" * 100 + b"e" * 100)


def test_letters_that_look_like_nesting_do_not_count_as_nesting() -> None:
    assert decode(b"30:" + b"ld" * 15, max_depth=1) == b"ld" * 15
    assert decode(b"4:ldld", max_depth=0) == b"ldld"
    assert decode(b"l" + b"le" * 20 + b"e", max_depth=2) == [[]] * 20


@pytest.mark.parametrize("token", [b"0:", b"i1e", b"le", b"de"])
def test_tokens_are_bounded(token: bytes) -> None:
    assert decode(b"l" + token * 499 + b"e", max_tokens=500) is not None
    for read in (decode, decode_tolerant, decode_prefix):
        with pytest.raises(BencodeError):
            read(b"l" + token * 500 + b"e", max_tokens=500)


def test_a_flood_of_tokens_is_refused_before_it_takes_memory() -> None:
    raw = b"l" + b"le" * 200_000 + b"e"
    tracemalloc.start()
    try:
        with pytest.raises(BencodeError):
            decode(raw, max_tokens=100_000)
        assert tracemalloc.get_traced_memory()[1] < len(raw)
    finally:
        tracemalloc.stop()


def test_size_is_bounded() -> None:
    raw = b"2045:" + bytes(2045)
    with pytest.raises(BencodeError):
        decode(raw, max_size=2048)
    with pytest.raises(BencodeError):
        decode(memoryview(raw), max_size=2048)
    assert decode(raw[:5] + bytes(2045), max_size=2050) == bytes(2045)


def test_unsorted_keys_are_read_only_by_the_tolerant_reader() -> None:
    raw = b"d1:bd1:zi1e1:yli-2e1:xee1:a0:e"
    with pytest.raises(BencodeError):
        decode(raw)
    with pytest.raises(BencodeError):
        decode_prefix(raw)
    assert decode_tolerant(raw) == {b"b": {b"z": 1, b"y": [-2, b"x"]}, b"a": b""}
    assert raw_slice(raw, b"b") == b"d1:zi1e1:yli-2e1:xee"


@pytest.mark.parametrize(
    "raw", [b"d1:ai1e1:ai1ee", b"d1:bi1e1:ai1e1:bi2ee", b"ld1:bde1:a0:1:bdeee"]
)
def test_a_key_that_comes_twice_is_refused_by_every_reader(raw: bytes) -> None:
    for read in (decode, decode_tolerant, decode_prefix):
        with pytest.raises(BencodeError):
            read(raw)


@given(st.dictionaries(st.binary(max_size=8), VALUES, min_size=1, max_size=6), st.randoms())
@settings(max_examples=examples(50))
def test_the_raw_slice_is_what_was_written_in_whatever_order(
    value: dict[bytes, Value], rng: object
) -> None:
    keys = list(value)
    rng.shuffle(keys)  # type: ignore[attr-defined]
    raw = b"d" + b"".join(encode(key) + encode(value[key]) for key in keys) + b"e"
    assert decode_tolerant(raw) == value
    for key in keys:
        assert raw_slice(raw, key) == encode(value[key])
    with pytest.raises(BencodeError):
        raw_slice(raw, b"not among them")


def test_raw_slice_wants_a_dict() -> None:
    for raw in (b"le", b"i1e", b"4:info", b"di1e4:infoe", b"d"):
        with pytest.raises(BencodeError):
            raw_slice(raw, b"info")


@given(VALUES, st.binary(max_size=30))
def test_a_prefix_leaves_the_rest(value: Value, rest: bytes) -> None:
    raw = encode(value)
    assert decode_prefix(raw + rest) == (value, len(raw))


def test_bep_9_data_message_ends_where_the_dict_does() -> None:
    head = b"d8:msg_typei1e5:piecei0e10:total_sizei3425ee"
    block = b"e" * 3425
    assert decode_prefix(memoryview(head + block)) == (
        {b"msg_type": 1, b"piece": 0, b"total_size": 3425},
        len(head),
    )


@pytest.mark.parametrize(
    "value", ["a", None, 1.5, True, ["a"], {b"a": "b"}, {"a": 1}, [[None]], {b"a": [True]}, {1: 2}]
)
def test_what_bencode_cannot_say_is_our_bug(value: Value) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_text_is_not_bytes() -> None:
    with pytest.raises(TypeError):
        decode("i1e")  # type: ignore[arg-type]


def test_the_defaults_are_libtorrents_limits() -> None:
    assert (bencode.MAX_DEPTH, bencode.MAX_TOKENS, bencode.MAX_SIZE) == (100, 2_500_000, 10_000_000)


@given(st.binary(max_size=60) | st.text("ilde0123456789:-x", max_size=40).map(str.encode))
def test_the_lenient_reader_reads_all_that_the_strict_one_does(raw: bytes) -> None:
    try:
        strict = decode(raw)
    except BencodeError:
        with contextlib.suppress(BencodeError):
            decode_lenient(raw)
        return
    assert decode_lenient(raw) == strict
    assert decode_lenient(raw + b"\n") == strict


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"i007e", 7),
        (b"i-007e", -7),
        (b"i-0e", 0),
        (b"i" + b"0" * 5000 + b"1e", 1),
        (b"i9223372036854775807e", 2**63 - 1),
        (b"i9223372036854775808e", 2**63),
        (b"i-9223372036854775808e", -(2**63)),
        (b"i-9223372036854775809e", -(2**63) - 1),
        (b"i" + b"9" * 5000 + b"e", 2**63),
        (b"i-" + b"9" * 5000 + b"e", -(2**63) - 1),
        (b"003:abc", b"abc"),
        (b"d1:bi1e1:ai2e1:bi3ee", {b"b": 1, b"a": 2}),
        (b"li1eei2e", [1]),
    ],
)
def test_faults_of_real_files_are_read_leniently_and_refused_elsewhere(
    raw: bytes, value: Value
) -> None:
    assert decode_lenient(raw) == value
    if raw not in (b"i9223372036854775807e", b"i-9223372036854775808e"):
        with pytest.raises(BencodeError):
            decode(raw)


@pytest.mark.parametrize(
    "raw",
    [b"", b"i e", b"ie", b"i-e", b"i+5e", b"i1_0e", b"i5", b"d1:ae", b"di1ei2ee", b"9:x", b"x"],
)
def test_even_the_lenient_reader_refuses_what_has_no_meaning(raw: bytes) -> None:
    with pytest.raises(BencodeError):
        decode_lenient(raw)


def test_the_raw_slice_is_of_the_first_of_two_keys() -> None:
    assert raw_slice(b"d04:infoi01e4:infoi2ee junk", b"info") == b"i01e"
