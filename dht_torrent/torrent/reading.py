"""Which pieces those who read a torrent while it loads will need next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice, zip_longest
from typing import NamedTuple

from dht_torrent.geometry import Geometry
from dht_torrent.torrent.pieces import Bitfield

MAX_URGENT = 256
"""Pieces, of all readers together."""


class ReadingPlace(NamedTuple):
    """Where somebody reads, in bytes of the content: from `at`, up to `end`."""

    at: int
    end: int


def window(place: ReadingPlace, ahead: int, geometry: Geometry) -> range:
    """The pieces with the next `ahead` bytes, two at least."""
    if place.at >= place.end:
        return range(0)
    length = geometry.piece_length
    first, last = place.at // length, (place.end - 1) // length
    return range(first, min(last, max(first + 1, (place.at + ahead - 1) // length)) + 1)


def urgent(
    places: Sequence[ReadingPlace], ahead: int, geometry: Geometry, have: Bitfield
) -> tuple[int, ...]:
    """The missing pieces of all their windows, what each needs first before what any needs next."""
    missing = (
        [index for index in window(place, ahead, geometry) if index not in have] for place in places
    )
    turns = chain.from_iterable(zip_longest(*missing))
    return tuple(islice(dict.fromkeys(i for i in turns if i is not None), MAX_URGENT))
