"""Node ids bound to IPs (BEP 42). The rule: a public node's id begins as its IP says, ours too, and
what our IP is we believe only when many others agree.
"""

from __future__ import annotations

import random
import socket
from collections import Counter, OrderedDict
from typing import Final

from dht_torrent.checksum import crc32c
from dht_torrent.config import DhtConfig
from dht_torrent.dht.origins import Home, facts
from dht_torrent.ids import Address, NodeId

OBSERVERS: Final = 16
"""Places whose last word on our port is kept ..."""
ENOUGH_OBSERVERS: Final = 4
"""... and how many must have said one."""
_MASK4 = 0x030F3FFF
_MASK6 = 0x0103070F1F3F7FFF


def prefix(host: str, rand: int) -> int:
    """The 32 bits of which an id at this IP shares the first 21; `rand` is the id's last byte."""
    if ":" in host:
        top = int.from_bytes(socket.inet_pton(socket.AF_INET6, host)[:8], "big")
        masked = ((top & _MASK6) | (rand & 7) << 61).to_bytes(8, "big")
    else:
        number = int.from_bytes(socket.inet_pton(socket.AF_INET, host), "big")
        # Four bytes, whatever the text says of eight: only so the BEP's own vectors come out.
        masked = ((number & _MASK4) | (rand & 7) << 29).to_bytes(4, "big")
    return crc32c(masked)


def is_compliant(node_id: bytes, address: Address) -> bool:
    """Whether the id fits the IP. Every id fits a local address (BEP 42's exemption)."""
    if address.is_local:
        return True
    found = int.from_bytes(node_id[:4], "big")
    return (found ^ prefix(address.host, node_id[19])) >> 11 == 0


def make_id(host: str, rng: random.Random) -> NodeId:
    """An id for a node that others see at this IP."""
    rand = rng.randrange(256)
    start = prefix(host, rand)
    third = (start >> 8 & 0xF8) | rng.randrange(8)
    middle = rng.randbytes(16)
    return NodeId(bytes([start >> 24, start >> 16 & 0xFF, third, *middle, rand]))


class SeenPorts:
    """As which port our own is seen by others: as the same by all, or by each as another one, where
    the router has a mapping for each destination (RFC 4787: address-dependent; it is called a
    symmetric NAT)."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Home, int] = OrderedDict()

    def begin_again(self) -> None:
        """We may be behind another router."""
        self._seen.clear()

    def saw(self, port: int, source: Address) -> None:
        """`source`, which we queried, sees us at this port."""
        origin = facts(source)
        if origin.is_local or not port:
            return
        place = origin.neighbourhood
        self._seen[place] = port
        self._seen.move_to_end(place)
        if len(self._seen) > OBSERVERS:
            self._seen.popitem(last=False)

    @property
    def are_many(self) -> bool | None:
        """Each sees another one. None: too few have said."""
        if len(self._seen) < ENOUGH_OBSERVERS:
            return None
        ((_, most),) = Counter(self._seen.values()).most_common(1)
        return 2 * most <= len(self._seen)  # some may lie


class Votes:
    """What others say our external IP is. One vote for each place; an election takes `votes_needed`
    votes or `votes_wait` seconds, and a majority that no other address comes near."""

    def __init__(self, config: DhtConfig) -> None:
        self._config = config
        self._votes: dict[str, int] = {}
        self._voters: set[Home] = set()
        self._opened: float | None = None
        self.elected: str | None = None
        """The IP we believe ours to be; None before the first election."""

    def begin_again(self) -> None:
        """Our address may be another: what was said so far counts no more. Who we believe to be is
        still what was elected last."""
        self._votes.clear()
        self._voters.clear()
        self._opened = None

    def vote(self, host: str, source: Address, now: float) -> str | None:
        """Count what `source` says. Returns the external IP when an election has changed it."""
        origin, seen = facts(source), Address(host, 1)
        if origin.is_local or seen.is_local or not seen.is_usable:
            return None
        config, place = self._config, origin.neighbourhood
        if self._opened is None:
            self._opened = now
        is_new = place not in self._voters
        if is_new and (host in self._votes or len(self._votes) < config.votes_candidates):
            self._voters.add(place)
            self._votes[host] = self._votes.get(host, 0) + 1
        if len(self._voters) < config.votes_needed and now - self._opened < config.votes_wait:
            return None
        first, second = [*sorted(self._votes.items(), key=lambda item: -item[1]), ("", 0)][:2]
        self.begin_again()
        if first[1] * 2 <= second[1] * 3 or first[0] == self.elected:
            return None
        self.elected = first[0]
        return self.elected
