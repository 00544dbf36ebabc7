"""Holepunching (BEP 55): two peers behind routers, and a relay that tells each where the other is
at the same moment, so that both send to each other and both routers take what comes for an answer.

The rule: a relay tells where a peer is and nothing else, and only to another peer of the same
torrent that is connected with it. What a relay tells us costs us three small datagrams, to one
address, and only so often (`rendezvous`).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address
from dht_torrent.peer.extension import ExtensionMessage

UT_HOLEPUNCH: Final = "ut_holepunch"

_ADDRESS_SIZES: Final = {0: 4, 1: 16}
"""Bytes of an address, by its type."""
_HEAD: Final = 2
_PORT: Final = 2
_CODE: Final = 4


class HolepunchKind(IntEnum):
    """What a message is for."""

    RENDEZVOUS = 0
    """To the relay: I want to connect to the peer at this address."""
    CONNECT = 1
    """From the relay, to both: connect to this address, now."""
    ERROR = 2
    """From the relay: it cannot introduce us to this address."""


class HolepunchFailure(IntEnum):
    """Why a relay cannot introduce us."""

    NONE = 0
    NO_SUCH_PEER = 1
    """The address is not valid."""
    NOT_CONNECTED = 2
    """It is not connected with this peer."""
    NO_SUPPORT = 3
    """The peer does not speak ut_holepunch."""
    NO_SELF = 4
    """The address is the relay's own."""


@dataclass(frozen=True, slots=True)
class Holepunch(ExtensionMessage):
    """A message of any kind. The address of a decoded one may be one that nobody can have."""

    extension: ClassVar[str] = UT_HOLEPUNCH
    kind: HolepunchKind
    address: Address
    failure: int = HolepunchFailure.NONE
    """Of an ERROR; there may be codes from the future."""

    def payload(self) -> bytes:
        family = socket.AF_INET6 if self.address.is_ipv6 else socket.AF_INET
        return (
            bytes((self.kind, self.address.is_ipv6))
            + socket.inet_pton(family, self.address.host)
            + self.address.port.to_bytes(_PORT, "big")
            + self.failure.to_bytes(_CODE, "big")
        )


def decode_holepunch(payload: bytes, max_metadata: int) -> Holepunch | None:
    """Reads the payload of a ut_holepunch message; None for a kind or a family from the future.
    Raises PeerProtocolError.

    The error code may be absent where it says nothing: some clients leave it out."""
    if len(payload) < _HEAD:
        raise PeerProtocolError(f"ut_holepunch has {len(payload)} bytes")
    size = _ADDRESS_SIZES.get(payload[1])
    if payload[0] not in tuple(HolepunchKind) or size is None:
        return None
    kind, end = HolepunchKind(payload[0]), _HEAD + size + _PORT
    is_whole = len(payload) == end + _CODE
    if not is_whole and (len(payload) != end or kind is HolepunchKind.ERROR):
        raise PeerProtocolError(f"ut_holepunch has {len(payload)} bytes")
    family = socket.AF_INET6 if payload[1] else socket.AF_INET
    host = socket.inet_ntop(family, payload[_HEAD : _HEAD + size])
    address = Address(host, int.from_bytes(payload[end - _PORT : end], "big"))
    failure = int.from_bytes(payload[end:], "big")
    return Holepunch(kind, address, failure if kind is HolepunchKind.ERROR else 0)
