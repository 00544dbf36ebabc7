"""Peers that lose a piece say so (BEP 54), and are not asked for it any more."""

from __future__ import annotations

from dht_torrent.engine.torrent.extension import Extension
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.extensions import LT_DONTHAVE, DontHave


class HearDontHave(Extension):
    """We say it to nobody: where we lose a piece, all connections of the torrent end."""

    name = LT_DONTHAVE

    def on_message(self, peer: Peer, message: ExtensionMessage, now: float) -> None:
        if isinstance(message, DontHave) and self.swarm is not None:
            self.swarm.lost(peer, message.index, now)
