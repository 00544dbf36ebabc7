"""Sizes and dates as people write them, and nothing else is taken for one."""

from __future__ import annotations

import contextlib
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.cli.ranges import parse_since, parse_sizes
from dht_torrent.errors import InputError

NOW = 1_764_000_000.0


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("1G..2G", (10**9, 2 * 10**9)),
        ("1GiB..2GiB", (2**30, 2**31)),
        (" 1 G .. 2 G ", (10**9, 2 * 10**9)),
        ("..2G", (None, 2 * 10**9)),
        ("1.5M..", (1_500_000, None)),
        ("0..", (0, None)),
        ("5..5", (5, 5)),
        ("700M", (630_000_000, 770_000_000)),
        ("1GiB", (round(0.9 * 2**30), round(1.1 * 2**30))),
        ("734003200", (734003200, 734003200)),
        ("..9007199254740992", (None, 2**53)),
    ],
)
def test_a_range_has_a_least_and_a_largest_size(
    text: str, sizes: tuple[int | None, int | None]
) -> None:
    assert parse_sizes(text) == sizes


@pytest.mark.parametrize(
    "text",
    [
        *("", "..", " .. ", "2G..1G", "1..2..3", "-1", "1X", "big", "1G-2G", "..1Q", "\u0661G"),
        *("nan", "9007199254740993", "9008T..", "1e9", "G", "1G...2G"),
    ],
)
def test_other_sizes_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_sizes(text)
    assert "\n" not in str(refused.value)


def local(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("7d", NOW - 7 * 86400),
        ("12h", NOW - 12 * 3600),
        ("2W", NOW - 14 * 86400),
        (" 1.5 d ", NOW - 129600),
        ("0d", NOW),
        ("999999w", 0.0),
        ("2025-11-01", local("2025-11-01")),
        ("2025-11-01T12:30", local("2025-11-01T12:30")),
        ("2025-11-01 12:30:00+00:00", local("2025-11-01T12:30:00+00:00")),
        ("1960-01-01", 0.0),
    ],
)
def test_since_is_some_time_ago_or_a_date_of_our_calendar(text: str, since: float) -> None:
    assert parse_since(text, NOW) == since


@pytest.mark.parametrize(
    "text",
    [
        *("", "7", "7m", "d", "-7d", "yesterday", "2025-13-01", "9999-01-01", "1e3d", "\u0667d"),
        *("12345678d", "0001-01-01T00:00:00+23:59x"),
    ],
)
def test_other_dates_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_since(text, NOW)
    assert "\n" not in str(refused.value)


@given(st.text(max_size=30))
def test_any_text_is_a_range_or_refused(text: str) -> None:
    for parse in parse_sizes, lambda text: parse_since(text, NOW):
        with contextlib.suppress(InputError):
            parse(text)


@given(st.integers(0, 2**53), st.integers(0, 2**53))
def test_bytes_are_exact(low: int, high: int) -> None:
    low, high = sorted((low, high))
    assert parse_sizes(f"{low}..{high}") == (low, high)
    assert parse_sizes(str(low)) == (low, low)
