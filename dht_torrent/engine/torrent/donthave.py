"""Peers that lose a piece say so (BEP 54), and are not asked for it any more."""

from __future__ import annotations

from dht_torrent.engine.torrent.extension import Extension
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.extensions import LT_DONTHAVE, DontHave


class HearDontHave(Extension):
    """We say it to nobody, as there is no moment for it. Where a file changes, vanishes or cannot
    be read, the whole torrent stops: who changed one may have changed others, and only its user
    knows whether what is there now is wanted or to be fetched anew. All connections end with it,
    and the next ones begin with what was found to be here."""

    name = LT_DONTHAVE

    def on_message(self, peer: Peer, message: ExtensionMessage, now: float) -> None:
        if isinstance(message, DontHave) and self.swarm is not None:
            self.swarm.lost(peer, message.index, now)
