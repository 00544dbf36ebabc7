from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.titles import MAX_MARKS, PREVIEW, clean_title, cut, may_be_cut, preview_of
from dht_torrent.search.words import title_words

HOSTILE = st.text(
    st.sampled_from(
        "aB é日\u0301\u20dd\u202e\u2066\u200b\u200d\x1b[31m\x07\x9b\n\t\u2028\ufe0f\u3164\x85"
    )
    | st.characters(),
    max_size=60,
)


@given(HOSTILE)
def test_nothing_that_steers_or_hides_survives(text: str) -> None:
    title = clean_title(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in title)
    assert not set(title) & set("\u034f\u115f\u1160\u2800\u3164\ufe0f\uffa0\U000e0100")
    assert title == title.strip()
    assert "  " not in title
    assert len(title) <= 255
    assert clean_title(title) == title


@given(HOSTILE, st.integers(0, 50))
def test_a_cut_title_begins_the_title(text: str, size: int) -> None:
    title = clean_title(text)
    short = cut(title, size)
    assert title.startswith(short)
    assert len(short.encode()) <= size
    assert clean_title(short) == short
    if len(title.encode()) > size:
        assert len(cut(title + "x", size + 4)) >= len(short)
    else:
        assert short == title


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Ubuntu 22.04", "Ubuntu 22.04"),
        ("  two\twords\nand \u3000 more\u2028", "two words and more"),
        ("\x1b]0;owned\x07\x1b[2Jplain\x9b31m", "]0;owned[2Jplain31m"),
        ("exe.\u202egpj", "exe.gpj"),
        ("a \u200b b", "a b"),
        ("pass\u00adword\ufeff", "password"),
        ("z\u0300\u0301\u0302\u0303\u0304\u0305 z", "z\u0300\u0301\u0302\u0303 z"),
        ("z\u20dd\u20de\u0302\u0303\u20df z", "z\u20dd\u20de\u0302\u0303 z"),
        ("Việt Nam हिन्दी", "Việt Nam हिन्दी"),
        ("\u202e\u200b \u3164", ""),
        ("", ""),
    ],
)
def test_a_title_is_cleaned(text: str, title: str) -> None:
    assert clean_title(text) == title


def test_a_title_of_any_length_is_bounded() -> None:
    assert clean_title("a" * 10_000_000) == "a" * 255
    assert clean_title("a" + "\u0301" * 10_000_000) == "a" + "\u0301" * MAX_MARKS
    assert clean_title("\u200b" * 10_000_000 + "a") == ""


def test_a_preview_is_cut_at_the_end_of_a_character() -> None:
    assert preview_of("short") == "short"
    assert preview_of("日" * 30) == "日" * 5
    assert preview_of("a" + "日" * 30) == "a" + "日" * 5
    assert preview_of("a" * (PREVIEW - 1) + " b") == "a" * (PREVIEW - 1)
    assert preview_of("a" * 30) == "a" * PREVIEW


def test_a_preview_that_may_be_cut_is_told_from_one_that_is_not() -> None:
    assert not may_be_cut("a" * (PREVIEW - 5))
    assert may_be_cut("a" * (PREVIEW - 4))


@given(st.text(st.sampled_from("aB é日\U0001f600"), max_size=30).map(clean_title))
def test_no_preview_that_was_cut_is_taken_for_a_whole_title(title: str) -> None:
    assert preview_of(title) == title or may_be_cut(preview_of(title))


@given(st.text(st.sampled_from("aB é日\u0301\u202e\u200b\ufe0f "), max_size=40))
def test_cleaning_does_not_change_the_words(text: str) -> None:
    assert title_words(clean_title(text)) == title_words(text)
