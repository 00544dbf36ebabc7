"""Two connections that may be of one peer: which of them stays.

The rule: a peer id proves nothing, as every peer of the swarm sees it. So it costs a peer its place
only to another that speaks from the same host; and the first peer to claim an id does not keep
others out.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto

from dht_torrent.config import PeerConfig
from dht_torrent.ids import Address, PeerId

CROSSING = 3.0
"""Seconds after which two connections, one dialled by each side, were not dialled across each
other any more: the SYN is repeated after one, and a handshake takes two round trips."""
REMEMBERED = 64
"""Claims in the other address family that are remembered ..."""
REMEMBERED_FOR = 600.0
"""... for so many seconds."""


class Verdict(Enum):
    """What becomes of the newer one, as far as this older one is concerned."""

    BESIDE = auto()
    """Both stay."""
    REPLACE = auto()
    """The newer one, in place of the older."""
    ASK = auto()
    """The older one, if it shows that it is alive."""
    LOOK_AGAIN = auto()
    """The older one, if it is still there in a moment: the other side sees two connections as well,
    and may have closed either."""
    REFUSE = auto()
    """The older one."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a connection says it is, and where it comes from."""

    peer_id: PeerId
    address: Address
    incoming: bool


class Duplicates:
    """The claims of one torrent. Remembers who was turned away for another's sake."""

    def __init__(self, own_id: PeerId, config: PeerConfig) -> None:
        """`own_id`: ours, of this torrent."""
        self._own_id = own_id
        self._silence = config.silence
        self._turned_away: OrderedDict[tuple[PeerId, str], float] = OrderedDict()

    def settle(
        self, older: Claim, newer: Claim, now: float, *, age: float, silence: float
    ) -> Verdict:
        """`age`: seconds since the older one connected; `silence`: since its last byte. Both
        handshakes of the newer one are done."""
        same_place = older.address.place == newer.address.place
        if older.peer_id != newer.peer_id:
            # One connection a host. But a program that was started again has another id.
            if not same_place or newer.address.is_local:
                return Verdict.BESIDE
            return Verdict.ASK if silence >= self._silence else Verdict.REFUSE
        if same_place:
            return self._of_one_host(older, newer, age, silence)
        if older.address.is_ipv6 == newer.address.is_ipv6:
            return Verdict.BESIDE
        # Most likely one peer of both families, and no thief. Who dials knows, and gives up; who
        # comes again does not know of another one, so it is not the same.
        until = self._turned_away.get((newer.peer_id, newer.address.host), now)
        return Verdict.BESIDE if newer.incoming and now < until else Verdict.LOOK_AGAIN

    def _of_one_host(self, older: Claim, newer: Claim, age: float, silence: float) -> Verdict:
        if older.incoming != newer.incoming and age < CROSSING:
            # Of two that were dialled across each other both sides keep the one that the higher
            # id dialled, as libtorrent does.
            newer_stays = newer.incoming == (newer.peer_id > self._own_id)
            return Verdict.REPLACE if newer_stays else Verdict.REFUSE
        if not newer.incoming:
            # That we did not know who is there says nothing against the older one.
            return Verdict.ASK if silence >= self._silence else Verdict.REFUSE
        # It dialled again, so it has lost the older one, or did not know that we are connected: it
        # cannot see that from a connection that we made.
        return Verdict.REPLACE if older.incoming else Verdict.ASK

    def turned_away(self, newer: Claim, now: float) -> None:
        """It was refused since another one is there."""
        claim = (newer.peer_id, newer.address.host)
        self._turned_away[claim] = now + REMEMBERED_FOR
        self._turned_away.move_to_end(claim)
        if len(self._turned_away) > REMEMBERED:
            self._turned_away.popitem(last=False)
