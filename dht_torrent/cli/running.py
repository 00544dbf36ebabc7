"""Commands that look at a running node, or steer it: each one request and one view of the
answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from dht_torrent.cli import view
from dht_torrent.cli.declared import which_node
from dht_torrent.cli.node import json_option, parse_rates, place_of, running_node
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from dht_torrent.daemon.client import Client, Json

# --- looking at a running node -------------------------------------------------------------------


@click.command()
@json_option
@which_node
def ls(ctx: click.Context, as_json: bool) -> None:
    """List the torrents."""
    with running_node(ctx) as client:
        torrents = client.torrents()
    view.show(torrents, as_json, lambda: view.torrents_table(torrents))


@click.command()
@json_option
@which_node
def status(ctx: click.Context, as_json: bool) -> None:
    """Show the state of the node, and why a download is stuck."""
    with running_node(ctx) as client:
        node = client.status()
        torrents = client.torrents()
    stuck = [
        {key: torrent[key] for key in ("id", "name", "state", "progress", "reused", "error", "why")}
        for torrent in torrents
        if torrent["state"] != "seeding"
    ]
    view.show({**node, "unfinished": stuck}, as_json, lambda: view.status_text(node, stuck))


@click.command()
@click.argument("torrent_id", metavar="ID")
@json_option
@which_node
def peers(ctx: click.Context, torrent_id: str, as_json: bool) -> None:
    """List the peers of a torrent."""
    with running_node(ctx) as client:
        found = client.peers(torrent_id)
    view.show(found, as_json, lambda: view.peers_table(found))


@click.command()
@click.argument("torrent_id", metavar="ID")
@click.option("--want", metavar="FILES", help="Fetch these too, such as 0,2-4.")
@click.option("--skip", metavar="FILES", help="Do not fetch these; what is here stays.")
@click.option("--high", metavar="FILES", help="Fetch these before all others ...")
@click.option("--normal", metavar="FILES", help="... these as most ...")
@click.option("--low", metavar="FILES", help="... and these after all others.")
@json_option
@which_node
def files(ctx: click.Context, torrent_id: str, as_json: bool, **chosen: str | None) -> None:
    """List the files of a torrent, or say which are to be fetched, and when."""
    from dht_torrent.cli.keeping import keep_files

    with running_node(ctx) as client:
        keep_files(client, torrent_id, chosen)
        found = client.files(torrent_id)
    view.show(found, as_json, lambda: view.files_table(found))


# --- steering a running node ---------------------------------------------------------------------


@click.command()
@click.argument("torrent_id", metavar="ID")
@click.option("--data", is_flag=True, help="Delete the files it made as well.")
@json_option
@which_node
def rm(ctx: click.Context, torrent_id: str, data: bool, as_json: bool) -> None:
    """Remove a torrent. Its content stays, unless --data; files it did not make always stay."""
    with running_node(ctx) as client:
        removal = client.remove(torrent_id, data=data)
    text = view.removal_text(removal) if data else ""
    view.show(removal, as_json, (lambda: text) if text else None)


def _steers(name: str, ask: Callable[[Client, str], Json], what: str) -> click.Command:
    """A command that asks something of one torrent, and shows what became of it."""

    @click.command(name, help=what)
    @click.argument("torrent_id", metavar="ID")
    @json_option
    @which_node
    def command(ctx: click.Context, torrent_id: str, as_json: bool) -> None:
        with running_node(ctx) as client:
            torrent = ask(client, torrent_id)
        view.show(torrent, as_json)
        view.warn(torrent)

    return command


pause = _steers(
    "pause",
    lambda client, torrent_id: client.pause(torrent_id),
    "Pause a torrent until it is resumed, even across restarts.",
)
resume = _steers(
    "resume", lambda client, torrent_id: client.resume(torrent_id), "Resume a paused torrent."
)
recheck = _steers(
    "recheck",
    lambda client, torrent_id: client.recheck(torrent_id),
    "Verify the content on disk again.",
)


@click.command()
@click.argument("torrent_id", metavar="[ID]", required=False)
@click.option(
    "--up", metavar="RATE", help="Send at most this rate, such as 500K; 0 or 'none' lifts it."
)
@click.option("--down", metavar="RATE", help="Receive at most this rate.")
@click.option(
    "--ratio",
    metavar="N",
    help="Of a torrent: pause it when N bytes were sent for each received; 'none', or 'node' for"
    " what the node says.",
)
@click.option(
    "--alternative/--usual",
    default=None,
    help="Of the node: let the alternative limits hold (--alt-limit-up, --alt-limit-down), or not.",
)
@click.option("--idle", metavar="MINUTES", help="The same when nothing has moved for so long.")
@json_option
@which_node
def limit(
    ctx: click.Context,
    torrent_id: str | None,
    up: str | None,
    down: str | None,
    ratio: str | None,
    idle: str | None,
    alternative: bool | None,
    as_json: bool,
) -> None:
    """Limit a torrent, or the whole node without ID, and show the limits."""
    from dht_torrent.cli.keeping import seeding_of

    rates, seeding = parse_rates(up, down), seeding_of(ratio, idle)
    if seeding and torrent_id is None:
        raise InputError("--ratio and --idle are for one torrent: name it")
    if alternative is not None and torrent_id is not None:
        raise InputError("--alternative and --usual are for the whole node")
    with running_node(ctx) as client:
        if alternative is not None:
            client.limit_node(alternative=alternative)
        if seeding and torrent_id is not None:
            client.keep(torrent_id, "seeding", **seeding)
        if rates:
            limited = client.limit(torrent_id, **rates)
        elif torrent_id is not None:
            limited = client.torrent(torrent_id)
        else:
            limited = client.status()
    view.warn(limited)
    limits: Json = {
        key: limited[key] for key in ("limit_up", "limit_down", "alternative") if key in limited
    }
    view.show(limits, as_json, lambda: view.limits_text(limits))


@click.command()
@json_option
@which_node
def stop(ctx: click.Context, as_json: bool) -> None:
    """Stop the running node."""
    with running_node(ctx) as client:
        client.stop(state_dir=place_of(ctx)[0])
    view.show({"stopped": True}, as_json)


COMMANDS = (ls, status, peers, files, rm, pause, resume, recheck, limit, stop)
