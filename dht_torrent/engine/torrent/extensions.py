"""What is said beside pieces, at every stage of a torrent: the extension handshake and its
extensions (BEP 10), and where our DHT node listens (BEP 5).
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.donthave import HearDontHave
from dht_torrent.engine.torrent.extension import Extension
from dht_torrent.engine.torrent.holepunch import Holepunching
from dht_torrent.engine.torrent.metadata import MetadataSharing
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.pex import PeerExchange
from dht_torrent.engine.torrent.swarm import Swarm
from dht_torrent.engine.torrent.upload_only import TellUploadOnly
from dht_torrent.ids import Address, Transport
from dht_torrent.peer.connection import Event
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.extensions import OUR_IDS, ExtensionHandshake
from dht_torrent.peer.messages import Port

EXTENSIONS: Sequence[type[Extension]] = (
    MetadataSharing,
    TellUploadOnly,
    Holepunching,
    PeerExchange,
    HearDontHave,
)
"""Those we speak."""

TICK = 10.0
"""Seconds between two ticks of those who want them."""
MAX_PORTS = 3
"""Times a peer is heard on where its DHT node listens: BEP 5 has it told once."""


class Extensions:
    """The extensions of one torrent, and who speaks them. Lives as long as the torrent does."""

    def __init__(self, torrent: TorrentContext, connections: Connections) -> None:
        self._torrent = torrent
        self._connections = connections
        spoken = [kind for kind in EXTENSIONS if kind.is_on(torrent.node.config)]
        self._by_name = {kind.name: kind(torrent, connections) for kind in spoken}
        self._open: dict[int, list[Extension]] = {}  # by peer, those it said it speaks
        self._swarm: Swarm | None = None

    def exchange(self, swarm: Swarm | None) -> None:
        """Pieces are exchanged in `swarm` from now on; None: no longer."""
        self._swarm = swarm
        for extension in self._by_name.values():
            extension.swarm = swarm

    def opened(self, peer: Peer) -> None:
        """Say who we are, and where our DHT node listens. Call after what we have was told."""
        self._connections.chores.call(self._tick)
        self._introduce(peer)
        hidden = self._torrent.is_private or self._torrent.node.config.is_behind_proxy
        if peer.connection.dht and not hidden:
            peer.tell(Port(self._torrent.node.dht_port(peer.address)))

    def introduce_again(self, peer: Peer) -> None:
        """The metadata is known now: its size is told to those who lack it too, and what is not
        spoken in a private torrent is taken back."""
        self._introduce(peer, again=True)

    def on_event(self, peer: Peer, event: Event, now: float) -> None:
        """A message that means the same at every stage. Others are of no use here."""
        if isinstance(event, ExtensionMessage):
            extension = self._by_name.get(event.extension)
            if extension is not None and self._speaks(extension):
                extension.on_message(peer, event, now)
        elif isinstance(event, ExtensionHandshake):
            self._on_handshake(peer, event, now)
        elif isinstance(event, Port) and peer.told_dht_port() <= MAX_PORTS:
            self._torrent.node.dht.maybe_contact(Address(peer.address.host, event.port))

    def closed(self, peer: Peer, now: float) -> None:
        for extension in self._open.pop(peer.key, ()):
            extension.on_close(peer, now)

    def completed(self, now: float) -> None:
        """All that is wanted is here, and peers may know."""
        for extension in self._by_name.values():
            if self._speaks(extension):
                extension.on_complete(now)

    async def _tick(self) -> None:
        """Call `tick` of those who want it, while anybody is connected."""
        while self._connections.peers:
            await trio.sleep(TICK)
            for extension in self._by_name.values():
                if extension.ticks and self._connections.peers and self._speaks(extension):
                    extension.tick(trio.current_time())

    def _speaks(self, extension: Extension) -> bool:
        torrent = self._torrent
        if extension.plain_only and torrent.is_ssl:
            return False
        return not extension.public_only or not (torrent.is_private or torrent.is_among_strangers)

    def _introduce(self, peer: Peer, *, again: bool = False) -> None:
        if not peer.connection.extended:
            return
        node, metainfo = self._torrent.node, self._torrent.metainfo
        offer = {
            name: OUR_IDS[name] if self._speaks(extension) else 0
            for name, extension in self._by_name.items()
            if again or self._speaks(extension)
        }
        peer.tell(
            ExtensionHandshake(
                extensions=offer,
                client=node.client,
                port=self._torrent.port(peer.address),
                request_queue=node.config.peer.max_asked,
                metadata_size=len(metainfo.info) if metainfo else None,
                upload_only=self._swarm is not None and self._swarm.upload_only,
                your_ip=peer.address.host,
                prefers_encryption=self._torrent.prefers_mse,
            )
        )

    def _on_handshake(self, peer: Peer, handshake: ExtensionHandshake, now: float) -> None:
        """What a peer says of itself. The port it claims is a name for later, and nothing else:
        nobody is banned, taken for connected, or dialled later for what somebody else claims."""
        if handshake.client:
            peer.told_client(handshake.client)
        peer.pipeline.peer_limit(handshake.request_queue)
        peer.told_preference(handshake.prefers_encryption)
        claimed = peer.told_port(handshake.port) if handshake.port is not None else None
        if claimed is not None:
            self._connections.candidates.claimed(claimed, now)
            if peer.stream.transport is Transport.UTP:
                self._connections.candidates.speaks_utp(claimed)
        opened = self._open.setdefault(peer.key, [])
        for name, extension in self._by_name.items():
            speaks = self._speaks(extension) and peer.connection.supports(name)
            if speaks and extension not in opened:
                opened.append(extension)
                extension.on_open(peer, now)
