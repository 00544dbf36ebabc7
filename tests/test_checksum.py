"""CRC-32C."""

from __future__ import annotations

import pytest

from dht_torrent.checksum import crc32c


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes.fromhex("624C14007BD50000"), 0xEC2D7224),
        (bytes.fromhex("7BD5200A7BD520EA"), 0x99568189),
    ],
)
def test_the_checksum_is_castagnolis(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc
