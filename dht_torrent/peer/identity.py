"""What clients call themselves (BEP 20).

The rule: the names are for people to read. Nothing is decided by them, as anybody may lie.
"""

from __future__ import annotations

import random

from dht_torrent.config import CLIENT
from dht_torrent.ids import PeerId, parse_peer_id

_VERSION = b"0100"
_PREFIX = b"-" + CLIENT + _VERSION + b"-"

_AZUREUS = {
    b"7T": "aTorrent",
    b"A2": "aria2",
    b"AG": "Ares",
    b"AZ": "Vuze",
    b"BC": "BitComet",
    b"BI": "BiglyBT",
    b"BT": "BitTorrent",
    b"DE": "Deluge",
    b"FD": "Free Download Manager",
    b"FW": "FrostWire",
    b"GT": "anacrolix/torrent",
    b"KT": "KTorrent",
    b"LT": "libtorrent",
    b"PI": "PicoTorrent",
    b"RQ": "rqbit",
    b"SD": "Xunlei",
    b"TL": "Tribler",
    b"TR": "Transmission",
    b"TX": "Tixati",
    b"UM": "uTorrent for Mac",
    b"UT": "uTorrent",
    b"UW": "uTorrent Web",
    b"WD": "WebTorrent Desktop",
    b"WW": "WebTorrent",
    b"XL": "Xunlei",
    b"lt": "rTorrent",
    b"qB": "qBittorrent",
    b"rq": "rqbit",
    CLIENT: "dht_torrent",
}


def make_peer_id(rng: random.Random) -> PeerId:
    """A new id in Azureus style: `-DT0100-` and 12 random bytes."""
    return parse_peer_id(_PREFIX + rng.randbytes(12))


def client_name(peer_id: PeerId, version_text: str | None = None) -> str:
    """A name to show: what the extension handshake says, else what the peer id gives away."""
    if version_text:
        return version_text
    if peer_id[:1] == peer_id[7:8] == b"-":
        digits = peer_id[3:7]
        if digits.isalnum() and peer_id[1:3].isalnum():
            name = _AZUREUS.get(peer_id[1:3], peer_id[1:3].decode())
            return f"{name} {'.'.join(_version_parts(digits))}"
    return "unknown"


def _version_parts(digits: bytes) -> list[str]:
    """`4620` is 4.6.2: trailing zeros go, two parts stay; a letter counts on from 10."""
    parts = [str(int(chr(d), 36)) for d in digits]
    while len(parts) > 2 and parts[-1] == "0":
        parts.pop()
    return parts
