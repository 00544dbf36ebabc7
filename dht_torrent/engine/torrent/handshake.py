"""The first 68 bytes of a connection, both ways."""

from __future__ import annotations

from dataclasses import dataclass

from dht_torrent.config import PeerConfig
from dht_torrent.engine.net.protocols import Stream
from dht_torrent.errors import HandshakeError
from dht_torrent.ids import InfoHash, PeerId
from dht_torrent.peer.connection import Connection, HandshakeReceived


@dataclass(frozen=True, slots=True)
class NewConnection:
    """The peer has said its handshake. What came right behind is still in `connection`."""

    stream: Stream
    connection: Connection
    handshake: HandshakeReceived


async def shake_hands(
    stream: Stream, info_hash: InfoHash, peer_id: PeerId, config: PeerConfig, *, dht: bool
) -> NewConnection:
    """Handshakes on a connection we dialled. Raises PeerProtocolError or OSError."""
    connection = Connection(config, dht=dht)
    await stream.send(connection.send_handshake(info_hash, peer_id))
    handshake = await _receive_handshake(stream, connection)
    if handshake.info_hash != info_hash:
        raise HandshakeError("answered for another torrent")
    return NewConnection(stream, connection, handshake)


async def receive_handshake(stream: Stream, config: PeerConfig, *, dht: bool) -> NewConnection:
    """Reads the handshake of a peer that dialled us. Ours is not sent yet: the part that knows the
    torrent answers with `connection.send_handshake`."""
    connection = Connection(config, dht=dht)
    handshake = await _receive_handshake(stream, connection)
    return NewConnection(stream, connection, handshake)


async def _receive_handshake(stream: Stream, connection: Connection) -> HandshakeReceived:
    buffer = bytearray(4096)
    while True:
        size = await stream.receive_into(memoryview(buffer))
        if size == 0:
            raise ClosedEarlyError("closed before its handshake")
        events = connection.receive(bytes(buffer[:size]))
        if events:
            (handshake,) = events
            assert isinstance(handshake, HandshakeReceived)
            return handshake


class ClosedEarlyError(HandshakeError):
    """The other side hung up before it had sent its handshake."""
