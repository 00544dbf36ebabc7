"""Sketches: the same for everybody, for ever; and as alike as the sets are."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.chunks import BINS, EMPTY
from dht_torrent.search.sketch import (
    CONTENT_SIZE,
    CONTENT_TREES,
    KEY_SIZE,
    LARGE,
    LEAST,
    MAX_NAMED,
    NAME_BINS,
    NAME_SIZE,
    NAME_TREES,
    content_key,
    content_sketch,
    files_sketch,
    minima_of,
    name_key,
    similarity,
    title_sketch,
)


def pair(rng: random.Random, jaccard: float, union: int) -> tuple[set[int], set[int]]:
    """Two sets of about the same size."""
    elements = [rng.getrandbits(64) for _ in range(union)]
    both = round(jaccard * union)
    half = both + (union - both) // 2
    return set(elements[:half]), set(elements[:both] + elements[half:])


def sketch(elements: set[int]) -> bytes:
    made = content_sketch(minima_of(elements, BINS))
    assert made is not None
    return made


def alike(one: bytes | None, other: bytes | None) -> float:
    estimate = similarity(one, other)
    assert estimate is not None
    return estimate


def digest(made: bytes) -> str:
    return hashlib.sha256(made).hexdigest()[:32]


# The protocol. Whoever changes one of these finds nothing that others have published.
def test_a_sketch_of_content_is_that_of_the_protocol() -> None:
    made = sketch({n * 0x9E3779B97F4A7C15 % 2**64 for n in range(1, 40)})
    assert digest(made) == "88e085e44eb20d65c103cbeb8388d013"
    assert content_key(made, 0).hex() == "fac81a65"
    assert content_key(made, 7).hex() == "506ede19"


def test_sketches_of_names_are_those_of_the_protocol() -> None:
    title = title_sketch("Ubuntu 22.04 Desktop")
    files = files_sketch([(("a", "B.txt"), 5), (("c.iso",), LARGE)])
    assert title is not None
    assert files is not None
    assert digest(title) == "ecc63fe0f863b9edfe354c2171eb9989"
    assert digest(files) == "c6df515d94f994b0ae8c4c41f3bbe858"
    keys = [name_key(title, files, tree) for tree in range(NAME_TREES)]
    assert [key.hex() for key in keys if key] == ["6000866c", "788488ac", "1dd118d8", "18d88dd8"]


@given(st.sets(st.integers(0, EMPTY - 1), min_size=1, max_size=300))
def test_a_sketch_is_of_the_set_and_not_of_its_order(elements: set[int]) -> None:
    minima = minima_of(elements, BINS)
    assert minima == minima_of(sorted(elements, reverse=True), BINS)
    made = content_sketch(minima)
    if sum(one != EMPTY for one in minima) < LEAST:
        assert made is None
        return
    assert made is not None
    assert len(made) == CONTENT_SIZE
    values = {one & 0xFFFF for one in minima if one != EMPTY}
    assert {int.from_bytes(made[at : at + 2]) for at in range(0, CONTENT_SIZE, 2)} <= values
    assert similarity(made, made) == 1


@given(st.sets(st.integers(0, EMPTY - 1), max_size=100), st.sets(st.integers(0, EMPTY - 1)))
def test_the_minima_of_a_union_are_the_smaller_ones(one: set[int], other: set[int]) -> None:
    both = [minima_of(elements, BINS) for elements in (one, other)]
    assert minima_of(one | other, BINS) == list(map(min, *both))


def test_too_few_elements_have_no_sketch() -> None:
    few = [n << 57 for n in range(LEAST - 1)]
    assert content_sketch(minima_of(few, BINS)) is None
    assert content_sketch(minima_of([*few, 100 << 57], BINS)) is not None


@pytest.mark.parametrize("union", [40, 200, 2000])
@pytest.mark.parametrize("jaccard", [0.1, 0.5, 0.8, 0.95])
def test_estimates_are_right_on_the_whole_and_rarely_far_off(jaccard: float, union: int) -> None:
    rng = random.Random(f"{jaccard} {union}")
    many = 150
    errors = []
    for _ in range(many):
        one, other = pair(rng, jaccard, union)
        truth = len(one & other) / len(one | other)
        errors.append(alike(sketch(one), sketch(other)) - truth)
    # Of few elements no more is known than there are elements.
    deviation = math.sqrt(jaccard * (1 - jaccard) / min(BINS, union))
    assert abs(sum(errors) / many) < 0.02
    assert math.sqrt(sum(error**2 for error in errors) / many) < 1.5 * deviation


@pytest.mark.parametrize("jaccard", [0.3, 0.8])
def test_estimates_are_as_near_as_those_of_datasketch(jaccard: float) -> None:
    datasketch = pytest.importorskip("datasketch")
    rng = random.Random(f"datasketch {jaccard}")

    def theirs(elements: set[int]) -> object:
        made = datasketch.MinHash(num_perm=BINS, seed=1)
        made.update_batch([element.to_bytes(8, "big") for element in elements])
        return made

    ours_off = theirs_off = 0.0
    for _ in range(40):
        one, other = pair(rng, jaccard, 500)
        truth = len(one & other) / len(one | other)
        estimate, oracle = alike(sketch(one), sketch(other)), theirs(one).jaccard(theirs(other))  # type: ignore[attr-defined]
        assert abs(estimate - oracle) < 0.2
        ours_off += (estimate - truth) ** 2
        theirs_off += (oracle - truth) ** 2
    assert ours_off < 1.6 * theirs_off


@pytest.mark.parametrize("kind", [lambda tree: tree, lambda tree: CONTENT_TREES - 1 - tree])
def test_trees_have_digits_of_different_bins(kind: Callable[[int], int]) -> None:
    rng = random.Random(1)
    made = sketch({rng.getrandbits(64) for _ in range(2000)})
    for tree in map(kind, range(CONTENT_TREES)):
        key = content_key(made, tree)
        assert len(key) == KEY_SIZE
        low = made[32 * tree + 1 : 32 * tree + 17 : 2]
        assert [byte & 15 for byte in low] == [d for byte in key for d in (byte >> 4, byte & 15)]


def test_the_less_alike_the_shorter_the_common_beginning() -> None:
    rng = random.Random(2)

    def depth(jaccard: float) -> float:
        total = 0
        for _ in range(60):
            one, other = map(sketch, pair(rng, jaccard, 1000))
            for tree in range(CONTENT_TREES):
                digits = [content_key(made, tree).hex() for made in (one, other)]
                total += next((n for n in range(8) if digits[0][n] != digits[1][n]), 8)
        return total / 60 / CONTENT_TREES

    # The sum over m of s^m, where s = J + (1 - J) / 16.
    for jaccard in (0.2, 0.5, 0.9):
        s = jaccard + (1 - jaccard) / 16
        assert depth(jaccard) == pytest.approx(sum(s**m for m in range(1, 9)), rel=0.15)


# Names.


def test_versions_of_one_thing_have_titles_that_are_close() -> None:
    one = title_sketch("requests-2.31.0.tar.gz")
    assert alike(one, title_sketch("requests-2.29.0.tar.gz")) > 0.7
    assert alike(one, title_sketch("flask-2.31.0.tar.gz")) < 0.6
    assert alike(one, title_sketch("Holiday pictures")) < 0.2
    assert one == title_sketch("Requests 2.31.0 tar.gz")


def test_a_title_without_words_has_no_sketch() -> None:
    assert title_sketch("...") is None
    assert title_sketch("") is None


def test_a_list_of_files_is_told_by_paths_and_large_sizes() -> None:
    files = [(("src", f"{n}.c"), n + 1) for n in range(50)]
    one = files_sketch(files)
    assert one == files_sketch([(path, 2 * size) for path, size in files])
    assert alike(one, files_sketch(files[:25])) == pytest.approx(0.5, abs=0.25)
    assert one != files_sketch([*files, (("disk.img",), LARGE)])
    assert files_sketch(files * 100) == one
    assert files_sketch([((str(n),), 1) for n in range(MAX_NAMED)]) == files_sketch(
        [((str(n),), 1) for n in range(MAX_NAMED + 50)]
    )


def test_a_single_file_is_told_by_a_large_size_alone() -> None:
    assert files_sketch([(("a.iso",), LARGE)]) == files_sketch([(("b.iso",), LARGE)])
    assert files_sketch([(("a.txt",), LARGE - 1)]) is None
    assert files_sketch([]) is None


def test_names_that_are_not_utf_8_have_sketches() -> None:
    made = files_sketch([(("a\udcff",), 1), (("b",), 1)])
    assert made is not None
    assert len(made) == NAME_SIZE == 2 * NAME_BINS


def test_what_is_not_known_of_both_has_no_similarity() -> None:
    made = title_sketch("a b")
    assert similarity(None, made) is None
    assert similarity(made, None) is None
    assert similarity(made, sketch({n << 50 for n in range(9999)})) is None
    assert name_key(made, None, 0) is not None
    assert name_key(made, None, 2) is None
    assert name_key(None, made, 1) is None
