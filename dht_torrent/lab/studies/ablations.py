"""Swarms that differ in one thing. The rule: the variants of a group have the same nodes, content
and rates; only the policy that gives a variant its name is another.

The groups: *size* (`swarm`, `server`) for every number of leeches, and `allowed_fast` for one of
them; *order* (`rarest`, `random`, `in_order`) where the seed is the bottleneck; *choking*
(`tit_for_tat`, `random_unchoke`) where the leeches are, and some of them give nothing; *endgame*
(`endgame`, `no_endgame`) with a second seed that is very slow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from dht_torrent.config import PeerConfig, TorrentConfig
from dht_torrent.lab.studies.spread import Spread, SpreadPlan

FREE_RIDERS: Final = 0.25
"""Share of the leeches in the *choking* group that give nothing."""
LEECHES: Final = 16
"""Leeches in the groups *order* and *choking*, and of `allowed_fast`."""
FEW: Final = 4
"""Leeches in the group *endgame*: the tail of many is hidden by the many."""
COMPARED: Final = (
    ("server", "swarm"),
    ("allowed_fast", "swarm"),
    ("random", "rarest"),
    ("in_order", "rarest"),
    ("random_unchoke", "tit_for_tat"),
    ("no_endgame", "endgame"),
)
"""Which variants one holds against each other: what is expected to be slower, and than what."""
_ALWAYS: Final = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What one swarm has that others have not."""

    leeches: int | None = None
    """At most so many; None for each size up to the largest."""
    seeds: tuple[float, ...] = (1.0,)
    """What each seed can send, in times of what a leech can."""
    pace: float = 1.0
    """What a leech can send, in times of what it is told. Slower swarms see more choking rounds."""
    free_riders: float = 0.0
    """Share of the leeches."""
    sequential: bool = False
    allowed_fast: int = 0
    torrent: TorrentConfig = field(default_factory=TorrentConfig)


VARIANTS: Final[dict[str, Variant]] = {
    "swarm": Variant(),
    "server": Variant(free_riders=1.0),
    "allowed_fast": Variant(leeches=LEECHES, allowed_fast=PeerConfig().allowed_fast),
    "rarest": Variant(leeches=LEECHES, seeds=(0.5,)),
    "random": Variant(
        leeches=LEECHES, seeds=(0.5,), torrent=TorrentConfig(random_first_pieces=_ALWAYS)
    ),
    "in_order": Variant(leeches=LEECHES, seeds=(0.5,), sequential=True),
    "tit_for_tat": Variant(leeches=LEECHES, seeds=(4.0,), pace=0.5, free_riders=FREE_RIDERS),
    "random_unchoke": Variant(
        leeches=LEECHES,
        seeds=(4.0,),
        pace=0.5,
        free_riders=FREE_RIDERS,
        torrent=TorrentConfig(unchoke_slots=0, optimistic_slots=5),
    ),
    "endgame": Variant(leeches=FEW, seeds=(2.0, 0.05)),
    "no_endgame": Variant(leeches=FEW, seeds=(2.0, 0.05), torrent=TorrentConfig(endgame_copies=1)),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One swarm that has run."""

    variant: str
    leeches: int
    seed: int
    size: int
    """Bytes of the content."""
    spread: Spread

    @property
    def copies(self) -> float:
        """Payload the seeds sent, in sizes of the content; a swarm that shares well needs few."""
        return self.spread.seeds_uploaded / self.size

    @property
    def last(self) -> float:
        """When the last leech was complete."""
        return max(self.spread.seconds() + self.spread.seconds(gives=False))


def sizes(variant: Variant, largest: int) -> list[int]:
    """How many leeches its swarms have: 2, 4, 8, ... and `largest`, or the one number it has."""
    if variant.leeches is not None:
        return [min(variant.leeches, largest)]
    powers = [1 << power for power in range(1, largest.bit_length())]
    return [*(power for power in powers if power < largest), largest]


def plan(variant: Variant, leeches: int, *, size: int, piece_length: int, up: int) -> SpreadPlan:
    """The swarm of `leeches`; each can send `up` bytes per second, in the variant's own pace, and
    receive four times that."""
    up = max(1, round(variant.pace * up))
    return SpreadPlan(
        leeches=leeches,
        size=size,
        piece_length=piece_length,
        seeds=[max(1, round(share * up)) for share in variant.seeds],
        up=up,
        down=4 * up,
        free_riders=round(variant.free_riders * leeches),
        sequential=variant.sequential,
        allowed_fast=variant.allowed_fast,
        torrent=variant.torrent,
    )


def figures(results: Sequence[Result]) -> dict[str, float]:
    """What the results say, as medians over seeds; a comparison only where both sides have run."""
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.variant, result.leeches), []).append(result)
    found: dict[str, float] = {}
    last: dict[str, dict[int, float]] = {}
    for (variant, leeches), runs in groups.items():
        last.setdefault(variant, {})[leeches] = median([run.last for run in runs])
        found[f"{variant}_{leeches}_last"] = last[variant][leeches]
        found[f"{variant}_{leeches}_copies"] = median([run.copies for run in runs])
        givers = [median(some) for run in runs if (some := run.spread.seconds())]
        riders = [median(some) for run in runs if (some := run.spread.seconds(gives=False))]
        if givers and riders:
            found[f"{variant}_{leeches}_giver"] = median(givers)
            found[f"{variant}_{leeches}_rider"] = median(riders)
            found[f"{variant}_rider_over_giver"] = median(riders) / median(givers)
    for variant in ("swarm", "server"):
        by_size = last.get(variant, {})
        if len(by_size) > 1:
            few, many = min(by_size), max(by_size)
            doublings = math.log2(many / few)
            # The exponent of n that fits both ends: 1 is a server's, near 0 is a swarm's.
            found[f"{variant}_exponent"] = math.log2(by_size[many] / by_size[few]) / doublings
            found[f"{variant}_seconds_per_doubling"] = (by_size[many] - by_size[few]) / doublings
    for worse, better in COMPARED:
        if worse in last and better in last:
            common = max(set(last[worse]) & set(last[better]), default=None)
            if common is not None:
                found[f"{worse}_over_{better}"] = last[worse][common] / last[better][common]
    return found
