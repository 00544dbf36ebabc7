"""Pieces that one peer alone sends, from the first block to the last.

A piece that has been broken is *solo* from then on: one peer alone sends all of it, best one that
has proved itself, so that its hash tells the truth about that peer. If it stops, another begins
anew. A peer on parole (`Parole`) is asked for solo pieces only, one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable

from dht_torrent.ids import PeerKey
from dht_torrent.torrent.assembly import Assembly
from dht_torrent.torrent.peer_pieces import REFUSAL_PAUSE, SOLO_PATIENCE, PeerPieces
from dht_torrent.torrent.pieces import NOBODY, RECEIVED, OpenPiece, Requests


class Solo:
    """Which peer begins which of these pieces, and when one is taken from it."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._taken_away: dict[int, int] = {}  # piece -> how often

    def take_away(self, idle: Iterable[tuple[PeerKey, bool]], now: float) -> Requests:
        """A peer must not hold up the download with a piece that others are not let near. `idle`:
        peers that could be asked and have nothing to do, each with whether it is on parole. A solo
        piece that is not done after SOLO_PATIENCE is given to one that can have it, to be begun
        anew; to one on parole, which may not help out, any piece is. Returns requests, to be
        cancelled."""
        cancels: Requests = []
        for key, alone in idle:
            source = self._assembly.peers[key]
            if source.lost:
                continue
            for piece in list((self._assembly.open if alone else self._assembly.solo).values()):
                patience = SOLO_PATIENCE * 2 ** min(self._taken_away.get(piece.index, 0), 16)
                if (
                    piece.solo != key
                    and now - piece.opened_at >= patience
                    and source.can(piece.index, now)
                ):
                    cancels += self._take_away(piece)
                    if self._assembly.fits(piece.index):
                        mine = self._assembly.begin(source, piece.index, now)
                        if alone:
                            self._assembly.reserve(source, mine)
                    break
        return cancels

    def _take_away(self, piece: OpenPiece) -> Requests:
        holders = {sender for sender in piece.senders if sender != NOBODY}
        withdrawn = self._assembly.withdraw(piece)
        slow = {key for key, _ in withdrawn}
        if piece.solo is not None:
            slow.add(piece.solo)
        peers = self._assembly.peers
        for key in slow & peers.keys():
            peers[key].lost = True
        holders |= slow
        for key in sorted(holders & peers.keys()):
            peers[key].refused[piece.index] = REFUSAL_PAUSE
        self._taken_away[piece.index] = self._taken_away.get(piece.index, 0) + 1
        piece.avoid = (piece.avoid or frozenset()) | holders
        if piece.index in self._assembly.open:
            self._assembly.close(piece)
        return withdrawn

    def done(self, index: int) -> None:
        """The piece is verified."""
        self._taken_away.pop(index, None)

    def piece_on_parole(self, source: PeerPieces, now: float) -> OpenPiece | None:
        """For a peer on parole: what is left of its piece, or the next one when that is settled."""
        piece = source.current
        if piece is not None and piece.index != source.alone:
            if self._is_its_own(source, piece):
                self._assembly.reserve(source, piece)
            else:
                self._assembly.let_off(piece)
                piece = None
        if piece is None and source.alone is not None:
            mine = self._assembly.released.get(source.alone)
            if mine is not None and source.can(mine.index, now):
                self._assembly.own(source, mine)
                piece = mine
        elif piece is None and not source.outstanding:
            piece = self._new_piece(source, now)
        return piece

    def _new_piece(self, source: PeerPieces, now: float) -> OpenPiece | None:
        """A piece from its beginning: one that is missing, or else one that no peer works on."""
        piece = self._assembly.begin_next(source, now)
        if piece is None:
            index = next((i for i in self._assembly.missing.broken if source.can(i, now)), None)
            if index is not None and self._assembly.fits(index):
                piece = self._assembly.begin(source, index, now)
        if piece is None:
            index = self._give_up_idle(source, now)
            if index is not None:
                if self._assembly.fits(index):
                    piece = self._assembly.begin(source, index, now)
            elif self._assembly.make_way_for(source, now):
                piece = self._assembly.begin_next(source, now)
        if piece is not None:
            self._assembly.reserve(source, piece)
        return piece

    def _give_up_idle(self, source: PeerPieces, now: float) -> int | None:
        """Closes a released piece that is not asked of any peer, so that this one can begin it
        anew. Of several the one with the least in it."""
        idle = [
            piece
            for piece in self._assembly.released.values()
            if piece.free == piece.left and source.can(piece.index, now)
        ]
        if not idle:
            return None
        piece = max(idle, key=lambda piece: piece.left)
        self._assembly.close(piece)
        return piece.index

    def _is_its_own(self, source: PeerPieces, piece: OpenPiece) -> bool:
        """Is it the only peer that sent any of it, or is asked for it?"""
        if any(sender not in (NOBODY, source.key) for sender in piece.senders):
            return False
        asked = sum(block[0] == piece.index for block in source.outstanding)
        return (
            asked == piece.left - piece.free
            and max((copies for copies in piece.blocks if copies != RECEIVED), default=0) <= 1
        )

    def left_behind(self, source: PeerPieces, now: float) -> OpenPiece | None:
        """A solo piece whose peer stopped, begun anew by this one."""
        for piece in self._assembly.solo.values():
            if (
                piece.index in self._assembly.released
                and piece.free == piece.left
                and source.can(piece.index, now)
            ):
                self._assembly.close(piece)
                fits = self._assembly.fits(piece.index)
                return self._assembly.begin(source, piece.index, now) if fits else None
        return None
