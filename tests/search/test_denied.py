"""What a deny-list denies, and which are refused."""

from __future__ import annotations

import pytest

from dht_torrent.errors import InputError
from dht_torrent.search.denied import MAX_BYTES, MAX_LINE, DenyList, parse_deny_list

HASH = bytes(range(20))


def deny(*lines: str) -> DenyList:
    return parse_deny_list("\n".join(lines).encode())


@pytest.mark.parametrize(
    "title",
    ["forbidden", "A FORBIDDEN film", "förbiddèn.mkv", "some/folder/forbidden-1.txt", "ｆorbidden"],
)
def test_a_word_denies_a_title_in_any_case_and_accent(title: str) -> None:
    assert deny("Forbidden").denies(bytes(20), [title])


@pytest.mark.parametrize("title", ["", "forbid", "forbiddens", "for bidden"])
def test_a_word_denies_no_title_without_it(title: str) -> None:
    assert not deny("forbidden").denies(bytes(20), [title])


def test_a_line_of_several_words_denies_what_has_all_in_one_text() -> None:
    denied = deny("red apple")
    assert denied.denies(bytes(20), ["An apple, red"])
    assert not denied.denies(bytes(20), ["a red pear", "a green apple"])
    assert not denied.denies(bytes(20), ["red"])


def test_words_of_a_script_without_spaces_are_found_within_a_text() -> None:
    assert deny("映画").denies(bytes(20), ["新映画館"])
    assert not deny("映画").denies(bytes(20), ["画映"])


def test_an_infohash_is_denied_whatever_it_is_called() -> None:
    denied = deny(HASH.hex().upper())
    assert denied.has(HASH)
    assert denied.denies(HASH, [])
    assert not denied.denies(bytes(20), [HASH.hex()])


def test_comments_and_empty_lines_deny_nothing() -> None:
    denied = parse_deny_list(b"\xef\xbb\xbf# forbidden\r\n\r\n   \r\nother\r\n")
    assert len(denied) == 1
    assert not denied.denies(bytes(20), ["forbidden"])
    assert denied.denies(bytes(20), ["other"])
    assert not parse_deny_list(b"")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"good\n\xff\n", "not UTF-8"),
        (b"good\n...\n", "line 2 has no word"),
        (b"a" * (MAX_LINE + 1), "line 1 has more than"),
        (b"a" * (MAX_BYTES + 1), "MiB"),
        (b"a\n" * 500_001, "more than 500,000 entries"),
    ],
)
def test_a_list_that_cannot_be_understood_is_refused_as_a_whole(data: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse_deny_list(data)
