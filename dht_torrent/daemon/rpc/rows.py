"""The rows of `torrent-get`, as JSON. What was told of a torrent is kept, and told again while its
facts are the same: of thousands of torrents at rest nothing is worked out but what time changes.

The rule: what is kept was made of nothing but what it is kept by (`Sight`, but for its torrent).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dht_torrent.daemon.rpc.names import Names
from dht_torrent.daemon.rpc.torrent_fields import OF_PEERS, OF_TIME, STILL, Live, Row, Sight
from dht_torrent.engine.torrent.torrent import clock, facts

if TYPE_CHECKING:
    from dht_torrent.engine.torrent.facts import Clock
    from dht_torrent.engine.torrent.torrent import Torrent
    from dht_torrent.ids import InfoHash

RECENT: Final = 60.0
"""Seconds for which a torrent that changed, or was removed, is recently active (Transmission)."""
BUSY: Final = ("checking", "moving")
"""States in which something changes although no facts do."""
MAX_PLANS: Final = 4
"""Questions for whose rows there is room; at one more all are forgotten."""
MAX_KEPT: Final = 16 << 20
"""Characters of rows that are kept; when there would be more, all are forgotten ..."""
MAX_ROW: Final = MAX_KEPT // 64
"""... and a longer row is not kept."""

_QUICK: Final[dict[type, Callable[[Any], str]]] = {
    int: int.__repr__,
    float: float.__repr__,  # none of them is infinite or not a number
    bool: lambda value: "true" if value else "false",
}
"""How `encode` writes what is a single number."""
encode: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


class Plan:
    """How the rows for one question are made: runs of fields that are kept together, and single
    ones that are made again when it is time."""

    def __init__(self, fields: Sequence[str], names: Names, *, as_objects: bool) -> None:
        self.names = names
        self.needs_position = "queue_position" in fields
        self._fields = fields
        self._as_objects = as_objects
        self._quiet = self._runs(OF_TIME)
        self._busy = self._runs({**OF_TIME, **OF_PEERS})

    def _runs(self, live: Mapping[str, Live]) -> list[list[str] | str]:
        """A list is a run, a single one is live."""
        runs: list[list[str] | str] = []
        for field in self._fields:
            if field in live:
                runs.append(field)
            elif runs and isinstance(runs[-1], list):
                runs[-1].append(field)
            else:
                runs.append([field])
        return runs

    def make(self, row: Row) -> list[str]:
        """The parts of a row."""
        return [
            self._one(part, row) if isinstance(part, str) else self._run(part, row)
            for part in self._parts(row)
        ]

    def renew(self, parts: list[str], row: Row) -> None:
        """Those parts of it that are not of the facts only."""
        for at, part in enumerate(self._parts(row)):
            if isinstance(part, str):
                parts[at] = self._one(part, row)

    def _parts(self, row: Row) -> list[list[str] | str]:
        return self._busy if row.facts.connected else self._quiet

    def _run(self, fields: list[str], row: Row) -> str:
        made = {field: _MADE[field](row) for field in fields}
        if self._as_objects:
            return encode({self.names[field]: value for field, value in made.items()})[1:-1]
        return encode(list(made.values()))[1:-1]

    def _one(self, field: str, row: Row) -> str:
        value: Any = _MADE[field](row)
        told = _QUICK.get(type(value), encode)(value)
        return f'"{self.names[field]}":{told}' if self._as_objects else told

    def around(self, parts: Iterable[str]) -> str:
        """A row of its parts."""
        inside = ",".join(parts)
        return f"{{{inside}}}" if self._as_objects else f"[{inside}]"


_MADE: Final[dict[str, Live]] = {**STILL, **OF_PEERS, **OF_TIME}


class _Told:
    """A row, in parts, and when it was made."""

    __slots__ = ("clock", "parts", "position", "size")

    def __init__(self, parts: list[str], clock: Clock, position: int) -> None:
        self.parts = parts
        self.clock = clock
        self.position = position
        self.size = sum(map(len, parts))


class Kept:
    """What was told of one torrent."""

    __slots__ = ("at", "look", "rows")

    def __init__(self, look: Sight, at: float) -> None:
        self.look = look
        self.at = at
        """Since when it is so, as far as was looked."""
        self.rows: dict[Plan, _Told] = {}

    def is_recent(self, now: float) -> bool:
        """Did anything change in the last minute, for all that was looked at?"""
        return now - self.at < RECENT or self.look.facts.state in BUSY


class Rows:
    """Of the torrents of one node."""

    def __init__(
        self, torrents: Mapping[InfoHash, Torrent], clock: Callable[[], float], max_connections: int
    ) -> None:
        """`clock` counts seconds."""
        self._torrents = torrents
        self._clock = clock
        self._max_connections = max_connections
        self._kept: dict[InfoHash, Kept] = {}
        self._plans: dict[tuple[object, ...], Plan] = {}
        self.size = 0
        """Characters of rows that are kept."""

    def begin(self) -> None:
        """An answer is about to be made. Those of torrents that have gone are forgotten in time."""
        if len(self._kept) > 2 * len(self._torrents) + 100:
            self._kept = {one: kept for one, kept in self._kept.items() if one in self._torrents}
            self.forget()

    def forget(self) -> None:
        """Nothing is kept but what has changed when."""
        for kept in self._kept.values():
            kept.rows.clear()
        self.size = 0

    def plan(self, fields: Sequence[str], names: Names, *, as_objects: bool) -> Plan:
        """For a question."""
        key = (names.legacy, as_objects, *fields)
        if key not in self._plans:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
                self.forget()
            self._plans[key] = Plan(fields, names, as_objects=as_objects)
        return self._plans[key]

    def look(self, torrent: Torrent, own: Mapping[str, float], number: int) -> Kept:
        """What is kept of it, if that still holds, or room for what will be. `own` never changes:
        it is another object when anything in it is different."""
        look = Sight(torrent, facts(torrent), own, number)
        kept = self._kept.get(look.facts.info_hash)
        if kept is not None:
            if kept.look == look:
                return kept
            self.size -= sum(told.size for told in kept.rows.values())
        self._kept[look.facts.info_hash] = new = Kept(look, self._clock())
        return new

    def row(self, plan: Plan, kept: Kept, position: int) -> tuple[str, bool]:
        """The row of what was looked at just now, and whether it was there, but for what
        connections and time change. `position` is that in the queue."""
        look, told = kept.look, kept.rows.get(plan)
        now = clock(look.torrent)
        is_true = told is not None and told.clock == now and told.position == position
        if told is not None and is_true and not look.facts.connected:
            return plan.around(told.parts), True
        row = Row(look, self._max_connections, plan.names, now, position)
        if told is None:
            told = _Told(plan.make(row), now, position)
            self._keep(kept, plan, told)
            return plan.around(told.parts), False
        plan.renew(told.parts, row)
        told.clock, told.position = now, position
        return plan.around(told.parts), True

    def _keep(self, kept: Kept, plan: Plan, told: _Told) -> None:
        if told.size > MAX_ROW:
            return
        if self.size + told.size > MAX_KEPT:
            self.forget()
        kept.rows[plan] = told
        self.size += told.size
