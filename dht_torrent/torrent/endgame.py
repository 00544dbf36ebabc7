"""Blocks that somebody was asked for already, and one more peer is: when nothing else is left, or
when somebody waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from dht_torrent.geometry import BLOCK
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.peer_pieces import PeerPieces
from dht_torrent.torrent.pieces import Block

ENDGAME_DEPTH = 8
"""A peer takes part in the endgame with at most this many requests in flight: bounds the waste."""

Place = tuple[int, int, int]
"""A block: piece, offset, length."""
Requests = list[tuple[PeerKey, Block]]
"""Blocks, and who was asked for each."""


def asked_longest(
    peers: Iterable[PeerPieces],
    source: PeerPieces,
    room: int,
    fits: Callable[[int, int], bool],
) -> list[Place]:
    """At most `room` blocks that others were asked for, those asked for longest first. `fits(piece,
    number)` says whether a block may be one of them."""
    if room <= 0:
        return []
    choices: dict[Place, float] = {}
    for other in peers:
        if other is source:
            continue
        oldest = (
            (block, asked)
            for block, asked in other.outstanding.items()
            if block not in source.outstanding and fits(block[0], block[1] // BLOCK)
        )
        for block, asked in islice(oldest, room):
            choices[block] = min(asked, choices.get(block, asked))
    return sorted(choices, key=lambda block: (choices[block], block))[:room]
