"""How far something is, on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from dht_torrent.cli.view import Json, clean, counted, duration, percent, rate, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_INTERVAL = 5.0
"""Seconds between two progress lines when stderr is not a terminal."""


def progress_line(torrent: Json) -> str:
    parts = [f"{torrent['state']} {percent(torrent['progress'])}"]
    if torrent["size"]:
        parts[0] += f" of {size(torrent['size'])}"
    if torrent.get("reused"):
        parts.append(f"{size(torrent['reused'])} of it reused")
    parts += [f"{rate(torrent['down_rate'])} down", counted(torrent["peers"], "peer")]
    if torrent["eta"] is not None:
        parts.append(f"{duration(torrent['eta'])} left")
    if torrent["why"]:
        parts.append(torrent["why"])
    return clean(f"{torrent['name']}: {', '.join(parts)}")


class Shows(Protocol):
    """Something that shows the progress of a download."""

    def update(self, torrent: Json) -> None: ...


class PlainProgress:
    """A line on stderr when the state changes, and now and then."""

    def __init__(self) -> None:
        self._state: object = None
        self._next = 0.0

    def update(self, torrent: Json) -> None:
        now = time.monotonic()
        if torrent["state"] != self._state or now >= self._next:
            self._state, self._next = torrent["state"], now + PLAIN_INTERVAL
            sys.stderr.write(progress_line(torrent) + "\n")
            sys.stderr.flush()


class BarProgress:
    """A moving bar."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def update(self, torrent: Json) -> None:
        self._bar.update(
            self._task, completed=torrent["progress"], description=progress_line(torrent)
        )


@contextmanager
def progress() -> Iterator[Shows]:
    """Show a download on stderr: a bar on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    with _bar() as bar:
        yield BarProgress(bar, bar.add_task("starting", total=1.0))


class Working(Protocol):
    """Called with what is done and what there is in all, from any thread."""

    def __call__(self, done: int, total: int | None, /) -> None: ...


@contextmanager
def hashing(path: object) -> Iterator[Working]:
    """Show on a terminal's stderr how far the hashing of `path` is; say nothing elsewhere."""
    with working(f"hashing {path}") as shown:
        yield shown


@contextmanager
def working(what: str) -> Iterator[Working]:
    """The same, of any work."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with _bar() as bar:
        task = bar.add_task(clean(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        console=Console(stderr=True),
        transient=True,
    )
