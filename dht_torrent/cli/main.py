"""`dhtnode`, one function per command. What a command does is in the node; here are the words and
the exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted. stdout is for machines
(a magnet link, a table, JSON), stderr for people.

What is slow to import is imported inside the functions: `--help` must come at once.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dht_torrent import __version__
from dht_torrent.cli import bars, running, view
from dht_torrent.cli import streams as cli_streams
from dht_torrent.cli.declared import node_options
from dht_torrent.cli.failures import explain
from dht_torrent.cli.node import Options, json_option, run_node, running_node_if_any, tls_options
from dht_torrent.cli.options import PLACE
from dht_torrent.cli.sources import facts_of, write_file
from dht_torrent.cli.web import web_of, web_options
from dht_torrent.errors import ControlError, DhtTorrentError, InputError

if TYPE_CHECKING:
    from dht_torrent.daemon.client import Client
    from dht_torrent.daemon.control import Control
    from dht_torrent.engine.node import Node

STOPPED_EARLY = "the node was stopped before the download was complete"


_PUBLISHING = ("block", "publish", "publishers", "trust", "unblock", "unpublish", "untrust")
_ELSEWHERE = {
    "catalogue": ("catalogue", "catalogue"),
    "completion": ("desktop", "completion"),
    "config": ("configuring", "config"),
    "dht": ("dht", "dht"),
    "install-handler": ("desktop", "install_handler"),
    "key": ("keys", "key"),
    **{name: ("keeping", name) for name in ("announce", "label", "move", "queue", "rename")},
    "follow": ("following", "follow"),
    "unfollow": ("following", "unfollow"),
    "reload": ("configuring", "reload"),
    "search": ("search", "search"),
    "similar": ("similar", "similar"),
    "stream": ("stream", "stream"),
    "subscribe": ("subscribe", "subscribe"),
    "unsubscribe": ("subscribe", "unsubscribe"),
    "web": ("web", "web"),
    "tls-ca": ("authority", "tls_ca"),
    "top": ("top", "top"),
    **{name: ("publishing", name) for name in _PUBLISHING},
}
"""Commands in modules of their own, and their names there, imported when they are meant."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _ELSEWHERE:
            module, name = _ELSEWHERE[cmd_name]
            found = getattr(importlib.import_module(f"dht_torrent.cli.{module}"), name)
            assert isinstance(found, click.Command)
            return found
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except (DhtTorrentError, OSError, BaseExceptionGroup) as error:
            failure = explain(error)
            if failure is None:
                raise
            raise failure from None


# --- the node ------------------------------------------------------------------------------------


@click.group(cls=_Commands, invoke_without_command=True)
@web_options
@node_options
@click.version_option(__version__, prog_name="dhtnode")
def cli(ctx: click.Context) -> None:
    """A trackerless BitTorrent node. Without a command: run it until interrupted."""
    if ctx.invoked_subcommand is not None:
        return

    async def job(node: Node, control: Control) -> None:
        import trio

        more = "".join(f" listen6={address}" for address in node.addresses[1:])
        for name, address in zip(("tls", "tls6"), node.tls_addresses, strict=False):
            more += f" {name}={address}"
        click.echo(f"ready listen={node.address} control={control} id={node.node_id.hex()}{more}")
        sys.stdout.flush()
        await trio.sleep_forever()

    from dht_torrent.cli.reloading import Reloader

    options = Options.of(ctx)
    run_node(options, job, web_of(options), Reloader(ctx).reload)


# --- share and get -------------------------------------------------------------------------------


@cli.command()
@click.argument("path", type=PLACE)
@click.option("--torrent-out", type=PLACE, metavar="FILE", help="Write the .torrent here as well.")
@click.option("--piece-length", type=int, metavar="N", help="Bytes in a piece, a power of two.")
@click.option(
    "--private", is_flag=True, help="Make it private: peers from the DHT are not used (BEP 27)."
)
@tls_options(ca=True)
@click.option(
    "--super-seed/--no-super-seed",
    default=None,
    help="As the first seed, show pieces one by one until all have spread (BEP 16).",
)
@click.option("--no-publish", is_flag=True, help="Do not let everybody find it by its name.")
@click.option("--tags", metavar="A,B", help="Words to be found by besides those of its name.")
@node_options
def share(
    ctx: click.Context,
    path: str,
    torrent_out: str | None,
    piece_length: int | None,
    private: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    super_seed: bool | None,
    no_publish: bool,
    tags: str | None,
) -> None:
    """Seed PATH in place and print its magnet link.

    It is published as well: everybody can find it by the words of its name, until `dhtnode
    unpublish` or `rm`. What is private or has TLS is never published."""
    from dht_torrent.cli.publishing import Publishing

    publishing = Publishing.given(
        wanted=not no_publish, tags=tags, secret=private or tls_ca is not None
    )
    content = Path(path).absolute()
    content.stat()
    given = [path for path in (tls_ca, tls_cert, tls_key) if path is not None]
    if len(given) in (1, 2):
        raise InputError("an SSL torrent needs --tls-ca, --tls-cert and --tls-key")
    rates = Options.of(ctx).rates()
    client = running_node_if_any(ctx)
    if client is not None:
        with client:
            with bars.hashing(path):
                torrent = client.share(
                    content,
                    piece_length=piece_length,
                    private=private,
                    super_seed=super_seed,
                    tls_ca=tls_ca,
                    tls_cert=tls_cert,
                    tls_key=tls_key,
                )
            if rates:
                client.limit(torrent["id"], **rates)  # the node's own are not ours to change
            if torrent_out is not None:
                write_file(torrent_out, client.torrent_file(torrent["id"]))
            click.echo(torrent["magnet"])
            view.warn(torrent)
            publishing.through(client, torrent)
        return

    async def job(node: Node, control: Control) -> None:
        import trio

        with bars.hashing(path) as progress:
            shared = await node.share(
                content,
                piece_length=piece_length,
                private=private,
                super_seed=super_seed,
                progress=progress,
                tls_ca=tls_ca,
                tls_cert=tls_cert,
                tls_key=tls_key,
            )
        if torrent_out is not None and shared.metainfo is not None:
            write_file(torrent_out, shared.metainfo.to_torrent())
        click.echo(str(shared.magnet))
        sys.stdout.flush()
        view.warn(dataclasses.asdict(shared.summary()))
        await publishing.alone(node, shared)
        await trio.sleep_forever()

    run_node(Options.of(ctx), job)


@cli.command()
@click.argument("source", metavar="MAGNET|INFOHASH|FILE.torrent")
@click.option("--output", type=PLACE, metavar="DIR", help="Put the content into this directory.")
@click.option("--select", metavar="0,2-3", help="Only these files, by index.")
@click.option("--sequential", is_flag=True, help="From the first piece to the last.")
@click.option(
    "--from",
    "sources",
    type=PLACE,
    metavar="PATH",
    multiple=True,
    help="Copy what is the same in this file or folder, an older version say (repeatable).",
)
@click.option("--overwrite", is_flag=True, help="Replace files there that hold something else.")
@click.option("--no-wait", is_flag=True, help="Leave the download to the running node.")
@click.option(
    "--seed", is_flag=True, help="Without a running node: seed afterwards until interrupted."
)
@tls_options(ca=False)
@node_options
def get(
    ctx: click.Context,
    source: str,
    output: str | None,
    select: str | None,
    sequential: bool,
    sources: tuple[str, ...],
    overwrite: bool,
    no_wait: bool,
    seed: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> None:
    """Download a torrent; ends when everything is verified and written.

    With "search:WORDS" instead of a link it shows what is found, and asks which one."""
    from dht_torrent.given import TorrentFile, read

    if source.startswith("search:"):
        from dht_torrent.cli.search import choose

        source = choose(ctx, source.removeprefix("search:"))
    wanted = read(source)
    if (tls_cert is None) is not (tls_key is None):
        raise InputError("--tls-cert and --tls-key go together")
    rates = Options.of(ctx).rates()
    ranges = None
    if select is not None:
        from dht_torrent.metainfo import parse_ranges

        ranges = parse_ranges(select)
    where = Path(output).absolute() if output is not None else None
    local = [Path(source).absolute() for source in sources]
    client = running_node_if_any(ctx)
    if client is not None:
        with client:
            torrent = client.get(
                wanted.data if isinstance(wanted, TorrentFile) else str(wanted),
                output=where,
                select=select,
                sequential=sequential,
                overwrite=overwrite,
                tls_cert=tls_cert,
                tls_key=tls_key,
                sources=local,
            )
            if rates:
                client.limit(torrent["id"], **rates)  # the node's own are not ours to change
            view.warn(torrent)
            if no_wait:
                click.echo(torrent["id"])
            else:
                done_with = _wait(client, torrent["id"])
                view.tell_reused(done_with, before=torrent)
                click.echo(os.fsencode(done_with["path"]))
        return
    if no_wait:
        raise InputError("--no-wait needs a running node, and none is running")
    done = False

    async def job(node: Node, control: Control) -> None:
        nonlocal done
        import trio

        download = await node.get(
            wanted.metainfo if isinstance(wanted, TorrentFile) else wanted,
            output=where,
            select=ranges,
            sequential=sequential,
            overwrite=overwrite,
            tls_cert=tls_cert,
            tls_key=tls_key,
            sources=local,
        )
        begun = dataclasses.asdict(download.summary())
        view.warn(begun)

        with bars.progress() as shown:

            async def show() -> None:
                async for snapshot in download.watch(repeat_after=bars.PLAIN_INTERVAL):
                    shown.update(dataclasses.asdict(snapshot))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(show)
                path = await download.completed()
                nursery.cancel_scope.cancel()
            shown.update(dataclasses.asdict(download.summary()))
        done = True
        view.tell_reused(dataclasses.asdict(download.summary()), before=begun)
        click.echo(os.fsencode(path))
        sys.stdout.flush()
        if seed:
            await trio.sleep_forever()

    ended_by = run_node(Options.of(ctx), job)
    if not done:
        if ended_by is not None:
            ctx.exit(128 + ended_by)
        raise ControlError(STOPPED_EARLY)


def _wait(client: Client, torrent_id: str) -> Mapping[str, Any]:
    """Show progress until the download is done. Raises ControlError when it ends otherwise."""
    from dht_torrent.daemon.presence import NoNode

    try:
        with bars.progress() as shown, closing(client.watch(torrent_id)) as snapshots:
            for torrent in snapshots:
                shown.update(torrent)
                if torrent["state"] == "error":
                    raise ControlError(torrent["error"] or "the download failed")
                if torrent["state"] == "seeding" or (
                    torrent["state"] == "paused" and torrent["size"] and torrent["progress"] >= 1
                ):
                    return torrent
        with suppress(NoNode):
            client.torrent(torrent_id)
    except InputError:
        raise ControlError("the torrent was removed before it was complete") from None
    raise ControlError(STOPPED_EARLY)


# --- without a node ------------------------------------------------------------------------------


@cli.command()
@click.argument("path", type=PLACE)
@click.option("-o", "--output", required=True, type=PLACE, metavar="FILE.torrent")
@click.option("--piece-length", type=int, metavar="N", help="Bytes in a piece, a power of two.")
@click.option(
    "--private", is_flag=True, help="Make it private: peers from the DHT are not used (BEP 27)."
)
@click.option("--comment", metavar="TEXT")
@click.option(
    "--tls-ca", type=PLACE, metavar="FILE.pem", help="Make it an SSL torrent with this root."
)
@click.option(
    "--similar",
    metavar="MAGNET|INFOHASH|FILE.torrent",
    multiple=True,
    help="A torrent that has files in common with it (BEP 38; repeatable).",
)
@click.option(
    "--collection",
    "collections",
    metavar="NAME",
    multiple=True,
    help="Torrents of the same collection have files in common (BEP 38; repeatable).",
)
def create(
    path: str,
    output: str,
    piece_length: int | None,
    private: bool,
    comment: str | None,
    tls_ca: str | None,
    similar: tuple[str, ...],
    collections: tuple[str, ...],
) -> None:
    """Write a .torrent for PATH, and print its magnet link. Needs no node."""
    from dht_torrent.engine.create import make
    from dht_torrent.given import TorrentFile, read
    from dht_torrent.metainfo import LocalHints

    others = [one.metainfo if isinstance(one, TorrentFile) else one for one in map(read, similar)]
    hints = LocalHints(tuple(other.info_hash for other in others), collections)
    ssl_cert = None
    if tls_ca is not None:
        from dht_torrent.engine.net.tls import read_root

        ssl_cert = read_root(Path(tls_ca))
    with bars.hashing(path) as progress:
        metainfo = make(
            Path(path),
            piece_length=piece_length,
            private=private,
            ssl_cert=ssl_cert,
            comment=comment,
            hints=hints,
            progress=progress,
        )
    write_file(output, metainfo.to_torrent())
    click.echo(str(metainfo.magnet()))


@cli.command()
@click.argument("source", metavar="FILE.torrent|MAGNET")
@json_option
def show(source: str, as_json: bool) -> None:
    """Show what a .torrent or a magnet link holds. Needs no node."""
    from dht_torrent.given import read

    facts = facts_of(read(source))
    view.show(facts, as_json, lambda: view.facts_text(facts))


for command in running.COMMANDS:
    cli.add_command(command)


def main() -> None:
    """The entry point of `dhtnode`."""
    cli_streams.mend()
    code: object = 0
    try:
        cli(prog_name="dhtnode")
    except SystemExit as ending:
        code = ending.code
    except KeyboardInterrupt:
        code = 130
    unwritten = cli_streams.finish(failed=code != 0)
    sys.exit(code or unwritten)  # type: ignore[arg-type]
