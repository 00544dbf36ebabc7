"""BEP 40: how much two peers should prefer each other."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dht_torrent.checksum import crc32c
from dht_torrent.ids import Address
from dht_torrent.torrent.priority import priority

HOSTS = st.one_of(
    st.ip_addresses(v=4, network="123.213.0.0/16"),
    st.ip_addresses(v=4),
    st.ip_addresses(v=6, network="2001:db8::/32"),
    st.ip_addresses(v=6),
)
ADDRESSES = st.builds(Address, HOSTS.map(str), st.integers(1, 65535))


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ("123.213.32.10", "98.76.54.32", 0xEC2D7224),
        ("123.213.32.10", "123.213.32.234", 0x99568189),
    ],
)
def test_the_examples_of_bep_40(one: str, other: str, wanted: int) -> None:
    assert priority(Address(one, 1), Address(other, 2)) == wanted


@pytest.mark.parametrize(
    ("one", "other", "hashed"),
    [
        ("1.2.255.255", "1.3.255.255", "0102555501035555"),
        ("1.2.255.255", "1.2.254.255", "0102fe550102ff55"),
        ("1.2.3.255", "1.2.3.254", "010203fe010203ff"),
        (
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "ffff:ffff:fffe:ffff:ffff:ffff:ffff:ffff",
            "fffffffffffe55555555555555555555" + "ffffffffffff55555555555555555555",
        ),
        (  # the same /48
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "ffff:ffff:ffff:feff:ffff:ffff:ffff:ffff",
            "fffffffffffffe555555555555555555" + "ffffffffffffff555555555555555555",
        ),
        (  # the same /56
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "ffff:ffff:ffff:fffe:ffff:ffff:ffff:ffff",
            "fffffffffffffffe5555555555555555" + "ffffffffffffffff5555555555555555",
        ),
        (  # the same /64
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "ffff:ffff:ffff:ffff:feff:ffff:ffff:ffff",
            "fffffffffffffffffe55555555555555" + "ffffffffffffffffff55555555555555",
        ),
    ],
)
def test_how_much_of_an_address_counts(one: str, other: str, hashed: str) -> None:
    assert priority(Address(one, 1), Address(other, 2)) == crc32c(bytes.fromhex(hashed))


def test_on_one_host_the_ports_count() -> None:
    one, other = Address("1.2.3.4", 0x1A2B), Address("1.2.3.4", 0x0304)
    assert priority(one, other) == crc32c(bytes.fromhex("03041a2b"))
    assert priority(one, one) == crc32c(bytes.fromhex("1a2b1a2b"))


@given(ADDRESSES, ADDRESSES)
def test_both_sides_find_the_same(one: Address, other: Address) -> None:
    assume(one.is_ipv6 == other.is_ipv6)
    assert priority(one, other) == priority(other, one)
    assert 0 <= priority(one, other) < 1 << 32


def test_addresses_of_two_families_have_none() -> None:
    with pytest.raises(ValueError, match="two families"):
        priority(Address("1.2.3.4", 1), Address("::1", 1))
