"""Slots in memory: a few holders of each label, who may be slow, lose queries, refuse a write whose
`cas` is wrong, and leave."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from dht_torrent.engine.search.tree import Seen, Slots
from dht_torrent.errors import SearchFormatError
from dht_torrent.search.label import Label
from dht_torrent.search.node import TrieNode, decode, encode, fits, fresh, join, storable
from tests.helpers.entries import NOW

Version = tuple[int, bytes]


@dataclass
class MemorySlots:
    """Each label has `copies` holders, which have versions of their own."""

    rng: random.Random = field(default_factory=lambda: random.Random(1))
    copies: int = 3
    latency: float = 0.0
    """Seconds of an operation, at most."""
    loss: float = 0.0
    """The share of queries, to one holder, without a response."""
    minutes: int = NOW
    gets: list[Label] = field(default_factory=list)
    writes: list[Label] = field(default_factory=list)
    before_write: Callable[[Label], None] = lambda label: None
    held: dict[Label, list[Version | None]] = field(default_factory=dict)

    def lookups(self, label: Label) -> int:
        return 1

    def since(self, moment: float) -> Slots:
        return self  # nothing is remembered

    async def read(self, label: Label, *, first: bool = False) -> Seen:
        self.gets.append(label)
        await self._wait()
        return self._look(label, list(range(self.copies)), None, {})

    async def write(self, seen: Seen, node: TrieNode) -> tuple[Seen, bool]:
        label = seen.label
        assert fits(node), "a node that does not fit was written"
        assert seen.node is None or join(seen.node, node).packed.keys() >= seen.node.packed.keys()
        self.before_write(label)
        self.writes.append(label)
        known: dict[int, int | None] = dict(seen.state)  # type: ignore[call-overload]
        met = node
        for _ in range(4):
            await self._wait()
            if not fits(to_store := storable(label, met)):
                return Seen(label, met, known), False
            raw = encode(to_store)
            seq = 1 + max((seq for seq in known.values() if seq is not None), default=0)
            versions = self.held.setdefault(label, [None] * self.copies)
            refused = []
            for holder, expected in known.items():
                if self._is_lost():
                    continue
                version = versions[holder]
                if version is not None and version[0] != expected:
                    refused.append(holder)
                else:
                    versions[holder] = (seq, raw)
                    known[holder] = seq
            if not refused:
                break
            found = self._look(label, refused, met, known)
            assert found.node is not None
            met, known = found.node, dict(found.state)  # type: ignore[call-overload]
        enough = sum(version == (seq, raw) for version in versions) * 2 > self.copies
        return Seen(label, met, known), enough

    def node(self, label: Label) -> TrieNode | None:
        """What is there, for tests to look at."""
        return self._look(label, list(range(self.copies)), None, {}, lossless=True).node

    def plant(self, label: Label, node: TrieNode) -> None:
        """Everybody holds this there, from now on."""
        self.plant_raw(label, encode(node))

    def plant_raw(self, label: Label, raw: bytes) -> None:
        seqs = [version[0] for version in self.held.get(label, []) if version is not None]
        self.held[label] = [(max(seqs, default=0) + 1, raw)] * self.copies

    def lose(self, label: Label) -> None:
        """All holders of this label are gone."""
        self.held.pop(label, None)

    @property
    def labels(self) -> list[Label]:
        return list(self.held)

    def _look(
        self,
        label: Label,
        holders: list[int],
        node: TrieNode | None,
        known: dict[int, int | None],
        *,
        lossless: bool = False,
    ) -> Seen:
        versions = self.held.get(label, [None] * self.copies)
        known = dict(known)
        for holder in holders:
            if not lossless and self._is_lost():
                continue
            version = versions[holder]
            known[holder] = None if version is None else version[0]
            if version is None:
                continue
            try:
                found = fresh(decode(version[1], label), self.minutes)
            except SearchFormatError:
                continue
            node = found if node is None else join(node, found)
        return Seen(label, node, known)

    def _is_lost(self) -> bool:
        return bool(self.loss) and self.rng.random() < self.loss

    async def _wait(self) -> None:
        if self.latency:
            await trio.sleep(self.rng.uniform(0, self.latency))
        else:
            await trio.lowlevel.checkpoint()
