"""What can go wrong, as one tree. A handler catches the branch it can act on.

DhtTorrentError
|- ProtocolError       what came in breaks a rule: drop the sender, count it, go on
|  |- BencodeError       bytes that are not canonical bencode, or exceed a bound
|  |- KrpcError          a datagram that is not a KRPC message (BEP 5)
|  |- PeerProtocolError  a peer broke the peer-wire rules (BEP 3, 6, 9, 10)
|  |- HandshakeError     the first 68 bytes were wrong, or for a torrent that is not here
|  |- SocksError         an answer or a datagram that no SOCKS5 proxy should send (RFC 1928)
|  |- UtpError           a datagram that is not a well-formed uTP packet (BEP 29)
|  |- PortMapError        a gateway's datagram that is malformed, or an answer to nothing we asked
|  |- SearchFormatError  an item of the search index, or a publisher's record, that is malformed
|- NoReply             a DHT question got no answer, or a refusal (code and text)
|- InputError          what the user gave: one clear line, exit code 2
|  |- MagnetError        not a magnet link we can use
|  |- MetainfoError      not a .torrent (or info dict) we accept
|- StorageError        disk full, file changed, permission
|- ControlError        no node is there, or it said no
|- OurFault            a bug of ours ended a torrent

LocalProtocolError (a RuntimeError): our own code tried to send something illegal. A bug.
"""

from __future__ import annotations

from dht_torrent.relief import NO_DESCRIPTORS

__all__ = [
    "BencodeError",
    "ControlError",
    "DhtTorrentError",
    "HandshakeError",
    "InputError",
    "KrpcError",
    "LocalProtocolError",
    "MagnetError",
    "MetainfoError",
    "NoReply",
    "OurFault",
    "PeerProtocolError",
    "PortMapError",
    "ProtocolError",
    "SearchFormatError",
    "SocksError",
    "StorageError",
    "UtpError",
]


class DhtTorrentError(Exception):
    """The root of all errors this package raises on purpose."""


class ProtocolError(DhtTorrentError):
    """What came in from the network breaks a rule."""


class BencodeError(ProtocolError):
    """Bytes that are not canonical bencode, or that exceed a bound on depth, tokens or size."""


class KrpcError(ProtocolError):
    """A datagram that is not a well-formed KRPC message (BEP 5)."""


class PeerProtocolError(ProtocolError):
    """A peer broke the rules of the peer wire."""


class HandshakeError(PeerProtocolError):
    """The handshake was malformed, or asked for a torrent that is not here."""


class SocksError(ProtocolError):
    """What came from a SOCKS5 proxy is not of SOCKS5, or a refusal (RFC 1928)."""


class UtpError(ProtocolError):
    """A datagram that is not a well-formed uTP packet (BEP 29)."""


class PortMapError(ProtocolError):
    """What came is not a gateway's answer (PCP, NAT-PMP), or answers nothing we asked."""


class SearchFormatError(ProtocolError):
    """An item of the search index, or a publisher's record, is malformed or out of bounds."""


class NoReply(DhtTorrentError):  # noqa: N818 - the design's word; silence is an outcome, not a fault
    """A DHT question that got no answer in time, or was refused with a KRPC error."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        """The KRPC error code of a refusal (201-302), or None when nothing came."""


class InputError(DhtTorrentError):
    """What the user gave cannot be used. The text is one line a person can act on."""


class MagnetError(InputError):
    """Not a magnet link this node can use."""


class MetainfoError(InputError):
    """Not a .torrent file or info dict this node accepts."""


class StorageError(DhtTorrentError):
    """Reading or writing content failed: disk full, permission, or a file that changed."""

    def __init__(
        self, message: str, *, disk_full: bool = False, passing: bool = False, missing: bool = False
    ) -> None:
        super().__init__(message)
        self.disk_full = disk_full
        """True when space ran out."""
        self.passing = passing or disk_full
        """The system could not; nothing is known to be wrong with the files. The torrent waits and
        tries again by itself."""
        self.missing = missing
        """True when what was verified is not there: the torrent waits until it is back."""
        self.unflushed: int | None = None
        """The number of the file that the disk could not keep, if that is what it is."""

    @property
    def lacks_descriptors(self) -> bool:
        """Too many files are open; this says nothing of the file that was to be the next."""
        return isinstance(self.__cause__, OSError) and self.__cause__.errno in NO_DESCRIPTORS


class ControlError(DhtTorrentError):
    """No node answers at the control address, or the node refused what was asked."""


class OurFault(DhtTorrentError):  # noqa: N818 - whose fault it is is what it says
    """A bug of ours ended a torrent, and nothing else. The text says what it was."""


class LocalProtocolError(RuntimeError):
    """Our own code tried to send something the protocol forbids: a bug, never caught."""
