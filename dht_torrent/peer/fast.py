"""The allowed-fast set of BEP 6: pieces a choked newcomer may have anyway.

The rule: it follows from the peer's address and the torrent alone, so reconnecting earns no more.
"""

from __future__ import annotations

import hashlib
import socket
import struct

from dht_torrent.ids import InfoHash


def allowed_fast_set(host: str, info_hash: InfoHash, piece_count: int, k: int) -> list[int]:
    """`k` different pieces (or all, if there are fewer) for the peer at `host`, in BEP 6's order.

    Empty for IPv6, for which BEP 6 defines nothing.
    """
    if ":" in host:
        return []
    network = socket.inet_aton(host)[:3] + b"\0"  # neighbours in a /24 get the same set
    state = network + info_hash
    chosen: dict[int, None] = {}
    wanted = min(k, piece_count)
    while len(chosen) < wanted:
        state = hashlib.sha1(state, usedforsecurity=False).digest()
        for number in struct.unpack(">5I", state):
            if len(chosen) < wanted:
                chosen[number % piece_count] = None
    return list(chosen)
