"""Incoming connections: accepts them, and finds out which torrent each one wants."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from dht_torrent.engine.net.changes import Change
from dht_torrent.engine.net.protocols import Listener, Stream
from dht_torrent.engine.net.tls import receive_hello
from dht_torrent.engine.registry import Registry
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.handshake import NewConnection, receive_handshake
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.errors import HandshakeError, PeerProtocolError
from dht_torrent.ids import InfoHash, PeerKey
from dht_torrent.peer.half_open import HalfOpen

logger = logging.getLogger(__name__)

Received = tuple[NewConnection, Supervisor | None]
"""A handshake, and the torrent it asks for."""


class Incoming:
    """The connections that have not said yet which torrent they want. When there are too many, the
    oldest yields (`peer.half_open`)."""

    def __init__(
        self,
        context: NodeContext,
        registry: Registry,
        nursery: trio.Nursery,
    ) -> None:
        """Handshakes run in `nursery`."""
        self.heard_from_outside = False
        """A connection came in from another host."""
        self._context = context
        self._registry = registry
        self._nursery = nursery
        self._half_open = HalfOpen(context.config)
        self._handshakes: dict[PeerKey, trio.CancelScope] = {}

    def network_changed(self, change: Change) -> None:
        """Whether others can reach us is not known where we have other addresses."""
        if change.moved:
            self.heard_from_outside = False

    async def accept(self, listener: Listener, *, tls: bool = False) -> None:
        """Take in connections until cancelled: plain ones, or those of SSL torrents."""
        receive = self._receive_secured if tls else self._receive_plain
        while True:
            stream = await listener.accept()
            key = self._context.peer_key()
            yields = self._half_open.came(key, stream.remote.place)
            if yields is not None:
                self._handshakes.pop(yields).cancel()
            self._handshakes[key] = patience = trio.CancelScope()
            self._nursery.start_soon(self._receive, stream, receive, key, patience)

    async def _receive(
        self,
        stream: Stream,
        receive: Callable[[Stream], Awaitable[Received]],
        key: PeerKey,
        patience: trio.CancelScope,
    ) -> None:
        """Hand the connection to the torrent it asks for; close it silently if there is none."""
        timeout, taken = self._context.config.peer.handshake_timeout, False
        with self._context.faults.confined(f"the incoming handshake of {stream.remote}"):
            try:
                with patience:
                    patience.deadline = trio.current_time() + timeout
                    new, wanted = await receive(stream)
                    connections = wanted.core.connections if wanted is not None else None
                    theirs = new.handshake.peer_id
                    is_us = connections is not None and theirs == connections.peer_id
                    if not (self.heard_from_outside or is_us or self._is_here(stream)):
                        self.heard_from_outside = True
                    if connections is not None:
                        taken = connections.welcome(new)
            except (PeerProtocolError, OSError, trio.ClosedResourceError) as error:
                logger.debug("incoming %s: %s", stream.remote, error)
            finally:
                self._half_open.ended(key)
                self._handshakes.pop(key, None)
                if not taken:
                    stream.close()

    def _is_here(self, stream: Stream) -> bool:
        """Whether it comes from this machine, as far as can be told."""
        remote, local = stream.remote, stream.local
        if remote.is_loopback or remote.host == local.host:
            return True
        # What came by uTP may not know at which of our addresses.
        interfaces = self._context.network.interfaces()
        return not local.is_usable and any(one.has(remote.host) for one in interfaces)

    async def _receive_plain(self, stream: Stream) -> Received:
        """Without TLS: as the policy has it with MSE or plain. No SSL torrent is here then."""
        new = await receive_handshake(
            stream,
            self._context.config.peer,
            dht=True,
            mse=self._context.mse,
            find=self._registry.requested,
        )
        return new, self._find(new.handshake.info_hash, ssl=False)

    async def _receive_secured(self, stream: Stream) -> Received:
        """Nothing is said to those who name no SSL torrent of ours, nor to those who are not
        members."""
        named, hello = await receive_hello(stream)
        wanted = self._find(named, ssl=True)
        membership = wanted.core.context.membership if wanted is not None else None
        if wanted is None or membership is None:
            raise HandshakeError("asks for no SSL torrent that is here")
        secured = await membership.answer(stream, hello)
        new = await receive_handshake(secured, self._context.config.peer, dht=True)
        if new.handshake.info_hash != named:
            raise HandshakeError("asks for another torrent than its TLS handshake did")
        return new, wanted

    def _find(self, info_hash: InfoHash, *, ssl: bool) -> Supervisor | None:
        wanted = self._registry.supervisors.get(info_hash)
        return wanted if wanted is not None and wanted.core.context.is_ssl is ssl else None
