"""What studies have found, condensed until it is small enough to keep beside the code. The rule:
each row says of how many measurements it is, and which command, seed and commit they come from.

A study writes a row per measurement, thousands of them; a drawing wants a few numbers per group.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from dht_torrent.lab.studies.study import Cell, quantile

Row = dict[str, Cell]

FOLDER: Final = "LAB_RESULTS"
"""The environment variable that names a folder of results other than the one given."""

STAMP: Final = ("seed", "config", "commit")
"""The columns each study writes into each row, whatever it measures."""

_TEXTS: Final = frozenset({"config", "commit", "command"})
"""Columns that never hold a number; some commits look like one."""
_DIGITS: Final = 4
_QUANTILES: Final = {"p05": 0.05, "p50": 0.5, "p95": 0.95, "max": 1.0}


def read(path: Path) -> list[Row]:
    """A CSV's rows; what looks like a number or a truth value is one. An empty cell is None."""
    with path.open(newline="") as file:
        return [
            {name: _cell(name, text) for name, text in row.items()} for row in csv.DictReader(file)
        ]


def write(path: Path, rows: Sequence[Mapping[str, Cell]]) -> None:
    """The columns are those of all rows, in the order in which they come up, the stamp last."""
    named = dict.fromkeys(name for row in rows for name in row)
    columns = [name for name in named if name not in STAMP] + [n for n in STAMP if n in named]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def condense(rows: Iterable[Row], by: Sequence[str]) -> list[Row]:
    """One row per group of rows that agree in the columns `by` and in their stamp, in the order in
    which groups come up. `minute/10` means: in steps of ten, named by where the step begins. What
    the study was told (its `config`) counts as a column where there is none of that name.

    Of a column of numbers a group keeps NAME_mean, NAME_p05, _p50, _p95 and _max; of truth values
    the share that is true, under the name itself; of texts nothing. `count` is how many rows it
    had.
    """
    steps = dict(_step(one) for one in (*by, *STAMP))
    groups: dict[tuple[Cell, ...], list[Row]] = {}
    for row in rows:
        whole = {**json.loads(str(row["config"])), **row}
        key = tuple(_floor(whole.get(name), step) for name, step in steps.items())
        groups.setdefault(key, []).append(row)
    condensed: list[Row] = []
    for key, members in groups.items():
        made: Row = {**dict(zip(steps, key, strict=True)), "count": len(members)}
        for name in dict.fromkeys(name for row in members for name in row):
            if name not in steps:
                made |= _condensed(name, [row[name] for row in members if name in row])
        condensed.append(made)
    return condensed


class Results:
    """A folder of condensed CSVs, to be drawn."""

    def __init__(self, folder: Path | str = "results") -> None:
        """The environment variable `LAB_RESULTS` goes before `folder`."""
        self.folder = Path(os.environ.get(FOLDER) or folder)

    def rows(self, name: str, **where: Cell) -> list[Row]:
        """The rows of NAME.csv that have these values."""
        return [
            row
            for row in read(self.folder / f"{name}.csv")
            if all(row.get(column) == value for column, value in where.items())
        ]

    def commands(self, *names: str) -> str:
        """Which commands made them, at which commit: a line each."""
        lines = (
            f"{row['command']}  # {row['commit']}"
            for name in names
            for row in read(self.folder / f"{name}.csv")
        )
        return "\n".join(dict.fromkeys(lines))

    def figure(self, name: str) -> Path:
        """Where that drawing is kept: in `figures`, beside the folder of results."""
        folder = self.folder.parent / "figures"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.svg"


def column(rows: Iterable[Row], name: str) -> list[float]:
    """The numbers of one column; NaN, which is not drawn, where there is none."""
    return [math.nan if (cell := row.get(name)) is None else float(cell) for row in rows]


def values(rows: Iterable[Row], name: str) -> list[Cell]:
    """The different values of one column, in the order in which they come up."""
    return [value for value in dict.fromkeys(row.get(name) for row in rows) if value is not None]


def pooled(rows: Sequence[Row], name: str) -> float:
    """The mean over all measurements of these groups; NaN of none."""
    counted = [
        (number, count)
        for number, count in zip(column(rows, name), column(rows, "count"), strict=True)
        if not math.isnan(number)
    ]
    whole = sum(count for _, count in counted)
    return sum(number * count for number, count in counted) / whole if whole else math.nan


def _cell(name: str, text: str | None) -> Cell:
    if not text:
        return None
    if name in _TEXTS:
        return text
    if text in ("True", "False"):
        return text == "True"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _step(column: str) -> tuple[str, int | None]:
    name, _, step = column.partition("/")
    return name, int(step) if step else None


def _floor(cell: Cell, step: int | None) -> Cell:
    if step is None or not isinstance(cell, int | float):
        return cell
    return int(cell // step) * step


def _condensed(name: str, cells: Iterable[Cell]) -> Row:
    numbers = [cell for cell in cells if isinstance(cell, int | float)]
    if not numbers:
        return {}
    mean = round(sum(numbers) / len(numbers), _DIGITS)
    if all(isinstance(number, bool) for number in numbers):
        return {name: mean}
    ranks = {f"{name}_{rank}": quantile(numbers, share) for rank, share in _QUANTILES.items()}
    return {f"{name}_mean": mean, **{n: round(value, _DIGITS) for n, value in ranks.items()}}
