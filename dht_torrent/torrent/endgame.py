"""Blocks that somebody was asked for already, and one more peer is: when nothing else is left, or
when somebody waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from itertools import islice

from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.assembly import Assembly
from dht_torrent.torrent.peer_pieces import PeerPieces
from dht_torrent.torrent.pieces import RECEIVED, Block, Place

ENDGAME_DEPTH = 8
"""A peer takes part in the endgame with at most this many requests in flight: bounds the waste."""


def all_requested(assembly: Assembly) -> bool:
    """Is no block left that a connected peer has, and nobody was asked for?"""
    shared = (index for index, piece in assembly.partial.items() if piece.solo is None)
    if any(map(assembly.holdings.availability, shared)):
        return False
    return assembly.missing.out_of_reach()


def ask_again(
    assembly: Assembly,
    source: PeerPieces,
    room: int,
    now: float,
    copies: int,
    among: Container[int] | None = None,
) -> list[Block]:
    """At most `room` blocks of open pieces, `among` these or any, that others were asked for, and
    this peer is asked for from now on; each in at most so many copies."""
    most = min(copies, RECEIVED - 1)
    pieces = assembly.open

    def fits(index: int, number: int) -> bool:
        shared = (among is None or index in among) and index not in assembly.solo
        return shared and pieces[index].blocks[number] < most and source.can(index, now)

    again = _asked_longest(assembly.peers.values(), source, room, fits)
    for block in again:
        pieces[block[0]].blocks[block[1] // BLOCK] += 1
        source.outstanding[block] = now
    return list(map(Block._make, again))


def _asked_longest(
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
