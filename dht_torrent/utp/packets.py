"""Packets of uTP as bytes (BEP 29): a header of 20 bytes, a linked list of extensions, and the
payload, which is never copied here.

On the hot path callers unpack `HEADER` themselves and come here only if there are extensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from dht_torrent.errors import UtpError

DATA: Final = 0
FIN: Final = 1
STATE: Final = 2
RESET: Final = 3
SYN: Final = 4

VERSION: Final = 1
HEADER: Final = Struct(">BBHIIIHH")
"""Type and version, first extension, connection id, timestamp and its difference in microseconds,
window in bytes, sequence number, acknowledged sequence number."""
HEADER_SIZE: Final = HEADER.size
SACK: Final = 1
MAX_SACK: Final = 252
"""Bytes of a mask: its length is one byte, and a multiple of four."""
FIRST_PACKETS: Final = 4
"""Packets that may follow a SYN before one of them is acknowledged: the other end, which keeps
nothing of the SYN, knows us by any of them."""
MASK_16: Final = 0xFFFF
MASK_32: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet, in numbers as they are on the wire."""

    kind: int
    connection_id: int
    timestamp: int
    """Microseconds of the sender's clock, modulo 2**32."""
    difference: int
    """Microseconds between the last packet's timestamp and its arrival here, modulo 2**32."""
    window: int
    sequence: int
    acknowledged: int
    sack: int = 0
    """Bit n is set if packet `acknowledged + 2 + n` has arrived; 0 is no SACK."""
    payload: bytes | memoryview = b""


def is_utp(datagram: bytes | memoryview) -> bool:
    """Whether a datagram of the shared socket is for uTP. A DHT message begins with `d`."""
    return len(datagram) >= HEADER_SIZE and datagram[0] & 15 == VERSION and datagram[0] >> 4 <= SYN


def encode(packet: Packet) -> bytes:
    """Raises OverflowError or struct.error if a number does not fit: a bug of the caller."""
    mask = sack_extension(packet.sack) if packet.sack else b""
    head = HEADER.pack(
        packet.kind << 4 | VERSION,
        SACK if mask else 0,
        packet.connection_id,
        packet.timestamp,
        packet.difference,
        packet.window,
        packet.sequence,
        packet.acknowledged,
    )
    return b"".join((head, mask, packet.payload))


def decode(datagram: bytes | memoryview) -> Packet:
    """Raises UtpError. The payload is a view of the datagram."""
    if not is_utp(datagram):
        raise UtpError("not a uTP packet")
    first, extension, connection_id, stamp, difference, window, number, ack = HEADER.unpack_from(
        datagram
    )
    sack, begin = extensions(datagram, extension) if extension else (0, HEADER_SIZE)
    payload = memoryview(datagram)[begin:]
    return Packet(first >> 4, connection_id, stamp, difference, window, number, ack, sack, payload)


def extensions(datagram: bytes | memoryview, extension: int) -> tuple[int, int]:
    """The SACK mask, 0 if there is none, and where the payload begins. Extensions that are not
    known are skipped. Raises UtpError if they reach beyond the datagram."""
    sack = 0
    at = HEADER_SIZE
    size = len(datagram)
    while extension:
        if at + 2 > size:
            raise UtpError("an extension is cut off")
        following, length = datagram[at], datagram[at + 1]
        at += 2
        if at + length > size:
            raise UtpError("an extension is longer than its packet")
        if extension == SACK:
            # Of any length: libtorrent's is not always a multiple of four, as BEP 29 wants it.
            sack = int.from_bytes(datagram[at : at + length], "little")
        extension = following
        at += length
    return sack, at


def sack_extension(mask: int) -> bytes:
    """As the only extension; what is beyond `MAX_SACK` bytes is left out."""
    length = min(-(-mask.bit_length() // 32) * 4, MAX_SACK)
    return bytes((0, length)) + (mask & ((1 << length * 8) - 1)).to_bytes(length, "little")
