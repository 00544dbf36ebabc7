"""Peers are told when we have become a seed (BEP 21), so that they stop hoping for requests."""

from __future__ import annotations

from dht_torrent.engine.torrent.extension import Extension
from dht_torrent.peer.extensions import UPLOAD_ONLY, UploadOnly


class TellUploadOnly(Extension):
    """Tells those who are connected; others hear it in the extension handshake."""

    name = UPLOAD_ONLY

    def on_complete(self, now: float) -> None:
        for peer in list(self.connections.peers.values()):
            if peer.connection.supports(UPLOAD_ONLY):
                peer.tell(UploadOnly(True))
