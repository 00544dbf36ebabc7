"""The first 68 bytes of a connection, both ways, encrypted or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dht_torrent.config import PeerConfig
from dht_torrent.engine.net.encrypted import ClosedEarlyError, Mse
from dht_torrent.engine.net.protocols import Stream
from dht_torrent.errors import HandshakeError
from dht_torrent.ids import InfoHash, PeerId
from dht_torrent.peer.connection import PROTOCOL, Connection, HandshakeReceived


@dataclass(frozen=True, slots=True)
class NewConnection:
    """The peer has said its handshake. What came right behind is still in `connection`."""

    stream: Stream
    connection: Connection
    handshake: HandshakeReceived


async def shake_hands(
    stream: Stream,
    info_hash: InfoHash,
    peer_id: PeerId,
    config: PeerConfig,
    *,
    dht: bool,
    mse: Mse | None = None,
) -> NewConnection:
    """Handshakes on a connection we dialled, encrypted with `mse`. Raises PeerProtocolError or
    OSError; MseError when it did not come to the handshake for want of encryption. The caller sets
    the time limit."""
    connection = Connection(config, dht=dht)
    hello = connection.send_handshake(info_hash, peer_id)
    if mse is None:
        await stream.send(hello)
    else:
        stream = await mse.initiate(stream, info_hash, hello, config.mse_timeout)
    handshake = await _receive_handshake(stream, connection)
    if handshake.info_hash != info_hash:
        raise HandshakeError("answered for another torrent")
    return NewConnection(stream, connection, handshake)


async def receive_handshake(
    stream: Stream,
    config: PeerConfig,
    *,
    dht: bool,
    mse: Mse | None = None,
    find: Callable[[bytes], InfoHash | None] = lambda _: None,
) -> NewConnection:
    """Reads the handshake of a peer that dialled us, encrypted or not as `mse` accepts it (None:
    not encrypted); `find` as for `MseResponder`. Ours is not sent yet: the part that knows the
    torrent answers with `connection.send_handshake`. The caller sets the time limit."""
    connection = Connection(config, dht=dht)
    first, named = await _first_bytes(stream), b""
    if mse is None:
        pass
    elif first.startswith(PROTOCOL):
        if not mse.plain_accepted:
            raise HandshakeError("not encrypted, which is required")
    elif mse.accepted:
        stream, named = await mse.respond(stream, first, find)
        first = b""
    handshake = await _receive_handshake(stream, connection, first)
    if named and handshake.info_hash != named:
        raise HandshakeError("asks for another torrent than it named before")
    return NewConnection(stream, connection, handshake)


async def _first_bytes(stream: Stream) -> bytes:
    """As many as tell whether this is a plain handshake."""
    first = b""
    while len(first) < len(PROTOCOL) and PROTOCOL.startswith(first):
        first += await _receive(stream)
    return first


async def _receive_handshake(
    stream: Stream, connection: Connection, data: bytes = b""
) -> HandshakeReceived:
    """`data` came already."""
    while True:
        events = connection.receive(data)
        if events:
            (handshake,) = events
            assert isinstance(handshake, HandshakeReceived)
            return handshake
        data = await _receive(stream)


async def _receive(stream: Stream) -> bytes:
    buffer = bytearray(4096)
    size = await stream.receive_into(memoryview(buffer))
    if size == 0:
        raise ClosedEarlyError("closed before its handshake")
    return bytes(buffer[:size])
