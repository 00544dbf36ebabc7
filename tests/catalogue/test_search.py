"""A search finds exactly what has all the words, and nothing in a query means more than a word."""

from __future__ import annotations

import random
import string
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dht_torrent.catalogue import (
    Catalogue,
    CatalogueQuery,
    ListedFile,
    Source,
    TitleClaim,
)
from dht_torrent.catalogue.entries import MAX_WORD, bounded, query_words, stored_words
from dht_torrent.config import CatalogueConfig
from tests.catalogue.conftest import Opener
from tests.helpers.catalogues import ALICE, BOB, claim, entry, infohash

SHELF = [
    entry(1, "Ubuntu 24.04 desktop", words="ubuntu 24 04 desktop", size=6000, published=300),
    entry(2, "Ubuntu server", words="ubuntu server", size=2000, published=200),
    entry(3, "Debian server", words="debian server", size=600, published=100),
    entry(4, "Über Ubuntuish", words="uber ubuntuish", more="server linux"),
    entry(5, "日本語", words="日 本 語 日本 本語"),
]


def ids(catalogue: Catalogue, *words: str, **limits: int | bool) -> list[int]:
    found = catalogue.search(CatalogueQuery(words=words, **limits))  # type: ignore[arg-type]
    numbers = {infohash(number): number for number in range(1000)}
    return [numbers[one.infohash] for one in found]


@pytest.mark.parametrize(
    ("words", "prefix", "found"),
    [
        (["ubuntu"], False, {1, 2}),
        (["ubuntu"], True, {1, 2, 4}),
        (["ubuntu", "server"], False, {2}),
        (["server", "ubuntu"], False, {2}),
        (["server", "ubuntu"], True, {2, 4}),
        (["ubu", "server"], True, set()),
        (["server"], False, {2, 3, 4}),
        (["u"], True, {1, 2, 4}),
        (["ub"], True, {1, 2, 4}),
        (["ubu"], True, {1, 2, 4}),
        (["ubun"], True, {1, 2, 4}),
        (["ubuntui"], True, {4}),
        (["ubuntuisha"], True, set()),
        (["24"], False, {1}),
        (["2"], False, set()),
        (["日本"], False, {5}),
        (["日"], True, {5}),
        (["日", "本語"], False, {5}),
        (["missing"], False, set()),
        (["debian", "desktop"], False, set()),
    ],
)
def test_all_words_must_be_there(
    catalogue: Catalogue, words: list[str], prefix: bool, found: set[int]
) -> None:
    catalogue.put(SHELF, now=1)
    assert set(ids(catalogue, *words, prefix=prefix)) == found


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ({"min_size": 2000}, [1, 2]),
        ({"min_size": 2001}, [1]),
        ({"max_size": 2000}, [2, 3]),
        ({"max_size": 1999}, [3]),
        ({"min_size": 0}, [1, 2, 3]),
        ({"since": 200}, [1, 2]),
        ({"since": 201}, [1]),
        ({"until": 200}, [2, 3]),
        ({"until": 199}, [3]),
        ({"since": 150, "until": 250, "min_size": 1, "max_size": 5000}, [2]),
        ({"min_size": 2**80}, []),
        ({"max_size": 2**80, "min_size": -(2**80)}, [1, 2, 3]),
    ],
)
@pytest.mark.parametrize("words", [(), ("thing",)])
def test_size_and_date_are_limits_inclusively(
    catalogue: Catalogue, limits: dict[str, int], found: list[int], words: tuple[str, ...]
) -> None:
    catalogue.put([replace(one, more="thing") for one in SHELF], now=1)
    assert sorted(ids(catalogue, *words, **limits)) == found


def test_without_words_the_newest_here_come_first(catalogue: Catalogue) -> None:
    catalogue.put(SHELF, now=1)
    assert ids(catalogue) == [5, 4, 3, 2, 1]
    assert ids(catalogue, limit=2) == [5, 4]


def test_better_matches_come_first(catalogue: Catalogue) -> None:
    catalogue.put(
        [
            entry(1, words="blue whale and many other words that make it a long one"),
            entry(2, words="blue whale"),
            entry(3, words="other", more="blue whale"),
            *(entry(number, words="filler text") for number in range(4, 50)),
        ],
        now=1,
    )
    assert ids(catalogue, "blue", "whale") == [2, 1, 3]
    found = catalogue.search(CatalogueQuery(words=("blue", "whale")))
    assert found[0].relevance > found[1].relevance > found[2].relevance > 0
    assert ids(catalogue, "blue", "whale", limit=1) == [2]
    assert ids(catalogue, "filler", limit=3) == [49, 48, 47]  # the newest of equals


def test_a_rare_word_of_a_prefix_query_is_not_lost_among_frequent_ones(opener: Opener) -> None:
    catalogue = opener(CatalogueConfig(max_ranked=50, max_looked_at=100))
    catalogue.put([entry(0, words="common rare", size=5)], now=1)
    catalogue.put([entry(number, words="common", size=7) for number in range(1, 300)], now=1)
    assert ids(catalogue, "rare", "common") == [0]
    assert ids(catalogue, "common", "rar", prefix=True) == [0]


def test_of_very_many_matches_the_newest_are_ranked(opener: Opener) -> None:
    catalogue = opener(CatalogueConfig(max_ranked=50, max_looked_at=100))
    catalogue.put([entry(number, words="common", size=number) for number in range(300)], now=1)
    assert ids(catalogue, "common") == list(range(299, 249, -1))
    assert ids(catalogue, "comm", prefix=True) == list(range(299, 249, -1))
    # Those within the limits are the newest 50 of the newest 100 that were looked at.
    assert ids(catalogue, "common", max_size=220) == list(range(220, 199, -1))
    assert ids(catalogue, "common", min_size=100) == list(range(299, 249, -1))
    assert ids(catalogue, max_size=220) == list(range(220, 199, -1))


def test_results_are_bounded(catalogue: Catalogue) -> None:
    catalogue.put([entry(number) for number in range(1500)], now=1)
    words = ("title",)
    assert len(catalogue.search(CatalogueQuery(words=words, limit=10**9))) == 1000
    assert len(catalogue.search(CatalogueQuery(words=words, limit=0))) == 1
    assert len(catalogue.search(CatalogueQuery(words=words))) == 200
    assert len(catalogue.page(0, 10**9)[0]) == 1000


def test_a_result_has_its_claims_and_no_files(catalogue: Catalogue) -> None:
    claims = tuple(claim(key) for key in (ALICE, BOB))
    catalogue.put(
        [
            entry(number, claims=claims, listed=(ListedFile("a", 1),), tags=("tag",))
            for number in range(700)
        ],
        now=1,
    )
    found = catalogue.search(CatalogueQuery(words=("title",), limit=700))
    assert len(found) == 700
    assert {(one.claims, one.listed, one.tags) for one in found} == {(claims, (), ("tag",))}


def test_a_word_that_was_renamed_or_removed_is_not_found(catalogue: Catalogue) -> None:
    catalogue.put(SHELF, now=1)
    catalogue.forget([infohash(2)], entry(2).sources)
    assert (
        ids(catalogue, "server") == [3, 4]
        or ids(catalogue, "server") == [4, 3]
        or set(ids(catalogue, "server")) == {3, 4}
    )
    catalogue.put([entry(6, words="server again")], now=2)
    assert set(ids(catalogue, "server")) == {3, 4, 6}


@pytest.mark.parametrize(
    "word",
    [
        *('"', '""', "a" + '"', '" OR "', "*", "^a", "-", "NOT", "AND", "OR", "NEAR", "words:a"),
        *("(", ")", "a*", "'", "';DROP TABLE torrent;--", "{words more}:x", "+", "a+b", "%", "_"),
        *string.punctuation,
        *("é", "🦆", "ß", "\u0301", "\U0010ffff", "ａ"),
    ],
)
def test_whatever_a_word_is_it_finds_itself_and_nothing_else(
    catalogue: Catalogue, word: str
) -> None:
    parts = word.split()
    catalogue.put([entry(1, words="x a b ab words more drop"), entry(2, words=word)], now=1)
    assert ids(catalogue, *parts) == [2]
    assert ids(catalogue, *parts, prefix=True) == [2]


@pytest.mark.parametrize("words", [("",), (" ", "\x00"), ("\x00\n\t",), ("\ud800",)])
def test_what_cannot_be_a_word_finds_nothing(catalogue: Catalogue, words: tuple[str]) -> None:
    catalogue.put(SHELF, now=1)
    for prefix in (False, True):
        assert ids(catalogue, *words, prefix=prefix) == []


def test_a_query_may_be_hostile_and_is_bounded(catalogue: Catalogue) -> None:
    catalogue.put([entry(1, words="a b")], now=1)
    assert ids(catalogue, *["a", "b"] * 50_000) == [1]
    assert ids(catalogue, "a" * 1_000_000) == []
    assert ids(catalogue, "a\x00", "\x00b") == [1]
    assert len(query_words(["word"] * 100)) == 16


word_text = st.text(max_size=20) | st.sampled_from(
    ["", "a", "or", '"', "*", "\x00", "日", "\ud800"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(titles=st.lists(st.lists(word_text, max_size=4), max_size=6), query=st.lists(word_text))
def test_a_search_agrees_with_looking_at_each_title(
    catalogue: Catalogue, titles: list[list[str]], query: list[str]
) -> None:
    catalogue.forget([infohash(number) for number in range(6)], Source.NETWORK)
    shelf = [entry(number, words=" ".join(title)) for number, title in enumerate(titles)]
    catalogue.put(shelf, now=1)
    asked = [ascii_lower(word) for word in query_words(query)]
    if asked:
        # SQLite folds A to Z; what it is given is in small letters.
        kept = [set(ascii_lower(stored_words(one.words, 1024)).split(" ")) for one in shelf]
        want = {number for number, words in enumerate(kept) if set(asked) <= words}
        assert set(ids(catalogue, *query)) == want
        want = {
            number
            for number, words in enumerate(kept)
            if set(asked[:-1]) <= words and any(word.startswith(asked[-1]) for word in words)
        }
        assert set(ids(catalogue, *query, prefix=True)) == want


def ascii_lower(text: str) -> str:
    return text.translate({ord(c): c.lower() for c in string.ascii_uppercase})


# -- bounds -------------------------------------------------------------------------------------


def test_what_fits_is_not_copied() -> None:
    for one in SHELF[:3]:
        assert bounded(one) is one
    assert bounded(SHELF[4]) == SHELF[4]


def test_what_does_not_fit_is_cut_at_a_character_or_a_word() -> None:
    cut = bounded(
        entry(
            1,
            "\x07" + "é" * 200,
            words=" ".join(["x" * 100, *["wörter"] * 500]),
            more="y" * 10_000,
            size=2**53 + 1,
            files=-1,
            published=-5,
            tags=("two words", "", "é" * 100, "two words"),
            claims=(claim(ALICE, "t" * 999, -1), TitleClaim(BOB, "", 2**70, True)),
        )
    )
    assert cut.title == "é" * 80
    words = cut.words.split(" ")
    assert words[0] == "x" * MAX_WORD
    assert set(words[1:]) == {"wörter"}
    assert 1024 - 8 < len(cut.words.encode()) <= 1024
    assert cut.more == "y" * MAX_WORD
    assert (cut.size, cut.files, cut.published) == (None, None, None)
    assert cut.tags == ("two-words", "é" * 16)
    assert [(one.title, one.seq) for one in cut.claims] == [("t" * 160, 0), ("", 2**63 - 1)]


@given(text=st.text(), limit=st.integers(1, 100))
def test_stored_words_are_bounded_and_stable(text: str, limit: int) -> None:
    stored = stored_words(text, limit)
    assert len(stored.encode()) <= limit
    assert stored_words(stored, limit) == stored
    assert not any(character in stored for character in map(chr, range(32)))
    assert all(0 < len(word.encode()) <= MAX_WORD for word in stored.split(" ") if stored)


def test_the_index_keeps_in_step_whatever_happens(catalogue: Catalogue) -> None:
    """Rows come, change and go in any order, and the index is as if made anew."""
    rng = random.Random(7)
    vocabulary = ["alpha", "beta", "gamma", "delta"]
    held: dict[int, str] = {}
    for step in range(300):
        number = rng.randrange(40)
        if rng.random() < 0.4:
            catalogue.forget([infohash(number)], entry(0).sources)
            held.pop(number, None)
        else:
            words = " ".join(rng.choices(vocabulary, k=3))
            proof = rng.choice([0, 1, 2])
            before = catalogue.get(infohash(number))
            catalogue.put([entry(number, words=words, proof=proof)], now=step)
            if before is None or proof > before.proof:
                held[number] = words
    for word in vocabulary:
        want = {number for number, words in held.items() if word in words.split()}
        assert set(ids(catalogue, word)) == want
