"""Rates are read as people write them, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import Config, parse_rate
from dht_torrent.errors import InputError


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
def test_what_is_no_rate_is_refused(text: str) -> None:
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
    ("listen", "read"),
    [
        ("127.0.0.1:1", ["127.0.0.1:1"]),
        ("[::0001]:1", ["[::1]:1"]),
        (["[::1]:2", "127.0.0.1:1"], ["127.0.0.1:1", "[::1]:2"]),
        (Config().listen, ["0.0.0.0:6881", "[::]:6881"]),
    ],
)
def test_a_node_listens_on_one_address_of_each_family_at_most(
    listen: str | list[str], read: list[str]
) -> None:
    assert [str(address) for address in Config(listen=listen).listen_addresses()] == read


@pytest.mark.parametrize(
    "listen", [(), ["[::1]:1", "[::1]:2"], ["1.2.3.4:1", "[::1]:1", "1.2.3.4:2"], "localhost:1"]
)
def test_other_addresses_are_refused(listen: str | list[str]) -> None:
    with pytest.raises(InputError):
        Config(listen=listen).listen_addresses()
