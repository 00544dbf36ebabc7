"""Elements of content: the same for everybody, for ever, and wherever the content lies."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("numpy")

from dht_torrent.search import chunks
from dht_torrent.search.chunks import (
    BINS,
    EMPTY,
    MARK,
    SECOND,
    SHARE,
    SPARSE,
    WHOLE,
    WIDEST,
    WINDOW,
    Chunker,
    joined,
    regions,
)
from dht_torrent.search.sketch import content_sketch, minima_of, similarity

MIB = 1024 * 1024
_WORD = 2**64


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def looked_at(data: bytes) -> Chunker:
    """All regions of a file."""
    chunker = Chunker()
    for place, length in regions(0, len(data)):
        chunker.take(place, data[place : place + length])
    return chunker


def sketch(data: bytes) -> bytes | None:
    return content_sketch(looked_at(data).minima())


def slowly(data: bytes, *, is_dense: bool) -> set[int]:
    """The elements of a region, byte by byte, as the documentation has them."""
    found = set()
    block = chunks._BLOCK
    for start in range(0, len(data), block):
        part = data[start : start + block + WINDOW - 1]
        last = -WINDOW
        for at in range(len(part) - WINDOW + 1):
            a, b, c = part[at : at + 3]
            if 2 * (a + b) % 256 ^ c != MARK:
                continue
            is_far, last = at - last >= WINDOW, at
            window = part[at : at + WINDOW]
            words = [int.from_bytes(window[n : n + 8], "little") for n in range(0, WINDOW, 8)]
            draw = words[0] * chunks._FACTORS[7] % _WORD >> 64 - SPARSE
            if is_far and (is_dense or not draw):
                found.add(element(words))
    return found


def element(words: Sequence[int]) -> int:
    factors = chunks._FACTORS
    total = 0
    for word, factor, back in zip(words, factors, reversed(factors), strict=True):
        mixed = word * factor % _WORD
        total += (mixed ^ mixed >> 32) * back
    total %= _WORD
    for shift, factor in ((29, factors[1]), (32, factors[3])):
        total = (total ^ total >> shift) * factor % _WORD
    return total ^ total >> 29


# The protocol. Whoever changes one of these finds nothing that others have published.
@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (50_000, "c710dc249ea6a511dbd17f914cbdd67c"),
        (300_000, "b45d8cbaf3e46e65bd840fcd70627d79"),
        (5_000_000, "df0640ca0d00c5c98fbd929cd5fecca8"),
    ],
)
def test_minima_are_those_of_the_protocol(size: int, digest: str) -> None:
    stream = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(size // 32 + 1))[:size]
    minima = looked_at(stream).minima()
    raw = b"".join(one.to_bytes(8, "big") for one in minima)
    assert hashlib.sha256(raw).hexdigest()[:32] == digest


@given(
    st.integers(0, 2**32),
    st.integers(0, 3000),
    st.sampled_from([range(256), range(97, 101), b"\xb9\xb8", b"\0\x5d"]),
    st.booleans(),
)
def test_the_minima_are_those_of_the_elements_one_by_one(
    seed: int, size: int, alphabet: Sequence[int], is_dense: bool
) -> None:
    data = bytes(random.Random(seed).choices(alphabet, k=size))
    chunker = Chunker()
    chunker.take(0 if is_dense else WHOLE, data)
    assert chunker.minima() == minima_of(slowly(data, is_dense=is_dense), BINS)


def test_a_region_longer_than_a_block_has_all_its_elements() -> None:
    data = content(1, 2 * chunks._BLOCK + 1000)
    chunker = Chunker()
    chunker.take(MIB, data)
    assert chunker.minima() == minima_of(slowly(data, is_dense=False), BINS)


@given(st.lists(st.integers(0, 40_000), max_size=8), st.integers(0, 9))
def test_regions_that_come_together_are_as_those_that_come_alone(
    sizes: list[int], seed: int
) -> None:
    parts = [content(seed + n, size) for n, size in enumerate(sizes)]
    together = Chunker()
    alone = [Chunker() for _ in parts]
    for n, part in enumerate(parts):
        together.take(n % 2 * WHOLE, part)
        alone[n].take(n % 2 * WHOLE, part)
    assert together.minima() == joined([one.minima() for one in alone])


def test_looking_twice_changes_nothing() -> None:
    chunker = looked_at(content(3, 100_000))
    assert chunker.minima() == chunker.minima()


@pytest.mark.parametrize("byte", range(256))
def test_a_run_of_one_byte_has_at_most_one_element(byte: int) -> None:
    minima = looked_at(bytes([byte]) * 20_000).minima()
    assert sum(one != EMPTY for one in minima) <= (byte == 0xB9)


def test_nothing_has_no_elements() -> None:
    assert Chunker().minima() == [EMPTY] * BINS == joined([])
    assert looked_at(b"x" * (WINDOW - 1)).minima() == [EMPTY] * BINS


@given(st.integers(0, 1 << 34), st.lists(st.integers(0, 1 << 24), max_size=6))
@example(0, [WHOLE, 1])
def test_regions_are_the_same_however_a_file_is_cut(first: int, lengths: list[int]) -> None:
    cuts = [first]
    for length in lengths:
        cuts.append(cuts[-1] + length)
    parts = [one for a, b in pairwise(cuts) for one in regions(a, b)]
    assert parts == list(regions(first, cuts[-1]))


def test_regions_are_a_sixteenth_of_what_is_not_small() -> None:
    found = list(regions(0, 64 * MIB))
    assert found[:4] == [(0, WHOLE), (SECOND, 8192), (2 * SECOND, 16_384), (4 * SECOND, 32_768)]
    assert found[4:7] == [(MIB, 32_768), (MIB + MIB // 2, 32_768), (2 * MIB, 65_536)]
    assert found[-2:] == [(32 * MIB, MIB), (48 * MIB, MIB)]
    assert all(place + length <= after for (place, length), (after, _) in pairwise(found))
    far = list(regions(1 << 40, (1 << 40) + 4 * SHARE * MIB))
    assert [length for _, length in far] == [WIDEST] * 4
    assert sum(length for place, length in found if place) == (64 * MIB - SECOND) // SHARE


def test_a_small_file_has_one_region() -> None:
    assert list(regions(0, 5)) == list(regions(0, SECOND)) == [(0, WHOLE)]
    assert list(regions(1, SECOND)) == list(regions(0, 0)) == []


# What it is for.


def test_an_insertion_near_the_start_leaves_most_elements() -> None:
    data = content(5, 12 * MIB)
    edited = data[:5000] + content(6, 1000) + data[5000:]
    alike = similarity(sketch(data), sketch(edited))
    assert alike is not None
    assert alike > 0.8


def test_a_file_that_begins_elsewhere_keeps_its_elements_as_far_as_it_is_looked_at() -> None:
    data = content(7, 30_000)
    alike = similarity(sketch(data), sketch(b"header" * 100 + data))
    assert alike is not None
    assert alike > 0.9


def test_different_contents_have_next_to_nothing_in_common() -> None:
    alike = similarity(sketch(content(8, MIB)), sketch(content(9, MIB)))
    assert alike is not None
    assert alike < 0.05


@pytest.mark.parametrize("edits", [2, 6, 12])
def test_the_estimate_is_that_of_chunks_of_fastcdc(edits: int) -> None:
    """Of a file that is looked at as a whole. It has other marks, and chunks of other sizes."""
    fastcdc = pytest.importorskip("fastcdc").fastcdc
    rng = random.Random(edits)
    data = content(10, WHOLE - 1024)
    changed = bytearray(data)
    for _ in range(edits):
        at = rng.randrange(len(data) - 600)
        changed[at : at + 600] = rng.randbytes(600)

    def bytes_of(whole: bytes) -> dict[bytes, int]:
        cut = fastcdc(whole, min_size=64, avg_size=256, max_size=1024, fat=True)
        return {hashlib.sha256(chunk.data).digest(): chunk.length for chunk in cut}

    one, other = bytes_of(data), bytes_of(bytes(changed))
    both = sum(length for chunk, length in one.items() if chunk in other)
    truth = both / (sum(one.values()) + sum(other.values()) - both)
    alike = similarity(sketch(data), sketch(bytes(changed)))
    assert alike is not None
    assert abs(alike - truth) < 0.13
