"""Rates as people write them."""

from __future__ import annotations

import re

from dht_torrent.errors import InputError

_RATE = re.compile(
    r"(\d{1,15}(?:\.\d{1,9})?) ?(?:([kmgt])(i?))?b?(?:/s)?", re.ASCII | re.IGNORECASE
)


def parse_rate(text: str) -> int | None:
    """Bytes per second from a number with an optional unit: `500K`, `2M`, `1.5MiB`, `80kB/s`.

    K is 1000 and Ki 1024. `0` and `none` mean no limit, which is None. Raises InputError."""
    wanted = text.strip()
    if wanted.lower() == "none":
        return None
    match = _RATE.fullmatch(wanted)
    if match is None:
        raise InputError(f"not a rate such as 500K or 1.5MiB (bytes per second): {text[:60]!r}")
    number, unit, binary = match.groups()
    power = "kmgt".index(unit.lower()) + 1 if unit else 0
    rate = round(float(number) * (1024 if binary else 1000) ** power)
    if not rate and float(number):
        raise InputError(f"slower than one byte per second: {text[:60]!r}")
    return rate or None
