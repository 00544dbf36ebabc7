"""What peers may have of us: blocks of what we have, for whom we do not choke, and of a few pieces
for a choked newcomer (BEP 6). All else is refused; asking for it too often ends the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dht_torrent.config import PeerConfig
from dht_torrent.engine.torrent.disk import TorrentDisk
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.errors import PeerProtocolError, StorageError
from dht_torrent.geometry import BLOCK
from dht_torrent.metainfo import Metainfo
from dht_torrent.peer.fast import allowed_fast_set
from dht_torrent.peer.messages import Reject, Request, RequestRun
from dht_torrent.torrent.pieces import Bitfield
from dht_torrent.torrent.requests import Asked, Run

FAST_COPIES = 3
"""Times each block of an allowed-fast piece is served to a choked peer."""


class Uploads:
    """The requests of the peers of one active torrent."""

    def __init__(
        self,
        metainfo: Metainfo,
        config: PeerConfig,
        disk: TorrentDisk,
        have: Bitfield,
        on_fault: Callable[[StorageError], None],
    ) -> None:
        """`on_fault` hears of content that cannot be read."""
        self._info_hash = metainfo.info_hash
        self._geometry = metainfo.geometry
        self._config = config
        self._disk = disk
        self._have = have
        self._on_fault = on_fault

    def request(self, peer: Peer, request: Request, shown: Bitfield, now: float) -> None:
        """Queue it or refuse it; `shown` are the pieces this peer may know of. Raises
        PeerProtocolError when a peer asks for too much it cannot have."""
        index, begin, length = request
        in_piece = 0 < length <= BLOCK and begin + length <= self._geometry.piece_size(index)
        if peer.am_choking and not self._serves_choked(peer, index, now):
            _refuse(peer, request)
        elif not in_piece or not shown.flags[index]:
            self._invalid_request(peer)
            _refuse(peer, request)
        elif len(peer.asked) >= self._config.max_asked:
            _refuse(peer, request)
        else:
            peer.asked.add(index, begin, length)

    def request_run(self, peer: Peer, run: RequestRun, shown: Bitfield, now: float) -> None:
        """As `request`, of each of its blocks."""
        index, begin, blocks = run
        if (
            not peer.am_choking
            and shown.flags[index]
            and begin + blocks * BLOCK <= self._geometry.piece_size(index)
            and len(peer.asked) + blocks <= self._config.max_asked
        ):
            peer.asked.add(index, begin, BLOCK, blocks)
        else:
            for request in run.requests():
                self.request(peer, request, shown, now)

    def cancel(self, peer: Peer) -> None:
        """Requests are taken back, all those of one turn in one pass: with BEP 6 each is confirmed.
        What is not in the queue is already on its way."""
        for block in peer.take_back():
            _refuse(peer, block)

    def offer_fast_pieces(self, peer: Peer) -> None:
        """A newcomer may have a few pieces while choked: then it has something to trade (BEP 6)."""
        config = self._config
        count = min(config.allowed_fast, config.allowed_fast_bytes // self._geometry.piece_length)
        if not peer.connection.fast or peer.allowed_by_us or peer.piece_total >= count:
            return
        pieces = peer.fast_set
        if pieces is None:
            pieces = allowed_fast_set(
                peer.address.host, self._info_hash, self._geometry.piece_count, count
            )
        peer.allow_fast(pieces, self._have)

    async def read(self, runs: Sequence[Run], into: Sequence[memoryview]) -> None:
        """Blocks for a peer. What cannot be read stops the torrent, and with it the peer."""
        try:
            await self._disk.read(runs, into)
        except StorageError as error:
            self._on_fault(error)
            raise PeerProtocolError("our own content could not be read") from error

    def _serves_choked(self, peer: Peer, index: int, now: float) -> bool:
        """May a peer we choke have a block of this piece? Only of its allowed-fast ones, and only
        so often."""
        if index not in peer.allowed_by_us:
            if now - peer.choked_at > self._config.choked_grace:
                self._invalid_request(peer)
            return False
        if peer.drew_fast_block(index) > FAST_COPIES * self._geometry.block_count(index):
            raise PeerProtocolError("drains an allowed-fast piece")
        return True

    def _invalid_request(self, peer: Peer) -> None:
        if peer.made_invalid_request() > self._config.max_invalid_requests:
            raise PeerProtocolError("asks for what it cannot have")


def _refuse(peer: Peer, request: Asked) -> None:
    if peer.connection.fast:
        peer.tell(Reject(*request))
