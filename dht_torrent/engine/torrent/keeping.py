"""What its user and the clock say of a torrent: labels, limits of seeding, when it was added and
finished, how long it has been at work. Nobody in the exchange of pieces looks at it.

Times of the calendar are Unix seconds; None is never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from dht_torrent import bencode
from dht_torrent.config.seeding import SeedingLimits, SharedEnough
from dht_torrent.engine.resume import MAX_LABELS, MAX_RECORD, Resume
from dht_torrent.engine.views import State
from dht_torrent.errors import BencodeError, InputError, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.torrent.seeding_limits import enough, in_force

MAX_LABEL: Final = 200
"""Characters of a label."""
_LONG: Final = 1 << 50
AT_WORK: Final = ("metadata", "downloading")


@dataclass(slots=True)
class Times:
    """What changes all the time while a torrent is at work. Those of all torrents of a node are
    saved together (`housekeeping`), as a thousand records would be too many to write."""

    active_at: float | None = None
    """When payload last came or went."""
    downloading: float = 0.0
    """Seconds."""
    seeding: float = 0.0


def encode_times(times: Mapping[InfoHash, Times]) -> bytes:
    """`decode_times` is the inverse, but for parts of a second."""
    return bencode.encode(
        {
            bytes(info_hash): [int(one.active_at or 0), int(one.downloading), int(one.seeding)]
            for info_hash, one in times.items()
        }
    )


def decode_times(payload: bytes) -> dict[InfoHash, Times]:
    """Raises StorageError saying what is wrong."""
    try:
        value = bencode.decode(payload, max_depth=3, max_size=MAX_RECORD)
    except BencodeError as exc:
        raise StorageError(f"not a record of times: {exc}") from exc
    if not isinstance(value, dict):
        raise StorageError("not a record of times: not a dict")
    found = {}
    for key, row in value.items():
        match row:
            case [int(active), int(downloading), int(seeding)] if len(key) == 20 and (
                min(active, downloading, seeding) >= 0 and max(active, downloading, seeding) < _LONG
            ):
                found[InfoHash(key)] = Times(
                    float(active) if active else None, float(downloading), float(seeding)
                )
            case _:
                raise StorageError("not a record of times: not all rows are three numbers")
    return found


class Keeping:
    """Of one torrent, over all its sessions."""

    def __init__(self, clock: Callable[[], float], resume: Resume | None) -> None:
        self.labels: tuple[str, ...] = resume.labels if resume else ()
        self.limits: SeedingLimits = resume.seeding if resume else SeedingLimits()
        self.retired: SharedEnough | None = resume.retired if resume else None
        """It was paused as it has been shared enough, by this limit."""
        self.added_at: float = resume.added_at if resume else clock()
        self.completed_at: float | None = resume.completed_at if resume else None
        self.started_at = clock()
        self.times = Times()
        self.rank: float = resume.rank if resume and resume.rank is not None else self.added_at
        """Orders the queue: the lowest first."""
        self.still = 0.0
        """Seconds at work in which nothing has moved."""
        self._clock = clock
        self.moved = False
        """Payload came or went since that was last recorded."""
        self._moved = -1  # bytes, at the last look

    def completed(self) -> bool:
        """All that is wanted is here. False if that was so before."""
        if self.completed_at is not None:
            return False
        self.completed_at = self._clock()
        return True

    def label(self, labels: Iterable[str]) -> None:
        """Raises InputError, and then nothing has changed."""
        wanted = tuple(dict.fromkeys(map(str.strip, labels)))
        if len(wanted) > MAX_LABELS:
            raise InputError(f"at most {MAX_LABELS} labels, not {len(wanted)}")
        for one in wanted:
            if not one or len(one) > MAX_LABEL or "," in one or not one.isprintable():
                raise InputError(
                    f"a label has 1 to {MAX_LABEL} characters without commas, not {one[:40]!r}"
                )
        self.labels = wanted

    def looked(self, state: State, moved: int, seconds: float) -> None:
        """So many bytes of payload have come and gone in its life, and it was in this state for the
        last `seconds`."""
        has_moved = self._moved not in (-1, moved)
        self._moved = moved
        if has_moved:
            self.times.active_at = self._clock()
            self.moved = True
        if state in AT_WORK:
            self.times.downloading += seconds
        elif state == "seeding":
            self.times.seeding += seconds
        at_work = state == "seeding" or state in AT_WORK
        self.still = self.still + seconds if at_work and not has_moved else 0.0

    def has_limits(self, node_ratio: float | None, node_idle: float | None) -> bool:
        """Is there anything that `enough` could find?"""
        ratio, idle = self.limits.ratio, self.limits.idle
        return in_force(ratio, node_ratio) is not None or in_force(idle, node_idle) is not None

    def enough(
        self, ratio: float, node_ratio: float | None, node_idle: float | None
    ) -> SharedEnough | None:
        """Which limit it has reached."""
        return enough(self.limits, node_ratio, node_idle, ratio=ratio, idle=self.still)

    def insist(self) -> None:
        """Its user starts it again: if it was shared enough, the ratio that it has reached is no
        limit for it any more, and the time without movement begins anew."""
        if self.retired == "ratio":
            self.limits = replace(self.limits, ratio="none")
        self.retired = None
        self.still = 0.0
