"""MSE around a stream: its handshake, then a `Stream` like any other.

The handshakes of all connections take turns at their exponentiations (0.7 ms each): a crowd that
comes at once must not stop the node for longer than that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import trio

from dht_torrent.config import EncryptionPolicy
from dht_torrent.engine.net.protocols import Encryption, Scattered, Stream
from dht_torrent.engine.time_limit import TimeLimit
from dht_torrent.errors import HandshakeError
from dht_torrent.ids import Address, Transport
from dht_torrent.peer.mse import Ciphers, Method, MseInitiator, MseResponder, Secured

_CHUNK: Final = 4096


class ClosedEarlyError(HandshakeError):
    """The other side closed the connection before it had sent its handshake."""


class MseError(HandshakeError):
    """There was no MSE handshake with this peer, for the reason that is the cause. It may speak
    plainly."""


class MseStream:
    """A `Stream` whose payload goes as it is, after a handshake that was hidden."""

    encryption = Encryption.MSE

    def __init__(self, stream: Stream, received: bytes) -> None:
        """`received` is payload that came with the handshake."""
        self._stream = stream
        self._received = received

    @property
    def local(self) -> Address:
        return self._stream.local

    @property
    def remote(self) -> Address:
        return self._stream.remote

    @property
    def transport(self) -> Transport:
        return self._stream.transport

    @property
    def scattered(self) -> Scattered | None:
        return None if self._received else self._stream.scattered

    def receive_into(self, buffer: memoryview) -> Coroutine[Any, Any, int]:
        if self._received and buffer:
            return self._give(buffer)
        return self._stream.receive_into(buffer)

    def send(self, *buffers: bytes | memoryview) -> Coroutine[Any, Any, None]:
        return self._stream.send(*buffers)

    def close(self) -> None:
        self._received = b""
        self._stream.close()

    async def _give(self, buffer: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        if not self._received:  # closed meanwhile
            return await self._stream.receive_into(buffer)
        part = self._received[: len(buffer)]
        buffer[: len(part)] = part
        self._received = self._received[len(part) :]
        return len(part)


class Rc4Stream(MseStream):
    """A `Stream` whose payload is encrypted, where it lies."""

    encryption = Encryption.RC4

    def __init__(self, stream: Stream, received: bytes, ciphers: Ciphers) -> None:
        """`received` is decrypted already."""
        super().__init__(stream, received)
        self._decrypt = ciphers.incoming.update_into
        self._ciphers = ciphers

    @property
    def scattered(self) -> Scattered | None:
        return None if super().scattered is None else self

    async def readable(self, gather: int = 0) -> None:
        await self._plain().readable(gather)

    def receive_now(self, buffers: Sequence[memoryview]) -> int | None:
        size = self._plain().receive_now(buffers)
        left = size or 0
        for buffer in buffers:
            if not left:
                break
            part = buffer[:left]
            self._decrypt(part, part)
            left -= len(part)
        return size

    def _plain(self) -> Scattered:
        scattered = self._stream.scattered
        assert scattered is not None
        return scattered

    async def receive_into(self, buffer: memoryview) -> int:
        if self._received and buffer:
            return await self._give(buffer)
        return await self._decrypted(buffer)

    async def _decrypted(self, buffer: memoryview) -> int:
        size = await self._stream.receive_into(buffer)
        part = buffer[:size]
        self._decrypt(part, part)
        return size

    async def send(self, *buffers: bytes | memoryview) -> None:
        # First, or what is encrypted would never be sent, and all that follows be garbage.
        await trio.lowlevel.checkpoint()
        await self._stream.send(*map(self._encrypted, buffers))

    def _encrypted(self, buffer: bytes | memoryview) -> bytes | memoryview:
        view = memoryview(buffer)
        if view.readonly:
            return self._ciphers.outgoing.update(view)
        self._ciphers.outgoing.update_into(view, view)
        return view


class Mse:
    """A node's policy, and its side of all handshakes."""

    def __init__(self, policy: EncryptionPolicy, rng: random.Random) -> None:
        """`rng` makes the private keys."""
        self._rng = rng
        self._policy = policy
        insists = policy == "require"
        self._methods = Method.RC4 if insists else Method.PLAIN | Method.RC4
        self._turns = trio.Lock()

    @property
    def accepted(self) -> bool:
        """Whether peers may come encrypted."""
        return self._policy != "off"

    @property
    def preferred(self) -> bool:
        """Whether a peer should rather be encrypted: what it is told of us."""
        return self._policy in ("prefer", "require")

    @property
    def plain_accepted(self) -> bool:
        """Whether they may come without."""
        return self._policy != "require"

    def ways(self, spoke: bool | None) -> tuple[bool, ...]:
        """How to dial a peer, the first way first: with encryption (True) or without. `spoke` is
        the way that worked last with it."""
        if self._policy == "prefer":
            return (False, True) if spoke is False else (True, False)
        return (self._policy == "require",)

    async def initiate(self, stream: Stream, skey: bytes, initial: bytes, limit: float) -> Stream:
        """Encrypt a connection we dialled, on which nothing was sent yet, within `limit` seconds;
        `initial` goes with it. Raises MseError."""
        side = MseInitiator(skey, initial, self._rng, offered=self._methods)
        try:
            with TimeLimit(limit):
                await stream.send(await self._in_turn(side.begin))
                return await self._talk(stream, side, b"")
        except (HandshakeError, OSError, trio.TooSlowError) as error:
            why = str(error) or "no answer in time"
            raise MseError(f"no encryption: {why}") from error

    async def respond(
        self, stream: Stream, first: bytes, find: Callable[[bytes], bytes | None]
    ) -> tuple[Stream, bytes]:
        """Take in who dialled us and sent `first`; for `find` see `MseResponder`. Returns the
        encrypted stream, and the infohash the peer named. Raises HandshakeError or OSError. The
        caller sets the time limit."""
        side = MseResponder(find, self._rng, allowed=self._methods)
        return await self._talk(stream, side, first), side.skey

    async def _talk(self, stream: Stream, side: MseInitiator | MseResponder, data: bytes) -> Stream:
        buffer = memoryview(bytearray(_CHUNK))
        while True:
            if data:
                said = await self._in_turn(partial(side.receive, data))
                if said:
                    await stream.send(said)
                if side.secured is not None:
                    return _wrapped(stream, side.secured)
            size = await stream.receive_into(buffer)
            if size == 0:
                raise ClosedEarlyError("closed before its handshake")
            data = bytes(buffer[:size])

    async def _in_turn(self, step: Callable[[], bytes]) -> bytes:
        async with self._turns:
            return step()


def _wrapped(stream: Stream, secured: Secured) -> Stream:
    if secured.ciphers is None:
        return MseStream(stream, secured.received)
    return Rc4Stream(stream, secured.received, secured.ciphers)
