"""Rates and sizes as people write them."""

from __future__ import annotations

import re

from dht_torrent.errors import InputError

_AMOUNT = r"(\d{1,16}(?:\.\d{1,9})?) ?(?:([kmgt])(i?))?b?"
_RATE = re.compile(rf"{_AMOUNT}(?:/s)?", re.ASCII | re.IGNORECASE)
_SIZE = re.compile(_AMOUNT, re.ASCII | re.IGNORECASE)


def parse_rate(text: str) -> int | None:
    """Bytes per second from a number with an optional unit: `500K`, `2M`, `1.5MiB`, `80kB/s`.

    K is 1000 and Ki 1024. `0` and `none` mean no limit, which is None. Raises InputError."""
    wanted = text.strip()
    if wanted.lower() == "none":
        return None
    match = _RATE.fullmatch(wanted)
    if match is None:
        raise InputError(f"not a rate such as 500K or 1.5MiB (bytes per second): {text[:60]!r}")
    rate = _bytes(match)
    if not rate and float(match[1]):
        raise InputError(f"slower than one byte per second: {text[:60]!r}")
    return rate or None


def parse_size(text: str) -> int:
    """Bytes from a number with an optional unit: `1G`, `700M`, `1.5GiB`. Raises InputError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"not a size such as 700M or 1.5GiB: {text[:60]!r}")
    return _bytes(match)


def _bytes(match: re.Match[str]) -> int:
    number, unit, binary = match.groups()
    power = "kmgt".index(unit.lower()) + 1 if unit else 0
    unit_bytes: int = (1024 if binary else 1000) ** power
    # Whole numbers exactly, which floats are only up to 2^53.
    return round(float(number) * unit_bytes) if "." in number else int(number) * unit_bytes
