from __future__ import annotations

import gzip
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.choice import (
    ALWAYS,
    COMMON,
    ENOUGH_READS,
    FIRST_WORDS,
    MAX_PAIRS,
    MAX_WORDS,
    MOST_READS,
    SATURATED,
    STOP_WORDS,
    THIN,
    Key,
    first_keys,
    keys_of_title,
    most_reads,
    pair,
    pair_keys,
    reading_order,
    root_of,
    says_little,
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
    assert words_of(keys_of_title(words, counts)) == words[:-17:-1]


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
    words = [f"w{n:02}" for n in range(18)]
    assert pairs_of(keys_of_title(words, {})) == [("w16", "w17")]


def test_the_most_common_pairs_come_first_and_those_that_say_little_last() -> None:
    counts = counted(aa=60, bb=70, cc=80, the=500, of=500)
    assert pairs_of(keys_of_title(["aa", "bb", "cc", "the", "of"], counts)) == [
        *(("cc", "of"), ("cc", "the"), ("bb", "of"), ("bb", "the"), ("aa", "of"), ("aa", "the")),
        *(("bb", "cc"), ("aa", "cc"), ("aa", "bb"), ("of", "the")),
    ]


def test_a_title_of_common_words_has_a_bounded_number_of_pairs() -> None:
    counts: dict[Key, int] = {(f"w{n}",): 100 + n for n in range(10)}
    pairs = pairs_of(keys_of_title([f"w{n}" for n in range(10)], counts))
    assert len(pairs) == MAX_PAIRS
    assert pairs[:3] == [("w8", "w9"), ("w7", "w9"), ("w6", "w9")]
    assert keys_of_title([f"w{n}" for n in range(9, -1, -1)], counts)[-MAX_PAIRS:] == tuple(pairs)


def test_a_saturated_pair_gives_way_to_others() -> None:
    counts = counted(aa=60, bb=60, cc=60, aa_bb=SATURATED + 1, aa_cc=SATURATED)
    assert pairs_of(keys_of_title(["aa", "bb", "cc"], counts)) == [("aa", "cc"), ("bb", "cc")]


@given(WORDS, COUNTS)
def test_the_keys_of_a_title_are_few_and_its_own(words: list[str], counts: dict[Key, int]) -> None:
    keys = keys_of_title(words, counts)
    assert len(set(keys)) == len(keys)
    assert len(words_of(keys)) <= MAX_WORDS
    assert len(pairs_of(keys)) <= MAX_PAIRS
    assert all(word in words for key in keys for word in key)
    assert all(key == pair(*key) for key in pairs_of(keys))
    assert len(words_of(keys)) >= min(ALWAYS, len(set(words)))


@given(WORDS, WORDS, COUNTS)
def test_a_reader_asks_where_a_title_is(
    query: list[str], more: list[str], counts: dict[Key, int]
) -> None:
    query = query[:3]
    known = {(word,): counts.get((word,), 0) for word in query + more} | counts
    title = query + more
    asked = {*first_keys(query, known), *pair_keys(query, known)}
    keys = set(keys_of_title(title, known))
    weak = [word for word in set(title) if known[word,] > COMMON]
    # So few that nothing had to be left out.
    if query and len(set(title)) <= ALWAYS and len(weak) <= 5:
        assert asked & keys
        if len(set(query)) > 1 and all(known[word,] > COMMON for word in query):
            pairs = {pair(*two) for two in combinations(set(query), 2)}
            assert {key for key in pairs if known.get(key, 0) <= SATURATED} <= keys
            assert asked & pairs


@given(WORDS, COUNTS)
def test_a_query_asks_few_trees(words: list[str], counts: dict[Key, int]) -> None:
    first, pairs = first_keys(words, counts), pair_keys(words, counts)
    order = reading_order(words, counts)
    assert len(first) <= 4
    assert len(pairs) <= 3
    assert len(order) <= 2
    assert bool(first) == bool(words)
    assert set(order) <= {*pairs, *((word,) for word in words)}
    assert all(counts[key] > 0 for key in order)


def test_a_query_of_unknown_words_asks_for_four_and_no_stop_words() -> None:
    assert first_keys(["the", "one", "two"], {}) == (("one",), ("two",))
    assert first_keys(["one", "two", "three", "four", "five"], {}) == (
        *(("one",), ("two",), ("three",), ("four",)),
    )
    assert len(first_keys([f"w{n}" for n in range(9)], {})) == FIRST_WORDS
    assert first_keys(["the", "of"], {}) == (("the",), ("of",))
    assert first_keys(["x", "日", "日本"], {}) == (("日本",),)
    assert first_keys(["c"], {}) == (("c",),)


def test_a_query_with_a_word_known_to_be_rare_asks_for_that() -> None:
    assert first_keys(["new", "rare", "hot"], counted(rare=COMMON, hot=500)) == (("rare",),)
    assert first_keys(["new", "hot"], counted(hot=COMMON + 1)) == (("new",), ("hot",))
    assert first_keys(["warm", "hot"], counted(warm=90, hot=500)) == (("warm",),)


def test_pairs_are_asked_for_when_all_words_are_common() -> None:
    counts = counted(aa=60, bb=70, cc=80, dd=90, rare=COMMON, the=9)
    assert pair_keys(["dd", "cc", "bb", "aa"], counts) == (
        *(("aa", "bb"), ("aa", "cc"), ("bb", "cc")),
    )
    assert pair_keys(["aa", "rare"], counts) == ()
    assert pair_keys(["aa", "new"], counts) == ()
    assert pair_keys(["aa"], counts) == ()
    assert pair_keys(["the", "of"], counts) == (("of", "the"),)
    assert pair_keys([], counts) == ()


def test_the_smallest_pair_is_read_and_then_the_rarest_word() -> None:
    counts = counted(aa=60, bb=70, cc=80, aa_bb=9, aa_cc=3, bb_cc=3)
    assert reading_order(["cc", "bb", "aa"], counts) == (("aa", "cc"), ("aa",))
    assert reading_order(["bb", "cc"], counts) == (("bb", "cc"), ("bb",))
    assert reading_order(["bb", "dd"], counts | counted(dd=99)) == (("bb",),)
    assert reading_order(["aa", "bb", "cc"], counts | counted(aa_bb=3))[0] == ("aa", "bb")
    assert reading_order(["bb", "rare"], counts | counted(rare=1)) == (("rare",),)
    assert reading_order(["bb", "none"], counts | counted(none=0)) == (("bb",),)
    assert reading_order(["none"], counted(none=0)) == ()


def test_the_root_of_a_pair_does_not_depend_on_the_order() -> None:
    assert root_of(("日本",)) == "日本".encode()
    assert root_of(pair("b", "a")) == root_of(pair("a", "b")) == b"a\0b"


@pytest.mark.parametrize("word", ["the", "1080p", "a", "7", "日", "я"])
def test_what_says_little_comes_last(word: str) -> None:
    assert says_little(word)
    assert words_of(keys_of_title([word, "ab"], counted(ab=500))) == ["ab", word]


@pytest.mark.parametrize("word", ["ab", "22", "日本"])
def test_what_says_enough(word: str) -> None:
    assert not says_little(word)


def test_a_query_reads_on_while_it_has_found_hardly_anything() -> None:
    assert most_reads(0) == most_reads(THIN - 1) == MOST_READS == 24
    assert most_reads(THIN) == most_reads(50) == ENOUGH_READS == 14


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
    content = queries_of(titles, 300, lambda word: not says_little(word), rng)
    assert world.recall(content, warm=warm) >= 0.985
    assert world.recall(queries_of(titles, 300, lambda word: True, rng), warm=warm) >= 0.98
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
    assert world.recall(queries, warm=warm) >= 0.9
