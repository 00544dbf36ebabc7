"""What a peer sends next, as runs of blocks: known beforehand, so as to be received in its place.

The rule: a run is read off the requests outstanding, in the order they were made, and nothing is
remembered of it. Whatever happened to a request (answered out of turn, given back, asked elsewhere
as well) shows in what is expected next, and a block that is in a run lacks nothing but its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from operator import eq
from typing import NamedTuple

from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.pieces import OpenPiece


class DueRun(NamedTuple):
    """Adjacent blocks of full length, of one piece that lies in memory, asked of one peer alone.

    For use at once: by the next turn of any task the piece may be gone, and its buffer another's.
    """

    index: int  # type: ignore[assignment] # hides tuple.index
    first: int
    """The first block's number in the piece."""
    blocks: int
    headers: bytearray
    """Room for the headers of all full blocks of the piece."""
    buffers: list[memoryview]
    """Of each block in the run: the room for its header, and its place in the piece."""


def expected(
    outstanding: Iterable[tuple[int, int, int]], opened: Mapping[int, OpenPiece], most: int
) -> list[DueRun]:
    """The runs that the first `most` blocks of `outstanding` are made of, up to one that is odd."""
    asked = list(islice(outstanding, most))
    runs: list[DueRun] = []
    at = 0
    while at < len(asked):
        index, begin, _ = asked[at]
        piece = opened[index]
        if piece.spill is not None:
            break
        first = begin // BLOCK
        adjacent = _adjacent(piece, first, asked, at)
        # Not what others are asked for too: one of them may be first.
        once = piece.blocks[first : first + adjacent]
        blocks = min(adjacent - len(once.lstrip(b"\x01")), piece.size // BLOCK - first)
        if blocks:
            headers, buffers = piece.landing
            part = buffers[2 * first : 2 * (first + blocks)]
            runs.append(DueRun(index, first, blocks, headers, part))
        if blocks < adjacent:
            break
        at += blocks
    return runs


def places(
    outstanding: Mapping[tuple[int, int, int], float],
    piece: OpenPiece | None,
    begin: int,
    count: int,
) -> list[memoryview] | None:
    """Where `count` adjacent blocks of full length go that have come from `begin` on; None if they
    are not such blocks as make a `DueRun`."""
    if piece is None or piece.spill is not None:
        return None
    first, rest = divmod(begin, BLOCK)
    end = first + count
    if rest or end > piece.size // BLOCK or piece.blocks.count(1, first, end) != count:
        return None
    if not all(map(outstanding.__contains__, piece.requests(first, count))):
        return None
    return piece.landing[1][2 * first + 1 : 2 * end : 2]


def _adjacent(piece: OpenPiece, first: int, asked: list[tuple[int, int, int]], at: int) -> int:
    """How many of `asked`, from `at`, are one block of the piece after the other."""
    mine = piece.requests(first, len(asked) - at)
    theirs = asked[at : at + len(mine)]
    if mine == theirs:  # the same objects, mostly
        return len(mine)
    return bytes(map(eq, mine, theirs)).index(0)
