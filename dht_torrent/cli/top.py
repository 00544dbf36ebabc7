"""`dhtnode top`: the running node, live: what it does as a whole, its torrents, the peers of one of
them, and the DHT.

The rule: what is drawn is a value made of a snapshot (`screen`), which fits in the terminal however
narrow that is; the loop around it asks the node and reads keys. Names come from strangers: they are
cleaned, and never read as markup.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import click

from dht_torrent.cli import view
from dht_torrent.cli.declared import which_node
from dht_torrent.cli.node import running_node
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from dht_torrent.daemon.client import Client, Json

QUIT: Final = frozenset("q\x03\x04")
UP: Final = frozenset({"k", "\x1b[A", "\x1bOA"})
DOWN: Final = frozenset({"j", "\x1b[B", "\x1bOB"})
HEAD: Final = 5
"""Lines above the torrents."""
WIDE: Final = 72
"""Columns from which all is shown; below, only what is most needed of it."""
PEERS_AT_MOST: Final = 8
_STYLES: Final = {"downloading": "green", "seeding": "cyan", "error": "red", "paused": "dim"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the node said."""

    status: Json
    torrents: Sequence[Json]
    """Those that move come first."""
    chosen: int = 0
    """Which of them the peers are of."""
    peers: Sequence[Json] = ()


def order(torrents: Sequence[Json]) -> list[Json]:
    """Those that move first, then those that fetch; else by name."""
    return sorted(
        torrents,
        key=lambda one: (
            -round(one["down_rate"] + one["up_rate"]),
            one["state"] != "downloading",
            one["name"],
            one["id"],
        ),
    )


def look(client: Client, chosen_id: str | None) -> Snapshot:
    """Ask the node. Raises ControlError."""
    status, torrents = client.status(), order(client.torrents())
    ids = [one["id"] for one in torrents]
    chosen = ids.index(chosen_id) if chosen_id in ids else 0
    peers: list[Json] = []
    if torrents:
        with contextlib.suppress(InputError):  # it was removed meanwhile
            peers = client.peers(ids[chosen])
    peers.sort(key=lambda one: (-(one["down_rate"] + one["up_rate"]), one["address"]))
    return Snapshot(status, torrents, chosen, peers)


# --- what is drawn -------------------------------------------------------------------------------


def screen(seen: Snapshot, width: int, height: int) -> RenderableType:
    """All of it, in so many columns and lines."""
    from rich.console import Group

    wide = width >= WIDE
    room = max(0, height - HEAD - 1)
    peers = min(len(seen.peers), PEERS_AT_MOST, max(0, room // 2 - 2)) if room >= 8 else 0
    room -= peers + 2 if peers else 0
    parts: list[RenderableType] = [*_head(seen.status), _torrents(seen, wide, max(1, room))]
    if peers:
        parts.append(_peers(seen, wide, peers))
    return Group(*parts)


def _head(status: Json) -> list[RenderableType]:
    counts = [view.counted(status["torrents"], "torrent")]
    counts += [view.counted(status["connections"], "peer")]
    rates = f"down {view.rate(status['down_rate'])}  up {view.rate(status['up_rate'])}"
    told = [
        f"dhtnode {status['version']}, up {view.duration(status['uptime'])}, {', '.join(counts)}",
        f"{rates}  limits: {view.limits_text(status)}",
    ]
    for name in ("dht", "dht6"):
        if dht := status.get(name):
            size = dht.get("network_size")
            of = f", about {round(size):,} nodes in all" if size else ""
            told.append(
                f"{'DHT' if name == 'dht' else 'DHT IPv6'}: {dht['good']} good contacts,"
                f" {dht['questionable']} questionable{of}"
                if not dht.get("down")
                else f"DHT: down: {dht['down']}"
            )
    warnings = [*status["warnings"], *([status["last_fault"]] if status.get("faults") else [])]
    told += [f"warning: {one}" for one in warnings[:1]]
    return [_line(one) for one in told[: HEAD - 1]] + [_line("q quit, j/k or arrows choose")]


def _line(text: str) -> RenderableType:
    from rich.text import Text

    return Text(view.clean(text), no_wrap=True, overflow="ellipsis")


def _table(*columns: tuple[str, bool]) -> Table:
    """The last column takes what room is left; those marked are numbers."""
    from rich.table import Table

    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0))
    table.header_style = "reverse"
    for number, (name, right) in enumerate(columns):
        table.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if number == len(columns) - 1 else None,
        )
    return table


def _torrents(seen: Snapshot, wide: bool, room: int) -> RenderableType:
    """As many as fit, the chosen one among them."""
    names = ("STATE", "DONE", "SIZE", "DOWN", "UP", "PEERS", "ETA", "NAME")
    shown = names if wide else ("DONE", "DOWN", "NAME")
    table = _table(*((name, name not in ("STATE", "NAME")) for name in shown))
    first = max(0, min(seen.chosen - room // 2, len(seen.torrents) - room))
    for number, one in enumerate(seen.torrents[first : first + room], first):
        cells = {
            "STATE": view.state_text(one),
            "DONE": view.percent(one["progress"]),
            "SIZE": view.size(one["size"]),
            "DOWN": view.rate(one["down_rate"]),
            "UP": view.rate(one["up_rate"]),
            "PEERS": str(one["peers"]),
            "ETA": view.duration(one["eta"]),
            "NAME": f"{one['name']}: {one['error'] or one['why']}"
            if one["error"] or one["why"]
            else one["name"],
        }
        style = "bold reverse" if number == seen.chosen else _STYLES.get(one["state"], "")
        table.add_row(*(_line(cells[name]) for name in shown), style=style)
    return table


def _peers(seen: Snapshot, wide: bool, room: int) -> RenderableType:
    names = ("FLAGS", "VIA", "HAS", "DOWN", "UP", "CLIENT", "ADDRESS")
    shown = names if wide else ("DOWN", "UP", "ADDRESS")
    table = _table(*((name, name in ("HAS", "DOWN", "UP")) for name in shown))
    for one in seen.peers[:room]:
        cells = {
            "FLAGS": one["flags"] or "-",
            "VIA": one["transport"],
            "HAS": view.percent(one["progress"]),
            "DOWN": view.rate(one["down_rate"]),
            "UP": view.rate(one["up_rate"]),
            "CLIENT": (one["client"] or "-")[:24],
            "ADDRESS": one["address"],
        }
        table.add_row(*(_line(cells[name]) for name in shown))
    return table


# --- the loop ------------------------------------------------------------------------------------

Keys = Callable[[float], str]
"""Waits at most so many seconds for a key; empty: there was none."""


def watch(client: Client, console: Console, keys: Keys, interval: float) -> None:
    """Show it until a key ends it. Raises ControlError when the node has gone."""
    from rich.live import Live

    seen = look(client, None)
    with Live(
        screen(seen, *console.size), console=console, screen=True, auto_refresh=False
    ) as live:
        while True:
            live.update(screen(seen, *console.size), refresh=True)
            until = time.monotonic() + interval
            while (left := until - time.monotonic()) > 0 and (key := keys(left)):
                if key in QUIT:
                    return
                step = (key in DOWN) - (key in UP)
                chosen = max(0, min(len(seen.torrents) - 1, seen.chosen + step))
                if chosen != seen.chosen:
                    seen = replace(seen, chosen=chosen, peers=())
                    break
            seen = look(client, seen.torrents[seen.chosen]["id"] if seen.torrents else None)


@contextlib.contextmanager
def keys_of(descriptor: int) -> Iterator[Keys]:
    """Of a terminal: each key as it is pressed, and not shown."""
    import termios
    import tty

    before = termios.tcgetattr(descriptor)

    def read(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, seconds))
        if not ready:
            return ""
        data = os.read(descriptor, 16)
        return data.decode("ascii", "replace") if data else "q"  # the terminal has gone

    try:
        tty.setcbreak(descriptor)
        yield read
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@which_node
def top(ctx: click.Context, interval: float) -> None:
    """Show the running node live: torrents, peers and the DHT.

    q or Ctrl-C ends it; the arrows, or j and k, choose the torrent whose peers are shown.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError("top needs a terminal; `dhtnode status` and `dhtnode list` do not")
    from rich.console import Console

    with (
        running_node(ctx) as client,
        contextlib.suppress(KeyboardInterrupt),
        keys_of(sys.stdin.fileno()) as keys,
    ):
        watch(client, Console(), keys, interval)
