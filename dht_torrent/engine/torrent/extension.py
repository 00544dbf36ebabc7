"""One extension protocol (BEP 10) of a torrent, as `Extensions` runs it.

To add one: its messages in `peer.extensions`, a class as below, and a line in
`engine.torrent.extensions`.
"""

from __future__ import annotations

from typing import ClassVar

from dht_torrent.config import Config
from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.swarm import Swarm
from dht_torrent.peer.extension import ExtensionMessage


class Extension:
    """What one extension does with all peers of a torrent, at every stage. A method that is not
    overridden does nothing.

    All methods are synchronous. A PeerProtocolError out of `on_open` or `on_message` ends the
    connection."""

    name: ClassVar[str]
    """Its name in `peer.extensions.EXTENSIONS`."""
    public_only: ClassVar[bool] = False
    """Not spoken in private torrents (BEP 27), nor to those who are not verified yet."""
    plain_only: ClassVar[bool] = False
    """Not spoken in SSL torrents."""
    ticks: ClassVar[bool] = False
    """Whether `tick` is called."""

    def __init__(self, torrent: TorrentContext, connections: Connections) -> None:
        self.torrent = torrent
        self.connections = connections
        self.swarm: Swarm | None = None
        """Those who exchange pieces; None while the metadata is missing or content is checked."""

    @classmethod
    def is_on(cls, config: Config) -> bool:
        """Does this node speak it at all?"""
        return True

    def on_open(self, peer: Peer, now: float) -> None:
        """`peer` has said that it speaks this. Called once for a connection."""

    def on_message(self, peer: Peer, message: ExtensionMessage, now: float) -> None:
        """A message of this extension came; perhaps from a peer which did not say that it speaks it
        and cannot be answered."""

    def on_close(self, peer: Peer, now: float) -> None:
        """A connection that `on_open` was called for has ended."""

    def on_complete(self, now: float) -> None:
        """All that is wanted is here."""

    def tick(self, now: float) -> None:
        """Called every `extensions.TICK` seconds while there are connections."""
