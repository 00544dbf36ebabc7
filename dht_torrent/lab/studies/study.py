"""What every study of the lab shares: its flags, its progress bar, and how it says what it found.

The rule: what is written depends on the flags and the code alone. The same seed gives the same CSV
and the same figures in another process; wall-clock time and progress go to stderr only.
"""

from __future__ import annotations

import argparse
import atexit
import csv
import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from dht_torrent.errors import InputError
from dht_torrent.rates import parse_rate

Cell = str | int | float | bool | None

_DIGITS: Final = 6
_NOT_CONFIG: Final = frozenset({"out", "json", "seed"})


def parser(
    doc: str,
    *,
    nodes: int | None = None,
    lookups: int | None = None,
    seed: str = "same seed, same result",
) -> argparse.ArgumentParser:
    """The flags all studies have; `doc` is the script's docstring. Without `nodes` or `lookups`
    there is no such flag. `seed` says what a seed decides."""
    made = argparse.ArgumentParser(
        description=doc.strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--seed", type=int, default=1, help=f"{seed} (default 1)")
    if nodes is not None:
        made.add_argument("--nodes", type=positive, default=nodes, help=f"default {nodes}")
    if lookups is not None:
        made.add_argument("--lookups", type=positive, default=lookups, help=f"default {lookups}")
    made.add_argument(
        "--out", type=writable, metavar="FILE", help="write a CSV, a row per measurement"
    )
    made.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return made


def writable(text: str) -> Path:
    """For argparse: where a file can be made. After an hour of work it is too late to find out."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def positive(text: str) -> int:
    """For argparse: a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def share(text: str) -> float:
    """For argparse: a number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1")
    return number


def seconds(text: str) -> float:
    """For argparse: a time, from 0 to a day."""
    number = float(text)
    if not 0 <= number <= 86_400:
        raise argparse.ArgumentTypeError("must be from 0 to 86400 seconds")
    return number


def size(text: str) -> int:
    """For argparse: bytes above 0, with an optional unit as in `64MiB`."""
    try:
        number = parse_rate(text)
    except InputError:
        number = None
    if number is None:
        raise argparse.ArgumentTypeError(f"not a size, as 4MiB: {text[:60]!r}")
    return number


class Study:
    """Collects rows and figures; `report` writes them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.seed: int = args.seed
        self.config: dict[str, Cell | list[Cell]] = {
            name: value for name, value in sorted(vars(args).items()) if name not in _NOT_CONFIG
        }
        """The flags that shape the result."""
        self.rows: list[dict[str, Cell]] = []
        self.figures: dict[str, Cell] = {}
        """What the study is about, by name: the few numbers a reader wants."""
        self._out: Path | None = args.out
        self._json: bool = args.json
        self._began = time.monotonic()

    def row(self, **cells: Cell) -> None:
        """A measurement."""
        self.rows.append({name: _rounded(cell) for name, cell in cells.items()})

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on stderr, if that is a terminal. Gives a function that says how many are done."""
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    def report(self) -> None:
        """Write the CSV, if one is wanted, and show the figures. Exits with 1 if the one cannot be
        written, after the figures, or the other is not read to the end."""
        stamp: dict[str, Cell] = {
            "seed": self.seed,
            "config": json.dumps(self.config, separators=(",", ":")),
            "commit": commit(),
        }
        fault: str | None = None
        if self._out is not None:
            try:
                _write_csv(self._out, [{**row, **stamp} for row in self.rows])
            except OSError as error:
                fault = f"{self._out}: {error.strerror}"
        figures = {name: _rounded(value) for name, value in self.figures.items()}
        if self._json:
            whole = {**stamp, "config": self.config, "figures": figures}
            lines = [json.dumps(whole)]
        else:
            width = max(map(len, figures), default=0)
            lines = [f"{n.replace('_', ' '):{width}}  {value}" for n, value in figures.items()]
        show(lines)
        sys.stderr.write(f"{time.monotonic() - self._began:.1f} s\n")
        if fault is not None:
            sys.exit(fault)


def exit_code(main: Callable[[], int | None]) -> int:
    """Run a script: its own code or 0, or 130 when Ctrl-C ended it, however deep in Trio's groups
    that came up."""
    # Else the interpreter would look through millions of objects once more, only to end.
    atexit.register(gc.freeze)
    code = 0
    try:
        code = main() or 0
    except* KeyboardInterrupt:
        code = 130
    return code


def commit() -> str:
    """Which version of the code this is; "unknown" outside a git checkout."""
    root = Path(__file__).parents[2]
    try:
        found = subprocess.run(  # noqa: S603 - no word of it comes from outside
            ["git", "-C", str(root), "describe", "--always", "--dirty"],  # noqa: S607 - the user's
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed (nearest rank); NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def show(lines: Sequence[str]) -> None:
    """Print them, or exit with 1 when the output is closed."""
    try:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`: the reader has seen enough
        # Python would try once more at the end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _write_csv(path: Path, rows: Sequence[Mapping[str, Cell]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rounded(cell: Cell) -> Cell:
    if isinstance(cell, float):
        return round(cell, _DIGITS) if math.isfinite(cell) else None
    return cell
