from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.errors import InputError, SearchFormatError
from dht_torrent.search.record import (
    MAX_RECORD,
    PublisherRecord,
    TitleTrust,
    agrees_with_name,
    decode_record,
    encode_record,
    is_verified,
    make_record,
    parse_record,
    record_salt,
    record_target,
    record_value,
    trust_in,
)
from dht_torrent.search.similar import Traits
from dht_torrent.search.titles import preview_of

INFOHASH = bytes(range(20))
KEY = bytes(range(32))
TITLE = "Ubuntu 22.04 Desktop, with a title that is longer than its preview.iso"
WIRE: dict[bytes, Value] = {b"ih": INFOHASH, b"n": b"Ubuntu", b"z": 5, b"f": 1, b"t": 1_700_000_000}

ALIKE = st.builds(
    Traits,
    title=st.just(""),
    content=st.none() | st.binary(min_size=256, max_size=256),
    named=st.none() | st.binary(min_size=64, max_size=64),
    listed=st.none() | st.binary(min_size=64, max_size=64),
    file_ids=st.lists(st.binary(min_size=16, max_size=16), max_size=7).map(tuple),
)
RECORDS = st.builds(
    lambda title, **rest: make_record(title="w" + title, **rest),
    infohash=st.binary(min_size=20, max_size=20),
    title=st.text(max_size=200),
    size=st.integers(0, 2**53),
    files=st.integers(0, 100_000),
    published=st.integers(0, 253_402_300_799),
    kind=st.integers(0, 255),
    tags=st.lists(st.text(st.sampled_from("abé日"), min_size=1, max_size=6), max_size=5),
    alike=st.none() | ALIKE,
)


def record(title: str = TITLE, **rest: Any) -> PublisherRecord:
    return make_record(INFOHASH, title, **{"size": 5, "files": 1, "published": 9} | rest)


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(made: PublisherRecord) -> None:
    raw = encode_record(made)
    assert len(raw) <= MAX_RECORD
    assert decode_record(raw) == made
    assert parse_record(record_value(made)) == made


def test_a_record_on_the_wire_is_the_same_for_ever() -> None:
    made = make_record(
        INFOHASH, "Ubuntu", size=2**33, files=3, published=9, kind=4, tags=["linux", "distro"]
    )
    assert encode_record(made) == (
        b"d1:fi3e2:ih20:" + INFOHASH + b"1:k12:linux distro1:n6:Ubuntu1:ti9e2:tyi4e1:zi8589934592ee"
    )
    assert b"1:k" not in encode_record(record())
    assert b"2:ty" not in encode_record(record())


def test_sketches_and_file_ids_are_keys_of_their_own() -> None:
    alike = Traits(title="", content=b"c" * 256, named=b"n" * 64, listed=b"l" * 64)
    raw = encode_record(record(alike=replace(alike, file_ids=(b"a" * 16, b"b" * 16))))
    plain = encode_record(record())
    assert raw.startswith(b"d1:c256:" + b"c" * 256 + plain[1:5])
    assert b"1:r32:" + b"a" * 16 + b"b" * 16 + b"1:s128:" + b"n" * 64 + b"l" * 64 in raw
    assert b"l" * 64 not in encode_record(record(alike=replace(alike, named=None)))
    assert decode_record(raw).traits == replace(
        alike, title=record().title, size=5, files=1, file_ids=(b"a" * 16, b"b" * 16)
    )


def test_the_largest_record_fits_into_an_item() -> None:
    made = make_record(
        INFOHASH,
        "w" * 300,
        size=2**53,
        files=100_000,
        published=253_402_300_799,
        kind=255,
        tags=["t" * 100],
        alike=Traits(
            title="",
            content=bytes(256),
            named=bytes(64),
            listed=bytes(64),
            file_ids=(bytes(16),) * 9,
        ),
    )
    assert len(encode_record(made)) == 861
    assert decode_record(encode_record(made)) == made


@given(st.binary(max_size=200))
def test_any_bytes_give_a_record_or_a_format_error(raw: bytes) -> None:
    with pytest.raises(SearchFormatError):
        decode_record(raw)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=200),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.binary(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted([*WIRE, b"c", b"k", b"r", b"s", b"ty", b"w", b"later"])), VALUES)
def test_any_value_of_a_field_is_read_or_refused(field: bytes, value: Value) -> None:
    try:
        read = parse_record(WIRE | {field: value})
    except SearchFormatError:
        return
    assert parse_record(record_value(read)) == read


def test_the_least_record_is_read() -> None:
    assert parse_record(WIRE) == PublisherRecord(INFOHASH, "Ubuntu", 5, 1, 1_700_000_000, 0, "")


@pytest.mark.parametrize("missing", sorted(WIRE))
def test_each_field_that_must_be_there_is_missed(missing: bytes) -> None:
    with pytest.raises(SearchFormatError):
        parse_record({key: value for key, value in WIRE.items() if key != missing})


@pytest.mark.parametrize(
    "change",
    [
        {b"ih": INFOHASH[:19]},
        {b"ih": INFOHASH + b"x"},
        {b"ih": 5},
        {b"n": b""},
        {b"n": b"\xe2\x80\xae \x1b"},
        {b"n": b"\xff\xfe"},
        {b"n": b"a" * 161},
        {b"n": []},
        {b"z": -1},
        {b"z": 2**53 + 1},
        {b"z": b"5"},
        {b"f": -1},
        {b"f": 100_001},
        {b"t": -1},
        {b"t": 253_402_300_800},
        {b"ty": -1},
        {b"ty": 256},
        {b"k": b"a" * 101},
        {b"k": b"\xff"},
        {b"k": 3},
    ],
)
def test_what_is_out_of_bounds_is_refused(change: dict[bytes, Value]) -> None:
    with pytest.raises(SearchFormatError):
        parse_record(WIRE | change)


@pytest.mark.parametrize(
    "change",
    [
        {b"n": b"a" * 160},
        {b"z": 0},
        {b"z": 2**53},
        {b"f": 0},
        {b"f": 100_000},
        {b"t": 0},
        {b"ty": 255},
        {b"k": b"a" * 100},
    ],
)
def test_what_is_at_its_bound_is_read(change: dict[bytes, Value]) -> None:
    read = record_value(parse_record(WIRE | change))
    assert {key: read.get(key) for key in change} == change


@pytest.mark.parametrize(
    "value",
    [b"", b"x", 5, [], {}, bytes(255), bytes(63), bytes(192), bytes(15), bytes(7 * 16)],
)
def test_what_is_not_a_sketch_is_ignored(value: Value) -> None:
    for key in (b"c", b"s", b"r"):
        assert parse_record(WIRE | {key: value}) == parse_record(WIRE)


def test_keys_of_later_versions_are_ignored() -> None:
    later: dict[bytes, Value] = {b"c": b"x" * 128, b"s": [1], b"w": 7, b"zz": {b"a": b""}}
    assert parse_record(WIRE | later) == parse_record(WIRE)


@pytest.mark.parametrize("value", [b"", 5, [], [{}]])
def test_what_is_not_a_dict_is_refused(value: Value) -> None:
    with pytest.raises(SearchFormatError):
        parse_record(value)


def test_bytes_beyond_an_item_are_refused() -> None:
    with pytest.raises(SearchFormatError):
        decode_record(bencode.encode(WIRE | {b"c": b"x" * 1000}))


def test_a_title_from_a_stranger_is_clean_wherever_it_comes_from() -> None:
    hostile = "\x1b[31mUb\u200buntu\u202e 22.04\n"
    assert record(hostile).title == "[31mUbuntu 22.04"
    assert parse_record(WIRE | {b"n": hostile.encode()}).title == "[31mUbuntu 22.04"
    assert parse_record(WIRE | {b"k": "a\u202eb\x07".encode()}).tags == "ab"
    assert record(tags=["a\u202eb", "c\nd"]).tags == "ab c d"


def test_a_long_title_is_cut_at_the_end_of_a_character() -> None:
    assert record("ab" + "日" * 200).title == "ab" + "日" * 52


def test_a_record_is_found_by_the_words_of_its_title_and_tags() -> None:
    assert record("Big Buck Bunny", tags=["Film", "bunny", "2008"]).words == (
        *("big", "buck", "bunny", "film", "2008"),
    )


@pytest.mark.parametrize("title", ["", "!!!", "\u202e\u200b"])
def test_a_title_without_a_word_cannot_be_published(title: str) -> None:
    with pytest.raises(InputError):
        record(title)
    with pytest.raises(InputError):
        record(tags=["good", title])


def test_tags_have_a_bound() -> None:
    assert record(tags=["a" * 49, "b" * 50]).tags == "a" * 49 + " " + "b" * 50
    with pytest.raises(InputError):
        record(tags=["a" * 50, "b" * 50])


@pytest.mark.parametrize(
    "bad",
    [
        {"size": -1},
        {"size": 2**53 + 1},
        {"files": 100_001},
        {"published": -1},
        {"published": 253_402_300_800},
        {"kind": 256},
    ],
)
def test_a_record_of_our_own_is_within_the_bounds(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        record(**bad)
    with pytest.raises(ValueError):
        make_record(b"x" * 32, TITLE, size=5, files=1, published=9)


ENTRY = {
    "infohash": INFOHASH,
    "preview": preview_of(TITLE),
    "key": KEY,
    "salt": record_salt(INFOHASH),
    "target": record_target(KEY, INFOHASH),
}


def test_a_record_is_where_the_hash_of_key_and_salt_is() -> None:
    assert ENTRY["salt"] == b"r" + INFOHASH
    assert ENTRY["target"] == hashlib.sha1(KEY + b"r" + INFOHASH).digest()


@pytest.mark.parametrize("preview", [preview_of(TITLE), TITLE, "Ubuntu", "Ubuntu\u202e 22"])
def test_an_entry_that_says_what_the_record_says_is_verified(preview: str) -> None:
    assert is_verified(record(), **ENTRY | {"preview": preview})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "forged",
    [
        {"infohash": bytes(20)},
        {"preview": "Debian"},
        {"preview": "ubuntu"},
        {"preview": TITLE + "x"},
        {"preview": ""},
        {"preview": "\u202e"},
        {"key": bytes(32)},
        {"salt": b""},
        {"salt": b"r" + bytes(20)},
        {"target": bytes(20)},
        # All but the record agree on another torrent.
        {
            "infohash": bytes(20),
            "salt": record_salt(bytes(20)),
            "target": record_target(KEY, bytes(20)),
        },
        # An item of the same key, but not a record.
        {"salt": b"other", "target": hashlib.sha1(KEY + b"other").digest()},
    ],
)
def test_a_forged_entry_is_not_verified(forged: dict[str, Any]) -> None:
    assert not is_verified(record(), **ENTRY | forged)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Ubuntu 22.04", "ubuntu-22.04-desktop-amd64.iso"),
        ("ubuntu 2204", "ubuntu2204"),
        ("LibreOffice", "LibreOffice_7.5"),
        ("x" * 160, "x" * 200),
        ("café", "CAFE\u0301"),
        ("ab", "a\u200bb"),
        ("!!!", "!!!"),
    ],
)
def test_a_title_whose_words_are_in_the_name_agrees(title: str, name: str) -> None:
    assert agrees_with_name(title, name)
    assert trust_in(title, verified=True, name=name) is TitleTrust.STRONG
    assert trust_in(title, verified=False, name=name) is TitleTrust.UNVERIFIED


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Some Film 2024", "garbage.exe"),
        ("Some Film 2024", "Some Film"),
        ("Ubuntu", "Ub\u0443ntu"),  # a Cyrillic letter
        ("Ubun", "Ubuntu"),
        ("Ubuntu", ""),
        ("!!!", "Ubuntu"),
    ],
)
def test_a_title_with_words_of_its_own_differs(title: str, name: str) -> None:
    assert not agrees_with_name(title, name)
    assert trust_in(title, verified=True, name=name) is TitleTrust.DIFFERS
    assert trust_in(title, verified=False, name=name) is TitleTrust.DIFFERS


@given(st.text(max_size=300))
def test_a_title_made_of_the_name_agrees_with_it(name: str) -> None:
    try:
        made = record(name)
    except InputError:
        return
    assert agrees_with_name(made.title, name)


def test_before_the_info_dict_is_known_the_record_vouches_alone() -> None:
    assert trust_in("Ubuntu", verified=True, name=None) is TitleTrust.VERIFIED
    assert trust_in("Ubuntu", verified=False, name=None) is TitleTrust.UNVERIFIED
