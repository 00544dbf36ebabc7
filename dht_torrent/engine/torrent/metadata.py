"""The info dict between peers (BEP 9), both ways: fetched when all we have is a magnet link, given
to peers that ask, once we have it.
"""

from __future__ import annotations

import trio

from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.extension import Extension
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.extensions import (
    METADATA_BLOCK,
    UT_METADATA,
    MetadataData,
    MetadataReject,
    MetadataRequest,
)
from dht_torrent.torrent.metadata import MetadataAssembly, metadata_block

TICK = 1.0
"""Seconds between two looks at requests that were not answered."""


class MetadataFetch:
    """Fetches one torrent's info dict from its connections."""

    def __init__(self, torrent: TorrentContext, connections: Connections) -> None:
        node = torrent.node
        self._disk = node.disk
        self._info_hash = torrent.info_hash
        self._connections = connections
        self._fetch = MetadataAssembly(torrent.info_hash, node.config.peer, node.metadata)
        self._news = AutoResetEvent()

    async def run(self) -> Metainfo:
        """Returns when the dict is here, verified and found acceptable.

        Raises MetainfoError if what the infohash names is nothing we accept."""
        try:
            while self._fetch.info is None:
                self._ask(trio.current_time())
                with trio.move_on_after(TICK if self._connections.peers else float("inf")):
                    await self._news.wait()
        finally:
            self._fetch.close()
        # In a thread: the worst that 30 MiB can hold takes seconds to look through.
        return await self._disk.run(from_info, self._fetch.info, info_hash=self._info_hash)

    def offered(self, peer: Peer, size: int | None, now: float) -> None:
        """A peer says that it has the dict, and how many bytes it is; None: it does not."""
        if size is not None and peer.connection.supports(UT_METADATA):
            peer.offered_metadata()
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
            peer.gave_metadata(now)
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


class MetadataSharing(Extension):
    """Gives blocks of the info dict to peers that ask, once we have it. What answers to our own
    requests is `MetadataFetch`'s."""

    name = UT_METADATA

    def on_message(self, peer: Peer, message: ExtensionMessage, now: float) -> None:
        """Answers a request: with no, if we lack the dict or if `max_metadata_requests` blocks'
        worth of messages already wait for this peer."""
        if not isinstance(message, MetadataRequest) or not peer.connection.supports(UT_METADATA):
            return
        metainfo, most = self.torrent.metainfo, self.torrent.node.config.peer.max_metadata_requests
        block = metadata_block(metainfo.info, message.piece) if metainfo else None
        if metainfo is None or block is None or peer.backlog > most * METADATA_BLOCK:
            peer.tell(MetadataReject(message.piece))
        else:
            peer.tell(MetadataData(message.piece, len(metainfo.info), block))
