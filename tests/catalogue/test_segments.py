"""Catalogues as files that strangers send: what is packed comes out again, and bombs do not."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
import zlib
from collections import Counter, deque
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.catalogue import Entry, ListedFile, Proof, Source, segments
from dht_torrent.catalogue.segments import (
    MAX_PACKED,
    MAX_ROWS,
    MAX_SEGMENTS,
    ROWS,
    is_segment,
    pack,
    read,
    unpack,
)
from dht_torrent.errors import SearchFormatError
from dht_torrent.search.words import title_words
from tests.helpers.catalogues import entry

HEADER = b'{"catalogue": 1}\n'


def entries_in(data: bytes) -> list[Entry]:
    skipped: Counter[str] = Counter()
    found = list(read([data], title_words, skipped))
    assert not skipped
    return found


def own(number: int) -> Entry:
    return replace(
        entry(number, f"Title {number}"),
        infohash=(number * 0x9E3779B97F4A7C15 % 2**160).to_bytes(20, "little"),
        sources=Source.OWN,
        proof=Proof.STRONG,
        size=10 * number,
        tags=("a",),
        listed=(ListedFile("a/b", 3),),
    )


def test_what_is_packed_comes_out_unverified_and_as_nobodys_own() -> None:
    packed = pack([own(number) for number in range(50)])
    assert list(packed) == ["0000.rows"]
    found = entries_in(packed["0000.rows"])
    assert [one.infohash for one in found] == sorted(own(n).infohash for n in range(50))
    before = {own(n).infohash: own(n) for n in range(50)}
    for one in found:
        same = before[one.infohash]
        assert (one.title, one.size, one.tags) == (same.title, same.size, same.tags)
        assert one.listed == same.listed
        assert one.proof is Proof.UNVERIFIED
        assert one.sources is Source.IMPORT


def test_an_empty_catalogue_is_an_empty_segment() -> None:
    ((name, data),) = pack([]).items()
    assert is_segment(name)
    assert entries_in(data) == []


def test_one_more_torrent_changes_one_segment() -> None:
    many = [own(number) for number in range(5 * ROWS)]
    before, after = pack(many), pack([*many, own(5 * ROWS)])
    assert 5 <= len(before) == len(after) <= MAX_SEGMENTS
    assert sum(before[name] != after[name] for name in before) == 1
    assert sorted(before) == list(before)
    assert sum(len(entries_in(data)) for data in before.values()) == 5 * ROWS
    # A thousand names: less than one piece of a torrent.
    assert max(map(len, before.values())) < 150_000


@pytest.mark.parametrize("name", ["0000.rows", "0fff.rows", "abcd.rows"])
def test_names_of_segments(name: str) -> None:
    assert is_segment(name)


@pytest.mark.parametrize(
    "name", ["0000", "0000.rows.gz", "../0000.rows", "0000.ROWS", "00000.rows"]
)
def test_other_names_are_no_segments(name: str) -> None:
    assert not is_segment(name)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends too early"),
        (b"\x00" * 100, "cannot be unpacked"),
        (zlib.compress(HEADER)[:-6], "ends too early"),
        (zlib.compress(HEADER) + b"more", "something behind"),
        (zlib.compress(HEADER) + bytes(100_000), "something behind"),
        (zlib.compress(b'{"catalogue": true}\n'), "not a segment"),
        (zlib.compress(b"{}\n"), "not a segment"),
        (zlib.compress(b"[" * 60_000 + b"\n"), "not a segment"),
        (zlib.compress(b"null\n"), "not a segment"),
        (zlib.compress(b'{"catalogue": true, "x": 1e999}x\n'), "not a segment"),
        (zlib.compress(b'{"catalogue": 2}\n'), "newer"),
        (zlib.compress(HEADER + b"{}"), "no end"),
        (zlib.compress(HEADER + b"x" * 70_000 + b"\n"), "line longer"),
        (zlib.compress(HEADER + b"x" * 10_000_000), "line longer"),
        (zlib.compress(HEADER + b"\n" * (MAX_ROWS + 1)), "rows"),
        (bytes(MAX_PACKED + 1), "16,777,217 bytes"),
    ],
)
def test_a_segment_that_breaks_the_rules_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(SearchFormatError, match=why):
        list(unpack(data))


def test_a_bomb_is_refused_and_takes_little_memory() -> None:
    line = json.dumps({"id": "ab" * 20, "name": "a" * 3000}).encode() + b"\n"
    bomb = zlib.compress(HEADER + line * 25_000, 9)  # 75 MB in 200 kB
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        with pytest.raises(SearchFormatError, match="more than 64 MiB"):
            deque(unpack(bomb), maxlen=0)
        assert tracemalloc.get_traced_memory()[1] - before < 2_000_000
    finally:
        tracemalloc.stop()


def test_rows_that_make_no_sense_are_skipped_and_counted() -> None:
    good = b'{"id": "%s", "name": "good"}\n' % (b"ab" * 20)
    skipped: Counter[str] = Counter()
    data = zlib.compress(HEADER + b"junk\n" + good + b"[]\n" + b'{"id": "1"}\n' + b"\n")
    assert [one.title for one in read([data], title_words, skipped)] == ["good"]
    assert sum(skipped.values()) == 4


@pytest.mark.parametrize(("what", "most"), [("MAX_ALL_ROWS", 19), ("MAX_ALL_UNPACKED", 1100)])
def test_many_segments_have_bounds_together(
    what: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small ones can each unpack to a thousandfold."""
    monkeypatch.setattr(segments, what, most)
    line = json.dumps({"id": "ab" * 20, "name": "a" * 60}).encode() + b"\n"
    good = zlib.compress(HEADER + line * 9)
    skipped: Counter[str] = Counter()
    assert len(list(read([good], title_words, skipped))) == 9
    bad = zlib.compress(HEADER + b"junk\n" * 9 + b"junk" * 20 + b"\n")
    with pytest.raises(SearchFormatError, match="a catalogue of more than"):
        list(read([good, bad, bad], title_words, skipped))


def test_a_large_segment_comes_out_whole() -> None:
    lines = [b"%d" % number * 40 for number in range(MAX_ROWS)]
    data = zlib.compress(HEADER + b"".join(line + b"\n" for line in lines), 0)
    assert len(data) > 8_000_000
    assert list(unpack(data)) == lines


@given(st.binary(max_size=300))
def test_any_bytes_are_a_segment_or_refused(data: bytes) -> None:
    for given_ in (data, zlib.compress(data), zlib.compress(HEADER + data + b"\n")):
        with contextlib.suppress(SearchFormatError):
            list(read([given_], title_words, Counter()))
