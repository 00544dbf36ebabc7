"""Which torrent a TLS connection is for, read from its very first message: SSL torrents share a
port, and the server name (SNI) is the infohash in hex.

The rule: nothing is sent, and no cryptography begins, before a ClientHello has named a torrent.
"""

from __future__ import annotations

import binascii
from typing import Final

from dht_torrent.errors import HandshakeError
from dht_torrent.ids import InfoHash

_RECORD_HEAD: Final = 5
_MAX_RECORD: Final = 1 << 14  # RFC 8446, 5.1
MAX_HELLO: Final = _RECORD_HEAD + _MAX_RECORD
"""Bytes of a ClientHello. It may come in several records, which nobody does who has fewer."""
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_HOST_NAME: Final = 0


def torrent_named(data: bytes | bytearray) -> InfoHash | None:
    """The infohash that a ClientHello names as the server. `data` is all that has come so far;
    None: more must come. Raises HandshakeError for anything but a ClientHello in one record, with
    such a name."""
    if data and data[0] != _HANDSHAKE:
        raise HandshakeError("not TLS")
    if len(data) < _RECORD_HEAD:
        return None
    size = int.from_bytes(data[3:5], "big")
    if data[1] != 3 or not 0 < size <= _MAX_RECORD:
        raise HandshakeError("not a TLS record")
    if len(data) < _RECORD_HEAD + size:
        return None
    record = _Reader(bytes(data[_RECORD_HEAD : _RECORD_HEAD + size]))
    if record.number(1) != _CLIENT_HELLO:
        raise HandshakeError("TLS without a ClientHello")
    return _info_hash(_server_name(record.vector(3)))


def _server_name(hello: _Reader) -> bytes:
    """RFC 8446, 4.1.2, and RFC 6066, 3."""
    hello.take(2 + 32)  # the version and the random
    hello.vector(1)  # the session
    hello.vector(2)  # the cipher suites
    hello.vector(1)  # the compressions
    extensions = hello.vector(2)
    while extensions:
        kind, body = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            names = body.vector(2)
            while names:
                kind, name = names.number(1), names.vector(2)
                if kind == _HOST_NAME:
                    return name.rest()
    raise HandshakeError("TLS without a server name")


def _info_hash(name: bytes) -> InfoHash:
    if len(name) == 40:
        try:
            return InfoHash(binascii.unhexlify(name))
        except binascii.Error:
            pass
    raise HandshakeError("TLS with a server name that is not an infohash")


class _Reader:
    """Takes bytes from the front. Raises HandshakeError where there are not as many."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise HandshakeError("a ClientHello that is cut short")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def rest(self) -> bytes:
        return self._data[self._at :]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> _Reader:
        """One whose length stands before it, in `width` bytes."""
        return _Reader(self.take(self.number(width)))
