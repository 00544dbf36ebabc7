"""Mutated answers and datagrams of a SOCKS5 proxy. The rule: what is understood is the same when it
is said again, and a dialogue keeps no more of what comes than a reply can have.
"""

from __future__ import annotations

import random
from typing import Final

from dht_torrent.errors import SocksError
from dht_torrent.ids import Address
from dht_torrent.lab.studies.codec_fuzz import Findings, Input, mutated
from dht_torrent.socks.datagrams import unwrap, wrap
from dht_torrent.socks.dialogue import MAX_REPLY, Dialogue

_HOSTS: Final = (b"\x01\x0a\0\0\x01", b"\x04" + bytes(range(16)), b"\x03\x0bexample.com")
_ANSWERS: Final = tuple(
    method + b"\x05" + code + b"\0" + host + b"\x1f\x90"
    for method in (b"\x05\0", b"\x05\x02\x01\0", b"\x05\x02\x01\x01", b"\x05\xff")
    for code in (b"\0", b"\0", b"\x01", b"\x07")
    for host in _HOSTS
)
_DATAGRAMS: Final = tuple(
    b"\0\0" + fragment + host + b"\x1a\xe1" + data
    for fragment in (b"\0", b"\0", b"\0", b"\x01", b"\x80")
    for host in _HOSTS
    for data in (b"", b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", bytes(300))
)


class SocksCodec:
    """A dialogue with a proxy, cut anywhere, or a datagram."""

    flat = 5000
    """Nothing is kept from one input to the next but what Python itself caches."""

    def __init__(self, seed: int) -> None:
        self._answers = list(_ANSWERS)
        self._datagrams = list(_DATAGRAMS)

    def input(self, number: int, rng: random.Random) -> Input:
        """All that a proxy says, and where it is cut; or a datagram."""
        if number % 2:
            datagram = mutated(self._datagrams, rng)
            return Input(datagram, lambda found: _datagram(datagram, found))
        said = mutated(self._answers, rng)
        cuts = sorted(rng.randrange(len(said) + 1) for _ in range(rng.randrange(4)))
        secured = rng.random() < 0.7
        return Input(said, lambda found: _dialogue(said, cuts, found, secured=secured))


def _datagram(datagram: bytes, found: Findings) -> None:
    try:
        data, source = unwrap(datagram)
    except SocksError:
        return
    found.decoded += 1
    if wrap(data, source) != datagram:
        found.faults.append(f"another datagram when it is wrapped again: {datagram!r}")


def _dialogue(said: bytes, cuts: list[int], found: Findings, *, secured: bool) -> None:
    dialogue = Dialogue("user", "secret") if secured else Dialogue()
    dialogue.begin()
    answered = False
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
            answered = bool(dialogue.receive(said[begin:end])) or answered
            if len(dialogue.pending) > MAX_REPLY:
                found.faults.append(f"more is kept than a reply has: {said!r}")
    except SocksError:
        return
    found.answered += answered
    if dialogue.relay is not None:
        found.decoded += 1
        if isinstance(dialogue.relay, Address) and not 0 <= dialogue.relay.port < 65536:
            found.faults.append(f"a relay that is nowhere: {said!r}")
