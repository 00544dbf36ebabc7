"""CRC-32C, which binds DHT ids to IPs (BEP 42) and orders peers (BEP 40)."""

from __future__ import annotations

from typing import Final

_POLYNOMIAL: Final = 0x82F63B78  # Castagnoli's, reflected


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE: Final = tuple(map(_entry, range(256)))


def crc32c(data: bytes) -> int:
    """The CRC-32C of RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
