"""Mutated announces of the local network (BEP 14). The rule: what is decoded is the same announce
when it is sent on, and a peer is where its announce came from.
"""

from __future__ import annotations

import contextlib
import random
from typing import Final

from dht_torrent.config import LsdConfig
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address, parse_info_hash
from dht_torrent.lab.studies.codec_fuzz import Findings, Input, mutated
from dht_torrent.peer import lsd
from dht_torrent.peer.lsd import Announce

_WORDS: Final = (
    *(b"\r\n", b"\r\n\r\n", b"\r", b"\n", b":", b" ", b"\t", b"\0", b"\xd9\xa1", b"\xff" * 30),
    *(b"Port: 0\r\n", b"Port: 65536\r\n", b"PORT:6881\r\n", b"Port: 0006881\r\n", b"Port: -1\r\n"),
    *(b"cookie: \r\n", b"cookie: ours\r\n", b"Host: \r\n", b"Infohash: \r\n", b"X-More: 1\r\n"),
    *(b"Infohash: " + b"g" * 40 + b"\r\n", b"INFOHASH:" + b"0aF9" * 10 + b"\r\n"),
    b" : \r\n" * 200,
    b"Infohash: " + b"0" * 40 + b"\r\n",
    b"".join(b"Infohash: %040x\r\n" % number for number in range(24)),
)
_HOSTS: Final = 3000
_ASK: Final = 16
"""One in so many inputs asks who was heard: that goes through all that is remembered."""


class LsdCodec:
    """Announces of BEP 14, and what is remembered of them."""

    flat = 60_000
    """What is heard is bounded (1,000 hosts, 2,000 peers), and may grow that long."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self._valid = [
            lsd.encode(
                Announce(
                    rng.randrange(1, 65536),
                    tuple(parse_info_hash(rng.randbytes(20)) for _ in range(many)),
                    rng.choice((None, b"", b"ours", b"theirs")),
                ),
                rng.choice(lsd.GROUPS),
            )
            for many in (*(1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4), lsd.MAX_HASHES)
        ]
        self._hearing = lsd.Hearing(LsdConfig(), b"ours")

    def input(self, number: int, rng: random.Random) -> Input:
        """A datagram, and from where."""
        if rng.random() < 0.5:
            data = mutated(self._valid, rng)
        else:
            spoilt = bytearray(rng.choice(self._valid))
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(spoilt))
                if rng.random() < 0.7:  # at the beginning of a line
                    at = spoilt.find(b"\n", at) + 1
                spoilt[at:at] = rng.choice(_WORDS)
            data = bytes(spoilt)
        place = rng.randrange(_HOSTS)
        source = Address(f"192.168.{place >> 8}.{place & 255}", rng.randrange(1, 65536))
        now = 0.02 * number
        asks = number % _ASK == 0
        return Input(data, lambda found: self._hear(data, source, now, found, asks=asks))

    def _hear(
        self, data: bytes, source: Address, now: float, found: Findings, *, asks: bool
    ) -> None:
        announce = _decode(data)
        if announce is not None:
            found.decoded += 1
            _check_announce(announce, data, found)
        try:
            heard = self._hearing.datagram(data, source, now)
        except PeerProtocolError:
            return
        if heard is None:
            return
        found.answered += 1
        peer, info_hashes = heard
        if peer.host != source.host or announce is None or peer.port != announce.port:
            found.faults.append(f"a peer that is not its sender, from {data!r}")
        for info_hash in info_hashes[:1] if asks else ():
            self._hearing.peers(info_hash, now)


def _decode(data: bytes) -> Announce | None:
    with contextlib.suppress(PeerProtocolError):
        return lsd.decode(data)
    return None


def _check_announce(announce: Announce, data: bytes, found: Findings) -> None:
    if not 0 < announce.port < 65536 or not announce.info_hashes:
        found.faults.append(f"an announce of nothing from {data!r}")
    if len(announce.cookie or b"") > lsd.MAX_COOKIE or len(announce.info_hashes) > lsd.MAX_HASHES:
        return
    if lsd.decode(lsd.encode(announce, lsd.GROUPS[0])) != announce:
        found.faults.append(f"another announce when it is sent on: {data!r}")
