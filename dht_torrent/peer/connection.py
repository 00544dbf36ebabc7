"""One connection of the peer wire without the wire: bytes in, events out, and bytes to send for
messages (in the manner of h11).

The rule: what comes out is legal. Handshake first, fast messages only when both sides speak BEP 6,
indexes within the torrent, lengths that fit the id.
Anything else raises PeerProtocolError, after which the connection must be closed. Of a message that
has not arrived in full only the bytes that came are kept, and only if the whole may be as long as
it says.

A message about pieces cannot be judged before their number is known. Until then it stays inside, as
`Unchecked`; `set_piece_count` puts it through the very check that later ones go through.

A payload is not copied when its message lies whole in the bytes given to `receive`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

from dht_torrent.config import PeerConfig
from dht_torrent.errors import HandshakeError, LocalProtocolError, PeerProtocolError
from dht_torrent.geometry import bitfield_size, check_bitfield
from dht_torrent.ids import InfoHash, PeerId, parse_info_hash, parse_peer_id
from dht_torrent.peer import extensions, messages
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.extensions import DontHave, ExtensionHandshake
from dht_torrent.peer.messages import (
    BITFIELD,
    EXTENDED,
    FAST_IDS,
    FULL_PIECE,
    HAVE,
    MAX_PIECE_LENGTH,
    PIECE,
    REQUEST,
    AllowedFast,
    BitfieldMessage,
    BlocksInPlace,
    Cancel,
    Extended,
    Have,
    HaveAll,
    HaveNone,
    Haves,
    KeepAlive,
    Message,
    Piece,
    PieceRun,
    Port,
    Reject,
    Request,
    RequestRun,
    Suggest,
)
from dht_torrent.peer.runs import count_pieces, take_haves, take_requests
from dht_torrent.peer.unchecked import AboutPieces, Unchecked, has_meaning

HANDSHAKE_LENGTH = 68
BITFIELD_SHARE = 64
"""Bytes of a bitfield that count as one message: looking through them takes some 10 us."""

PROTOCOL = b"\x13BitTorrent protocol"
_EXTENDED_BIT = 0x10  # in reserved[5]
_DHT_BIT, _FAST_BIT = 0x01, 0x04  # in reserved[7]

_KEEP_ALIVE = KeepAlive()

_u32 = Struct(">I").unpack_from
_start = Struct(">IBII").unpack_from
_new = tuple.__new__  # skips the Python-level __new__ of a NamedTuple: half the cost of an event


@dataclass(frozen=True, slots=True)
class HandshakeReceived:
    """The peer's first 68 bytes: always the first event. `fast`, `extended` and `dht` tell whether
    *both* sides speak BEP 6, BEP 10 and BEP 5."""

    info_hash: InfoHash
    peer_id: PeerId
    fast: bool
    extended: bool
    dht: bool


Event = (
    HandshakeReceived
    | Message
    | Haves
    | RequestRun
    | PieceRun
    | BlocksInPlace
    | ExtensionHandshake
    | ExtensionMessage
)
"""What `receive` and `Answers` give. Extended never comes raw: it is decoded, or ignored if unknown
to us. Haves in a row may come as one, requests for adjacent blocks as a RequestRun, and such blocks
as a PieceRun."""
Sendable = Message | Haves | ExtensionHandshake | ExtensionMessage
"""What `send` takes."""


class Connection:
    """The protocol state of one connection, ours and the peer's."""

    def __init__(
        self, config: PeerConfig, *, dht: bool, fast: bool = True, extended: bool = True
    ) -> None:
        """`dht`, `fast` and `extended`: what our handshake says we speak."""
        self._config = config
        self._we_speak = (fast, extended, dht)
        self._both_speak = (False, False, False)
        self._info_hash: InfoHash | None = None
        self._handshake_sent = False
        self._handshake_received = False
        self._carry = bytearray()  # a message (or handshake) that has begun and not ended
        self._piece_count: int | None = None

        # Ours comes in front only. Theirs may come later too, and then tells what they have by now:
        # aria2 sends one in place of many Haves, WebTorrent one more after the metadata.
        self._we_in_front = True

        self.unheard = 0
        """Messages that gave no event of their own: held back, unknown, of no meaning, or many in
        one event, after its first. A bitfield is as much work as many messages, and counts as more
        of them the longer it is."""
        self._behind = b""  # came with the handshake, not looked at yet
        self._unchecked = Unchecked(config.max_invalid_requests)

        self._extension_handshakes = 0
        self._their_ids: dict[str, int] = {}

    # -- what is known --------------------------------------------------------------------------

    @property
    def fast(self) -> bool:
        """Both sides speak BEP 6. False until the peer's handshake has come."""
        return self._both_speak[0]

    @property
    def extended(self) -> bool:
        """Both sides speak BEP 10."""
        return self._both_speak[1]

    @property
    def dht(self) -> bool:
        """Both sides have a DHT node (BEP 5)."""
        return self._both_speak[2]

    @property
    def established(self) -> bool:
        """Both handshakes are done."""
        return self._handshake_sent and self._handshake_received

    @property
    def mid_message(self) -> bool:
        """A message (or the peer's handshake) has begun and not ended."""
        return bool(self._carry or self._behind)

    @property
    def begun(self) -> bytearray:
        """What came of a message that has begun and not ended."""
        return self._carry

    def supports(self, extension: str) -> bool:
        """Whether the peer takes messages of this extension now, as of its last handshake."""
        return extension in self._their_ids

    # -- sending --------------------------------------------------------------------------------

    def send_handshake(self, info_hash: InfoHash, peer_id: PeerId) -> bytes:
        """Our 68 bytes. Once sent, a peer that answers for another torrent is refused."""
        if self._handshake_sent:
            raise LocalProtocolError("the handshake is sent only once")
        if self._info_hash is not None and info_hash != self._info_hash:
            raise LocalProtocolError("the peer's handshake was for another torrent")
        self._info_hash = info_hash
        self._handshake_sent = True
        fast, extended, dht = self._we_speak
        reserved = bytearray(8)
        reserved[5] = _EXTENDED_BIT * extended
        reserved[7] = _DHT_BIT * dht | _FAST_BIT * fast
        return PROTOCOL + reserved + info_hash + peer_id

    def send(self, message: Sendable) -> bytes:
        """The bytes of `message`. Raises LocalProtocolError if it may not be sent now.

        Bulk goes past this method: `messages.encode_requests` and `messages.put_piece_headers`.
        """
        if not self.established:
            raise LocalProtocolError("nothing may be sent before both handshakes")
        match message:
            case Haves(indices):
                self._check_sending(Have(max(indices)))
                return messages.encode_haves(indices)
            case ExtensionHandshake():
                message = Extended(extensions.HANDSHAKE_ID, extensions.encode_handshake(message))
            case ExtensionMessage(extension=name):
                if name not in self._their_ids:
                    raise LocalProtocolError(f"the peer does not speak {name}")
                message = Extended(self._their_ids[name], message.payload())
        self._check_sending(message)
        return messages.encode(message)

    def _check_sending(self, message: Message) -> None:
        fast, extended, dht = self._both_speak
        count = self._piece_count
        kind = messages.id_of(message)
        if kind in FAST_IDS and not fast:
            raise LocalProtocolError(f"{type(message).__name__} needs BEP 6 on both sides")
        match message:
            case KeepAlive():
                return
            case Extended():
                if not extended:
                    raise LocalProtocolError("the peer does not speak BEP 10")
                return
            case Port():
                if not dht:
                    raise LocalProtocolError("Port needs a DHT node on both sides")
                return
            case BitfieldMessage() | HaveAll() | HaveNone():
                if not self._we_in_front:
                    raise LocalProtocolError("a bitfield may only be the first message")
                if (
                    isinstance(message, BitfieldMessage)
                    and count is not None
                    and len(message.bits) != bitfield_size(count)
                ):
                    raise LocalProtocolError(f"a bitfield of {len(message.bits)} bytes")
            case _ if self._we_in_front and fast:
                raise LocalProtocolError("BEP 6: first comes a bitfield, HaveAll or HaveNone")
            case (
                Have(index)
                | Request(index)
                | Piece(index)
                | Cancel(index)
                | Suggest(index)
                | Reject(index)
                | AllowedFast(index)
            ) if count is not None and index >= count:
                raise LocalProtocolError(f"piece {index} of {count}")
        self._we_in_front = False

    # -- the metadata is known ------------------------------------------------------------------

    def set_piece_count(self, count: int) -> list[Event]:
        """Tell, once, how many pieces the torrent has. Indexes are checked from now on.

        Returns what the peer had said of its pieces before, and what it had asked for; see
        `Unchecked.release`. Raises PeerProtocolError if that does not fit such a torrent.
        """
        if self._piece_count is not None:
            raise LocalProtocolError("the piece count is known already")
        self._piece_count = count
        unchecked, self._unchecked = self._unchecked, Unchecked(0)
        events: list[Event] = []
        for message in unchecked.release(count):
            self._check_piece(message, count, events)
        return events

    # -- receiving ------------------------------------------------------------------------------

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take what came from the peer, cut anywhere. Returns the events it completes, in order.

        The handshake comes alone: by the time the next call is made, be it with nothing, the number
        of pieces may be known. Until `set_piece_count`, messages about pieces are only remembered.
        The data of a Piece may look into `data`: use it before that buffer is written again. Raises
        PeerProtocolError (HandshakeError for the first 68 bytes); the events of the same call are
        lost then.
        """
        events: list[Event] = []
        at = 0
        if not self._handshake_received:
            view = memoryview(data)
            at = self._receive_handshake(view, events)
            self._behind = bytes(view[at:])
            return events
        if self._behind:
            data, self._behind = self._behind + data, b""
        view = memoryview(data)
        end = len(view)
        if self._carry:
            at = self._complete(view, events)
        if at < end:
            at = self._parse(view, at, end, events)
            if at < end:
                self._carry += view[at:]
        return events

    def took_elsewhere(self, messages: int, events: int) -> None:
        """So many messages came whole and gave these events, past `receive`. If one had begun, it
        was the first of them."""
        self._carry = bytearray()
        self.unheard += messages - events

    def _receive_handshake(self, view: memoryview, events: list[Event]) -> int:
        carry = self._carry
        at = min(len(view), HANDSHAKE_LENGTH - len(carry))
        carry += view[:at]
        if not PROTOCOL.startswith(carry[:20]):
            raise HandshakeError("not the BitTorrent protocol")
        if self._info_hash is not None and not self._info_hash.startswith(carry[28:48]):
            raise HandshakeError("the peer answered for another torrent")
        if len(carry) < HANDSHAKE_LENGTH:
            return at
        self._info_hash = parse_info_hash(bytes(carry[28:48]))
        we_fast, we_extended, we_dht = self._we_speak
        self._both_speak = fast, extended, dht = (
            we_fast and bool(carry[27] & _FAST_BIT),
            we_extended and bool(carry[25] & _EXTENDED_BIT),
            we_dht and bool(carry[27] & _DHT_BIT),
        )
        peer_id = parse_peer_id(bytes(carry[48:]))
        events.append(HandshakeReceived(self._info_hash, peer_id, fast, extended, dht))
        self._handshake_received = True
        self._carry = bytearray()
        return at

    def _complete(self, view: memoryview, events: list[Event]) -> int:
        """Add to the message in the carry what belongs to it. Returns how much that was."""
        carry = self._carry
        at = max(0, 4 - len(carry))
        carry += view[:at]
        if len(carry) < 4:
            return len(view)
        (length,) = _u32(carry)
        if length > 0 and len(carry) == 4 and at < len(view):
            carry.append(view[at])
            at += 1
        self._check_start(carry, 0, len(carry))
        rest = view[at : at + 4 + length - len(carry)]
        carry += rest
        if len(carry) == 4 + length:
            self._carry = bytearray()  # the events may look into the old one
            self._parse(memoryview(carry), 0, len(carry), events)
        return at + len(rest)

    def _parse(self, view: memoryview, at: int, end: int, events: list[Event]) -> int:
        """Add an event for each whole message. Returns where the first incomplete one begins."""
        append = events.append
        count = self._piece_count
        # Blocks first: nearly all bytes of a download come through these few lines. The id that
        # `_start` reads belongs to the next message if this one is a keep-alive, so each branch
        # looks at the length too.
        while end - at >= 13:
            length, kind, index, begin = _start(view, at)
            if kind == PIECE and 9 <= length <= MAX_PIECE_LENGTH and count is not None:
                after = at + 4 + length
                if index >= count:
                    raise PeerProtocolError(f"a block of piece {index}, of {count}")
                if after > end:
                    return at
                if length == MAX_PIECE_LENGTH and view[after : after + 9] == view[at : at + 9]:
                    blocks = count_pieces(view, at, end, index, begin)
                    if blocks > 1:
                        after = at + blocks * FULL_PIECE
                        append(_new(PieceRun, (index, begin, blocks, view[at:after])))
                        self.unheard += blocks - 1
                        at = after
                        continue
                append(_new(Piece, (index, begin, view[at + 13 : after])))
                at = after
            elif kind == REQUEST and length == 13 and count is not None:
                after, more = take_requests(view, at, end, count, events)
                if after == at:
                    return at
                self.unheard += more
                at = after
            elif kind == HAVE and length == 5 and count is not None and index < count:
                at, more = take_haves(view, at, end, count, events)
                self.unheard += more
            else:
                after = self._parse_one(view, at, end, events)
                if after == at:
                    return at
                at = after
        while True:
            after = self._parse_one(view, at, end, events)
            if after == at:
                return at
            at = after

    def _parse_one(self, view: memoryview, at: int, end: int, events: list[Event]) -> int:
        """Take any one message, if it is whole. Returns where it ends, or `at`."""
        self._check_start(view, at, end)
        if end - at < 4:
            return at
        (length,) = _u32(view, at)
        after: int = at + 4 + length
        if after > end:
            return at
        if length == 0:
            events.append(_KEEP_ALIVE)
        else:
            before = len(events)
            kind = view[at + 4]
            _TAKE[kind](self, messages.decode(view[at + 4 : after]), events)
            self.unheard += len(events) == before
        return after

    def _check_start(self, view: bytearray | memoryview, at: int, end: int) -> None:
        """Judge a message by its length and id, as far as they are here."""
        if end - at < 4:
            return
        (length,) = _u32(view, at)
        if length > self._config.max_message:
            raise PeerProtocolError(f"a message of {length} bytes")
        if length == 0 or end - at < 5:
            return
        kind = view[at + 4]
        if kind in FAST_IDS and not self.fast:
            raise PeerProtocolError(f"message id {kind} without BEP 6")
        if kind == EXTENDED and not self.extended:
            raise PeerProtocolError("an extension message without BEP 10")
        size = None if self._piece_count is None else bitfield_size(self._piece_count)
        if kind == BITFIELD and size is not None and length != 1 + size:
            raise PeerProtocolError(
                f"a bitfield of {length - 1} bytes for {self._piece_count} pieces"
            )
        messages.check_length(kind, length, max_extended=self._config.max_extension_message)

    def _take_plain(self, message: Message, events: list[Event]) -> None:
        events.append(message)

    def _take_port(self, message: Port, events: list[Event]) -> None:
        if message.port and self._we_speak[2]:
            events.append(message)

    def _take_about_pieces(self, message: AboutPieces, events: list[Event]) -> None:
        if self._piece_count is None:
            self._unchecked.add(message)
        else:
            self._check_piece(message, self._piece_count, events)

    def _check_piece(self, message: AboutPieces, count: int, events: list[Event]) -> None:
        """The one door for messages about pieces, whenever they came."""
        if isinstance(message, BitfieldMessage):
            check_bitfield(message.bits, count)
            self.unheard += len(message.bits) // BITFIELD_SHARE
        if has_meaning(message, count):
            events.append(message)

    def _take_extended(self, extended: Extended, events: list[Event]) -> None:
        number, payload = extended.id, extended.payload
        if number != extensions.HANDSHAKE_ID:
            most = self._config.max_metadata
            message = extensions.decode_message(number, payload, max_metadata=most)
            if isinstance(message, DontHave):
                self._take_about_pieces(message, events)
            elif message is not None:
                events.append(message)
            return
        self._extension_handshakes += 1
        if self._extension_handshakes > self._config.max_extension_handshakes:
            raise PeerProtocolError("sends its extension handshake again and again")
        handshake = extensions.decode_handshake(payload)
        for name, theirs in handshake.extensions.items():
            if theirs:
                self._their_ids[name] = theirs
            else:
                self._their_ids.pop(name, None)
        events.append(handshake)


_TAKE: Final[dict[int, Callable[[Connection, Any, list[Event]], None]]] = {
    **dict.fromkeys(
        (messages.CHOKE, messages.UNCHOKE, messages.INTERESTED, messages.NOT_INTERESTED),
        Connection._take_plain,
    ),
    **dict.fromkeys(
        (HAVE, BITFIELD, REQUEST, PIECE, messages.CANCEL), Connection._take_about_pieces
    ),
    **dict.fromkeys(FAST_IDS, Connection._take_about_pieces),
    messages.PORT: Connection._take_port,
    EXTENDED: Connection._take_extended,
}
"""What a message that has come whole does, by its id. `check_length` knows no others."""
