"""Prefix hash trees over slots that strangers hold: what reads and writes them must offer.

`TrieNode` is what the design calls `Node`: the package has a `Node` already. `Slots.write` returns
what it met as well as whether it succeeded, so that a writer goes on from there without reading
again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dht_torrent.search.label import Label
from dht_torrent.search.node import TrieNode


@dataclass(frozen=True, slots=True)
class Seen:
    """A label as it was read, or as a write has left it."""

    label: Label
    node: TrieNode | None
    """The join of all valid versions, without what is too old; None: nobody has one. The caller
    must not change it."""
    state: object = None
    """Whatever a later write needs: tokens and sequence numbers, for instance. Only the `Slots`
    that made it looks at it."""


class Slots(Protocol):
    """Where nodes are stored, each in many copies. Several tasks use it side by side."""

    async def read(self, label: Label, *, first: bool = False) -> Seen:
        """The node at the label. `first`: be content with the first valid version; what is seen so
        is not for writing. Within the overlap of two epochs it is the join of both.

        Raises NoReply when nobody could be asked; that nobody has it is an answer."""
        ...

    async def write(self, seen: Seen, node: TrieNode) -> tuple[Seen, bool]:
        """Store the node, which holds all that was seen and fits. Where another has written since,
        store the join with that (`storable`); unless it does not fit: then leave it.

        Returns the label as it now is, for as much as this writer knows: the join of the node and
        of all that was met, which may be wider than what was stored; and whether enough holders
        have all of it. A node that does not fit is never stored: it must be split."""
        ...
