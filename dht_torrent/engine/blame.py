"""Who sent bad data is banned, under every address known, and parted with at once."""

from __future__ import annotations

import logging

from dht_torrent.config import TorrentConfig
from dht_torrent.engine.crowd import Crowd
from dht_torrent.engine.peer import Peer
from dht_torrent.metainfo import Metainfo
from dht_torrent.torrent.ledger import Ledger
from dht_torrent.torrent.pieces import OpenPiece
from dht_torrent.trace import PeerBanned, PieceFailed, Trace

logger = logging.getLogger(__name__)


class Blame:
    """Carries out, among the peers of one torrent, what the ledger decides."""

    def __init__(
        self, metainfo: Metainfo, crowd: Crowd, config: TorrentConfig, trace: Trace
    ) -> None:
        self._metainfo = metainfo
        self._peers = crowd.peers
        self._candidates = crowd.candidates
        self._ledger = Ledger(config)
        self._trace = trace

    def joined(self, peer: Peer) -> None:
        self._ledger.joined(peer.key, peer.address)

    def passed(self, piece: OpenPiece, now: float) -> None:
        """The piece matched its hash. Call before its buffer is reused."""
        for key in self._ledger.passed(piece):
            self._ban(key, now)

    def failed(self, piece: OpenPiece, now: float) -> frozenset[int]:
        """The piece did not match its hash. Call before its buffer is reused. Returns who is best
        not asked for it next."""
        guilty = self._ledger.failed(piece)
        senders = tuple(
            self._peers[key].address for key in dict.fromkeys(piece.senders) if key in self._peers
        )
        self._trace(PieceFailed(self._metainfo.info_hash, piece.index, senders))
        for key in guilty:
            self._ban(key, now)
        return self._ledger.suspects(piece.index)

    def _ban(self, key: int, now: float) -> None:
        address = self._ledger.address(key)
        if address is None or self._candidates.is_banned(address, now):
            return
        self._candidates.ban(address, now)
        peer = self._peers.get(key)
        if peer is not None and peer.listens_at is not None:
            self._candidates.ban(peer.listens_at, now)  # one that came to us has two addresses
        self._trace(PeerBanned(self._metainfo.info_hash, address))
        logger.info("%s: banned %s for sending bad data", self._metainfo.name, address)
        for peer in list(self._peers.values()):
            if self._candidates.is_banned(peer.address, now):
                peer.drop("sent bad data")
