"""MSE written by hand, so that our two sides cannot be wrong together. It uses nothing of the
package under test, and its RC4 is the textbook's."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

P: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E34"
    "04DDEF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A362100000000"
    "00090563",
    16,
)
PLAIN, RC4 = 1, 2


def sha1(*parts: bytes) -> bytes:
    return hashlib.sha1(b"".join(parts)).digest()


def public(private: int) -> bytes:
    return pow(2, private, P).to_bytes(96, "big")


def secret_of(private: int, theirs: bytes) -> bytes:
    return pow(int.from_bytes(theirs, "big"), private, P).to_bytes(96, "big")


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


class Arc4:
    def __init__(self, key: bytes, discard: int = 1024) -> None:
        state, j = list(range(256)), 0
        for i in range(256):
            j = (j + state[i] + key[i % len(key)]) & 255
            state[i], state[j] = state[j], state[i]
        self._state, self._i, self._j = state, 0, 0
        self(bytes(discard))

    def __call__(self, data: bytes) -> bytes:
        state, out = self._state, bytearray()
        for byte in data:
            self._i = (self._i + 1) & 255
            self._j = (self._j + state[self._i]) & 255
            state[self._i], state[self._j] = state[self._j], state[self._i]
            out.append(byte ^ state[(state[self._i] + state[self._j]) & 255])
        return bytes(out)


@dataclass
class Dialler:
    """The side that dials."""

    skey: bytes
    private: int = int.from_bytes(b"\x33" * 20, "big")
    offers: int = PLAIN | RC4
    pad_a: bytes = b""
    pad_c: bytes = b""
    initial: bytes = b""
    selected: int = 0
    secret: bytes = b""
    out: Callable[[bytes], bytes] = field(default=bytes)
    back: Callable[[bytes], bytes] = field(default=bytes)
    """What encrypts, and what decrypts, the payload after the handshake."""

    def first(self) -> bytes:
        return public(self.private) + self.pad_a

    def second(self, theirs: bytes, *, wrong_secret: bool = False) -> bytes:
        """Step three, after the 96 bytes of the other side's key."""
        secret = self.secret = secret_of(self.private, theirs)
        self.out = Arc4(sha1(b"keyA", secret, self.skey))
        self.back = Arc4(sha1(b"keyB", secret, self.skey))
        hidden = bytes(8) + struct.pack(">IH", self.offers, len(self.pad_c)) + self.pad_c
        hidden += struct.pack(">H", len(self.initial)) + self.initial
        named = xor(sha1(b"req2", self.skey), sha1(b"req3", secret))
        return sha1(b"req1", secret) + named + self.out(hidden)

    async def talk(
        self, send: Callable[[bytes], Awaitable[None]], exactly: Callable[[int], Awaitable[bytes]]
    ) -> None:
        """The whole handshake. `exactly` gives so many bytes of the other side's, or raises."""
        await send(self.first())
        await send(self.second(await exactly(96)))
        mark = self.back(bytes(8))
        window = await exactly(8)
        for _ in range(512):
            if window == mark:
                break
            window = window[1:] + await exactly(1)
        assert window == mark
        self.selected, pad = struct.unpack(">IH", self.back(await exactly(6)))
        self.back(await exactly(pad))
        if self.selected == PLAIN:
            self.out = self.back = bytes


@dataclass
class Answerer:
    """The side that is dialled, and knows one torrent."""

    skey: bytes
    private: int = int.from_bytes(b"\x44" * 20, "big")
    selects: int = RC4
    pad_b: bytes = b""
    pad_d: bytes = b""
    offered: int = 0
    initial: bytes = b""
    out: Callable[[bytes], bytes] = field(default=bytes)
    back: Callable[[bytes], bytes] = field(default=bytes)

    async def talk(
        self, send: Callable[[bytes], Awaitable[None]], exactly: Callable[[int], Awaitable[bytes]]
    ) -> None:
        """The whole handshake."""
        secret = secret_of(self.private, await exactly(96))
        await send(public(self.private) + self.pad_b)
        mark = sha1(b"req1", secret)
        window = await exactly(20)
        for _ in range(512):
            if window == mark:
                break
            window = window[1:] + await exactly(1)
        assert window == mark
        assert await exactly(20) == xor(sha1(b"req2", self.skey), sha1(b"req3", secret))
        self.back = Arc4(sha1(b"keyA", secret, self.skey))
        self.out = Arc4(sha1(b"keyB", secret, self.skey))
        assert self.back(await exactly(8)) == bytes(8)
        self.offered, pad = struct.unpack(">IH", self.back(await exactly(6)))
        assert self.back(await exactly(pad)) == bytes(pad)
        (size,) = struct.unpack(">H", self.back(await exactly(2)))
        self.initial = self.back(await exactly(size))
        await send(self.out(self.answer()))
        if self.selects == PLAIN:
            self.out = self.back = bytes

    def answer(self) -> bytes:
        """Step four, before it is encrypted."""
        return bytes(8) + struct.pack(">IH", self.selects, len(self.pad_d)) + self.pad_d


class Sealed:
    """A stream (with `receive_into` and `send`) of one who has done the handshake by hand."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._left = bytearray()
        self.local, self.remote = stream.local, stream.remote
        self.transport = stream.transport
        self.encryption = None
        self.side: Dialler | Answerer | None = None

    async def shake_hands(self, side: Dialler | Answerer) -> None:
        await side.talk(self._stream.send, self._exactly)
        self._left[:] = side.back(bytes(self._left))
        self.side = side

    async def _exactly(self, count: int) -> bytes:
        buffer = memoryview(bytearray(4096))
        while len(self._left) < count:
            size = await self._stream.receive_into(buffer)
            if not size:
                raise EOFError
            self._left += buffer[:size]
        taken = bytes(self._left[:count])
        del self._left[:count]
        return taken

    @property
    def scattered(self) -> None:
        return None

    async def receive_into(self, buffer: memoryview) -> int:
        assert self.side is not None
        if isinstance(self.side, Answerer) and self.side.initial:
            data, self.side.initial = self.side.initial, b""
        elif self._left:
            data = bytes(self._left)
            self._left.clear()
        else:
            size = await self._stream.receive_into(buffer)
            data = self.side.back(bytes(buffer[:size]))
        assert len(data) <= len(buffer)
        buffer[: len(data)] = data
        return len(data)

    async def send(self, *buffers: bytes | memoryview) -> None:
        assert self.side is not None
        await self._stream.send(self.side.out(b"".join(buffers)))

    def close(self) -> None:
        self._stream.close()
