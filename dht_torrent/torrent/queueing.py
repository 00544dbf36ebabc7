"""Which torrents are at work, where a node wants only so many downloads and seeds at a time: the
first ones of the queue. One in which nothing has moved for a while goes on and takes no turn from
others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from dht_torrent.ids import InfoHash

Work = Literal["download", "seed"]


class Waiting(NamedTuple):
    """A torrent that its user wants at work, running or not."""

    info_hash: InfoHash
    work: Work
    runs: bool
    stalled: bool
    """It runs, and nothing has moved for a while."""


def turns(
    queue: Iterable[Waiting], most_downloads: int | None, most_seeds: int | None
) -> set[InfoHash]:
    """Those that may be at work now, of the queue in its order. None: all of them."""
    left: dict[Work, float] = {
        "download": float("inf") if most_downloads is None else most_downloads,
        "seed": float("inf") if most_seeds is None else most_seeds,
    }
    admitted = set()
    for one in queue:
        if one.runs and one.stalled:
            admitted.add(one.info_hash)
        elif left[one.work] > 0:
            left[one.work] -= 1
            admitted.add(one.info_hash)
    return admitted
