"""ut_holepunch (BEP 55) as an extension: what peers say of it goes to `punching`."""

from __future__ import annotations

from dht_torrent.config import Config
from dht_torrent.engine.torrent.extension import Extension
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.holepunch import UT_HOLEPUNCH, Holepunch


class Holepunching(Extension):
    """With every peer that speaks it: as the one who wants to connect, as a relay, as a target."""

    name = UT_HOLEPUNCH
    public_only = True
    plain_only = True

    @classmethod
    def is_on(cls, config: Config) -> bool:
        return config.holepunch.enabled and config.utp.enabled

    def on_open(self, peer: Peer, now: float) -> None:
        self.connections.punching.introducers.speaks(peer.key)

    def on_message(self, peer: Peer, message: ExtensionMessage, now: float) -> None:
        if isinstance(message, Holepunch) and peer.connection.supports(UT_HOLEPUNCH):
            self.connections.punching.heard(peer, message, now)

    def on_close(self, peer: Peer, now: float) -> None:
        self.connections.punching.closed(peer)
