"""What travels inside Extended messages: the extension handshake (BEP 10), metadata (BEP 9),
upload_only (BEP 21) and lt_donthave (BEP 54); peer exchange is in `pex`, ut_holepunch in
`holepunch`. To speak one more: its messages, a decoder, and a line in `EXTENSIONS`.

The rule: the id in *their* handshake is the one we send with, the id in ours (`OUR_IDS`) the one
we receive. A field of the handshake that makes no sense is taken as absent, as peers differ much
here; a malformed extension message is the sender's fault.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from dht_torrent import bencode
from dht_torrent.errors import BencodeError, PeerProtocolError
from dht_torrent.geometry import BLOCK
from dht_torrent.peer.extension import Codec, ExtensionMessage
from dht_torrent.peer.holepunch import UT_HOLEPUNCH, decode_holepunch
from dht_torrent.peer.pex import UT_PEX, decode_pex

HANDSHAKE_ID = 0
UT_METADATA = "ut_metadata"
UPLOAD_ONLY = "upload_only"
LT_DONTHAVE = "lt_donthave"

METADATA_BLOCK = BLOCK
"""Bytes of each metadata piece but the last (BEP 9)."""
DEFAULT_REQQ = 250
"""Requests a peer lets us queue when it does not say (libtorrent's assumption)."""
MAX_REQQ = 2000
MAX_METADATA_CLAIM = (1 << 31) - 1
"""Bytes of metadata one may claim to have."""
MAX_CLIENT = 100
"""Bytes kept of a client's name for itself."""

_REQUEST, _DATA, _REJECT = 0, 1, 2
_UINT32 = range(1 << 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionHandshake:
    """What a peer tells about itself (BEP 10). It may be repeated, and then adds to the former."""

    extensions: Mapping[str, int] = field(default_factory=lambda: OUR_IDS)
    """The id to send each extension's messages with; 0 takes the extension back. The decoder keeps
    only those we speak."""
    client: str | None = None
    """`v`: name and version of the client, made safe to print."""
    port: int | None = None
    """`p`: the TCP port the peer listens on."""
    request_queue: int = DEFAULT_REQQ
    """`reqq`: requests we may have in flight to the peer, 1 to 2000."""
    metadata_size: int | None = None
    """Bytes of the info dict, if the peer has it (BEP 9)."""
    upload_only: bool = False
    """The peer wants nothing (BEP 21)."""
    your_ip: str | None = None
    """Our address as the peer sees it."""
    prefers_encryption: bool = False
    """`e`: the peer would rather have its connections encrypted (Transmission)."""


@dataclass(frozen=True, slots=True)
class MetadataRequest(ExtensionMessage):
    """Asks for 16 KiB of the info dict (BEP 9, msg_type 0)."""

    extension: ClassVar[str] = UT_METADATA
    piece: int

    def payload(self) -> bytes:
        return bencode.encode({b"msg_type": _REQUEST, b"piece": self.piece})


@dataclass(frozen=True, slots=True)
class MetadataData(ExtensionMessage):
    """A piece of an info dict that has `total_size` bytes (BEP 9, msg_type 1).

    A decoded one has the length that `piece` and `total_size` call for.
    """

    extension: ClassVar[str] = UT_METADATA
    piece: int
    total_size: int
    data: bytes

    def payload(self) -> bytes:
        head = {b"msg_type": _DATA, b"piece": self.piece, b"total_size": self.total_size}
        return bencode.encode(dict[bytes, bencode.Value](head)) + self.data


@dataclass(frozen=True, slots=True)
class MetadataReject(ExtensionMessage):
    """The sender will not give this piece, most often as it has no metadata (BEP 9, msg_type 2)."""

    extension: ClassVar[str] = UT_METADATA
    piece: int

    def payload(self) -> bytes:
        return bencode.encode({b"msg_type": _REJECT, b"piece": self.piece})


@dataclass(frozen=True, slots=True)
class UploadOnly(ExtensionMessage):
    """The sender has become, or is no longer, one that downloads nothing (libtorrent; BEP 21)."""

    extension: ClassVar[str] = UPLOAD_ONLY
    flag: bool

    def payload(self) -> bytes:
        return bytes([self.flag])


@dataclass(frozen=True, slots=True)
class DontHave(ExtensionMessage):
    """The sender has lost a piece it had told of (BEP 54)."""

    extension: ClassVar[str] = LT_DONTHAVE
    index: int

    def payload(self) -> bytes:
        return self.index.to_bytes(4, "big")


def encode_handshake(handshake: ExtensionHandshake) -> bytes:
    """The payload of an Extended message with id 0."""
    entries: dict[bytes, bencode.Value] = {
        b"m": {name.encode(): number for name, number in handshake.extensions.items()},
        b"reqq": handshake.request_queue,
    }
    if handshake.client is not None:
        entries[b"v"] = handshake.client.encode()
    if handshake.port is not None:
        entries[b"p"] = handshake.port
    if handshake.metadata_size is not None:
        entries[b"metadata_size"] = handshake.metadata_size
    if handshake.upload_only:
        entries[b"upload_only"] = 1
    if handshake.prefers_encryption:
        entries[b"e"] = 1
    if handshake.your_ip is not None:
        family = socket.AF_INET6 if ":" in handshake.your_ip else socket.AF_INET
        entries[b"yourip"] = socket.inet_pton(family, handshake.your_ip)
    return bencode.encode(entries)


def decode_handshake(payload: bytes) -> ExtensionHandshake:
    """Reads the payload of an Extended message with id 0. Raises PeerProtocolError.

    Keys may come unsorted. A `metadata_size` that nobody can mean counts as unsaid; one that is
    more than we take is told, so that the user may hear of it.
    """
    try:
        entries = bencode.decode_tolerant(payload, max_depth=10, max_tokens=2000)
    except BencodeError as error:
        raise PeerProtocolError(f"malformed extension handshake: {error}") from error
    if not isinstance(entries, dict):
        raise PeerProtocolError("the extension handshake is not a dict")
    extensions: dict[str, int] = {}
    names = entries.get(b"m")
    if isinstance(names, dict):
        for name in OUR_IDS:
            number = names.get(name.encode())
            if isinstance(number, int) and 0 <= number <= 255:
                extensions[name] = number
    client = entries.get(b"v")
    reqq = entries.get(b"reqq")
    return ExtensionHandshake(
        extensions=extensions,
        client=printable(client) if isinstance(client, bytes) else None,
        port=_within(entries.get(b"p"), 65535),
        request_queue=min(max(reqq, 1), MAX_REQQ) if isinstance(reqq, int) else DEFAULT_REQQ,
        metadata_size=_within(entries.get(b"metadata_size"), MAX_METADATA_CLAIM),
        upload_only=entries.get(b"upload_only") == 1,
        your_ip=_ip(entries.get(b"yourip")),
        prefers_encryption=entries.get(b"e") == 1,
    )


def decode_message(number: int, payload: bytes, *, max_metadata: int) -> ExtensionMessage | None:
    """Reads the payload of an Extended message that came with one of `OUR_IDS`.

    None for an id we never gave, or a msg_type from the future: both are to be ignored. Raises
    PeerProtocolError.
    """
    decode = _DECODERS.get(number)
    return decode(payload, max_metadata) if decode is not None else None


def _decode_metadata(payload: bytes, max_metadata: int) -> ExtensionMessage | None:
    try:
        # Three keys and their values are all there is; a few more may come one day.
        head, used = bencode.decode_prefix(payload, max_depth=3, max_tokens=50)
    except BencodeError as error:
        raise PeerProtocolError(f"malformed ut_metadata message: {error}") from error
    if not isinstance(head, dict):
        raise PeerProtocolError("a ut_metadata message is not a dict")
    kind = head.get(b"msg_type")
    piece = head.get(b"piece")
    if not isinstance(kind, int):
        raise PeerProtocolError("a ut_metadata message without msg_type")
    if kind not in (_REQUEST, _DATA, _REJECT):
        return None
    if not isinstance(piece, int) or piece not in _UINT32:
        raise PeerProtocolError("a ut_metadata message without a sensible piece")
    if kind == _REQUEST:
        return MetadataRequest(piece)
    if kind == _REJECT:
        return MetadataReject(piece)
    total_size = _within(head.get(b"total_size"), max_metadata)
    if total_size is None:
        raise PeerProtocolError("metadata without a sensible total_size")
    data = payload[used:]
    if not data or len(data) != min(METADATA_BLOCK, total_size - piece * METADATA_BLOCK):
        raise PeerProtocolError(f"metadata piece {piece} of {total_size} has {len(data)} bytes")
    return MetadataData(piece, total_size, data)


def _decode_upload_only(payload: bytes, max_metadata: int) -> ExtensionMessage:
    if len(payload) != 1:
        raise PeerProtocolError(f"upload_only has {len(payload)} bytes")
    return UploadOnly(payload != b"\0")


def _decode_dont_have(payload: bytes, max_metadata: int) -> ExtensionMessage:
    if len(payload) != 4:
        raise PeerProtocolError(f"lt_donthave has {len(payload)} bytes")
    return DontHave(int.from_bytes(payload, "big"))


EXTENSIONS: Mapping[str, Codec] = {
    UT_PEX: Codec(1, decode_pex),
    UT_METADATA: Codec(2, _decode_metadata),
    UPLOAD_ONLY: Codec(3, _decode_upload_only),
    UT_HOLEPUNCH: Codec(4, decode_holepunch),
    LT_DONTHAVE: Codec(7, _decode_dont_have),
}
"""The extensions we speak, under libtorrent's numbers."""
OUR_IDS: Mapping[str, int] = {name: codec.number for name, codec in EXTENSIONS.items()}
_DECODERS = {codec.number: codec.decode for codec in EXTENSIONS.values()}


def printable(raw: bytes) -> str | None:
    """At most 100 bytes of a peer's text, without what could disturb a terminal; None if empty."""
    text = raw[:MAX_CLIENT].decode("utf-8", "ignore")
    return "".join(filter(str.isprintable, text)).strip() or None


def _within(value: object, most: int) -> int | None:
    return value if isinstance(value, int) and 0 < value <= most else None


def _ip(raw: object) -> str | None:
    if isinstance(raw, bytes):
        if len(raw) == 4:
            return socket.inet_ntop(socket.AF_INET, raw)
        if len(raw) == 16:
            return socket.inet_ntop(socket.AF_INET6, raw)
    return None
