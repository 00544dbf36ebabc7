"""Why dialling was in vain, and how it went with all the addresses of one torrent, for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Trouble(Enum):
    """Why dialling an address was in vain."""

    REFUSED = "refused the connection"
    TIMED_OUT = "did not answer in time"
    UNREACHABLE = "could not be reached"
    CLOSED = "closed the connection before the handshake"
    MAY_INSIST = "closed the connection before the handshake and may require encryption"
    ENCRYPTION_OFF = (
        "closed the connection before the handshake and may require encryption, which is off here"
    )
    UNENCRYPTED = "did not accept the encryption that is required here"
    NO_MEMBER = (
        "did not prove to be a member of this SSL torrent, or did not accept our certificate"
    )
    NO_HANDSHAKE = "accepted the connection and sent nothing"
    NO_PROXY = "was not dialled, as the proxy does not work"
    FORBIDDEN = "was not dialled, as the IP filter forbids its address"
    OTHER = "answered with something other than this torrent"

    @property
    def was_reached(self) -> bool:
        """A peer is there, and will most likely do the same again."""
        return self not in (
            Trouble.REFUSED,
            Trouble.TIMED_OUT,
            Trouble.UNREACHABLE,
            Trouble.NO_PROXY,
            Trouble.FORBIDDEN,
        )

    @property
    def may_pass(self) -> bool:
        """A client is there and closed at once: as it does while it starts, or checks what it has.
        Not one that refused: so do routers, and a host whose client has ended."""
        return self in (Trouble.CLOSED, Trouble.MAY_INSIST)


@dataclass(frozen=True, slots=True)
class Outlook:
    """How it went with the addresses that are known, none of them our own."""

    known: int
    dialling: int
    """Being dialled now, for the first time."""
    untried: int
    left: int
    """Connected once, and not any more."""
    troubles: dict[Trouble, int]
    """How the last attempt at the others ended."""
