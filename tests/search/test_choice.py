from __future__ import annotations

import gzip
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.choice import (
    ALWAYS,
    COMMON,
    FIRST_WORDS,
    MAX_PAIRS,
    MAX_WORDS,
    SATURATED,
    STOP_WORDS,
    Key,
    first_keys,
    is_key,
    keys_of_title,
    pair,
    pair_keys,
    reading_order,
    root_of,
)
from dht_torrent.search.words import query_words, title_words

SAMPLE = Path(__file__).parent / "titles-1k.tsv.gz"

WORDS = st.lists(
    st.sampled_from(["the", "1080p", "x", "日", *(f"w{n}" for n in range(20))]), max_size=20
)
COUNTS = st.dictionaries(
    WORDS.filter(len).map(lambda words: (words[0],)), st.integers(0, 3 * SATURATED), max_size=20
)


def words_of(keys: Sequence[Key]) -> list[str]:
    return [key[0] for key in keys if len(key) == 1]


def pairs_of(keys: Sequence[Key]) -> list[Key]:
    return [key for key in keys if len(key) == 2]


def counted(**counts: int) -> dict[Key, int]:
    return {tuple(name.split("_")): count for name, count in counts.items()}


def test_a_title_is_published_under_its_rarest_words() -> None:
    words = [f"w{n}" for n in range(20)]
    counts: dict[Key, int] = {(word,): 20 - place for place, word in enumerate(words)}
    assert words_of(keys_of_title(words, counts)) == words[:-13:-1]


def test_words_nobody_looked_up_keep_the_order_of_the_title() -> None:
    assert keys_of_title(["one", "two", "three"], {}) == (("one",), ("two",), ("three",))


def test_a_saturated_word_is_used_only_among_the_six_rarest() -> None:
    words = ["a1", "b1", "c1", "d1", "e1", "full", "fuller", "fullest"]
    counts = counted(full=SATURATED + 1, fuller=SATURATED + 2, fullest=SATURATED + 3)
    assert words_of(keys_of_title(words, counts)) == words[:6]
    counts = counted(full=SATURATED - 1, fuller=SATURATED, fullest=SATURATED + 1)
    assert words_of(keys_of_title(words, counts)) == words[:7]


def test_a_spammed_word_does_not_keep_a_title_out() -> None:
    assert ("ubuntu",) in keys_of_title(["ubuntu", "desktop"], counted(ubuntu=10**6))


def test_common_words_are_paired_with_each_other_only() -> None:
    counts = counted(free=COMMON + 1, open=COMMON + 1, rare=COMMON)
    assert pairs_of(keys_of_title(["open", "free", "rare", "new"], counts)) == [("free", "open")]
    assert pairs_of(keys_of_title(["open", "rare"], counts)) == []


def test_a_word_that_is_left_out_is_paired() -> None:
    words = [f"w{n:02}" for n in range(14)]
    assert pairs_of(keys_of_title(words, {})) == [("w12", "w13")]


def test_the_most_common_pairs_come_first_and_those_of_stop_words_last() -> None:
    counts = counted(aa=40, bb=50, cc=60, dd=70, the=500)
    assert pairs_of(keys_of_title(["aa", "bb", "cc", "dd", "the"], counts)) == [
        *(("cc", "dd"), ("bb", "dd"), ("aa", "dd"), ("bb", "cc"), ("aa", "cc"), ("aa", "bb")),
        *(("dd", "the"), ("cc", "the")),
    ]


def test_a_saturated_pair_gives_way_to_others() -> None:
    counts = counted(aa=50, bb=50, cc=50, aa_bb=SATURATED + 1, aa_cc=SATURATED)
    assert pairs_of(keys_of_title(["aa", "bb", "cc"], counts)) == [("aa", "cc"), ("bb", "cc")]


@given(WORDS, COUNTS)
def test_the_keys_of_a_title_are_few_and_its_own(words: list[str], counts: dict[Key, int]) -> None:
    keys = keys_of_title(words, counts)
    assert len(set(keys)) == len(keys)
    assert len(words_of(keys)) <= MAX_WORDS
    assert len(pairs_of(keys)) <= MAX_PAIRS
    assert all(is_key(word) and word in words for key in keys for word in key)
    assert all(key == pair(*key) for key in pairs_of(keys))
    if any(map(is_key, words)):
        assert len(words_of(keys)) >= min(ALWAYS, len(set(filter(is_key, words))))


@given(WORDS, WORDS, COUNTS)
def test_a_reader_asks_where_a_title_is(
    query: list[str], more: list[str], counts: dict[Key, int]
) -> None:
    query = [word for word in query if is_key(word)][:3]
    known = {(word,): counts.get((word,), 0) for word in query + more} | counts
    title = query + more
    asked = {*first_keys(query, known), *pair_keys(query, known)}
    keys = set(keys_of_title(title, known))
    weak = [word for word in set(filter(is_key, title)) if known[word,] > COMMON]
    # No more words than are published, so that nothing had to be left out.
    if query and len(set(title)) <= ALWAYS and len(weak) <= 4:
        assert asked & keys
        if len(set(query)) > 1 and all(known[word,] > COMMON for word in query):
            assert {pair(one, other) for one in query for other in query if one != other} <= keys
            assert asked & set(pairs_of(list(keys)))


@given(WORDS, COUNTS)
def test_a_query_asks_few_trees(words: list[str], counts: dict[Key, int]) -> None:
    first, pairs = first_keys(words, counts), pair_keys(words, counts)
    order = reading_order(words, counts)
    assert len(first) <= 4
    assert len(pairs) <= 3
    assert len(order) <= 2
    assert bool(first) == any(map(is_key, words))
    assert set(order) <= {*pairs, *((word,) for word in words)}
    assert all(counts[key] > 0 for key in order)


def test_a_query_of_unknown_words_asks_for_four_and_no_stop_words() -> None:
    assert first_keys(["the", "one", "two"], {}) == (("one",), ("two",))
    assert first_keys(["one", "two", "three", "four", "five"], {}) == (
        *(("one",), ("two",), ("three",), ("four",)),
    )
    assert len(first_keys([f"w{n}" for n in range(9)], {})) == FIRST_WORDS
    assert first_keys(["the", "of"], {}) == (("the",), ("of",))
    assert first_keys(["x", "日"], {}) == (("日",),)


def test_a_query_with_a_word_known_to_be_rare_asks_for_that() -> None:
    assert first_keys(["new", "rare", "hot"], counted(rare=COMMON, hot=500)) == (("rare",),)
    assert first_keys(["new", "hot"], counted(hot=COMMON + 1)) == (("new",), ("hot",))
    assert first_keys(["warm", "hot"], counted(warm=90, hot=500)) == (("warm",),)


def test_pairs_are_asked_for_when_all_words_are_common() -> None:
    counts = counted(aa=40, bb=50, cc=60, dd=70, rare=COMMON, the=9)
    assert pair_keys(["dd", "cc", "bb", "aa"], counts) == (
        *(("aa", "bb"), ("aa", "cc"), ("bb", "cc")),
    )
    assert pair_keys(["aa", "rare"], counts) == ()
    assert pair_keys(["aa", "new"], counts) == ()
    assert pair_keys(["aa"], counts) == ()
    assert pair_keys(["the", "of"], counts) == (("of", "the"),)
    assert pair_keys([], counts) == ()


def test_the_smallest_pair_is_read_and_then_the_rarest_word() -> None:
    counts = counted(aa=40, bb=50, cc=60, aa_bb=9, aa_cc=3)
    assert reading_order(["cc", "bb", "aa"], counts) == (("aa", "cc"), ("aa",))
    assert reading_order(["bb", "cc"], counts) == (("bb",),)
    assert reading_order(["bb", "rare"], counts | counted(rare=1)) == (("rare",),)
    assert reading_order(["bb", "none"], counts | counted(none=0)) == (("bb",),)
    assert reading_order(["none"], counted(none=0)) == ()


def test_the_root_of_a_pair_does_not_depend_on_the_order() -> None:
    assert root_of(("日本",)) == "日本".encode()
    assert root_of(pair("b", "a")) == root_of(pair("a", "b")) == b"a\0b"


@pytest.mark.parametrize("word", ["ab", "22", "日", "🎬", "日本"])
def test_what_can_be_a_key(word: str) -> None:
    assert is_key(word)


@pytest.mark.parametrize("word", ["a", "7", "я", ""])
def test_what_cannot_be_a_key(word: str) -> None:
    assert not is_key(word)


def test_stop_words_are_words() -> None:
    assert all(title_words(word)[0] == word for word in STOP_WORDS)


# A small world: each tree is a set, of which a reader sees so many.
PAGE = 50
READABLE = 90
"""Postings that fourteen reads show of one tree."""


class World:
    def __init__(self, titles: Sequence[str]) -> None:
        self.words = [frozenset(title_words(title)) for title in titles]
        self.trees: dict[Key, list[int]] = defaultdict(list)
        self.counts: dict[Key, int] = defaultdict(int)
        for number, title in enumerate(titles):
            for key in keys_of_title(title_words(title), self.counts):
                self.trees[key].append(number)
                self.counts[key] += 1

    def found(self, query: Sequence[str], known: Mapping[Key, int]) -> set[int]:
        """Title numbers, as a reader who knows no more than that finds them."""
        counts = dict(known)
        first = first_keys(query, counts)
        counts |= {key: len(self.trees.get(key, ())) for key in first}
        counts |= {key: len(self.trees.get(key, ())) for key in pair_keys(query, counts)}
        seen = {
            number
            for key in reading_order(query, counts)
            for number in self.trees.get(key, [])[-READABLE:]
        }
        return {number for number in seen if self.words[number].issuperset(query)}

    def recall(self, queries: Sequence[Sequence[str]], *, warm: bool) -> float:
        shares = []
        for query in queries:
            truth = {n for n, words in enumerate(self.words) if words.issuperset(query)}
            known: dict[Key, int] = {(word,): self.counts[word,] for word in query}
            found = self.found(query, known if warm else {})
            assert found <= truth
            shares.append(min(len(found), PAGE) / min(len(truth), PAGE))
        return sum(shares) / len(shares)


def queries_of(
    titles: Sequence[str], number: int, usable: Callable[[str], bool], rng: random.Random
) -> list[list[str]]:
    queries: list[list[str]] = []
    while len(queries) < number:
        words = [word for word in query_words(rng.choice(titles)) if usable(word)]
        wanted = rng.randint(1, 3)
        if len(words) >= wanted:
            queries.append(rng.sample(words, wanted))
    return queries


@pytest.mark.parametrize("warm", [False, True])
def test_queries_of_title_words_find_their_titles(warm: bool) -> None:
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as file:
        titles = [line.strip().replace("\t", " ")[:160] for line in file]
    assert len(titles) == 1000
    rng = random.Random(7)
    world = World(titles)
    content = queries_of(titles, 300, lambda word: is_key(word) and word not in STOP_WORDS, rng)
    assert world.recall(content, warm=warm) >= 0.97
    assert world.recall(queries_of(titles, 300, is_key, rng), warm=warm) >= 0.94
    entries = sum(map(len, world.trees.values())) / len(titles)
    assert entries <= 12


@pytest.mark.parametrize("warm", [False, True])
def test_queries_of_common_words_find_a_page(warm: bool) -> None:
    # All words are in many titles: only pairs help.
    rng = random.Random(7)
    vocabulary = [f"w{n:03}w" for n in range(150)]
    weights = list(accumulate(1 / (n + 5) for n in range(150)))
    titles = [" ".join(rng.choices(vocabulary, cum_weights=weights, k=7)) for _ in range(3000)]
    world = World(titles)
    queries = queries_of(titles, 300, lambda word: True, rng)
    assert world.recall(queries, warm=warm) >= 0.88
