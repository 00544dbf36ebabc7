"""The messages of the peer wire (BEP 3, 5, 6, 10) and their bytes.

The rule: a message whose length does not fit its id never becomes a value. Each id has an exact
length or a bound (`check_length`), which is known before the body has arrived, so a liar is refused
before anything is kept for it.

On the wire a message is a 4-byte big-endian length, a 1-byte id and a payload; length 0 is a
keep-alive. Those that come by the thousand are NamedTuples because a tuple is the cheapest value
to build; compare their types as well as their fields. (The wire's word `index` hides tuple.index,
hence the type comments.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from struct import Struct
from typing import NamedTuple

from dht_torrent.errors import LocalProtocolError, PeerProtocolError
from dht_torrent.geometry import BLOCK, bitfield_size

MAX_PIECE_LENGTH = 9 + BLOCK
"""The length field of the longest Piece: no block we ask for is longer than BLOCK."""
PIECE_HEADER = 4 + 9
"""Bytes of a Piece before its block ..."""
FULL_PIECE = PIECE_HEADER + BLOCK
"""... and with a block of full length."""
MAX_PIECES = 0x200000
"""Pieces a torrent may have while its metadata is unknown (libtorrent's max_piece_count)."""
MAX_BITFIELD = bitfield_size(MAX_PIECES)
"""Bytes of the longest bitfield."""

CHOKE, UNCHOKE, INTERESTED, NOT_INTERESTED = 0, 1, 2, 3
HAVE, BITFIELD, REQUEST, PIECE, CANCEL, PORT = 4, 5, 6, 7, 8, 9
SUGGEST, HAVE_ALL, HAVE_NONE, REJECT, ALLOWED_FAST = 13, 14, 15, 16, 17
EXTENDED = 20

FAST_IDS = frozenset({SUGGEST, HAVE_ALL, HAVE_NONE, REJECT, ALLOWED_FAST})
"""Illegal unless both sides set the fast bit (BEP 6)."""

EXACT_LENGTH = {
    CHOKE: 1,
    UNCHOKE: 1,
    INTERESTED: 1,
    NOT_INTERESTED: 1,
    HAVE: 5,
    REQUEST: 13,
    CANCEL: 13,
    PORT: 3,
    SUGGEST: 5,
    HAVE_ALL: 1,
    HAVE_NONE: 1,
    REJECT: 13,
    ALLOWED_FAST: 5,
}
"""The length field of each message of fixed size: its id and payload, without the field itself."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing, to show that the connection lives: the message of length 0."""


@dataclass(frozen=True, slots=True)
class Choke:
    """The sender stops answering requests (BEP 3, id 0)."""


@dataclass(frozen=True, slots=True)
class Unchoke:
    """The sender answers requests from now on (BEP 3, id 1)."""


@dataclass(frozen=True, slots=True)
class Interested:
    """The sender wants pieces the receiver has (BEP 3, id 2)."""


@dataclass(frozen=True, slots=True)
class NotInterested:
    """The sender wants nothing the receiver has (BEP 3, id 3)."""


class Have(NamedTuple):
    """The sender has finished piece `index` (BEP 3, id 4)."""

    index: int  # type: ignore[assignment]


class Haves(NamedTuple):
    """Haves in a row, at least one, of pieces in any order. Sent and received as that many messages
    on the wire."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BitfieldMessage:
    """What the sender has: the high bit of the first byte is piece 0 (BEP 3, id 5)."""

    bits: bytes


class Request(NamedTuple):
    """Asks for `length` bytes from `begin` in piece `index` (BEP 3, id 6)."""

    index: int  # type: ignore[assignment]
    begin: int
    length: int


class RequestRun(NamedTuple):
    """`blocks` Requests in a row, for full blocks of piece `index` side by side from `begin` on.

    Only ever an event: that many messages came.
    """

    index: int  # type: ignore[assignment]
    begin: int
    blocks: int

    def requests(self) -> list[Request]:
        """What it stands for."""
        begins = range(self.begin, self.begin + self.blocks * BLOCK, BLOCK)
        return [Request(self.index, begin, BLOCK) for begin in begins]


class Piece(NamedTuple):
    """A block: bytes from `begin` in piece `index` (BEP 3, id 7).

    As an event, `data` looks into the buffer given to `Connection.receive`: copy it before that
    buffer is used again.
    """

    index: int  # type: ignore[assignment]
    begin: int
    data: bytes | memoryview


class PieceRun(NamedTuple):
    """`blocks` Pieces in a row, with full blocks of piece `index` side by side from `begin` on.

    Only ever an event: that many messages came. `messages` are their bytes, for which the same is
    true as for `Piece.data`.
    """

    index: int  # type: ignore[assignment]
    begin: int
    blocks: int
    messages: memoryview

    def pieces(self) -> list[Piece]:
        """What it stands for."""
        begins = range(self.begin, self.begin + self.blocks * BLOCK, BLOCK)
        return [Piece(self.index, *block) for block in zip(begins, self.payloads(), strict=True)]

    def payloads(self) -> list[memoryview]:
        """The data of each of its blocks."""
        messages, end = self.messages, self.blocks * FULL_PIECE
        return [messages[at : at + BLOCK] for at in range(PIECE_HEADER, end, FULL_PIECE)]


class BlocksInPlace(NamedTuple):
    """Piece messages that came in a row: for `blocks` blocks of piece `index`, from number `first`
    on, all of full length. As an event only, for blocks whose data is in its place already."""

    index: int  # type: ignore[assignment]
    first: int
    blocks: int


class Cancel(NamedTuple):
    """Takes a Request back (BEP 3, id 8)."""

    index: int  # type: ignore[assignment]
    begin: int
    length: int


class Port(NamedTuple):
    """The UDP port of the sender's DHT node (BEP 5, id 9)."""

    port: int


class Suggest(NamedTuple):
    """The sender would like to be asked for this piece (BEP 6, id 13)."""

    index: int  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class HaveAll:
    """In place of a full bitfield (BEP 6, id 14)."""


@dataclass(frozen=True, slots=True)
class HaveNone:
    """In place of an empty bitfield (BEP 6, id 15)."""


class Reject(NamedTuple):
    """A Request that will not be answered with a block (BEP 6, id 16)."""

    index: int  # type: ignore[assignment]
    begin: int
    length: int


class AllowedFast(NamedTuple):
    """This piece may be asked for while choked; whether the sender has it is another matter
    (BEP 6, id 17)."""

    index: int  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Extended:
    """An extension message, still encoded; id 0 is the extension handshake (BEP 10, id 20)."""

    id: int
    payload: bytes


Message = (
    KeepAlive
    | Choke
    | Unchoke
    | Interested
    | NotInterested
    | Have
    | BitfieldMessage
    | Request
    | Piece
    | Cancel
    | Port
    | Suggest
    | HaveAll
    | HaveNone
    | Reject
    | AllowedFast
    | Extended
)

_PLAIN: dict[int, Message] = {
    CHOKE: Choke(),
    UNCHOKE: Unchoke(),
    INTERESTED: Interested(),
    NOT_INTERESTED: NotInterested(),
    HAVE_ALL: HaveAll(),
    HAVE_NONE: HaveNone(),
}
"""Messages without fields need only one value each."""
_KEEP_ALIVE = KeepAlive()

_NUMBERS: dict[int, tuple[Callable[[Iterable[int]], Message], Struct]] = {
    HAVE: (Have._make, Struct(">I")),
    REQUEST: (Request._make, Struct(">III")),
    CANCEL: (Cancel._make, Struct(">III")),
    PORT: (Port._make, Struct(">H")),
    SUGGEST: (Suggest._make, Struct(">I")),
    REJECT: (Reject._make, Struct(">III")),
    ALLOWED_FAST: (AllowedFast._make, Struct(">I")),
}
"""Messages made of numbers only: how to build one, and the layout of its payload."""

_IDS: dict[type[Message], int] = {
    KeepAlive: -1,
    **{type(message): kind for kind, message in _PLAIN.items()},
    Have: HAVE,
    Request: REQUEST,
    Cancel: CANCEL,
    Port: PORT,
    Suggest: SUGGEST,
    Reject: REJECT,
    AllowedFast: ALLOWED_FAST,
    Piece: PIECE,
    BitfieldMessage: BITFIELD,
    Extended: EXTENDED,
}

_length_id = Struct(">IB")
_extended_header = Struct(">IBB")
_piece_header = Struct(">IBII")
_piece_numbers = Struct(">II")
_pack_request = partial(Struct(">IBIII").pack, EXACT_LENGTH[REQUEST], REQUEST)
_pack_have = partial(Struct(">IBI").pack, EXACT_LENGTH[HAVE], HAVE)


def id_of(message: Message) -> int:
    """The message id on the wire; -1 for a keep-alive, which has none."""
    return _IDS[type(message)]


def encode(message: Message) -> bytes:
    """The bytes of one message, length field included.

    Raises LocalProtocolError when a number does not fit its field (a negative index, say).
    """
    try:
        match message:
            case KeepAlive():
                return bytes(4)
            case BitfieldMessage(bits):
                return _length_id.pack(1 + len(bits), BITFIELD) + bits
            case Piece(index, begin, data):
                return _piece_header.pack(9 + len(data), PIECE, index, begin) + data
            case Extended(extension, payload):
                return _extended_header.pack(2 + len(payload), EXTENDED, extension) + payload
            case Choke() | Unchoke() | Interested() | NotInterested() | HaveAll() | HaveNone():
                return _length_id.pack(1, _IDS[type(message)])
            case _:
                kind = _IDS[type(message)]
                payload = _NUMBERS[kind][1].pack(*message)
                return _length_id.pack(1 + len(payload), kind) + payload
    except struct.error as error:
        raise LocalProtocolError(f"a field is out of range: {message!r:.200}") from error


def encode_requests(requests: Iterable[tuple[int, int, int]]) -> bytes:
    """One buffer of many Requests, each given as (index, begin, length)."""
    return b"".join(starmap(_pack_request, requests))


def encode_haves(indices: Iterable[int]) -> bytes:
    """One buffer of many Haves. Raises LocalProtocolError when a number does not fit its field."""
    try:
        return b"".join(map(_pack_have, indices))
    except struct.error as error:
        raise LocalProtocolError("the index of a piece is out of range") from error


def put_piece_headers(
    buffer: bytearray, offset: int, index: int, begin: int, length: int, blocks: int
) -> None:
    """Write the 13 bytes that stand in front of each of `blocks` adjacent blocks of `length` bytes,
    where the first message begins at `offset` and the others follow it."""
    put, header = _piece_header.pack_into, 9 + length
    step = 4 + header
    for number in range(blocks):
        put(buffer, offset + number * step, header, PIECE, index, begin + number * length)


def check_length(kind: int, length: int, *, max_extended: int = 1 << 20) -> None:
    """Raises PeerProtocolError unless a message with id `kind` may have this length field.

    `max_extended` bounds that of an Extended message.
    """
    exact = EXACT_LENGTH.get(kind)
    if exact is not None:
        fits = length == exact
    elif kind == PIECE:
        fits = 9 <= length <= MAX_PIECE_LENGTH
    elif kind == EXTENDED:
        fits = 2 <= length <= max_extended
    elif kind == BITFIELD:
        fits = 2 <= length <= 1 + MAX_BITFIELD
    else:
        raise PeerProtocolError(f"unknown message id {kind}")
    if not fits:
        raise PeerProtocolError(f"message id {kind} cannot have length {length}")


def decode(body: bytes | memoryview) -> Message:
    """One message, given without its length field. Raises PeerProtocolError.

    The data of a Piece is a slice of `body`; everything else is copied.
    """
    if not body:
        return _KEEP_ALIVE
    kind = body[0]
    check_length(kind, len(body))
    plain = _PLAIN.get(kind)
    if plain is not None:
        return plain
    numbers = _NUMBERS.get(kind)
    if numbers is not None:
        make, layout = numbers
        return make(layout.unpack_from(body, 1))
    if kind == PIECE:
        index, begin = _piece_numbers.unpack_from(body, 1)
        return Piece(index, begin, body[9:])
    if kind == BITFIELD:
        return BitfieldMessage(bytes(body[1:]))
    return Extended(body[1], bytes(body[2:]))
