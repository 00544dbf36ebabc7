"""The extension handshake (BEP 10), both ways: who we are, and what is believed of who they are."""

from __future__ import annotations

from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.ids import Address
from dht_torrent.metainfo import Metainfo
from dht_torrent.peer.extensions import ExtensionHandshake
from dht_torrent.peer.identity import client_name
from dht_torrent.torrent.candidates import Candidates


def introduce(peer: Peer, node: NodeContext, metainfo: Metainfo | None, *, complete: bool) -> None:
    """Say who we are. May be repeated, when the metadata has come; the last one counts."""
    if not peer.connection.extended:
        return
    peer.tell(
        ExtensionHandshake(
            client=node.client,
            port=node.dht.port(peer.address),
            request_queue=node.config.peer.max_asked,
            metadata_size=len(metainfo.info) if metainfo else None,
            upload_only=complete,
            your_ip=peer.address.host,
        )
    )


def on_introduction(
    peer: Peer, event: ExtensionHandshake, candidates: Candidates, now: float
) -> None:
    """What a peer says of itself. The port it claims is a name for later, and nothing else: nobody
    is banned, taken for connected, or dialled later for what somebody else claims."""
    if event.client:
        peer.client = client_name(peer.peer_id, event.client)
    peer.pipeline.peer_limit(event.request_queue)
    if event.port is None or not peer.incoming or peer.claims is not None:
        return
    peer.claims = Address(peer.address.host, event.port)
    candidates.claimed(peer.claims, now)
