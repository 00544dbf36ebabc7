"""Who sent bad data is banned, at the address it was seen at, and parted with at once.

What a peer claims of itself, such as the port of its extension handshake, has no part in this:
anybody could get anybody else banned by it.
"""

from __future__ import annotations

import logging

from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.ids import Address, PeerKey
from dht_torrent.metainfo import Metainfo
from dht_torrent.torrent.parole import Parole, Standing
from dht_torrent.torrent.picker import Picker
from dht_torrent.torrent.pieces import Block, OpenPiece
from dht_torrent.torrent.smart_ban import SmartBan, senders_of
from dht_torrent.trace import PeerBanned, PieceFailed, Trace

logger = logging.getLogger(__name__)


class Banning:
    """Carries out, among the peers of one torrent, what the smart ban proves and the parole
    asks."""

    def __init__(
        self, metainfo: Metainfo, connections: Connections, picker: Picker, trace: Trace
    ) -> None:
        self._metainfo = metainfo
        self._peers = connections.peers
        self._candidates = connections.candidates
        self._picker = picker
        self._smart_ban = SmartBan()
        self._parole = Parole(connections.candidates.bans)
        self._trace = trace

    def joined(self, peer: Peer, now: float) -> None:
        """Call when the picker knows of it."""
        self._smart_ban.joined(peer.key, peer.address)
        if self._parole.joined(peer.key, peer.address, now):
            self._picker.proved(peer.key)

    def left(self, peer: Peer) -> None:
        self._smart_ban.left(peer.key)
        self._parole.left(peer.key)

    def standing(self, peer: Peer, now: float) -> Standing | None:
        """What it may be asked for now; None: anything."""
        return self._parole.standing(peer.key, now)

    def doubts(self, index: int) -> bool:
        """Will `passed` want the digests of this piece?"""
        return self._smart_ban.doubts(index)

    def passed(self, piece: OpenPiece, digests: bytes | None, now: float) -> None:
        """The piece matched its hash."""
        senders = senders_of(piece)
        if len(senders) == 1 and self._parole.proved(senders[0]) and senders[0] in self._peers:
            self._picker.proved(senders[0])
        found = self._smart_ban.passed(piece, digests)
        if found is not None:
            self._parole.cleared(found.cleared, piece.index)
            for key, address in found.liars.items():
                self._ban(key, address, now)

    def failed(self, piece: OpenPiece, digests: bytes, now: float) -> frozenset[PeerKey]:
        """The piece did not match its hash; `digests` are those of its blocks. Returns who is best
        not asked for it next."""
        guilty = self._smart_ban.failed(piece, digests)
        senders = senders_of(piece)
        addresses = tuple(self._peers[key].address for key in senders if key in self._peers)
        self._trace(PieceFailed(self._metainfo.info_hash, piece.index, addresses))
        for key in guilty:
            address = self._smart_ban.address(key)
            if address is not None:
                self._ban(key, address, now)
        if not guilty:
            self._parole.suspect(senders, piece.index)
            for key in senders:
                if key in self._peers:
                    self._picker.proved(key, proved=False)
        return self._smart_ban.suspects(piece.index) | frozenset(senders)

    def take_away(self, now: float) -> list[tuple[PeerKey, Block]]:
        """Pieces that a peer holds up are given to those who have nothing to do. Returns requests
        that are given back. Call every second or so."""
        idle = [
            (key, standing is Standing.ALONE)
            for key, peer in self._peers.items()
            if peer.am_interested
            and not peer.chokes_us
            and not peer.snubs_us
            and not peer.is_dropped
            and not self._picker.outstanding(key)
            and (standing := self._parole.standing(key, now)) is not Standing.WAITING
        ]
        if not idle:
            return []
        # Those who proved themselves, if there are any; the others might hold it up themselves.
        proved = [one for one in idle if self._parole.is_proved(one[0])]
        return self._picker.take_away(proved or idle, now)

    def _ban(self, key: PeerKey, address: Address, now: float) -> None:
        if self._candidates.is_banned(address, now):
            return
        self._parole.convicted(key, address, now)
        self._candidates.convicted(address, now)
        self._trace(PeerBanned(self._metainfo.info_hash, address))
        logger.info("%s: banned %s for sending bad data", self._metainfo.name, address)
        for peer in list(self._peers.values()):
            if peer.address == address:
                peer.drop("sent bad data")
