"""Message Stream Encryption (MSE/PE): a handshake that looks like random bytes, in front of the
peer wire; and RC4 for what follows, or nothing. Both sides, without IO.

It hides that this is BitTorrent from those who only look. It proves nothing: whoever knows the
infohash can be either side of it.

The rule: a responder says nothing more than random bytes to those who do not know the infohash of a
torrent that is here. Whatever is wrong, be it the padding, the key or the torrent, it swallows as
many bytes as the longest handshake has, and only then raises.

There is no specification by its authors; names of the steps are those of the one everybody follows
(wiki.vuze.com, *Message Stream Encryption*).
"""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import IntFlag
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Final

from dht_torrent.errors import HandshakeError, LocalProtocolError
from dht_torrent.peer.connection import HANDSHAKE_LENGTH, PROTOCOL

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

PRIME: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E34"
    "04DDEF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A362100000000"
    "00090563",
    16,
)
KEY_LENGTH: Final = 96
MAX_PAD: Final = 512
MAX_INITIAL: Final = HANDSHAKE_LENGTH
"""Bytes of payload in front, which the initiator sends with its last step: its handshake at most
(libtorrent refuses more)."""
LONGEST: Final = KEY_LENGTH + MAX_PAD + 20 + 20 + 14 + MAX_PAD + 2 + MAX_INITIAL
"""Bytes of the longest handshake of an initiator."""

_KEY_BITS: Final = 160
_DISCARDED: Final = 1024  # the first bytes of RC4's key stream tell of the key
_VC: Final = bytes(8)  # the verification constant
_offer = Struct(">IH")
_u16 = Struct(">H")
_WINDOW: Final = 4  # bits


class Method(IntFlag):
    """How the payload goes. An initiator offers several, the responder selects one."""

    PLAIN = 1
    RC4 = 2


@dataclass(frozen=True, slots=True)
class Ciphers:
    """RC4 of both directions. `update_into` works where the bytes lie."""

    incoming: CipherContext
    outgoing: CipherContext


@dataclass(frozen=True, slots=True)
class Secured:
    """The handshake is done."""

    ciphers: Ciphers | None
    """For all payload from now on; None when it goes as it is."""
    received: bytes
    """Payload that came already, as the peer meant it."""


Steps = Generator[None, None, Secured]


class _Side(ABC):
    """What both sides do: take bytes as they come, and go on when there are enough of them."""

    def __init__(self, rng: random.Random) -> None:
        self.secured: Secured | None = None
        """Set when the handshake is done."""
        self._rng = rng
        self._private = rng.getrandbits(_KEY_BITS)
        self._buffer = bytearray()
        self._out = bytearray()
        self._talk = self._steps()

    @abstractmethod
    def _steps(self) -> Steps:
        """The handshake: goes on at each `next`, and returns how it ended."""

    def _go_on(self) -> bytes:
        """Returns what is to be sent."""
        try:
            next(self._talk)
        except StopIteration as end:
            self.secured = end.value
        return self._taken_out()

    def _taken_out(self) -> bytes:
        out = bytes(self._out)
        self._out.clear()
        return out

    def _exactly(self, count: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < count:
            yield
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _past(self, mark: bytes) -> Generator[None, None, None]:
        """Drop everything up to `mark`, which comes behind padding of unknown length."""
        most = MAX_PAD + len(mark)
        while (at := self._buffer.find(mark, 0, most)) < 0:
            if len(self._buffer) >= most:
                raise HandshakeError("wrong key, or not MSE")
            yield
        del self._buffer[: at + len(mark)]

    def _send_key(self) -> None:
        key = _power_of_two(self._private).to_bytes(KEY_LENGTH, "big")
        self._out += key + self._rng.randbytes(self._pad())

    def _pad(self) -> int:
        return self._rng.randrange(MAX_PAD + 1)

    def _shared(self, key: bytes) -> bytes:
        theirs = int.from_bytes(key, "big")
        if not 2 <= theirs <= PRIME - 2:
            raise HandshakeError("a public key out of range")
        return pow(theirs, self._private, PRIME).to_bytes(KEY_LENGTH, "big")

    def _secured(self, method: Method, ciphers: Ciphers, initial: bytes) -> Secured:
        rest = bytes(self._buffer)
        self._buffer.clear()
        if method is Method.RC4:
            return Secured(ciphers, initial + ciphers.incoming.update(rest))
        return Secured(None, initial + rest)


class MseInitiator(_Side):
    """The side that dialled. Send what `begin` and `receive` return until `secured` is set."""

    def __init__(self, skey: bytes, initial: bytes, rng: random.Random, *, offered: Method) -> None:
        """`skey` is the infohash (the first 20 bytes of it), `initial` our handshake."""
        super().__init__(rng)
        if len(initial) > MAX_INITIAL or not offered:
            raise LocalProtocolError("too much initial payload, or no method")
        self._skey = skey
        self._initial = initial
        self._offered = offered

    def begin(self) -> bytes:
        """What goes first. Takes 0.2 ms; `receive` takes 0.7 ms once."""
        self._send_key()
        return self._go_on()

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take what came, cut anywhere. Raises HandshakeError; then hang up."""
        self._buffer += data
        return self._go_on()

    def _steps(self) -> Steps:
        while len(self._buffer) < len(PROTOCOL):
            yield
        if self._buffer.startswith(PROTOCOL):
            raise HandshakeError("the peer does not speak MSE")
        secret = self._shared((yield from self._exactly(KEY_LENGTH)))
        outgoing, incoming = (_rc4(name, secret, self._skey) for name in (b"keyA", b"keyB"))
        pad = self._pad()
        hidden = _VC + _offer.pack(self._offered, pad) + bytes(pad)
        hidden += _u16.pack(len(self._initial)) + self._initial
        self._out += _sha1(b"req1", secret)
        self._out += _xor(_sha1(b"req2", self._skey), _sha1(b"req3", secret))
        self._out += outgoing.update(hidden)
        yield from self._past(incoming.update(_VC))
        selected, pad = _offer.unpack(incoming.update((yield from self._exactly(_offer.size))))
        if selected not in (Method.PLAIN, Method.RC4) or not selected & self._offered:
            raise HandshakeError(f"the peer selected method {selected}")
        if pad > MAX_PAD:
            raise HandshakeError(f"padding of {pad} bytes")
        incoming.update((yield from self._exactly(pad)))
        return self._secured(Method(selected), Ciphers(incoming, outgoing), b"")


class MseResponder(_Side):
    """The side that was dialled. Send what `receive` returns until `secured` is set."""

    def __init__(
        self, find: Callable[[bytes], bytes | None], rng: random.Random, *, allowed: Method
    ) -> None:
        """`find` tells which `skey` has this `request_hash`; None where no such torrent is."""
        super().__init__(rng)
        self.skey = b""
        """The infohash that the initiator named, once `secured`."""
        self._find = find
        self._allowed = allowed
        self._came = 0
        self._failed: str | None = None

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take what came, cut anywhere. Takes 0.9 ms once.

        Raises HandshakeError, whatever went wrong, after `LONGEST` bytes. Who sends fewer waits
        for nothing: the caller has a time limit."""
        self._came += len(data)
        if self._failed is None:
            self._buffer += data
            try:
                return self._go_on()
            except HandshakeError as error:
                self._failed = str(error)
                self._buffer.clear()
        if self._came >= LONGEST:
            raise HandshakeError(self._failed)
        return self._taken_out()

    def _steps(self) -> Steps:
        key = yield from self._exactly(KEY_LENGTH)
        secret = self._shared(key)
        self._send_key()
        yield from self._past(_sha1(b"req1", secret))
        named = _xor((yield from self._exactly(20)), _sha1(b"req3", secret))
        skey = self._find(named)
        if skey is None:
            raise HandshakeError("for a torrent that is not here")
        incoming, outgoing = (_rc4(name, secret, skey) for name in (b"keyA", b"keyB"))
        if incoming.update((yield from self._exactly(len(_VC)))) != _VC:
            raise HandshakeError("wrong key")
        offered, pad = _offer.unpack(incoming.update((yield from self._exactly(_offer.size))))
        method = _select(offered & self._allowed)
        if pad > MAX_PAD:
            raise HandshakeError(f"padding of {pad} bytes")
        incoming.update((yield from self._exactly(pad)))
        (size,) = _u16.unpack(incoming.update((yield from self._exactly(_u16.size))))
        if size > MAX_INITIAL:
            raise HandshakeError(f"initial payload of {size} bytes")
        initial = incoming.update((yield from self._exactly(size)))
        pad = self._pad()
        self._out += outgoing.update(_VC + _offer.pack(method, pad) + bytes(pad))
        self.skey = skey
        return self._secured(method, Ciphers(incoming, outgoing), initial)


def request_hash(skey: bytes) -> bytes:
    """By which an initiator names a torrent."""
    return _sha1(b"req2", skey)


def _select(possible: int) -> Method:
    """The cheapest method: RC4 only keeps it from those who look at every packet."""
    for method in (Method.PLAIN, Method.RC4):
        if possible & method:
            return method
    raise HandshakeError("no method in common")


def _sha1(*parts: bytes) -> bytes:
    return hashlib.sha1(b"".join(parts)).digest()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _rc4(name: bytes, secret: bytes, skey: bytes) -> CipherContext:
    # Imported when a peer speaks MSE: it is a tenth of the memory of a node that has met none.
    from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
    from cryptography.hazmat.primitives.ciphers import Cipher

    cipher: CipherContext = Cipher(ARC4(_sha1(name, secret, skey)), mode=None).encryptor()
    cipher.update(bytes(_DISCARDED))
    return cipher


def _power_of_two(exponent: int) -> int:
    """`pow(2, exponent, PRIME)`, of `_KEY_BITS`, in 0.15 ms instead of 0.4."""
    result = 1
    for row in _powers():
        if not exponent:
            break
        result = result * row[exponent & (1 << _WINDOW) - 1] % PRIME
        exponent >>= _WINDOW
    return result


@cache
def _powers() -> list[list[int]]:
    """A row for each window of an exponent: the power for each value it may have."""
    rows, base = [], 2
    for _ in range(0, _KEY_BITS, _WINDOW):
        row = [1]
        for _ in range((1 << _WINDOW) - 1):
            row.append(row[-1] * base % PRIME)
        rows.append(row)
        base = row[-1] * base % PRIME
    return rows
