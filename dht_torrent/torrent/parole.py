"""Under suspicion a peer is asked for one whole piece, alone: that proves it, or convicts it.

Three kinds of peers are on parole (libtorrent's word for it):

- a peer that took part in a piece that failed, until the piece passes and clears it, or it
  completes one alone;
- a peer from a place that such a peer left uncleared, or that was connected from the place of a
  convicted one: until it completes one alone;
- a peer from a place where another was convicted before. Of these one at a time is asked, in the
  order in which they could have been, and after a pause that doubles with each that lied (`Bans`).
  So a liar that comes back by new ports has ever fewer chances, and an honest peer behind the same
  address has its turn.

No other peer is in here: without failed pieces all this costs a look into an empty dict.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from dht_torrent.ids import Address, PeerKey
from dht_torrent.torrent.bans import Bans

TURN = 30.0
"""Seconds a peer has for its piece before the next one of its place may try; twice as long the
next time, so that the slowest has time enough in the end. No peer waits while it is alone."""
STILL_THERE = 3.0
"""Seconds after which a peer that waits its turn, and was not asked about again, is passed over."""
MAX_REMEMBERED = 1000
"""Places a peer left uncleared; the oldest go first."""


class Standing(Enum):
    """What a peer on parole may be asked for."""

    ALONE = 1
    """A whole piece that no other peer takes part in, one at a time."""
    WAITING = 2
    """Nothing yet."""


class _Turns:
    """The peers of one place that have to be tried one after the other."""

    __slots__ = ("since", "tries", "trying", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[PeerKey, float] = {}  # peer -> when it could last have been asked
        self.trying: PeerKey | None = None
        self.since = 0.0
        self.tries: dict[PeerKey, int] = {}


class Parole:
    """Of one torrent's connections; peers join before use."""

    def __init__(self, bans: Bans) -> None:
        self._bans = bans
        self._addresses: dict[PeerKey, Address] = {}
        self._proved: set[PeerKey] = set()
        self._pieces: dict[PeerKey, set[int]] = {}
        """On parole -> the failed pieces that are held against it."""
        self._turns: dict[str, _Turns] = {}
        self._by_turns: dict[PeerKey, _Turns] = {}
        self._left: dict[str, None] = {}

    def joined(self, peer: PeerKey, address: Address, now: float) -> bool:
        """A new connection. True: it proved itself before."""
        self._addresses[peer] = address
        if self._bans.trusts(address):
            self._proved.add(peer)
            return True
        place = address.place
        if self._bans.on_parole(address, now):
            self._pieces[peer] = set()
            turns = self._turns.setdefault(place, _Turns())
            turns.tries[peer] = 0
            self._by_turns[peer] = turns
        elif place in self._left:
            self._pieces[peer] = set()
        return False

    def left(self, peer: PeerKey) -> None:
        address = self._addresses.pop(peer, None)
        if address is None:
            return
        if self._pieces.get(peer):
            self._left.pop(address.place, None)
            self._left[address.place] = None
            if len(self._left) > MAX_REMEMBERED:
                del self._left[next(iter(self._left))]
        self._pieces.pop(peer, None)
        self._proved.discard(peer)
        self._end_turn(peer)

    def standing(self, peer: PeerKey, now: float) -> Standing | None:
        """What it may be asked for now; None: anything, as usual. To be called when it could be
        asked, and again every second or so: that is how its turn comes."""
        if peer not in self._pieces:
            return None
        turns = self._by_turns.get(peer)
        if turns is None or self._has_turn(peer, turns, now):
            return Standing.ALONE
        return Standing.WAITING

    def is_proved(self, peer: PeerKey) -> bool:
        """Did it complete a whole piece alone, and has taken part in no failure since?"""
        return peer in self._proved

    def proved(self, peer: PeerKey) -> bool:
        """It completed a whole piece alone. True: that is news."""
        if peer in self._proved or peer not in self._addresses:
            return False
        self._proved.add(peer)
        self._bans.trust(self._addresses[peer])
        self._pieces.pop(peer, None)
        self._end_turn(peer)
        return True

    def suspect(self, peers: Iterable[PeerKey], index: int) -> None:
        """They took part in an attempt at this piece that failed."""
        for peer in peers:
            if peer in self._addresses:
                self._pieces.setdefault(peer, set()).add(index)
                self._proved.discard(peer)
                self._bans.distrust(self._addresses[peer])

    def cleared(self, peers: Iterable[PeerKey], index: int) -> None:
        """That piece passed, and what they had sent of it was right."""
        for peer in peers:
            held = self._pieces.get(peer)
            if held is not None and index in held:
                held.discard(index)
                if not held and peer not in self._by_turns:
                    del self._pieces[peer]

    def convicted(self, peer: PeerKey, address: Address, now: float) -> None:
        """It is proved to have sent bad data, from this address. Bans it."""
        late = peer in self._by_turns or peer not in self._addresses
        self._bans.convict(address, now, on_parole=late)
        place = address.place
        for other, where in self._addresses.items():
            if other not in self._proved and where.place == place:
                self._pieces.setdefault(other, set())

    def _has_turn(self, peer: PeerKey, turns: _Turns, now: float) -> bool:
        if turns.trying != peer:
            turns.waiting[peer] = now
        address = self._addresses[peer]
        first = next(
            (other for other, seen in turns.waiting.items() if now - seen <= STILL_THERE), None
        )
        if turns.trying is not None:
            patience = TURN * 2 ** min(turns.tries[turns.trying], 16)
            if first is None or now - turns.since < patience:
                return turns.trying == peer
            turns.tries[turns.trying] += 1
            turns.trying = None
        if first != peer or now < self._bans.resumes(address):
            return False
        del turns.waiting[peer]
        turns.trying, turns.since = peer, now
        return True

    def _end_turn(self, peer: PeerKey) -> None:
        turns = self._by_turns.pop(peer, None)
        if turns is None:
            return
        turns.waiting.pop(peer, None)
        del turns.tries[peer]
        if turns.trying == peer:
            turns.trying = None
        if not turns.tries:
            self._turns = {place: other for place, other in self._turns.items() if other.tries}
