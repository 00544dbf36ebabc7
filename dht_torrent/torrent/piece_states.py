"""Where a piece is on its way, and what a block did to it: the words of the picker."""

from __future__ import annotations

from enum import Enum
from typing import Literal, NamedTuple

from dht_torrent.ids import PeerKey
from dht_torrent.torrent.pieces import Block, Chunk, OpenPiece

MISSING, OPEN, PENDING, HAVE, HELD = range(5)


class State(Enum):
    """Where a piece is. The numbers are for tables of many pieces."""

    MISSING = MISSING
    OPEN = OPEN
    PENDING = PENDING
    HAVE = HAVE
    HELD = HELD


class Received(NamedTuple):
    """The outcome of one block, when it is more than one block further."""

    kind: Literal["accepted", "duplicate", "unwanted"]
    """*duplicate*: was asked for, is not needed any more; waste, and not an offence. *unwanted*:
    this peer was never asked for it, or not for this length."""
    piece: OpenPiece | None = None
    """If there is no `chunk`: this block completed it. Verify it, then say `verified` or
    `failed`."""
    cancels: tuple[tuple[PeerKey, Block], ...] = ()
    """Peers that were asked for this block as well; their requests count as given back."""
    chunk: Chunk | None = None
    """Blocks of `piece` to be put on the disk, unverified. Then say
    `stored` or `not_stored`."""
