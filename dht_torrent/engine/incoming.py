"""Incoming connections: accepts them, and finds out which torrent each one wants."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trio

from dht_torrent.engine.net.protocols import Listener, Stream
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.handshake import receive_handshake
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import InfoHash
from dht_torrent.peer.half_open import HalfOpen

logger = logging.getLogger(__name__)


class Incoming:
    """The connections that have not said yet which torrent they want. When there are too many, the
    oldest yields (`peer.half_open`)."""

    def __init__(
        self,
        context: NodeContext,
        supervisors: Mapping[InfoHash, Supervisor],
        nursery: trio.Nursery,
    ) -> None:
        """`supervisors` are those of the node's torrents. Handshakes run in `nursery`."""
        self.heard_from_outside = False
        """A connection came in from another host."""
        self._context = context
        self._supervisors = supervisors
        self._nursery = nursery
        self._half_open = HalfOpen(context.config)
        self._handshakes: dict[int, trio.CancelScope] = {}

    async def accept(self, listener: Listener) -> None:
        """Take in connections until cancelled."""
        while True:
            stream = await listener.accept()
            key = self._context.peer_key()
            yields = self._half_open.came(key, stream.remote.place)
            if yields is not None:
                self._handshakes.pop(yields).cancel()
            self._handshakes[key] = patience = trio.CancelScope()
            self._nursery.start_soon(self._receive, stream, key, patience)

    async def _receive(self, stream: Stream, key: int, patience: trio.CancelScope) -> None:
        """Hand the connection to the torrent it asks for; close it silently if there is none."""
        config, taken = self._context.config.peer, False
        with self._context.faults.confined(f"the incoming handshake of {stream.remote}"):
            try:
                with patience:
                    patience.deadline = trio.current_time() + config.handshake_timeout
                    new = await receive_handshake(stream, config, dht=True)
                    wanted = self._supervisors.get(new.handshake.info_hash)
                    connections = wanted.core.connections if wanted is not None else None
                    theirs = new.handshake.peer_id
                    is_us = connections is not None and theirs == connections.peer_id
                    is_here = stream.remote.is_loopback or stream.remote.host == stream.local.host
                    self.heard_from_outside = self.heard_from_outside or not (is_here or is_us)
                    if connections is not None:
                        taken = connections.welcome(new)
            except (PeerProtocolError, OSError, trio.ClosedResourceError) as error:
                logger.debug("incoming %s: %s", stream.remote, error)
            finally:
                self._half_open.ended(key)
                self._handshakes.pop(key, None)
                if not taken:
                    stream.close()
