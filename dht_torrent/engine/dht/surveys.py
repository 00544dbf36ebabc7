"""What a lookup for an item found (BEP 44), and how a put went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dht_torrent.dht import krpc
from dht_torrent.dht.items import (
    Item,
    MutableItem,
)
from dht_torrent.dht.krpc import NodeInfo


@dataclass(frozen=True, slots=True)
class Holder:
    """What a node answered to a get."""

    contact: NodeInfo
    token: bytes | None
    """Lets us put under this target, there, for some minutes."""
    item: Item | None
    """Verified; None when it has none, a false one, or only one as old as what we said we have."""
    seq: int | None = None
    """Of its mutable item, as it says, also when it left the item out."""


@dataclass(frozen=True, slots=True)
class ItemSurvey:
    """All that the nodes asked have under a target."""

    target: bytes
    holders: tuple[Holder, ...]
    """All that answered, nearest first."""
    closest: tuple[NodeInfo, ...]
    """Those among them to store on: the k closest, their ids bound to their IPs."""
    own: Item | None = None
    """What we hold ourselves."""

    def variants(self) -> list[Item]:
        """The different items, each once; of a mutable one, the newest first. More than one for a
        `seq` means its owner signed both."""
        held = [holder.item for holder in self.holders if holder.item is not None]
        found = dict.fromkeys([*held, *([self.own] if self.own is not None else [])])
        # A stable order between those with the same seq, whichever node happened to answer first.
        return sorted(found, key=order)

    @property
    def newest(self) -> Item | None:
        """An immutable item, or the mutable one with the highest `seq`."""
        variants = self.variants()
        return variants[0] if variants else None

    def is_known(self, seq: int) -> bool:
        """Whether most of the closest nodes say that they have an item, and none newer than `seq`.
        A few liars cannot say so for all."""
        have = {h.contact for h in self.holders if h.seq is not None and h.seq <= seq}
        return 2 * sum(info in have for info in self.closest) > len(self.closest)

    def targets(self) -> list[Holder]:
        """The closest nodes, with the tokens to put there."""
        of = {holder.contact: holder for holder in self.holders}
        found = [of[info] for info in self.closest if info in of]
        return [holder for holder in found if holder.token is not None]


@dataclass(frozen=True, slots=True)
class Stored:
    """How a put went."""

    target: bytes
    stored: tuple[NodeInfo, ...]
    """Nodes that confirmed it."""
    refused: Mapping[NodeInfo, int] = field(default_factory=dict)
    """Nodes that refused it, with the code (301: another seq is there; 302: a newer item is), or
    that had named another seq before they were asked."""
    silent: int = 0


def mismatches(survey: ItemSurvey, cas: int) -> dict[NodeInfo, int]:
    """Who would refuse a put for its `cas`."""
    others = (h for h in survey.holders if h.item is not None and seq_of(h.item) != cas)
    return {holder.contact: krpc.CAS_MISMATCH for holder in others}


def order(item: Item) -> tuple[int, bytes]:
    """By this the newest item comes first; of two with one sequence number always the same."""
    return -seq_of(item), item.encoded


def seq_of(item: Item) -> int:
    """The sequence number; 0 of an immutable item."""
    return item.seq if isinstance(item, MutableItem) else 0
