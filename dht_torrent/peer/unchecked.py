"""What a peer said of pieces before anybody knew how many there are.

The rule: nothing in here has been checked, and nothing leaves but through `release`, whose messages
the connection treats as if they came in only then. How long the metadata takes is unknown, so all
that is kept is bounded: 256 KiB of bitfield, and a few hundred small messages.
"""

from __future__ import annotations

from typing import Final

from dht_torrent.errors import PeerProtocolError
from dht_torrent.geometry import bitfield_size
from dht_torrent.peer.extensions import DontHave
from dht_torrent.peer.messages import (
    MAX_PIECES,
    AllowedFast,
    BitfieldMessage,
    Cancel,
    Have,
    HaveAll,
    HaveNone,
    Piece,
    Reject,
    Request,
    Suggest,
)

MAX_ALLOWED = 32
"""Allowed-fast pieces remembered; BEP 6 suggests to send ten. Further ones are dropped."""
MAX_LOST = 1024
"""Pieces a peer may have lost meanwhile."""

AboutPieces = (
    Have
    | BitfieldMessage
    | HaveAll
    | HaveNone
    | Request
    | Cancel
    | Piece
    | Reject
    | Suggest
    | AllowedFast
    | DontHave
)
"""The messages that mean something only for a known number of pieces."""

_SAYS: Final[dict[type, str]] = {
    Have: "has",
    Piece: "answers for",
    Reject: "answers for",
    Request: "asks for",
    Cancel: "asks for",
    DontHave: "has lost",
}
"""What a peer says of a piece. An index out of range is harmless in the others: BEP 6 asks for
nothing."""


class Unchecked:
    """Messages about pieces, of one peer, in short."""

    def __init__(self, max_requests: int) -> None:
        """`max_requests`: Requests and Cancels kept; one more is the peer's fault, as there was
        nothing it could ask for."""
        self._max_requests = max_requests
        self._whole: HaveAll | HaveNone | None = None
        self._bitfield: bytes | None = None
        self._haves = bytearray()  # bits, grown as needed
        self._requests: list[Request | Cancel] = []
        self._allowed: dict[int, None] = {}
        self._lost: dict[int, None] = {}  # since it told that it has them

    def add(self, message: AboutPieces) -> None:
        """Remember it. Raises PeerProtocolError for what can be judged already: an index no torrent
        has, an answer to what cannot have been asked, more requests than anybody would queue."""
        match message:
            case HaveAll() | HaveNone():
                if isinstance(message, HaveAll):
                    self._lost.clear()
                if not isinstance(self._whole, HaveAll):
                    self._whole = message
            case BitfieldMessage(bits):
                self._unite(bits)
                for index in [i for i in self._lost if _has(bits, i)]:
                    del self._lost[index]
            case Have(index):
                if index >= MAX_PIECES:
                    raise PeerProtocolError(f"has piece {index}, of {MAX_PIECES} at most")
                self._have(index)
                self._lost.pop(index, None)
            case DontHave(index):
                if index >= MAX_PIECES:
                    raise PeerProtocolError(f"has lost piece {index}, of {MAX_PIECES} at most")
                self._lost[index] = None
                if len(self._lost) > MAX_LOST:
                    raise PeerProtocolError("loses pieces without end")
            case Request(index) | Cancel(index):
                if index >= MAX_PIECES:
                    raise PeerProtocolError(f"asks for piece {index}, of {MAX_PIECES} at most")
                if len(self._requests) >= self._max_requests:
                    raise PeerProtocolError("asks for what it cannot have")
                self._requests.append(message)
            case AllowedFast(index):
                if len(self._allowed) < MAX_ALLOWED:
                    self._allowed[index] = None
            case Piece() | Reject():
                raise PeerProtocolError("answers what was not requested")
            case Suggest():
                pass  # a hint, and old by the time it could be taken

    def release(self, count: int) -> list[AboutPieces]:
        """All of it, still unchecked: what the peer has (a HaveAll or HaveNone, or a bitfield
        with later Haves included, or both), then allowed-fast pieces, then its requests in order.
        """
        told: list[AboutPieces] = []
        bits = self._bits(bitfield_size(count))
        if bits is not None:
            told.append(BitfieldMessage(bits))
        if self._whole is not None and (bits is None or isinstance(self._whole, HaveAll)):
            told.append(self._whole)
        told += map(DontHave, self._lost)
        told += map(AllowedFast, self._allowed)
        told += self._requests
        return told

    def _unite(self, bits: bytes) -> None:
        """Pieces never vanish: a bitfield adds to the one before."""
        if self._bitfield is not None and self._bitfield != bits:
            if len(self._bitfield) != len(bits):
                raise PeerProtocolError("two bitfields of different lengths")
            both = int.from_bytes(self._bitfield) | int.from_bytes(bits)
            bits = both.to_bytes(len(bits))
        self._bitfield = bits

    def _have(self, index: int) -> None:
        byte, bit = divmod(index, 8)
        if byte >= len(self._haves):
            self._haves.extend(bytes(byte + 1 - len(self._haves)))
        self._haves[byte] |= 0x80 >> bit

    def _bits(self, size: int) -> bytes | None:
        """The bitfield and the Haves as one. Its length is wrong if either's is: that of the
        bitfield if that is not `size` bytes, else longer than `size` if a Have is."""
        bitfield, haves = self._bitfield, self._haves
        if not haves or (bitfield is not None and len(bitfield) != size):
            return bitfield
        size = max(len(haves), size)
        bits = int.from_bytes(haves.ljust(size, b"\0"))
        if bitfield is not None:
            bits |= int.from_bytes(bitfield.ljust(size, b"\0"))
        return bits.to_bytes(size)


def _has(bits: bytes, index: int) -> bool:
    byte, bit = divmod(index, 8)
    return byte < len(bits) and bool(bits[byte] & 0x80 >> bit)


def has_meaning(message: AboutPieces, count: int) -> bool:
    """Does it mean anything in a torrent of so many pieces? Raises PeerProtocolError if it may not
    be said there. A bitfield is judged elsewhere."""
    if isinstance(message, BitfieldMessage | HaveAll | HaveNone) or message.index < count:
        return True
    says = _SAYS.get(type(message))
    if says is None:
        return False
    raise PeerProtocolError(f"{says} piece {message.index}, of {count}")
