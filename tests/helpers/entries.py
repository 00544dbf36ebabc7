"""Entries of the search index, and nodes made of them."""

from __future__ import annotations

import hashlib

from hypothesis import strategies as st

from dht_torrent.search.codes import hash_digits
from dht_torrent.search.label import Index, Label
from dht_torrent.search.node import (
    MAX_HIDDEN,
    Entry,
    Posting,
    TrieNode,
    WordEntry,
    join,
    made_of,
)
from dht_torrent.search.titles import MAX_PREVIEW

WORD = Label(Index.WORDS, b"ubuntu")
"""The root of a tree of postings."""
NOW = 400_000
"""In minutes of the index."""


def posting(number: int, *, minutes: int = NOW, title: str | None = None) -> Posting:
    """A posting of the torrent with this number, anywhere in the tree."""
    infohash = hashlib.sha1(b"torrent %d" % number).digest()
    record = hashlib.sha1(b"record %d" % number).digest()
    preview = f"The title of number {number}, about so long"
    return Posting(infohash, record, minutes, number % 65536, 1, title or preview)


def text(max_bytes: int) -> st.SearchStrategy[str]:
    """Any text that is not longer as UTF-8."""
    fits = st.text(st.characters(exclude_categories=["Cs"]), max_size=max_bytes)
    return fits.map(lambda it: it.encode()[:max_bytes].decode(errors="ignore"))


times = st.integers(NOW - 2000, NOW + 30)
hashes = st.integers(0, 30).map(lambda number: hashlib.sha1(b"%d" % number).digest())
postings = st.builds(
    Posting,
    st.binary(min_size=20, max_size=20) | hashes,
    st.just(bytes(20)) | st.binary(min_size=20, max_size=20),
    times,
    st.integers(0, 65535),
    st.integers(0, 255),
    text(MAX_PREVIEW),
    st.lists(st.integers(0, 65535), max_size=MAX_HIDDEN).map(tuple),
)
plain = st.text("-0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=20)
words = plain | st.text(
    st.characters(min_codepoint=0x80, exclude_categories=["Cs"]), min_size=1
).map(lambda it: it.encode()[:24].decode(errors="ignore"))
word_entries = st.builds(WordEntry, words, st.integers(0, 255), times)
children = st.dictionaries(st.integers(0, 3), st.integers(0, 15))


def nodes(
    entries: st.SearchStrategy[Posting] | st.SearchStrategy[WordEntry] = postings,
    most: int = 8,
) -> st.SearchStrategy[TrieNode]:
    """Nodes of a root, small enough to be stored with these numbers."""
    made: st.SearchStrategy[list[Entry]] = st.lists(entries, max_size=most)
    return st.builds(lambda kids, some: join(TrieNode(kids), made_of(some)), children, made)


def digits(number: int) -> bytes:
    """Those of `posting(number)` in a tree of a word."""
    return hash_digits(posting(number).infohash[:8])
