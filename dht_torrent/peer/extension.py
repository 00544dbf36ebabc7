"""What all extensions of the peer protocol (BEP 10) have: messages, and a decoder for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple


class ExtensionMessage(ABC):
    """What travels in an Extended message, the extension handshake apart."""

    __slots__ = ()

    extension: ClassVar[str]
    """The name it has in `extensions.EXTENSIONS`."""

    @abstractmethod
    def payload(self) -> bytes:
        """Its bytes, behind the extension's number."""


class Codec(NamedTuple):
    """How an extension is received."""

    number: int
    """What its messages come with: in `m` of our extension handshake."""
    decode: Callable[[bytes, int], ExtensionMessage | None]
    """Reads a payload, and knows how many bytes of metadata we take. None is to be ignored. Raises
    PeerProtocolError."""
