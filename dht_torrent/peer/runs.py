"""The bytes of many messages about adjacent full blocks of one piece, made at once: a template that
fits any piece is stamped with the index, byte by byte of it for all messages.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from dht_torrent.geometry import BLOCK
from dht_torrent.peer.messages import EXACT_LENGTH, REQUEST

SPAN: Final = (1 << 24) // BLOCK
"""Blocks for which the first byte of `begin` is the same: no run is longer."""

_request = Struct(">IBIII")
_REQUESTS: Final = b"".join(
    _request.pack(EXACT_LENGTH[REQUEST], REQUEST, 0, number * BLOCK, BLOCK)
    for number in range(SPAN)
)
"""Requests for the first blocks of piece 0."""


def encode_run(index: int, begin: int, blocks: int) -> bytes:
    """Requests for so many full blocks of a piece, side by side. Empty if no template fits them:
    `begin` is not a multiple of BLOCK, or they cross a multiple of SPAN blocks."""
    first, rest = divmod(begin & 0xFFFFFF, BLOCK)
    if rest or first + blocks > SPAN:
        return b""
    size = _request.size
    run = bytearray(_REQUESTS[first * size : (first + blocks) * size])
    for place, stamp in ((5, index >> 24), (6, index >> 16), (7, index >> 8), (8, index)):
        if stamp & 0xFF:
            run[place::size] = bytes((stamp & 0xFF,)) * blocks
    if begin >> 24:
        run[9::size] = bytes((begin >> 24,)) * blocks
    return bytes(run)
