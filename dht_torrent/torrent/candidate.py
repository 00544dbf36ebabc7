"""One address of a peer, and how it went with it so far."""

from __future__ import annotations

from dht_torrent.ids import Address
from dht_torrent.torrent.outlook import Trouble
from dht_torrent.torrent.ways import Ways

PEX = "pex"
"""How the sources begin that are peers who tell of others: `pex <peer>` (BEP 11)."""


class Candidate:
    """An address. What it means for others is up to `Candidates`."""

    __slots__ = (
        "address",
        "claimed",
        "connected",
        "fails",
        "not_before",
        "parted",
        "priority",
        "referrer",
        "source",
        "tried_at",
        "trouble",
        "useless",
        "ways",
        "worked",
    )

    def __init__(self, address: Address, source: str) -> None:
        self.address = address
        self.source = source
        self.fails = 0
        self.useless = 0  # attempts in a row that led to nothing, failed or not
        self.trouble: Trouble | None = None
        self.tried_at = float("-inf")
        self.not_before = float("-inf")
        self.connected = False  # or being dialled
        self.worked = False  # was connected once
        self.parted = False  # a seed, when we were one
        self.ways = Ways()
        self.claimed = False  # known only from a connected peer that says it is its own
        self.priority: tuple[Address, int] | None = None  # with which of our addresses (BEP 40)
        self.referrer: str | None = None  # who answers for the dial that is under way

    @property
    def is_hearsay(self) -> bool:
        """Only peers named it."""
        return self.source.startswith(PEX)
