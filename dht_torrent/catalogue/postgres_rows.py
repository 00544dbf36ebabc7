"""Rows of the PostgreSQL catalogue as the values they stand for, and the other way round."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dht_torrent.catalogue.entries import (
    Entry,
    ListedFile,
    PublisherTrust,
    Source,
    TitleClaim,
)
from dht_torrent.catalogue.postgres_schema import Connection
from dht_torrent.catalogue.rows import entry_of

_SMALL: Final = {ord(letter): letter.lower() for letter in string.ascii_uppercase}

COLUMNS: Final = """t.id, t.infohash, t.title, t.words, t.more,
    CASE WHEN o.node IS NULL THEN t.tags ELSE o.tags END,
    t.size, t.files, CASE WHEN o.node IS NULL THEN t.published ELSE o.published END,
    t.first_seen, t.seen,
    CASE WHEN o.node IS NOT NULL THEN t.sources WHEN t.sources = 1 THEN 2 ELSE t.sources & ~1 END,
    t.proof, h.seeds, h.peers, h.checked, h.how"""
"""What one node has of a torrent: what another shares is for it something that the network has."""
ROWS: Final = """torrent t LEFT JOIN health h ON h.torrent = t.id
    LEFT JOIN own o ON o.node = %s AND o.torrent = t.id"""
"""The node's number is bound in it."""


def entries_of(
    db: Connection,
    rows: Sequence[tuple[Any, ...]],
    scores: Mapping[int, float],
    files: bool = False,
) -> list[Entry]:
    """Of rows with `COLUMNS`."""
    ids = [row[0] for row in rows]
    claims: dict[int, list[TitleClaim]] = {}
    for torrent, key, title, seq, verified, trust in db.execute(
        """SELECT torrent, publisher, title, seq, verified, coalesce(trust, 0) AS trusted
            FROM claim LEFT JOIN publisher ON key = publisher WHERE torrent = ANY(%s)
            ORDER BY trusted DESC, verified DESC, seen DESC, publisher""",
        (ids,),
    ):
        claim = TitleClaim(key, title, seq, verified, PublisherTrust(trust))
        claims.setdefault(torrent, []).append(claim)
    listed: dict[int, list[ListedFile]] = {}
    if files:
        for torrent, path, size in db.execute(
            "SELECT torrent, path, size FROM file WHERE torrent = ANY(%s) ORDER BY torrent, place",
            (ids,),
        ):
            listed.setdefault(torrent, []).append(ListedFile(path, size))
    return [
        entry_of(row, scores.get(row[0], 0.0), claims.get(row[0], ()), listed.get(row[0], ()))
        for row in rows
    ]


def folded(words: str) -> str:
    """With small letters for A to Z, as SQLite's index has them. Most have no others."""
    return words.translate(_SMALL) if words != words.lower() else words


def merged(first: Entry, second: Entry) -> Entry:
    """What remains of two entries of one torrent, put in one after the other; by the rule of
    `Catalogue.put`."""
    ours = first.sources & Source.OWN
    sources, proof = first.sources | second.sources, max(first.proof, second.proof)
    claims = {one.publisher: one for one in first.claims}
    for one in second.claims:
        known = claims.get(one.publisher)
        if known is None or (one.verified, one.seq) >= (known.verified, known.seq):
            claims[one.publisher] = one
    told = tuple(claims.values())
    if second.sources & Source.OWN or (not ours and second.proof > first.proof):
        return replace(
            second,
            sources=sources,
            proof=proof,
            claims=told,
            listed=second.listed or first.listed,
        )
    if ours or second.proof < first.proof:
        return replace(first, sources=sources, proof=proof, claims=told)
    return replace(
        first,
        more=first.more or second.more,
        tags=first.tags or second.tags,
        size=first.size if first.size is not None else second.size,
        files=first.files if first.files is not None else second.files,
        published=first.published if first.published is not None else second.published,
        listed=first.listed or second.listed,
        sources=sources,
        proof=proof,
        claims=told,
    )
