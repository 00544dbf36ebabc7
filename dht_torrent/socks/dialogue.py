"""What a client and a SOCKS5 proxy say until there is a UDP association (RFC 1928, RFC 1929).

The rule: the proxy's answers are read strictly, and no more of them is kept than one can have.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from dht_torrent.errors import SocksError
from dht_torrent.ids import Address, HostPort
from dht_torrent.socks.addresses import MAX_ADDRESS, decode_address, encode_address

ANYWHERE: Final = Address("0.0.0.0", 0)  # noqa: S104 - a value: "I do not know yet from where"
VERSION: Final = 5
AUTH_VERSION: Final = 1
UDP_ASSOCIATE: Final = 3
NO_AUTH: Final = 0
PASSWORD: Final = 2
NO_METHOD: Final = 0xFF
MAX_REPLY: Final = 3 + MAX_ADDRESS
"""Bytes."""
NO_SUCH_COMMAND: Final = 7
REASONS: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    NO_SUCH_COMMAND: "command not supported",
    8: "address type not supported",
}
"""What the numbers of a reply mean (RFC 1928, 6)."""
REFUSED_CREDENTIALS: Final = "the proxy refuses our user name and password"


class _Expects(Enum):
    METHOD = auto()
    AUTH = auto()
    REPLY = auto()
    NOTHING = auto()


class Dialogue:
    """The client's side. Send what `begin` and `receive` give."""

    def __init__(self, user: str | None = None, password: str | None = None) -> None:
        """Both of them are known, or none; 1 to 255 bytes of UTF-8 each."""
        self.relay: Address | HostPort | None = None
        """Where the proxy takes datagrams, once it has said so."""
        self._credentials: bytes | None = None
        if user is not None and password is not None:
            fields = [text.encode() for text in (user, password)]
            if any(not 0 < len(one) < 256 for one in fields):
                raise ValueError("a user name and a password of 1 to 255 bytes")
            self._credentials = b"".join(bytes([len(one)]) + one for one in fields)
        self._expects = _Expects.METHOD
        self._buffer = b""

    @property
    def pending(self) -> bytes:
        """What has come of a message that is not whole."""
        return self._buffer

    def begin(self) -> bytes:
        """What the client says first."""
        methods = [NO_AUTH] if self._credentials is None else [NO_AUTH, PASSWORD]
        return bytes([VERSION, len(methods), *methods])

    def receive(self, data: bytes) -> bytes:
        """What is to be said now: nothing while more must come, or when all is said. Raises
        SocksError."""
        self._buffer += data
        said = b""
        while self._expects is not _Expects.NOTHING:
            answer = self._step()
            if answer is None:
                break
            said += answer
        # Of what comes later on this connection nothing has a meaning.
        self._buffer = b"" if self._expects is _Expects.NOTHING else self._buffer[: MAX_REPLY + 1]
        return said

    def _step(self) -> bytes | None:
        """The answer to what has come; None while it has not come whole."""
        buffer = self._buffer
        if buffer and buffer[0] != (AUTH_VERSION if self._expects is _Expects.AUTH else VERSION):
            raise SocksError("it is not a SOCKS5 proxy")
        if len(buffer) < 2:
            return None
        if self._expects is _Expects.REPLY:
            return self._reply(buffer)
        self._buffer = buffer[2:]
        if self._expects is _Expects.AUTH:
            if buffer[1] != 0:
                raise SocksError(REFUSED_CREDENTIALS)
            return self._request()
        return self._method(buffer[1])

    def _method(self, method: int) -> bytes:
        if method == NO_AUTH:
            return self._request()
        if method == PASSWORD and self._credentials is not None:
            self._expects = _Expects.AUTH
            return bytes([AUTH_VERSION]) + self._credentials
        if method == NO_METHOD and self._credentials is None:
            raise SocksError("the proxy wants a user name and a password")
        raise SocksError("the proxy wants another authentication than a user name and a password")

    def _request(self) -> bytes:
        self._expects = _Expects.REPLY
        return bytes([VERSION, UDP_ASSOCIATE, 0]) + encode_address(ANYWHERE)

    def _reply(self, buffer: bytes) -> bytes | None:
        code = buffer[1]
        if code != 0:
            raise SocksError(f"the proxy refuses UDP: {REASONS.get(code, f'error {code}')}")
        if len(buffer) > 2 and buffer[2] != 0:
            raise SocksError("it is not a SOCKS5 proxy")
        found = decode_address(buffer, 3)
        if found is None:
            return None
        self.relay, _ = found
        self._expects = _Expects.NOTHING
        return b""
