"""Commands that say how a torrent is to be kept: its labels, its place in the queue, when it has
been shared enough, and where its content lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dht_torrent.cli import view
from dht_torrent.cli.declared import which_node
from dht_torrent.cli.node import json_option, running_node
from dht_torrent.cli.options import PLACE
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from dht_torrent.daemon.client import Client, Json


@click.command()
@click.argument("torrent_id", metavar="ID")
@click.argument("labels", nargs=-1)
@json_option
@which_node
def label(ctx: click.Context, torrent_id: str, labels: tuple[str, ...], as_json: bool) -> None:
    """Give a torrent these labels and no others; without any, it has none."""
    with running_node(ctx) as client:
        torrent = client.keep(torrent_id, "labels", labels=list(labels))
    view.show(torrent, as_json)


@click.command()
@click.argument("torrent_id", metavar="ID")
@click.argument("place", metavar="top|up|down|bottom|N")
@json_option
@which_node
def queue(ctx: click.Context, torrent_id: str, place: str, as_json: bool) -> None:
    """Move a torrent in the order in which they get their turns, where the node fetches or seeds
    only so many at a time; N counts from 0."""
    to: str | int = int(place) if place.isdecimal() else place
    with running_node(ctx) as client:
        torrent = client.keep(torrent_id, "queue", to=to)
    view.show(torrent, as_json)


@click.command()
@click.argument("torrent_id", metavar="ID")
@json_option
@which_node
def announce(ctx: click.Context, torrent_id: str, as_json: bool) -> None:
    """Look for peers of a torrent now."""
    with running_node(ctx) as client:
        torrent = client.keep(torrent_id, "announce")
    view.show(torrent, as_json)


@click.command()
@click.argument("torrent_id", metavar="ID")
@click.argument("folder", type=PLACE)
@click.option(
    "--there-already", is_flag=True, help="The content is there; what is at the old place stays."
)
@click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")
@json_option
@which_node
def move(
    ctx: click.Context,
    torrent_id: str,
    folder: str,
    there_already: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Have the content of a torrent in another folder.

    It is moved whole, to another disk too, and goes on after a restart; nothing that is there is
    replaced. Ctrl-C ends the waiting, not the move.
    """
    with running_node(ctx) as client:
        torrent = client.move(
            torrent_id, Path(folder).absolute(), data=not there_already, wait=not no_wait
        )
    view.show(torrent, as_json)


@click.command()
@click.argument("torrent_id", metavar="ID")
@click.argument("path")
@click.argument("name")
@json_option
@which_node
def rename(ctx: click.Context, torrent_id: str, path: str, name: str, as_json: bool) -> None:
    """Give a file or folder of a torrent another name on this disk: PATH begins with the name of
    the torrent, as Album/cd1/01.flac. Others do not see that."""
    with running_node(ctx) as client:
        torrent = client.keep(torrent_id, "rename", path=path, name=name)
    view.show(torrent, as_json)


def seeding_of(ratio: str | None, idle: str | None) -> dict[str, Any]:
    """What `limit --ratio` and `--idle` (in minutes) say. Raises InputError."""
    told: dict[str, Any] = {}
    for name, text, unit in (("ratio", ratio, 1.0), ("idle", idle, 60.0)):
        if text is None:
            continue
        if text in ("node", "none"):
            told[name] = text
            continue
        try:
            told[name] = float(text) * unit
        except ValueError:
            raise InputError(f"--{name} is a number, 'node' or 'none', not {text!r}") from None
    return told


def keep_files(client: Client, torrent_id: str, chosen: dict[str, str | None]) -> Json | None:
    """Tell the node which files are wanted, and how much; None: nothing was said."""
    said = {key: ranges for key, ranges in chosen.items() if ranges is not None}
    return client.keep(torrent_id, "files", **said) if said else None
