"""What lies in the places of others is put into its own."""

from __future__ import annotations

from collections.abc import Sequence


def put_in_place(places: Sequence[memoryview], first: int, belongs: Sequence[int]) -> None:
    """What lies in place number `first + n` goes to place `belongs[n]`, for each n. No two belong
    into the same place, nor any before `first`, and all places are of one size. Where something
    leaves and nothing comes, and in places that only receive, what was there is lost.

    Each is copied once, and one of each circle twice.
    """
    sources = {to: at for at, to in enumerate(belongs, start=first) if to != at}
    end = first + len(belongs)
    for to in [to for to in sources if to >= end]:  # a place that is free, and one that gets free
        while (at := sources.pop(to, -1)) >= 0:
            places[to][:] = places[at]
            to = at
    while sources:
        to, at = start, _ = sources.popitem()
        spare = bytes(places[start])
        while at != start:
            places[to][:] = places[at]
            to, at = at, sources.pop(at)
        places[to][:] = spare
