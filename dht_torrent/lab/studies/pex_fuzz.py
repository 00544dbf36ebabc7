"""Mutated messages of peer exchange (BEP 11). The rule: what is decoded keeps the bounds of a
message, and is the same message when it is sent on.

Most mutations break the bencoding. So that what lies behind it is reached as well, lists are also
mutated before they are put in a dict.
"""

from __future__ import annotations

import contextlib
import random
from typing import Final

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.config import PeerConfig
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address
from dht_torrent.lab.studies.codec_fuzz import HELD, Findings, Input, mutated
from dht_torrent.peer.pex import MAX_ENTRIES, PexFlags, PexHearing, PexMessage, decode_pex

_LISTS: Final = ((b"added", 6), (b"added6", 18), (b"dropped", 6), (b"dropped6", 18))
_FLAGS: Final = {b"added.f": b"added", b"added6.f": b"added6"}
_TALKERS: Final = 500
"""Peers that talk at the same time; each says something every TURN seconds."""
_TURN: Final = 50.0


class PexCodec:
    """Messages of BEP 11, and what is believed of them."""

    flat = HELD

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self._valid = [_exchange(rng).payload() for _ in range(60)]
        self._dicts = [bencode.decode(one, max_depth=2, max_tokens=99) for one in self._valid]
        self._longest = PeerConfig().max_extension_message - 2
        self._talkers = [
            PexHearing(Address(f"11.0.{number >> 8}.{number & 255}", 6881))
            for number in range(_TALKERS)
        ]

    def input(self, number: int, rng: random.Random) -> Input:
        """A payload, and from whom."""
        way = rng.random()
        if way < 0.001:  # as long as a message may be
            size, kind = rng.choice(((6, b"added"), (18, b"added6"), (6, b"dropped")))
            many = (self._longest - 40) // (size + 1)
            said: dict[bytes, Value] = {kind: rng.randbytes(size * many)}
            if rng.random() < 0.5 and kind != b"dropped":
                said[kind + b".f"] = bytes(many)
            data = bencode.encode(said)
        elif way < 0.5:
            data = mutated(self._valid, rng)
        else:
            data = self._spoilt(rng)
        talker = self._talkers[number % _TALKERS]
        now = number // _TALKERS * _TURN
        return Input(data, lambda found: _hear(data, talker, now, found))

    def _spoilt(self, rng: random.Random) -> bytes:
        entries = rng.choice(self._dicts)
        assert isinstance(entries, dict)
        said = dict(entries)
        for _ in range(rng.randrange(1, 4)):
            key, size = rng.choice(_LISTS)
            if rng.random() < 0.3:
                key, size = rng.choice(tuple(_FLAGS)), 1
            old = said.get(key, b"")
            assert isinstance(old, bytes)
            many = rng.choice((0, 1, MAX_ENTRIES // 2, MAX_ENTRIES, MAX_ENTRIES + 1, 200))
            said[key] = rng.choice(
                (old[:-1], old + b"\0", old * 2, bytes(size * many), rng.randbytes(size * many))
            )
            if rng.random() < 0.5 and key + b".f" in _FLAGS:
                new = said[key]
                assert isinstance(new, bytes)
                said[key + b".f"] = rng.randbytes(len(new) // size)
        if rng.random() < 0.1:
            wrong: tuple[Value, ...] = (0, [], {}, [b"a"], -1)
            said[rng.choice(list(said))] = rng.choice(wrong)
        return bencode.encode(said)


def _exchange(rng: random.Random) -> PexMessage:
    """A valid message: a few of either family."""

    def addresses(most: int) -> list[Address]:
        four = [
            Address(f"12.{rng.randrange(256)}.3.{rng.randrange(1, 255)}", rng.randrange(1, 65536))
            for _ in range(rng.randrange(most))
        ]
        six = [
            Address(f"2001:db8::{rng.randrange(1, 65536):x}", rng.randrange(1, 65536))
            for _ in range(rng.randrange(most))
        ]
        return four + six

    added = {address: PexFlags(rng.randrange(32)) for address in addresses(26)}
    return PexMessage(added, tuple(addresses(rng.choice((1, 26)))))


def _hear(data: bytes, talker: PexHearing, now: float, found: Findings) -> None:
    try:
        message = decode_pex(data, 0)
    except PeerProtocolError:
        return
    found.decoded += 1
    both: list[Address] = [*message.added, *message.dropped]
    if max(len(message.added), len(message.dropped)) > MAX_ENTRIES:
        found.faults.append(f"too many addresses from {data!r}")
    if len(set(both)) < len(both) or not all(address.is_usable for address in both):
        found.faults.append(f"an address twice, or of nobody, from {data!r}")
    again = decode_pex(message.payload(), 0)
    if again.added != message.added or set(again.dropped) != set(message.dropped):
        found.faults.append(f"another message when it is sent on: {data!r}")
    with contextlib.suppress(PeerProtocolError):
        found.answered += talker.hear(message, now) is not None
