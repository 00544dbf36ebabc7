"""When the other limits of a node hold: by a schedule, by what its user says, or not.

The rule: the schedule switches at its begin and at its end, and nothing else; who switches in
between is obeyed until then. It goes by the clock on the wall: an hour that the change to summer
time leaves out does not come, and one that the change back repeats comes twice.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from dht_torrent.config.alternative import AlternativeLimits, WeeklyHours


def is_due(schedule: WeeklyHours, local: datetime) -> bool:
    """Does the schedule cover this local time?"""
    day = local.isoweekday() % 7  # Sunday is 0
    minute = local.hour * 60 + local.minute
    today, yesterday = schedule.days >> day & 1, schedule.days >> (day - 1) % 7 & 1
    if schedule.begin < schedule.end:
        return bool(today and schedule.begin <= minute < schedule.end)
    return bool((today and minute >= schedule.begin) or (yesterday and minute < schedule.end))


class Alternation:
    """Which limits hold."""

    def __init__(self, limits: AlternativeLimits) -> None:
        self.limits = limits
        self._was_due: bool | None = None  # at the last look; None: there was none

    def set(self, limits: AlternativeLimits) -> None:
        """This is wanted from now on."""
        old, self.limits = self.limits, limits
        if (old.by_clock, old.hours) != (limits.by_clock, limits.hours):
            self._was_due = None

    def look(self, local: datetime) -> bool:
        """It is this time now. Were the limits switched?"""
        if not self.limits.by_clock:
            return False
        due = is_due(self.limits.hours, local)
        changes = due != self._was_due and due != self.limits.on
        self._was_due = due
        if changes:
            self.limits = replace(self.limits, on=due)
        return changes
