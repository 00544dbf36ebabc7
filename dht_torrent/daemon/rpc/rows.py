"""The rows of `torrent-get`, as JSON. What was told of a torrent is kept, and told again while its
facts are the same: of thousands of torrents at rest nothing is worked out but what time changes.

The rule: what is kept was made of nothing but what it is kept by (`StillRow`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dht_torrent.daemon.rpc.names import Names
from dht_torrent.daemon.rpc.torrent_fields import OF_PEERS, OF_TIME, STILL, Live, Row, StillRow

if TYPE_CHECKING:
    from dht_torrent.engine.torrent.facts import Facts
    from dht_torrent.engine.torrent.torrent import Torrent
    from dht_torrent.ids import InfoHash

RECENT: Final = 60.0
"""Seconds for which a torrent that changed, or was removed, is recently active (Transmission)."""
MAX_PLANS: Final = 4
"""Questions for whose rows there is room; at one more all are forgotten."""
MAX_KEPT: Final = 16 << 20
"""Characters of rows that are kept; when there would be more, all are forgotten ..."""
MAX_ROW: Final = MAX_KEPT // 64
"""... and a longer row is not kept."""

encode: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class Plan:
    """How the rows for one question are made: runs of fields that are kept together, and single
    ones that are made each time."""

    def __init__(self, fields: Sequence[str], names: Names, *, as_objects: bool) -> None:
        self.names = names
        self._fields = fields
        self._as_objects = as_objects
        self.quiet = self._runs(OF_TIME)
        """While nobody is connected: the fields of each kept run, and those made each time with
        where they belong."""
        self.busy = self._runs({**OF_TIME, **OF_PEERS})

    def _runs(self, live: Mapping[str, Live]) -> tuple[list[list[str]], list[tuple[int, str]]]:
        kept: list[list[str]] = []
        fresh: list[tuple[int, str]] = []
        for field in self._fields:
            if field in live:
                fresh.append((len(kept), field))
                kept.append([])
            elif kept and kept[-1]:
                kept[-1].append(field)
            else:
                kept.append([field])
        return kept, fresh

    def text(self, fields: Iterable[str], row: Row) -> str:
        """These fields, without what is around a whole row."""
        values = [(field, _MAKERS[field](row)) for field in fields]
        if self._as_objects:
            return encode({self.names[field]: value for field, value in values})[1:-1]
        return encode([value for _, value in values])[1:-1]

    def one(self, field: str, row: Row) -> str:
        """The same for one field that is made each time."""
        value: Any = _MAKERS[field](row)
        told = str(value) if type(value) is int else encode(value)
        return f'"{self.names[field]}":{told}' if self._as_objects else told

    def around(self, parts: Iterable[str]) -> str:
        inside = ",".join(parts)
        return f"{{{inside}}}" if self._as_objects else f"[{inside}]"


_MAKERS: Final[dict[str, Live]] = {**STILL, **OF_PEERS, **OF_TIME}


class _Kept:
    """What was told of one torrent."""

    __slots__ = ("at", "facts", "number", "own", "texts", "torrent")

    def __init__(
        self, torrent: Torrent, facts: Facts, own: Mapping[str, float], number: int, at: float
    ) -> None:
        self.torrent = torrent
        self.facts = facts
        self.own = own
        self.number = number
        self.at = at
        """Since when it is so, as far as was looked."""
        self.texts: dict[Plan, list[str]] = {}


class Rows:
    """Of the torrents of one node."""

    def __init__(
        self, torrents: Mapping[InfoHash, Torrent], clock: Callable[[], float], max_connections: int
    ) -> None:
        """`clock` counts seconds."""
        self._torrents = torrents
        self._clock = clock
        self._max_connections = max_connections
        self._kept: dict[InfoHash, _Kept] = {}
        self._plans: dict[tuple[object, ...], Plan] = {}
        self._size = 0

    def begin(self) -> None:
        """An answer is about to be made. Those of torrents that have gone are forgotten in time."""
        if len(self._kept) > 2 * len(self._torrents) + 100:
            self._kept = {one: kept for one, kept in self._kept.items() if one in self._torrents}
            self.forget()

    def forget(self) -> None:
        """Nothing is kept but what has changed when."""
        for kept in self._kept.values():
            kept.texts.clear()
        self._size = 0

    def plan(self, fields: Sequence[str], names: Names, *, as_objects: bool) -> Plan:
        """For a question."""
        key = (names.legacy, as_objects, *fields)
        if key not in self._plans:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
                self.forget()
            self._plans[key] = Plan(fields, names, as_objects=as_objects)
        return self._plans[key]

    def look(self, torrent: Torrent, own: Mapping[str, float], number: int) -> _Kept:
        """What is kept of it, if that still holds, or room for what will be."""
        facts = torrent.facts()
        kept = self._kept.get(torrent.info_hash)
        if kept is not None:
            if (
                kept.facts == facts
                and kept.own is own
                and kept.number == number
                and kept.torrent is torrent
            ):
                return kept
            self._size -= sum(map(_length, kept.texts.values()))
        new = _Kept(torrent, facts, own, number, self._clock())
        self._kept[torrent.info_hash] = new
        return new

    def is_recent(self, torrent: Torrent, own: Mapping[str, float], number: int) -> bool:
        """Did anything of it change in the last minute, for all that was looked at?"""
        kept = self.look(torrent, own, number)
        at_work = kept.facts.state in ("checking", "moving")
        return at_work or self._clock() - kept.at < RECENT

    def row(
        self, plan: Plan, torrent: Torrent, own: Mapping[str, float], number: int, position: int
    ) -> tuple[str, bool]:
        """One row, and whether it was there but for what time changes. `own` is another object when
        anything in it is different; `position` is that in the queue."""
        kept = self.look(torrent, own, number)
        seen = StillRow(kept.facts, own, number, self._max_connections, plan.names)
        row = Row(torrent, seen, position)
        runs, fresh = plan.busy if kept.facts.connected else plan.quiet
        texts = kept.texts.get(plan)
        was_there = texts is not None
        if texts is None:
            texts = [plan.text(run, row) if run else "" for run in runs]
            self._keep(kept, plan, texts)
        if fresh:
            texts = texts.copy()
            for at, field in fresh:
                texts[at] = plan.one(field, row)
        return plan.around(texts), was_there

    def _keep(self, kept: _Kept, plan: Plan, texts: list[str]) -> None:
        size = _length(texts)
        if size > MAX_ROW:
            return
        if self._size + size > MAX_KEPT:
            self.forget()
        kept.texts[plan] = texts
        self._size += size


def _length(texts: list[str]) -> int:
    return sum(map(len, texts))
