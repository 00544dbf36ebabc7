"""BEP 33: its own example word for word."""

from __future__ import annotations

import pytest

from dht_torrent.dht import bloom
from dht_torrent.dht.bloom import Bloom

EXAMPLE = """
F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75EE7CCBAE
FE5EEDB1FBFAFF67F6ABFF5E43DDBCA3FD9B9FFDF4FFD3E9DFF12D1BDF59DB53DBE9FA5B
7FF3B8FDFCDE1AFB8BEDD7BE2F3EE71EBBBFE93BCDEEFE148246C2BC5DBFF7E7EFDCF24F
D8DC7ADFFD8FFFDFDDFFF7A4BBEEDF5CB95CE81FC7FCFF1FF4FFFFDFE5F7FDCBB7FD79B3
FA1FC77BFE07FFF905B7B7FFC7FEFEFFE0B8370BB0CD3F5B7F2BD93FEB4386CFDD6F7FD5
BFAF2E9EBFFFFEECD67ADBF7C67F17EFD5D75EBA6FFEBA7FFF47A91EB1BFBB53E8ABFB57
62ABE8FF237279BFEFBFEEF5FFC5FEBFDFE5ADFFADFEE1FB737FFFFBFD9F6AEFFEEE76B6
FD8F72EF
"""
HOSTS = [f"192.0.2.{n}" for n in range(256)] + [f"2001:db8::{n:x}" for n in range(0x3E8)]


def test_the_example() -> None:
    filled = bloom.of(HOSTS)
    assert bytes(filled) == bytes.fromhex(EXAMPLE)
    assert filled.zeros == 619
    assert filled.estimate() == pytest.approx(1224.9308, abs=1e-4)


def test_united_filters_count_each_host_once() -> None:
    half, rest = bloom.of(HOSTS[:800]), bloom.of(HOSTS[500:])
    half.unite(rest)
    assert bytes(half) == bytes.fromhex(EXAMPLE)


def test_an_empty_filter_has_no_peers_and_a_full_one_many() -> None:
    assert Bloom().estimate() == 0
    assert bloom.of(["1.2.3.4"]).estimate() == pytest.approx(1, abs=0.01)
    assert 6000 < Bloom(b"\xff" * 256).estimate() < 8000


def test_a_filter_has_256_bytes() -> None:
    for size in (0, 255, 257):
        with pytest.raises(ValueError, match="256"):
            Bloom(bytes(size))
