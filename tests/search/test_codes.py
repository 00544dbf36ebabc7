from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dht_torrent.search.codes import (
    MAX_SIZE_CODE,
    SIZE_LEVELS,
    WORD_LEVELS,
    hash_digits,
    least_size,
    size_code,
    size_codes,
    size_digits,
    word_digits,
    word_key,
    word_of,
)

PLAIN = "-0123456789abcdefghijklmnopqrstuvwxyz"
WORDS = st.text(
    st.sampled_from(PLAIN + "éя日𠀀\x80\U0010ffff")
    | st.characters(min_codepoint=0x80, exclude_categories=["Cs"]),
    max_size=24,
)
SIZES = st.integers(0, 2**60) | st.integers(0, 5000)

# Frozen: word, its digits.
VECTORS = [
    ("", ""),
    ("-", "001"),
    ("0", "002"),
    ("9", "023"),
    ("a", "030"),
    ("z", "211"),
    ("az", "030211"),
    ("ubuntu", "200031200121133200"),
    ("2204", "010010002012"),
    ("é", "333000000003221"),
    ("日", "333000012113211"),
    ("a🎬", "030333000133032230"),
]


def written(digits: bytes) -> str:
    return "".join(map(str, digits))


@pytest.mark.parametrize(("word", "digits"), VECTORS)
def test_the_digits_of_a_word_are_the_same_for_ever(word: str, digits: str) -> None:
    assert written(word_digits(word)) == digits


@given(WORDS)
def test_a_word_is_read_back_from_its_digits(word: str) -> None:
    assert word_of(word_digits(word)) == word
    assert word_of(word_digits(word) + bytes(9)) == word


@given(WORDS, WORDS)
@example("a", "a-")
@example("z", "\x80")
def test_codes_have_the_order_of_the_words(one: str, other: str) -> None:
    assert (word_digits(one) < word_digits(other)) == (one < other)
    if one < other:
        assert word_key(one) <= word_key(other)


@given(WORDS, WORDS)
def test_a_prefix_of_the_text_is_a_prefix_of_the_digits(start: str, rest: str) -> None:
    assert word_digits(start + rest).startswith(word_digits(start))
    assert word_digits(start + rest).startswith(word_digits(rest)) == (start + rest).startswith(
        rest
    )


@given(WORDS, st.integers(0, 400))
def test_the_text_of_a_node_begins_all_words_under_it(word: str, depth: int) -> None:
    assert word.startswith(word_of(word_digits(word)[:depth]))


@given(WORDS)
def test_a_key_has_all_levels_of_the_dictionary(word: str) -> None:
    key = word_key(word)
    assert len(key) == WORD_LEVELS
    assert word.startswith(word_of(key))
    assert set(key) <= {0, 1, 2, 3}


@given(st.binary(max_size=60).map(lambda raw: bytes(byte & 3 for byte in raw)))
def test_any_digits_give_a_word_or_a_value_error(digits: bytes) -> None:
    try:
        word = word_of(digits)
    except ValueError:
        return
    assert digits.startswith(word_digits(word))


@pytest.mark.parametrize("word", ["A", " ", "_", "a\0", "a\ud800"])
def test_what_no_word_has_is_not_coded(word: str) -> None:
    with pytest.raises(ValueError):
        word_digits(word)


@pytest.mark.parametrize(
    "digits",
    [
        "000001",  # after the end
        "212",  # no symbol: 38
        "332",  # 62
        "333000000000000",  # an escaped NUL
        "333000000001333",  # escaped ASCII
        "333000031200000",  # a surrogate
        "333010100000000",  # beyond Unicode
    ],
)
def test_digits_of_no_word_are_refused(digits: str) -> None:
    with pytest.raises(ValueError):
        word_of(bytes(map(int, digits)))


@given(st.binary(max_size=32), st.sampled_from([1, 2, 4, 8]))
def test_the_digits_of_a_hash_are_big_endian(raw: bytes, width: int) -> None:
    digits = hash_digits(raw, width)
    assert len(digits) * width == len(raw) * 8
    number = 0
    for digit in digits:
        assert digit < 2**width
        number = number << width | digit
    assert number == int.from_bytes(raw, "big")


def test_a_hash_has_two_bits_a_digit() -> None:
    assert written(hash_digits(b"\x1b\xff")) == "01233333"
    with pytest.raises(ValueError):
        hash_digits(b"\0", 3)


@pytest.mark.parametrize(
    ("size", "code"),
    [
        (0, 0),
        (1, 1),
        (1023, 1023),
        (1024, 1024),
        (2047, 2047),
        (2048, 2048),
        (2049, 2048),
        (2050, 2049),
        (2**20, 11 * 1024),
        (2**30, 21 * 1024),
        (2**30 + 2**20, 21 * 1024 + 1),
        (2**53, 44 * 1024),
        (2**72, 63 * 1024),
        (2**73, MAX_SIZE_CODE),
        (2**100, MAX_SIZE_CODE),
    ],
)
def test_the_code_of_a_size_is_the_same_for_ever(size: int, code: int) -> None:
    assert size_code(size) == code


@given(SIZES, SIZES)
def test_size_codes_have_the_order_of_sizes(one: int, other: int) -> None:
    assert one > other or size_code(one) <= size_code(other)


@given(SIZES)
def test_a_size_code_is_within_a_thousandth(size: int) -> None:
    least = least_size(size_code(size))
    assert least <= size
    assert size - least <= size / 1024


def test_every_code_is_that_of_its_least_size() -> None:
    assert all(size_code(least_size(code)) == code for code in range(MAX_SIZE_CODE + 1))
    assert all(size_code(least_size(code) - 1) == code - 1 for code in range(1, MAX_SIZE_CODE + 1))


@given(st.none() | SIZES, st.none() | SIZES, SIZES)
def test_a_range_of_sizes_is_a_range_of_codes(low: int | None, high: int | None, size: int) -> None:
    inside = (low is None or size >= low) and (high is None or size <= high)
    codes = size_codes(low, high)
    if inside:
        assert size_code(size) in codes
    elif size_code(size) in codes:  # at the edge
        assert size_code(size) in (codes[0], codes[-1])


def test_the_ends_of_a_range_of_sizes() -> None:
    assert size_codes(None, None) == range(2**16)
    assert size_codes(5, 5) == range(5, 6)
    assert size_codes(-5, 5) == range(6)
    assert not size_codes(6000, 10)
    assert not size_codes(None, -1)


@given(SIZES, SIZES)
def test_the_digits_of_sizes_have_their_order(one: int, other: int) -> None:
    first, second = size_digits(size_code(one)), size_digits(size_code(other))
    assert len(first) == SIZE_LEVELS == 8
    assert (first < second) == (size_code(one) < size_code(other))


@pytest.mark.parametrize("code", [-1, MAX_SIZE_CODE + 1])
def test_what_is_not_a_size_code_is_refused(code: int) -> None:
    with pytest.raises(ValueError):
        least_size(code)
    with pytest.raises(ValueError):
        size_digits(code)


def test_a_negative_size_has_no_code() -> None:
    with pytest.raises(ValueError):
        size_code(-1)
