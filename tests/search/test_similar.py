"""What torrents are to each other, and in which order they are shown."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.chunks import BINS
from dht_torrent.search.similar import (
    FILE_ID,
    LEAST_FILE,
    MAX_FILE_IDS,
    RELATED,
    SAMPLE,
    SAMPLES,
    SURE,
    Kinship,
    Likeness,
    Traits,
    file_id,
    likeness,
    ranked,
    samples,
    with_id,
)
from dht_torrent.search.sketch import CONTENT_SIZE, title_sketch

MIB = 1024 * 1024
WHOLE = bytes(range(256))


def content(same: float) -> bytes:
    """A sketch that agrees with `WHOLE` in so many of the bins."""
    other = round((1 - same) * BINS)
    return bytes(255 - byte for byte in WHOLE[: 2 * other]) + WHOLE[2 * other :]


def traits(title: str, **rest: Any) -> Traits:
    made = Traits.of(title, [((title,), 1000), (("b",), 1000)], WHOLE)
    return replace(made, **rest)


def kinship(**rest: Any) -> Kinship | None:
    return likeness(
        traits("one thing", listed=None), traits("another", listed=None, **rest)
    ).kinship


@pytest.mark.parametrize(
    ("same", "expected"),
    [
        (1.0, Kinship.NEAR_DUPLICATE),
        (SURE + 0.01, Kinship.NEAR_DUPLICATE),
        (SURE - 0.01, Kinship.RELATED),
        (RELATED + 0.01, Kinship.RELATED),
        (RELATED - 0.01, None),
        (0.0, None),
    ],
)
def test_the_word_is_that_of_the_estimate(same: float, expected: Kinship | None) -> None:
    assert kinship(content=content(same)) is expected


def test_a_file_of_both_is_the_same_file() -> None:
    one, other = b"a" * FILE_ID, b"b" * FILE_ID
    asked = traits("x", files=1, file_ids=(one,))
    pack = traits("a large pack", files=90, content=content(0), file_ids=(other, one))
    assert likeness(asked, pack).kinship is Kinship.SAME_FILE
    assert likeness(asked, pack).same_files == 1
    assert likeness(asked, pack).score > 0.6
    assert likeness(asked, replace(pack, file_ids=(other,))).kinship is None


def test_folders_with_much_in_common_are_not_called_the_same_file() -> None:
    ids = (b"a" * FILE_ID,)
    one = traits("x", file_ids=ids)
    for differs in ({"size": 1}, {"files": 9}, {"file_ids": (*ids, b"b" * FILE_ID)}):
        other = replace(traits("y", file_ids=ids), **differs)
        assert likeness(one, other).kinship is Kinship.NEAR_DUPLICATE
    for same, expected in (
        (0.97, Kinship.NEAR_DUPLICATE),
        (0.5, Kinship.RELATED),
        (0.1, Kinship.SAME_FILE),
    ):
        other = traits("y", file_ids=ids, content=content(same))
        assert likeness(one, other).kinship is expected
    unknown = traits("y", file_ids=ids, content=None)
    assert likeness(one, unknown).kinship is Kinship.SAME_FILE


def test_folders_with_all_the_same_files_are() -> None:
    ids = (b"a" * FILE_ID, b"b" * FILE_ID)
    one, other = traits("x", file_ids=ids), traits("y", file_ids=ids[::-1])
    assert likeness(one, other).kinship is Kinship.SAME_FILE
    assert likeness(one, other).same_files == 2
    # Without any id, nothing says so.
    assert likeness(traits("x"), traits("y")).kinship is Kinship.NEAR_DUPLICATE


def test_of_what_is_not_known_nothing_is_said() -> None:
    nothing = Traits(title="")
    assert likeness(nothing, nothing) == Likeness(None, 0.0, None, None, None, 0)
    assert likeness(traits("x"), nothing).kinship is None


def test_names_alone_make_a_similar_name() -> None:
    one, other = (traits(f"requests-2.{n}.tar.gz", content=None) for n in (30, 31))
    assert likeness(one, other).kinship is Kinship.SIMILAR_NAME
    assert likeness(one, replace(other, listed=None)).kinship is Kinship.SIMILAR_NAME
    named = replace(other, named=title_sketch("something else altogether"), listed=None)
    assert likeness(one, named).kinship is None


ALL = st.builds(
    lambda title, **rest: Traits(title=title, named=title_sketch(title), **rest),
    title=st.sampled_from(["a 1.0", "a 1.1", "b", ""]),
    size=st.none() | st.integers(0, 9),
    files=st.none() | st.integers(1, 3),
    content=st.none() | st.sampled_from([0.0, 0.5, 0.9, 1.0]).map(content),
    file_ids=st.sets(st.sampled_from([b"a" * FILE_ID, b"b" * FILE_ID])).map(tuple),
)


@given(ALL, ALL)
def test_likeness_is_mutual_and_a_share(one: Traits, other: Traits) -> None:
    alike = likeness(one, other)
    assert alike == likeness(other, one)
    assert 0 <= alike.score <= 1 + 1e-9


@given(ALL, st.lists(ALL, max_size=8))
def test_all_that_is_alike_is_ranked_and_nothing_else(asked: Traits, others: list[Traits]) -> None:
    found = [(other, likeness(asked, other)) for other in others]
    places = ranked(asked, found)
    assert len(set(places)) == len(places)
    assert set(places) == {n for n, (_, alike) in enumerate(found) if alike.kinship is not None}
    named = [found[n][1].kinship is Kinship.SIMILAR_NAME for n in places]
    assert named == sorted(named)


def test_the_versions_before_and_after_come_first() -> None:
    titles = [f"thing-1.{n}.0.tar.gz" for n in range(8, 13)]
    titles.append("thing-1.11.0rc1.tar.gz")
    asked = traits("thing-1.11.0.tar.gz", content=None)
    for seed in range(10):
        random.Random(seed).shuffle(titles)
        others = [traits(title, content=None) for title in titles if title != asked.title]
        order = ranked(asked, [(other, likeness(asked, other)) for other in others])
        first = [others[place].title for place in order]
        assert set(first[:2]) == {"thing-1.10.0.tar.gz", "thing-1.12.0.tar.gz"}
        assert first.index("thing-1.9.0.tar.gz") < first.index("thing-1.8.0.tar.gz")


def test_numbers_may_repeat_and_versions_have_more_or_fewer() -> None:
    titles = ["Thing-3.1.1", "Thing 3.1", "thing-3.1.2.1", "thing-3.0.9", "thing-3.1.3"]
    asked = traits("thing-3.1.2", content=None)
    others = [traits(title, content=None, listed=None) for title in titles]
    order = ranked(asked, [(other, likeness(asked, other)) for other in others])
    assert {titles[place] for place in order[:2]} == {"Thing-3.1.1", "thing-3.1.2.1"}


def test_a_nearer_content_comes_before_a_nearer_number() -> None:
    asked = traits("thing 5")
    far, near = traits("thing 1", content=content(0.8)), traits("thing 4", content=content(0.4))
    assert ranked(asked, [(one, likeness(asked, one)) for one in (near, far)]) == [1, 0]


# Ids of files.


def test_ids_of_files_are_those_of_the_protocol() -> None:
    assert file_id(5, [b"hello"]).hex() == "9ba0bed57d65a5cec5add8c38d79482b"
    assert file_id(5, [b"he", b"llo"]) == file_id(5, [b"hello"])
    assert file_id(6, [b"hello"]) != file_id(5, [b"hello"])


@given(st.integers(0, 1 << 45))
def test_samples_begin_at_the_start_and_end_at_the_end(size: int) -> None:
    found = samples(size)
    assert found[0][0] == 0
    assert found[-1][0] + found[-1][1] == size
    assert all(a + length <= b for (a, length), (b, _) in pairwise(found))
    assert len(found) in (1, SAMPLES)
    assert sum(length for _, length in found) == min(size, SAMPLES * SAMPLE)


def test_the_largest_files_have_ids() -> None:
    assert with_id([]) == []
    assert with_id([0, 0]) == []
    assert with_id([5, 7, 7]) == [1]
    assert with_id([LEAST_FILE, LEAST_FILE - 1, MIB]) == [2, 0]
    assert with_id([MIB + n for n in range(20)]) == [19 - n for n in range(MAX_FILE_IDS)]


def test_traits_are_of_what_the_torrent_says() -> None:
    made = Traits.of("\x1bName 1\n", [(("a",), 5), (("b", "c"), 6)], file_ids=[b"x"])
    assert (made.title, made.size, made.files, made.file_ids) == ("Name 1", 11, 2, (b"x",))
    assert made.content is None
    assert made.named == title_sketch("Name 1")
    assert len(WHOLE) == CONTENT_SIZE
