"""Entries of a catalogue, made in one line."""

from __future__ import annotations

import hashlib
from typing import Any

from dht_torrent.catalogue import Entry, Source, TitleClaim

ALICE, BOB, CAROL = (bytes([number]) * 32 for number in (1, 2, 3))
"""Publishers."""


def infohash(number: int) -> bytes:
    return hashlib.sha1(b"%d" % number).digest()


def entry(number: int, title: str = "Some title", **fields: Any) -> Entry:
    """The words are those of the title in small letters, unless they are given."""
    given: dict[str, Any] = {"words": title.lower(), "sources": Source.NETWORK, **fields}
    return Entry(infohash=infohash(number), title=title, **given)


def claim(
    publisher: bytes, title: str = "Some title", seq: int = 1, verified: bool = True
) -> TitleClaim:
    return TitleClaim(publisher, title, seq, verified)
