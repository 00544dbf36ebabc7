"""A connection at work: its reader and its writer side by side. Whichever ends, both end.

A peer's fault (broken rule, silence, a dead socket) ends here.
"""

from __future__ import annotations

import trio

from dht_torrent.config import PeerConfig
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.rate_limits import TorrentLimits
from dht_torrent.engine.torrent.reader import OnEvents, read
from dht_torrent.engine.torrent.writer import Writer
from dht_torrent.errors import PeerProtocolError
from dht_torrent.torrent.pieces import BufferPool


async def run_peer(
    peer: Peer,
    config: PeerConfig,
    limits: TorrentLimits,
    buffer: memoryview,
    buffers: BufferPool,
    on_events: OnEvents,
) -> None:
    """Exchange messages until either side ends, and close the connection. `buffer`, for what comes,
    and `buffers`, for what goes, may be shared by all connections."""
    writer = Writer(peer, config, limits.up, buffers)
    try:
        with peer.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.run)
                await read(peer, config, limits.down, buffer, on_events)
                nursery.cancel_scope.cancel()
    except* (
        PeerProtocolError,
        OSError,
        trio.BrokenResourceError,
        trio.ClosedResourceError,
    ) as group:
        peer.failed(_first_reason(group))
    finally:
        limits.leave(peer.key)
        peer.stream.close()


def _first_reason(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
