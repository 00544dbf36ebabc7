"""What changed since somebody looked last. The rule: nothing is queued. Each value bears the number
of the look at which it changed, so whoever was away, for however long, is told each value once, as
it is now, and costs nothing meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

Facts = Mapping[str, object]

MAX_GONE: Final = 4096
"""Rows that are gone and remembered; who was away for longer is told all that there is."""


@dataclass(frozen=True, slots=True)
class News:
    """What changed."""

    number: int
    """Of the look that this is as of."""
    all: bool
    """This is all there is: what is not in here is gone."""
    rows: dict[str, dict[str, object]]
    """The changed values of each row; of a new one all."""
    gone: list[str]

    def __bool__(self) -> bool:
        return self.all or bool(self.rows or self.gone)


@dataclass(slots=True)
class _Row:
    values: dict[str, object] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    last: int = 0


class Board:
    """Rows of facts, by their ids."""

    def __init__(self) -> None:
        self.number = 0
        """Of the last look."""
        self._rows: dict[str, _Row] = {}
        self._gone: deque[tuple[int, str]] = deque()
        self._forgotten = 0  # up to that look, not all that went is remembered

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def value(self, name: str, key: str) -> object:
        """What is known of a row that is there."""
        return self._rows[name].values.get(key)

    def look(self) -> None:
        """What is noted from now on is of another look."""
        self.number += 1

    def note(self, name: str, facts: Facts) -> None:
        """These are the facts of a row."""
        row = self._rows.setdefault(name, _Row())
        for key, value in facts.items():
            if key not in row.changed or row.values[key] != value:
                row.values[key] = value
                row.changed[key] = row.last = self.number

    def keep(self, names: Mapping[str, object]) -> None:
        """Only these rows are there."""
        if self._rows.keys() <= names.keys():
            return
        for name in self._rows.keys() - names.keys():
            del self._rows[name]
            self._gone.append((self.number, name))
        while len(self._gone) > MAX_GONE:
            self._forgotten, _ = self._gone.popleft()

    def since(self, number: int) -> News:
        """What changed after that look; 0 is before the first."""
        if number == 0 or number < self._forgotten:
            everything = {name: dict(row.values) for name, row in self._rows.items()}
            return News(self.number, True, everything, [])
        rows = {
            name: {key: row.values[key] for key, at in row.changed.items() if at > number}
            for name, row in self._rows.items()
            if row.last > number
        }
        gone = [name for at, name in self._gone if at > number and name not in self._rows]
        return News(self.number, False, rows, gone)
