"""Sizes and dates as people limit a search by them."""

from __future__ import annotations

import datetime
import re

from dht_torrent.bounds import MAX_TOTAL
from dht_torrent.errors import InputError
from dht_torrent.rates import parse_size

ABOUT = 0.1
"""A size that stands alone, with a unit, means that much more or less: people read and write
`700M` for 698.3 MB as for 734,003,200 bytes."""

_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}
_AGO = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?([hdw])", re.ASCII | re.IGNORECASE)


def parse_sizes(text: str) -> tuple[int | None, int | None]:
    """The least and the largest size, in bytes: of `1G..2G`, `1G..`, `..2G`, or `700M`, which is
    about that. Raises InputError."""
    least, dots, most = text.partition("..")
    if not dots:
        size = _size(least)
        if least.strip().isdecimal():
            return size, size
        return round(size * (1 - ABOUT)), round(size * (1 + ABOUT))
    if not least.strip() and not most.strip():
        raise InputError("a range of sizes has a beginning or an end: 1G..2G, 1G.. or ..2G")
    low = _size(least) if least.strip() else None
    high = _size(most) if most.strip() else None
    if low is not None and high is not None and low > high:
        raise InputError(f"a range of sizes begins with the smaller one: {text[:60]!r}")
    return low, high


def _size(text: str) -> int:
    size = parse_size(text)
    if size > MAX_TOTAL:
        raise InputError(f"no torrent is as large as {text.strip()[:60]!r}")
    return size


def parse_since(text: str, now: float) -> float:
    """The Unix time that `7d`, `12h` or `2w` ago was, or that of a date or a time in our time zone
    (`2026-11-28`, `2026-11-28T12:00`). `now` is Unix time. Raises InputError."""
    wanted = text.strip()
    if match := _AGO.fullmatch(wanted):
        since = now - float(match[1]) * _UNITS[match[2].lower()]
        return max(0.0, since)
    try:
        since = datetime.datetime.fromisoformat(wanted).timestamp()
    except (ValueError, OverflowError, OSError):
        raise InputError(
            f"--since takes 12h, 7d, 2w or a date such as 2026-11-28, not {text[:60]!r}"
        ) from None
    if since > now:
        raise InputError(f"--since is in the future: {text[:60]!r}")
    return max(0.0, since)
