"""The metadata of a torrent that is not here and is not to be: asked of a few peers, and nothing
else is (BEP 9).

The rule: a peer costs no more than its share of time and bytes, and what it sends is believed when
it is what the infohash is the hash of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from dht_torrent.config import CrawlConfig
from dht_torrent.engine.torrent.context import NodeContext, TorrentContext
from dht_torrent.engine.torrent.dialling import DialError, dial
from dht_torrent.engine.torrent.handshake import NewConnection
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address, InfoHash, PeerKey
from dht_torrent.magnet import Magnet
from dht_torrent.peer.connection import Event
from dht_torrent.peer.extensions import (
    OUR_IDS,
    UT_METADATA,
    ExtensionHandshake,
    MetadataData,
    MetadataReject,
    MetadataRequest,
)
from dht_torrent.peer.identity import make_peer_id
from dht_torrent.peer.messages import HaveNone
from dht_torrent.torrent.metadata import MetadataAssembly, MetadataMemory
from dht_torrent.torrent.ways import Ways

TICK: Final = 1.0
"""Seconds between two looks what else may be asked for."""
SLACK: Final = 256 * 1024
"""Bytes a peer may send beside twice the metadata it says it has: which pieces it has, and who it
is ..."""
MAX_MESSAGES: Final = 10_000
"""... in so many messages: each costs a microsecond, be it as short as four bytes."""


@dataclass(frozen=True, slots=True)
class FetchedInfo:
    """How it went."""

    info: bytes | None
    """The info dict, whose hash is right."""
    reached: int
    """Peers that shook hands."""
    too_large: bool
    """They have it, and it is more than we take."""


class InfoFetch:
    """Fetches one torrent's info dict."""

    def __init__(
        self,
        node: NodeContext,
        info_hash: InfoHash,
        config: CrawlConfig,
        memory: MetadataMemory,
        took: Callable[[int], object],
    ) -> None:
        """`took` hears of bytes that came."""
        peer_config = node.config.peer
        most = min(peer_config.max_metadata, config.max_metadata)
        self._node = node
        self._torrent = TorrentContext(node, Magnet(info_hash))
        self._config = config
        self._took = took
        self._peer_id = make_peer_id(node.rng)
        self._most_info = most
        self._assembly = MetadataAssembly(info_hash, peer_config, memory, max_size=most)
        self._sizes: dict[PeerKey, int] = {}
        """Bytes of the metadata, as each peer says."""
        self._reached = 0
        self._too_large = False
        self._over = trio.CancelScope()

    async def run(self, peers: Sequence[Address]) -> FetchedInfo:
        """Ask some of these peers until one has given all of it, or the time is up."""
        config = self._config
        todo = iter(list(dict.fromkeys(peers))[: config.max_peers])

        async def next_ones() -> None:
            for address in todo:
                if address not in self._node.own_addresses:
                    await self._ask(address)

        try:
            with self._over:
                self._over.deadline = trio.current_time() + config.fetch_patience
                async with trio.open_nursery() as nursery:
                    for _ in range(config.peers_at_once):
                        nursery.start_soon(next_ones)
        finally:
            self._assembly.close()
        return FetchedInfo(self._assembly.info, self._reached, self._too_large)

    async def _ask(self, address: Address) -> None:
        node = self._node
        try:
            async with node.dialing():
                await node.pace_dial()
                new = (await dial(self._torrent, address, self._peer_id, Ways())).new
        except DialError:
            return
        self._reached += 1
        key = node.peer_key()
        try:
            await self._converse(new, key)
        except (OSError, PeerProtocolError, trio.ClosedResourceError):
            pass
        finally:
            new.stream.close()
            self._assembly.peer_left(key)
        if self._assembly.info is not None:
            self._over.cancel()

    async def _converse(self, new: NewConnection, key: PeerKey) -> None:
        """Until we have it, or this peer is of no more use. Raises as a stream does, and
        PeerProtocolError."""
        connection, stream = new.connection, new.stream
        if not connection.extended:
            return
        hello = connection.send(HaveNone()) if connection.fast else b""
        hello += connection.send(
            ExtensionHandshake(
                extensions={UT_METADATA: OUR_IDS[UT_METADATA]},
                client=self._node.client,
                your_ip=stream.remote.host,
            )
        )
        await stream.send(hello)
        events = connection.receive(b"")
        heard, received, messages = trio.current_time(), 0, 0
        while True:
            now = trio.current_time()
            if not self._take(new, key, events, now) or now - heard >= self._config.peer_patience:
                return
            asked = b""
            while (piece := self._assembly.want(key, now)) is not None:
                asked += connection.send(MetadataRequest(piece))
            if asked:
                await stream.send(asked)
            events = []
            with trio.move_on_after(TICK):
                size = await stream.receive_into(self._node.buffer)
                received += size
                self._took(size)
                if size == 0 or received > 2 * self._sizes.get(key, 0) + SLACK:
                    return
                heard = trio.current_time()
                events = connection.receive(self._node.buffer[:size])
                messages += len(events)
                if messages + connection.unheard > MAX_MESSAGES:
                    return

    def _take(self, new: NewConnection, key: PeerKey, events: Sequence[Event], now: float) -> bool:
        """What it said. False: there is nothing more to hear."""
        assembly = self._assembly
        for event in events:
            if isinstance(event, ExtensionHandshake):
                if not new.connection.supports(UT_METADATA) or event.metadata_size is None:
                    return False
                if event.metadata_size > self._most_info:
                    self._too_large = True
                    return False
                self._sizes[key] = event.metadata_size
                assembly.peer_joined(key, event.metadata_size, now)
            elif isinstance(event, MetadataData):
                assembly.received(key, event.piece, event.total_size, event.data, now)
            elif isinstance(event, MetadataReject):
                return False
        return assembly.info is None and key not in assembly.liars()
