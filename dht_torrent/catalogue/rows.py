"""What both stores make of rows and queries in the same way."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from dht_torrent.catalogue.entries import (
    CatalogueQuery,
    Entry,
    ListedFile,
    Proof,
    Source,
    SwarmHealth,
    TitleClaim,
)


def entry_of(
    row: tuple[Any, ...],
    relevance: float,
    claims: Iterable[TitleClaim],
    listed: Iterable[ListedFile],
) -> Entry:
    """The torrent of a row of seventeen columns: the number, then those that are read below."""
    _, infohash, title, words, more, tags, size, files, published, *rest = row
    first_seen, seen, sources, proof, seeds, peers, checked, how = rest
    return Entry(
        infohash=infohash,
        title=title,
        words=words,
        more=more,
        tags=tuple(tags.split(" ")) if tags else (),
        size=size,
        files=files,
        published=published,
        first_seen=first_seen,
        seen=seen,
        sources=Source(sources),
        proof=Proof(proof),
        health=None if checked is None else SwarmHealth(seeds, peers, checked, how),
        claims=tuple(claims),
        listed=tuple(listed),
        relevance=relevance,
    )


def without_blocked(batch: Iterable[Entry], blocked: Collection[bytes]) -> list[Entry]:
    """The batch without claims of blocked publishers, and what only they vouch for."""
    kept: list[Entry] = []
    for entry in batch:
        good = tuple(claim for claim in entry.claims if claim.publisher not in blocked)
        if len(good) < len(entry.claims):
            if not good and not entry.sources & Source.OWN:
                continue
            kept.append(replace(entry, claims=good))
        else:
            kept.append(entry)
    return kept


def limits(query: CatalogueQuery, mark: str) -> tuple[str, list[object]]:
    """The limits of size and date as SQL, with this mark for each value; and the values."""
    asked = {
        f"t.size >= {mark}": query.min_size,
        f"t.size <= {mark}": query.max_size,
        f"t.published >= {mark}": query.since,
        f"t.published <= {mark}": query.until,
    }
    given = {
        text: max(-(2**63), min(number, 2**63 - 1))
        for text, number in asked.items()
        if number is not None
    }
    return " AND ".join(given), list(given.values())
