"""When the other limits of a node hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dht_torrent.config.alternative import AlternativeLimits, WeeklyHours, parse_hours
from dht_torrent.errors import InputError
from dht_torrent.torrent.alternation import Alternation, is_due

MONDAY = datetime(2026, 6, 1)  # noqa: DTZ001 - local time


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("text", "due", "not_due"),
    [
        ("09:00-17:00", [at(0, 9), at(6, 16, 59)], [at(0, 8, 59), at(0, 17), at(2, 0)]),
        ("mon-fri 9:00-17:00", [at(0, 9), at(4, 12)], [at(5, 12), at(6, 12)]),
        ("sun 9:00-17:00", [at(6, 9)], [at(0, 9), at(5, 9)]),
        ("sat-mon 9:00-10:00", [at(5, 9), at(6, 9), at(0, 9)], [at(1, 9), at(4, 9)]),
        # Over midnight: the day is that on which it begins.
        (
            "fri 22:00-06:30",
            [at(4, 22), at(5, 0), at(5, 6, 29)],
            [at(4, 6), at(5, 6, 30), at(5, 22)],
        ),
        ("sat 22:00-06:00", [at(5, 23), at(6, 5)], [at(5, 5), at(6, 23), at(0, 5)]),
        ("wed 12:00-12:00", [at(2, 12), at(3, 11, 59)], [at(2, 11), at(3, 12)]),
        ("18:00-24:00", [at(0, 18), at(0, 23, 59)], [at(0, 0), at(0, 17)]),
        ("never 09:00-17:00", [], [at(day, 12) for day in range(7)]),
    ],
)
def test_a_schedule_covers_its_hours_and_no_others(
    text: str, due: list[datetime], not_due: list[datetime]
) -> None:
    schedule = parse_hours(text)
    assert [is_due(schedule, one) for one in due] == [True] * len(due)
    assert [is_due(schedule, one) for one in not_due] == [False] * len(not_due)
    assert parse_hours(str(schedule)) == schedule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9-17",
        "25:00-9:00x",
        "09:60-10:00",
        "09:00-10:60",
        "24:00-25:00",
        "xyz 09:00-17:00",
        "mon- 9:00-10:00",
        "mon,,tue 9:00-10:00",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_hours(text)


@pytest.mark.parametrize("wrong", [{"begin": -1}, {"end": 1440}, {"days": 128}, {"days": -1}])
def test_a_schedule_has_only_times_that_there_are(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        WeeklyHours(**wrong)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("day", "text", "minutes"),
    [
        (datetime(2026, 3, 29, tzinfo=UTC), "02:00-03:00", 0),  # which is left out that night
        (datetime(2026, 3, 29, tzinfo=UTC), "01:30-03:30", 60),
        (datetime(2026, 10, 25, tzinfo=UTC), "02:00-03:00", 120),  # and comes twice in this one
        (datetime(2026, 10, 25, tzinfo=UTC), "01:30-03:30", 180),
        (datetime(2026, 6, 1, tzinfo=UTC), "02:00-03:00", 60),
    ],
)
def test_it_goes_by_the_clock_on_the_wall(
    day: datetime, text: str, minutes: int, berlin: None
) -> None:
    schedule = parse_hours(text)
    begin = day.timestamp() - 7200
    seen = [
        is_due(schedule, datetime.fromtimestamp(begin + 60 * minute))  # noqa: DTZ006 - local time
        for minute in range(24 * 60)
    ]
    assert sum(seen) == minutes


def test_the_schedule_switches_at_its_ends_and_its_user_in_between() -> None:
    one = Alternation(AlternativeLimits(by_clock=True))
    assert (one.look(at(0, 8)), one.limits.on) == (False, False)
    assert (one.look(at(0, 9)), one.limits.on) == (True, True)
    one.set(replace(one.limits, on=False))
    assert (one.look(at(0, 12)), one.limits.on) == (False, False)
    assert (one.look(at(0, 17)), one.limits.on) == (False, False)
    one.set(replace(one.limits, on=True))
    assert (one.look(at(0, 20)), one.limits.on) == (False, True)
    assert (one.look(at(1, 9)), one.limits.on) == (False, True)
    assert (one.look(at(1, 17)), one.limits.on) == (True, False)
    # One that begins in its middle holds at once, and so does one that is changed.
    assert Alternation(AlternativeLimits(by_clock=True)).look(at(0, 12))
    one.set(replace(one.limits, hours=WeeklyHours(begin=18 * 60, end=19 * 60)))
    assert (one.look(at(1, 18)), one.limits.on) == (True, True)
    # Without the clock nothing switches but its user.
    one.set(replace(one.limits, by_clock=False))
    assert (one.look(at(1, 20)), one.limits.on) == (False, True)
