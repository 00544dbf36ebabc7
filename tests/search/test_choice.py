from __future__ import annotations

import gzip
import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.choice import (
    COMMON,
    ENOUGH_READS,
    FIRST_WORDS,
    FULL,
    FULL_LIST,
    FULL_PAIR,
    MAX_PAIRS,
    MAX_WORDS,
    MOST_READS,
    RARE,
    READABLE,
    STOP_WORDS,
    THIN,
    Key,
    first_keys,
    is_drawn,
    is_listed,
    key_of,
    keys_of_title,
    more_keys,
    most_reads,
    pair,
    pair_keys,
    reading_order,
    root_of,
    says_little,
    stage,
)
from dht_torrent.search.words import query_words, title_words

SAMPLE = Path(__file__).parent / "titles-1k.tsv.gz"

WORDS = st.lists(
    st.sampled_from(["the", "1080p", "x", "日", *(f"w{n}" for n in range(20))]), max_size=20
)
COUNTS = st.dictionaries(
    WORDS.filter(len).map(lambda words: (words[0],)), st.integers(0, 3 * READABLE), max_size=20
)


def words_of(keys: Sequence[Key]) -> list[str]:
    return [key[0] for key in keys if len(key) == 1]


def pairs_of(keys: Sequence[Key]) -> list[Key]:
    return [key for key in keys if len(key) == 2]


def counted(**counts: int) -> dict[Key, int]:
    return {tuple(name.split("_")): count for name, count in counts.items()}


def torrent(number: int) -> bytes:
    return hashlib.sha1(b"%d" % number).digest()


ONE = torrent(1)


def drawn(key: Key, count: int, titles: int = 2000) -> int:
    """How many of so many titles go under a key with so many postings."""
    return sum(is_drawn(torrent(number), key, {key: count}) for number in range(titles))


def test_a_title_is_published_under_all_its_words_the_rarest_first() -> None:
    words = [f"w{n}" for n in range(30)]
    counts: dict[Key, int] = {(word,): 30 - place for place, word in enumerate(words)}
    assert words_of(keys_of_title(ONE, words, counts)) == words[::-1]


def test_of_too_many_words_the_rarest_are_used() -> None:
    words = [f"w{n}" for n in range(MAX_WORDS + 2)]
    counts = counted(w0=3, w5=2)
    chosen = words_of(keys_of_title(ONE, words, counts))
    assert len(chosen) == MAX_WORDS
    assert not {"w0", "w5"} & set(chosen)


def test_words_nobody_looked_up_keep_the_order_of_the_title() -> None:
    assert keys_of_title(ONE, ["one", "two", "three"], {}) == (("one",), ("two",), ("three",))


def test_a_full_tree_gets_ever_fewer_titles() -> None:
    assert drawn(("word",), FULL) == 2000
    assert 950 < drawn(("word",), 2 * FULL) < 1050
    assert 150 < drawn(("word",), 10 * FULL) < 250
    assert drawn(("one", "two"), FULL_PAIR) == 2000
    assert 950 < drawn(("one", "two"), 2 * FULL_PAIR) < 1050


def test_no_number_of_postings_keeps_all_others_out() -> None:
    assert 0 < drawn(("word",), 500 * FULL, titles=20_000) < 100


def test_a_title_that_is_not_drawn_for_one_key_may_be_for_another() -> None:
    count: dict[Key, int] = {(f"w{n}",): 2 * FULL for n in range(64)}
    chosen = words_of(keys_of_title(ONE, [f"w{n}" for n in range(40)], count))
    assert 10 < len(chosen) < 30


def test_whoever_was_drawn_stays_while_the_tree_does_not_grow() -> None:
    before = {n for n in range(500) if is_drawn(torrent(n), ("word",), counted(word=150))}
    after = {n for n in range(500) if is_drawn(torrent(n), ("word",), counted(word=300))}
    assert after < before


def test_of_a_common_word_a_few_titles_see_that_it_is_in_the_dictionary() -> None:
    def listed(count: int) -> int:
        return sum(is_listed(torrent(n), "word", counted(word=count)) for n in range(2000))

    assert listed(FULL_LIST) == 2000
    assert 950 < listed(2 * FULL_LIST) < 1050
    assert 0 < listed(100 * FULL_LIST) < 50


def test_a_choice_is_made_again_when_it_may_come_out_otherwise() -> None:
    for step in (FULL_LIST, FULL_PAIR, FULL, COMMON, READABLE):
        assert stage(step - 1) <= stage(step) < stage(4 * step)
    assert stage(COMMON - 1) < stage(COMMON)
    assert [stage(count) for count in range(2000)] == sorted(map(stage, range(2000)))
    assert stage(2000) - stage(1000) == 1
    assert stage(0) == stage(FULL_LIST - 1)


def test_common_words_are_paired_with_each_other_only() -> None:
    counts = counted(free=COMMON, open=COMMON, rare=COMMON - 1)
    chosen = keys_of_title(ONE, ["open", "free", "rare", "new"], counts)
    assert pairs_of(chosen) == [("free", "open")]
    assert pairs_of(keys_of_title(ONE, ["open", "rare"], counts)) == []


def test_pairs_that_queries_read_come_first_and_then_those_with_few_titles() -> None:
    counts = counted(aa=READABLE, bb=101, cc=102, dd=103, bb_cc=2, cc_dd=1)
    assert pairs_of(keys_of_title(ONE, ["dd", "cc", "bb", "aa"], counts)) == [
        *(("bb", "dd"), ("cc", "dd"), ("bb", "cc")),
        *(("aa", "bb"), ("aa", "cc"), ("aa", "dd")),
    ]


def test_a_title_of_common_words_has_a_bounded_number_of_pairs() -> None:
    words = [f"w{n:02}" for n in range(12)]
    counts: dict[Key, int] = {(word,): FULL for word in words}
    assert len(pairs_of(keys_of_title(ONE, words, counts))) == MAX_PAIRS


@given(WORDS, COUNTS)
def test_the_keys_of_a_title_are_few_and_its_own(words: list[str], counts: dict[Key, int]) -> None:
    keys = keys_of_title(ONE, words, counts)
    assert len(set(keys)) == len(keys)
    assert len(words_of(keys)) <= MAX_WORDS
    assert len(pairs_of(keys)) <= MAX_PAIRS
    assert all(word in words for key in keys for word in key)
    assert all(key == pair(*key) for key in pairs_of(keys))
    assert all(is_drawn(ONE, key, counts) for key in keys)
    few = {word for word in words if counts.get((word,), 0) <= FULL}
    assert few <= set(words_of(keys))


@given(WORDS.filter(len), WORDS, COUNTS)
def test_a_reader_asks_where_a_title_is(
    query: list[str], more: list[str], counts: dict[Key, int]
) -> None:
    query = list(dict.fromkeys(query))[:3]
    known = {(word,): counts.get((word,), 0) for word in query + more} | counts
    keys = set(keys_of_title(ONE, query + more, known))
    asked = {*first_keys(query, known), *pair_keys(query, known)}
    telling = [word for word in query if not says_little(word)] or query
    if min(known[word,] for word in telling) <= FULL:
        assert asked & keys
    if len(query) > 1 and all(known[word,] > READABLE for word in query):
        common = {word for word in query + more if known[word,] >= COMMON}
        if len(common) <= 6:  # else not all pairs may be there
            assert asked & set(pairs_of(list(keys)))


@given(WORDS, COUNTS)
def test_a_query_asks_few_trees(words: list[str], counts: dict[Key, int]) -> None:
    first, pairs = first_keys(words, counts), pair_keys(words, counts)
    order = reading_order(words, counts)
    more = more_keys(words, counts | dict.fromkeys(first, 999))
    assert len(first) <= 1
    assert len(more) <= 3
    assert not set(first) & set(more)
    assert len(pairs) <= 3
    assert len(order) <= 1
    assert bool(first) == bool(words)
    assert set(order) <= {*pairs, *((word,) for word in words)}
    assert all(counts[key] > 0 for key in order)


def test_of_unknown_words_the_longest_is_asked_for_first_and_no_stop_words() -> None:
    assert first_keys(["the", "one", "three", "four"], {}) == (("three",),)
    assert first_keys(["one", "two"], {}) == (("one",),)
    assert first_keys(["the", "of"], {}) == (("the",),)
    assert first_keys(["x", "日", "日本"], {}) == (("日本",),)
    assert first_keys(["c"], {}) == (("c",),)
    assert first_keys([], {}) == ()


def test_other_unknown_words_are_asked_for_unless_one_is_rare() -> None:
    words = ["the", "hot", "new", "newer", "newest", "newly"]
    asked = (("newest",), ("newer",), ("newly",))
    assert more_keys(words, counted(hot=RARE + 1)) == asked
    assert more_keys(words, counted(hot=RARE)) == ()
    assert more_keys(words, counted(hot=1)) == ()
    assert more_keys(words, counted(hot=1), 0) == asked
    assert more_keys(["one", "two"], counted(one=500)) == (("two",),)
    assert more_keys(["one", "the"], counted(one=500)) == ()
    assert len(more_keys([f"w{n}" for n in range(9)], {})) == FIRST_WORDS - 1


def test_a_word_whose_root_is_lost_does_not_keep_a_query_from_others() -> None:
    assert first_keys(["lost", "new"], counted(lost=0)) == (("new",),)
    assert more_keys(["lost", "new"], counted(lost=0)) == (("new",),)


def test_a_query_with_a_word_known_to_be_rare_asks_for_that() -> None:
    assert first_keys(["new", "rare", "hot"], counted(rare=RARE, hot=500)) == (("rare",),)
    assert first_keys(["new", "hot"], counted(hot=RARE + 1)) == (("new",),)
    assert first_keys(["warm", "hot"], counted(warm=90, hot=500)) == (("warm",),)


def test_pairs_are_asked_for_when_no_tree_of_a_word_can_be_read() -> None:
    counts = counted(aa=101, bb=110, cc=120, dd=130, rare=READABLE, the=9)
    assert pair_keys(["dd", "cc", "bb", "aa"], counts) == (
        *(("aa", "bb"), ("aa", "cc"), ("bb", "cc")),
    )
    assert pair_keys(["aa", "rare"], counts) == ()
    assert pair_keys(["aa", "new"], counts) == ()
    assert pair_keys(["aa"], counts) == ()
    assert pair_keys(["the", "of"], counts) == (("of", "the"),)
    assert pair_keys(["the", "of", "aa"], counts) == (("aa", "of"), ("aa", "the"))
    assert pair_keys([], counts) == ()


def test_the_smallest_pair_is_read_or_else_the_rarest_word() -> None:
    counts = counted(aa=160, bb=170, cc=180, aa_bb=9, aa_cc=3, bb_cc=3)
    assert reading_order(["cc", "bb", "aa"], counts) == (("aa", "cc"),)
    assert reading_order(["bb", "cc"], counts) == (("bb", "cc"),)
    assert reading_order(["bb", "dd"], counts | counted(dd=199)) == (("bb",),)
    assert reading_order(["bb", "rare"], counts | counted(rare=1)) == (("rare",),)
    assert reading_order(["bb", "none"], counts | counted(none=0)) == (("bb",),)
    assert reading_order(["none"], counted(none=0)) == ()


def test_the_root_of_a_pair_does_not_depend_on_the_order() -> None:
    assert root_of(("日本",)) == "日本".encode()
    assert root_of(pair("b", "a")) == root_of(pair("a", "b")) == b"a\0b"


@pytest.mark.parametrize("key", [("日本",), ("a", "b")])
def test_a_key_is_known_by_its_root(key: Key) -> None:
    assert key_of(root_of(key)) == key


@pytest.mark.parametrize("word", ["the", "1080p", "a", "7", "日", "я"])
def test_what_says_little_comes_last(word: str) -> None:
    assert says_little(word)
    assert words_of(keys_of_title(ONE, [word, "ab"], counted(ab=FULL))) == ["ab", word]


@pytest.mark.parametrize("word", ["ab", "22", "日本"])
def test_what_says_enough(word: str) -> None:
    assert not says_little(word)


def test_a_query_reads_on_while_it_has_found_hardly_anything() -> None:
    assert most_reads(0) == most_reads(THIN - 1) == MOST_READS == 24
    assert most_reads(THIN) == most_reads(50) == ENOUGH_READS == 14


def test_stop_words_are_words() -> None:
    assert all(title_words(word)[0] == word for word in STOP_WORDS)


# A small world: each tree is a set, which a reader sees as far as one can be read.
PAGE = 50


class World:
    def __init__(self, titles: Sequence[str]) -> None:
        self.words = [frozenset(title_words(title)) for title in titles]
        self.trees: dict[Key, list[int]] = defaultdict(list)
        self.counts: dict[Key, int] = defaultdict(int)
        for number, title in enumerate(titles):
            for key in keys_of_title(torrent(number), title_words(title), self.counts):
                self.trees[key].append(number)
                self.counts[key] += 1

    def found(self, query: Sequence[str], known: Mapping[Key, int]) -> set[int]:
        """Title numbers, as a reader who knows no more than that finds them."""
        counts = dict(known)
        first = first_keys(query, counts)
        counts |= {key: len(self.trees.get(key, ())) for key in first}
        more = more_keys(query, counts)
        counts |= {key: len(self.trees.get(key, ())) for key in more}
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
