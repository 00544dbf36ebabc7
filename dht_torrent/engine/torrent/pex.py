"""Peer exchange (BEP 11): each peer that speaks it is told whom we reached, and names others to
dial.

The rule: nobody is told of an address we did not reach ourselves, so a lie ends with the peer it
was told to; save of peers whom we can introduce to each other (BEP 55), whose host we see. And
nobody is told anything before the torrent is known not to be private.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dht_torrent.config import Config
from dht_torrent.engine.torrent.confirming import CONFIRM_AFTER
from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.extension import Extension
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.referring import punchable, reached
from dht_torrent.ids import Address, PeerKey
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.holepunch import UT_HOLEPUNCH
from dht_torrent.peer.pex import UT_PEX, PexFlags, PexHearing, PexMessage, PexTelling
from dht_torrent.torrent.candidate import PEX

Reached = Mapping[Address, PexFlags]


@dataclass(frozen=True, slots=True)
class _Partner:
    """A peer that speaks it."""

    source: str
    """What the candidates call it."""
    hearing: PexHearing
    telling: PexTelling


class PeerExchange(Extension):
    """Tells a newcomer at once, and everybody what is new once a minute."""

    name = UT_PEX
    public_only = True
    ticks = True

    def __init__(self, torrent: TorrentContext, connections: Connections) -> None:
        super().__init__(torrent, connections)
        self._partners: dict[PeerKey, _Partner] = {}

    @classmethod
    def is_on(cls, config: Config) -> bool:
        return config.pex

    def on_open(self, peer: Peer, now: float) -> None:
        address = peer.address
        # A host is one referrer, whatever ports it comes from; on a local one live many peers.
        source = f"{PEX} {address if address.is_local else address.place}"
        self._partners[peer.key] = _Partner(source, PexHearing(address), PexTelling(address))
        self._tell(peer, self._reached(), self._punchable(), now)

    def on_message(self, peer: Peer, message: ExtensionMessage, now: float) -> None:
        partner = self._partners.get(peer.key)
        if partner is None or not isinstance(message, PexMessage):
            return  # whoever does not want to hear us is not heard
        heard = partner.hearing.hear(message, now)
        if heard is None:
            return
        introducers = self.connections.punching.introducers
        introducers.withdrew(peer.key, heard.dropped)
        introducers.named(
            peer.key,
            [address for address, flags in heard.added.items() if PexFlags.HOLEPUNCH in flags],
        )
        for address in heard.dropped:
            self.connections.candidates.withdraw(address, partner.source)
        complete = self.connections.complete
        self.connections.found(
            [
                address
                for address, flags in heard.added.items()
                if not (complete and PexFlags.SEED in flags)
            ],
            partner.source,
        )
        for address, flags in heard.added.items():
            if PexFlags.UTP in flags:
                self.connections.candidates.speaks_utp(address)

    def on_close(self, peer: Peer, now: float) -> None:
        del self._partners[peer.key]

    def tick(self, now: float) -> None:
        peers = self.connections.peers
        connected, others = self._reached(), self._punchable()
        for key, partner in self._partners.items():
            if partner.telling.is_due(now):
                self._tell(peers[key], connected, others, now)
        if len(self._partners) > 1:  # there is somebody to tell
            for peer in peers.values():
                if now - peer.connected_at >= CONFIRM_AFTER:
                    self.connections.confirming.ask(peer)

    def _reached(self) -> Reached:
        return reached(self.connections.peers, relays=self.torrent.relays)

    def _punchable(self) -> Reached:
        return punchable(self.connections.peers) if self.torrent.relays else {}

    def _tell(self, peer: Peer, connected: Reached, others: Reached, now: float) -> None:
        if self.torrent.metainfo is None or peer.is_dropped:
            return  # it may turn out to be private
        if others and peer.connection.supports(UT_HOLEPUNCH):
            added = {address: one for address, one in others.items() if address not in connected}
            connected = {**connected, **added}
        but = {one for one in (peer.address, peer.listens_at, peer.claims) if one is not None}
        if peer.is_seed:
            but |= {address for address, flags in connected.items() if PexFlags.SEED in flags}
        news = self._partners[peer.key].telling.next(connected, now, but=but)
        if news is not None:
            peer.tell(news)
