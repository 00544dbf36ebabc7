"""Rates are read as people write them, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import InputError
from dht_torrent.rates import parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("0", None),
        ("none", None),
        ("None", None),
        ("0K", None),
        ("1", 1),
        ("500", 500),
        ("500B", 500),
        ("500K", 500_000),
        ("500k", 500_000),
        ("500KB/s", 500_000),
        ("500 kB/s", 500_000),
        ("500Ki", 512_000),
        ("500KiB", 512_000),
        ("2M", 2_000_000),
        ("1.5MiB", 1_572_864),
        (" 1.5MiB/s ", 1_572_864),
        ("0.25G", 250_000_000),
        ("1Ti", 1 << 40),
    ],
)
def test_a_rate_is_bytes_per_second(text: str, rate: int | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "K",
        "-1",
        "+1",
        "1e6",
        "1,5M",
        ".5M",
        "5X",
        "5Mbit",
        "5 M B",
        "5i",
        "inf",
        "nan",
        "0.1",
        "٣",
        "9" * 400,
    ],
)
def test_what_is_not_a_rate_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_rate(text)


@given(st.text(max_size=12) | st.from_regex(r"[0-9.]{0,6}[kKmMi]{0,2}B?", fullmatch=True))
def test_any_text_is_a_rate_or_one_error(text: str) -> None:
    try:
        rate = parse_rate(text)
    except InputError:
        return
    assert rate is None or rate > 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500", 500), ("700M", 700_000_000), ("1GiB", 1 << 30), (" 1.5 KB ", 1500)],
)
def test_a_size_is_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "none", "1/s", "1MB/s", "-1", "1..2", "x", "1e3", "0x10"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a size"):
        parse_size(text)
