"""What its user and the clock say of a torrent: labels, limits of seeding, when it was added and
finished, how long it has been at work. Nobody in the exchange of pieces looks at it.

Times of the calendar are Unix seconds; None is never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from dht_torrent.engine.resume import MAX_LABELS, Resume
from dht_torrent.engine.views import State
from dht_torrent.errors import InputError
from dht_torrent.torrent.seeding_limits import SeedingLimits, SharedEnough, enough

MAX_LABEL: Final = 200
"""Characters of a label."""
RECORD_MOVED: Final = 60.0
"""Seconds at work after which what is counted is recorded: a torrent of which payload moves ..."""
RECORD_STILL: Final = 600.0
"""... and any other. A thousand seeds write two records a second at most."""
AT_WORK: Final = ("metadata", "downloading")


class Keeping:
    """Of one torrent, over all its sessions."""

    def __init__(self, clock: Callable[[], float], resume: Resume | None) -> None:
        self.labels: tuple[str, ...] = resume.labels if resume else ()
        self.limits: SeedingLimits = resume.seeding if resume else SeedingLimits()
        self.retired: SharedEnough | None = resume.retired if resume else None
        """It was paused as it has been shared enough, by this limit."""
        self.added_at: float = resume.added_at if resume else clock()
        self.completed_at: float | None = resume.completed_at if resume else None
        self.active_at: float | None = resume.active_at if resume else None
        """When payload last came or went."""
        self.seconds_downloading: float = resume.seconds_downloading if resume else 0.0
        self.seconds_seeding: float = resume.seconds_seeding if resume else 0.0
        self.rank: float = resume.rank if resume and resume.rank is not None else self.added_at
        """Orders the queue: the lowest first."""
        self.still = 0.0
        """Seconds at work in which nothing has moved."""
        self._clock = clock
        self.unrecorded = False
        """Payload came or went since that was last recorded."""
        self._unrecorded_time = 0.0  # seconds at work since then
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

    def looked(self, state: State, moved: int, seconds: float) -> bool:
        """So many bytes of payload have come and gone in its life, and it was in this state for the
        last `seconds`. Whether it is time to record that."""
        has_moved = self._moved not in (-1, moved)
        self._moved = moved
        if has_moved:
            self.active_at = self._clock()
        if state in AT_WORK:
            self.seconds_downloading += seconds
        elif state == "seeding":
            self.seconds_seeding += seconds
        at_work = state == "seeding" or state in AT_WORK
        self.still = self.still + seconds if at_work and not has_moved else 0.0
        self.unrecorded |= has_moved
        self._unrecorded_time += seconds if at_work else 0.0
        if self._unrecorded_time < (RECORD_MOVED if self.unrecorded else RECORD_STILL):
            return False
        self.recorded()
        return True

    def recorded(self) -> None:
        """What is counted here is on its way into the record."""
        self.unrecorded = False
        self._unrecorded_time = 0.0

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
