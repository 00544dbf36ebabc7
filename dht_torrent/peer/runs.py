"""Messages of one kind in a row, worked on all at once: requests for adjacent full blocks of one
piece, and such blocks; and Haves.

The rule: what is taken as a run is, byte for byte, what the single messages would be. The bytes of
requests come from a template that fits any piece, stamped with the index.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from dht_torrent.errors import PeerProtocolError
from dht_torrent.geometry import BLOCK
from dht_torrent.peer.messages import (
    EXACT_LENGTH,
    FULL_PIECE,
    HAVE,
    MAX_PIECE_LENGTH,
    PIECE,
    REQUEST,
    Have,
    Haves,
    Request,
    RequestRun,
)

SPAN: Final = (1 << 24) // BLOCK
"""Blocks for which the first byte of `begin` is the same: no run is longer."""

_LENGTH: Final = EXACT_LENGTH[REQUEST]
_request = Struct(">IBIII")
_unpack, _unpack_all = _request.unpack_from, _request.iter_unpack
_SIZE: Final = _request.size
_unpack_piece = Struct(">IBII").unpack_from
_HAVE_LENGTH: Final = EXACT_LENGTH[HAVE]
_unpack_haves = Struct(">IBI").iter_unpack
_HAVE_SIZE: Final = 4 + _HAVE_LENGTH
_BYTES: Final = tuple(bytes((value,)) for value in range(256))
_new = tuple.__new__  # as in `connection`
_REQUESTS: Final = b"".join(
    _request.pack(_LENGTH, REQUEST, 0, number * BLOCK, BLOCK) for number in range(SPAN)
)
"""Requests for the first blocks of piece 0."""


def encode_run(index: int, begin: int, blocks: int) -> bytearray:
    """Requests for so many full blocks of a piece, side by side. Empty if no template fits them:
    `begin` is not a multiple of BLOCK, or they cross a multiple of SPAN blocks."""
    first, rest = divmod(begin & 0xFFFFFF, BLOCK)
    if rest or first + blocks > SPAN:
        return bytearray()
    size = _SIZE
    run = bytearray(_REQUESTS[first * size : (first + blocks) * size])
    run[8::size] = _BYTES[index & 0xFF] * blocks
    if index > 0xFF:
        run[7::size] = _BYTES[index >> 8 & 0xFF] * blocks
    if index > 0xFFFF:
        run[6::size] = _BYTES[index >> 16 & 0xFF] * blocks
        run[5::size] = _BYTES[index >> 24] * blocks
    if begin > 0xFFFFFF:
        run[9::size] = _BYTES[begin >> 24] * blocks
    return run


def take_requests(
    view: memoryview, at: int, end: int, count: int, events: list[Any]
) -> tuple[int, int]:
    """Add events for the whole requests that begin at `at`, in a torrent of `count` pieces. Returns
    where they end, and how many messages more than events they are. Raises PeerProtocolError."""
    append, step, more = events.append, _SIZE, 0
    while end - at >= step:
        length, kind, index, begin, _ = _unpack(view, at)
        if kind != REQUEST or length != _LENGTH:
            break
        if index >= count:
            raise _beyond(index, count)
        # A run of full blocks can go no further than the last byte of the index is the same, which
        # one look at all of them tells.
        whole = min((end - at) // step, SPAN - begin // BLOCK % SPAN)
        lows = bytes(view[at + 8 : at + whole * step : step])
        blocks = whole - len(lows.lstrip(lows[:1]))
        after = at + blocks * step
        if blocks > 1 and bytes(view[at:after]) == encode_run(index, begin, blocks):
            append(_new(RequestRun, (index, begin, blocks)))
            more += blocks - 1
            at = after
            continue
        for length, kind, index, begin, size in _unpack_all(view[at:after]):
            if kind != REQUEST or length != _LENGTH:
                return at, more
            if index >= count:
                raise _beyond(index, count)
            append(_new(Request, (index, begin, size)))
            at += step
    return at, more


def count_pieces(view: memoryview, at: int, end: int, index: int, begin: int) -> int:
    """How many Pieces with adjacent full blocks follow one another from `at` on: the first of them,
    of this piece and from `begin` on, and those that are whole as well."""
    places = range(at + FULL_PIECE, end - FULL_PIECE + 1, FULL_PIECE)
    begins = range(begin + BLOCK, 1 << 32, BLOCK)
    blocks = 1
    for place, due in zip(places, begins, strict=False):
        if _unpack_piece(view, place) != (MAX_PIECE_LENGTH, PIECE, index, due):
            break
        blocks += 1
    return blocks


def take_haves(
    view: memoryview, at: int, end: int, count: int, events: list[Any]
) -> tuple[int, int]:
    """Add an event for the whole Haves that begin at `at`, if there are any, in a torrent of
    `count` pieces, up to one of a piece beyond. Returns what `take_requests` does."""
    whole = at + (end - at) // _HAVE_SIZE * _HAVE_SIZE
    indices: list[int] = []
    for length, kind, index in _unpack_haves(view[at:whole]):
        if kind != HAVE or length != _HAVE_LENGTH or index >= count:
            break
        indices.append(index)
    if len(indices) > 1:
        events.append(_new(Haves, (tuple(indices),)))
        return at + len(indices) * _HAVE_SIZE, len(indices) - 1
    if indices:
        events.append(_new(Have, indices))
    return at + len(indices) * _HAVE_SIZE, 0


def _beyond(index: int, count: int) -> PeerProtocolError:
    return PeerProtocolError(f"asks for piece {index}, of {count}")
