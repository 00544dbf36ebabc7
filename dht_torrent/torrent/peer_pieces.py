"""One peer as a source of blocks: what it has, was asked for, and refuses for the moment."""

from __future__ import annotations

from itertools import takewhile

from dht_torrent.ids import PeerKey
from dht_torrent.torrent.pieces import Bitfield, OpenPiece

MAX_LATE = 1024
"""Requests given back that are remembered for each peer, so that a late block is not an offence."""
SOLO_PATIENCE = 10.0
"""Seconds a peer may hold a solo piece while another that could have it is idle; doubles each time
that piece is taken away, so that slow peers have time enough in the end."""
REFUSAL_PAUSE = 10.0
"""Seconds a peer is not asked for a piece again after it let a request for it expire."""
FIRST_PAUSE = 0.5
"""The same after it rejected one: others have their chance, and if no other peer has the piece it
is asked again soon. Doubles with each further rejection, up to REFUSAL_PAUSE."""
MAX_REFUSALS = 64
"""Pieces a peer rejected whose pauses still grow; of the oldest ones we forget that they did."""


class PeerPieces:
    """Owned by the picker, which keeps it true."""

    __slots__ = (
        "all",
        "alone",
        "bits",
        "current",
        "exhausted",
        "interest",
        "key",
        "late",
        "lost",
        "outstanding",
        "paused",
        "proved",
        "refusals",
        "refused",
    )

    def __init__(self, key: PeerKey, bits: Bitfield) -> None:
        self.key = key
        self.bits = bits
        self.all = False
        """Has every piece; then `bits` is unused."""
        self.interest = 0
        """Wanted pieces it has and we lack; unused if `all`."""
        self.outstanding: dict[tuple[int, int, int], float] = {}
        """Block -> when it was asked for, the oldest first."""
        self.late: dict[tuple[int, int, int], None] = {}
        """Requests given back, whose blocks may still come."""
        self.current: OpenPiece | None = None
        """The piece it works on, which has free blocks."""
        self.refused: dict[int, float] = {}
        """Pieces to pause from the next question on, and for how long."""
        self.refusals: dict[int, float] = {}
        """Piece -> its last pause, of those the peer rejected."""
        self.paused: dict[int, float] = {}
        """Piece -> not to be asked for before."""
        self.proved = False
        """Completed a whole piece alone: suspect pieces are best asked of it."""
        self.lost = False
        """A piece it held up was taken from it: no piece is taken from others for it."""
        self.alone: int | None = None
        """The piece it is to complete alone before it may have another, while it is on parole."""
        self.exhausted = False
        """Has no missing piece that could be opened."""

    def can(self, index: int, now: float) -> bool:
        """May it be asked for this piece?"""
        return (self.all or self.bits.flags[index] == 1) and (
            not self.paused or not self._is_paused(index, now)
        )

    def refuse(self, index: int) -> None:
        """It rejected a block of this piece. Many blocks between two questions count as one."""
        if index in self.refused:
            return
        pause = min(2 * self.refusals.pop(index, FIRST_PAUSE / 2), REFUSAL_PAUSE)
        self.refused[index] = self.refusals[index] = pause
        if len(self.refusals) > MAX_REFUSALS:
            del self.refusals[next(iter(self.refusals))]

    def pause_refused(self, now: float) -> None:
        for index, pause in self.refused.items():
            self.paused[index] = now + pause
        self.refused.clear()

    def asked_before(self, time: float) -> list[tuple[int, int, int]]:
        """The blocks it was asked for before then, oldest first. As fast as they are few."""
        old = takewhile(lambda entry: entry[1] < time, self.outstanding.items())
        return [block for block, _ in old]

    def remember_late(self, block: tuple[int, int, int]) -> None:
        self.late[block] = None
        if len(self.late) > MAX_LATE:
            del self.late[next(iter(self.late))]

    def _is_paused(self, index: int, now: float) -> bool:
        until = self.paused.get(index)
        if until is None:
            return False
        if until > now:
            return True
        del self.paused[index]
        return False
