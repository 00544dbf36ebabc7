"""The info dict between peers (BEP 9), both ways: fetched when all we have is a magnet link, given
to whoever asks once we have it.
"""

from __future__ import annotations

import trio

from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.ids import InfoHash
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.peer.extensions import MetadataData, MetadataReject, MetadataRequest
from dht_torrent.torrent.metadata import MetadataAssembly, metadata_block

TICK = 1.0
"""Seconds between two looks at requests that were not answered."""


class MetadataFetch:
    """Fetches one torrent's info dict from its connections."""

    def __init__(self, node: NodeContext, info_hash: InfoHash, connections: Connections) -> None:
        self._node = node
        self._info_hash = info_hash
        self._connections = connections
        self._fetch = MetadataAssembly(info_hash, node.config.peer, node.metadata)
        self._news = trio.Event()

    async def run(self) -> Metainfo:
        """Returns when the dict is here, verified and found acceptable.

        Raises MetainfoError if what the infohash names is nothing we accept."""
        try:
            while self._fetch.info is None:
                self._ask(trio.current_time())
                self._news = trio.Event()
                with trio.move_on_after(TICK if self._connections.peers else float("inf")):
                    await self._news.wait()
        finally:
            self._fetch.close()
        # In a thread: the worst that 30 MiB can hold takes seconds to look through.
        return await self._node.disk.run(from_info, self._fetch.info, info_hash=self._info_hash)

    def offered(self, peer: Peer, size: int, now: float) -> None:
        """A peer says that it has the dict, and how many bytes it is."""
        if peer.connection.supports("ut_metadata"):
            peer.offers_info = True
            self._fetch.peer_joined(peer.key, size, now)
            self._ask(now)
            self._news.set()

    def trouble(self) -> str | None:
        """Why it cannot be fetched from those who are here, in one line."""
        return self._fetch.trouble()

    def left(self, peer: Peer) -> None:
        self._fetch.peer_left(peer.key)

    def received(self, peer: Peer, event: MetadataData | MetadataReject, now: float) -> None:
        """An answer to what we asked."""
        if isinstance(event, MetadataData) and self._fetch.expects(peer.key, event.piece):
            peer.gave_at = now
        if isinstance(event, MetadataReject):
            self._fetch.rejected(peer.key, event.piece, now)
        elif self._fetch.received(peer.key, event.piece, event.total_size, event.data, now):
            self._news.set()
            return
        for key in self._fetch.liars():
            if key in self._connections.peers:
                self._connections.mismatch(self._connections.peers[key])
        self._ask(now)

    def _ask(self, now: float) -> None:
        for peer in list(self._connections.peers.values()):
            while (piece := self._fetch.want(peer.key, now)) is not None:
                peer.tell(MetadataRequest(piece))


def send_info(peer: Peer, metainfo: Metainfo | None, piece: int, most: int) -> None:
    """Answer a request for a block of the info dict: no, if we lack it or if `most` blocks' worth
    of messages already wait for this peer."""
    if not peer.connection.supports("ut_metadata"):
        return
    block = metadata_block(metainfo.info, piece) if metainfo else None
    if metainfo is None or block is None or peer.backlog > most * 16 * 1024:
        peer.tell(MetadataReject(piece))
    else:
        peer.tell(MetadataData(piece, len(metainfo.info), block))
