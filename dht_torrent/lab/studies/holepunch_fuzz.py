"""Mutated messages of ut_holepunch (BEP 55). The rule: what is decoded is the same when it is sent
on, and whatever relays say, they have us send to few.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from dht_torrent.config import HolepunchConfig
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address, PeerKey
from dht_torrent.lab.studies.codec_fuzz import Findings, Input, mutated
from dht_torrent.peer.holepunch import Holepunch, HolepunchKind, decode_holepunch
from dht_torrent.peer.rendezvous import TrustInRelays

_RELAYS: Final = 100
_STEP: Final = 0.001
"""Seconds between two messages."""


class HolepunchCodec:
    """Messages of many relays, and to whom we send for them."""

    flat = 40_000
    """What is known of an address is kept, of some thousand addresses, and of 1000 hosts when they
    were sent to."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self._valid = [_message(rng) for _ in range(60)]
        self._config = HolepunchConfig()
        self._sending = TrustInRelays(self._config)
        self._sent: deque[float] = deque()

    def input(self, number: int, rng: random.Random) -> Input:
        """A payload, and from whom."""
        if number % 100 == 0:
            self._valid[rng.randrange(len(self._valid))] = _message(rng)
        data, now = mutated(self._valid, rng), number * _STEP
        relay = number % _RELAYS
        return Input(data, lambda found: self._hear(data, relay, now, found))

    def _hear(self, data: bytes, relay: int, now: float, found: Findings) -> None:
        try:
            message = decode_holepunch(data, 0)
        except PeerProtocolError:
            return
        if message is None:
            return
        found.decoded += 1
        if decode_holepunch(message.payload(), 0) != message:
            found.faults.append(f"another message when it is sent on: {data!r}")
        speaker = Address(f"11.0.0.{relay + 1}", 6881)
        if message.kind is not HolepunchKind.CONNECT or not self._sending.allows(
            PeerKey(relay), speaker, message.address, now
        ):
            return
        found.answered += 1
        self._sent.append(now)
        config = self._config
        span = config.node_burst * config.node_interval
        while self._sent[0] < now - span:
            self._sent.popleft()
        if len(self._sent) > 2 * config.node_burst + 1:
            found.faults.append(f"{len(self._sent)} were sent to in {span:.0f} s")
        if message.address.is_local or not message.address.is_usable:
            found.faults.append(f"sent to {message.address}")


def _message(rng: random.Random) -> bytes:
    """A valid one, most often CONNECT."""
    host = f"12.{rng.randrange(256)}.3.{rng.randrange(1, 255)}"
    if rng.random() < 0.3:
        host = f"2001:db8::{rng.randrange(1, 65536):x}"
    kind = rng.choice((HolepunchKind.CONNECT, HolepunchKind.CONNECT, *HolepunchKind))
    payload = Holepunch(kind, Address(host, rng.randrange(1, 65536)), rng.randrange(6)).payload()
    return payload[:-4] if rng.random() < 0.2 else payload
