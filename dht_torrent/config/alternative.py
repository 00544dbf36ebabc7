"""The other limits of a node, for hours in which others need the line: as Transmission has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dht_torrent.errors import InputError

DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
EVERY_DAY: Final = 127
MINUTES: Final = 24 * 60
_HOURS: Final = re.compile(r"(?:(\S+)\s+)?(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)")


@dataclass(frozen=True, slots=True)
class WeeklyHours:
    """Hours of the week, by the clock on the wall."""

    begin: int = 9 * 60
    """Minutes after midnight (Transmission)."""
    end: int = 17 * 60
    """The same; if it is not later than `begin`, of the next day."""
    days: int = EVERY_DAY
    """On which days it begins, added up: Sunday is 1, Monday 2, Saturday 64."""

    def __post_init__(self) -> None:
        """Raises InputError for what is no time."""
        for name, minutes in (("begins", self.begin), ("ends", self.end)):
            if not 0 <= minutes < MINUTES:
                raise InputError(f"a day {name} at minute 0 to {MINUTES - 1}, not {minutes}")
        if not 0 <= self.days <= EVERY_DAY:
            raise InputError(f"days are added up to 0 to {EVERY_DAY}, not {self.days}")

    def __str__(self) -> str:
        """As `parse_hours` reads it."""
        hours = "-".join(f"{one // 60:02}:{one % 60:02}" for one in (self.begin, self.end))
        if self.days == EVERY_DAY:
            return hours
        named = [name for number, name in enumerate(DAYS) if self.days >> number & 1]
        return f"{','.join(named) or 'never'} {hours}"


@dataclass(frozen=True, slots=True)
class AlternativeLimits:
    """Limits that hold instead of the usual ones, when they are switched on."""

    up: int | None = 50_000
    """Bytes per second; None is no limit (Transmission)."""
    down: int | None = 50_000
    on: bool = False
    by_clock: bool = False
    """They are switched on when the schedule begins, and off when it ends. In between whoever
    switches them is obeyed."""
    hours: WeeklyHours = WeeklyHours()


def parse_hours(text: str) -> WeeklyHours:
    """`09:00-17:00`, `mon-fri 22:00-06:30`, `sat,sun 08:00-20:00`. Raises InputError."""
    found = _HOURS.fullmatch(text.strip().lower())
    if found is None or int(found[3]) > 59 or int(found[5]) > 59:
        raise InputError(f"hours are as 'mon-fri 09:00-17:00', not {text[:40]!r}")
    begin, end = int(found[2]) * 60 + int(found[3]), int(found[4]) * 60 + int(found[5])
    return WeeklyHours(begin, 0 if end == MINUTES else end, _days(found[1]))


def _days(text: str | None) -> int:
    if text is None:
        return EVERY_DAY
    if text == "never":
        return 0
    days = 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise InputError(f"days are {', '.join(DAYS)}, not {part[:20]!r}")
        at, to = DAYS.index(first), DAYS.index(last or first)
        while True:
            days |= 1 << at
            if at == to:
                break
            at = (at + 1) % len(DAYS)
    return days
