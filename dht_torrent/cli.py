"""`dhtnode`, one function per command. What a command does is in the node; here are the words and
the exit codes: 0 done, 1 failed while running, 2 bad input, 130 interrupted. stdout is for machines
(a magnet link, a table, JSON), stderr for people.

Everything slow to import is imported inside the functions: `--help` must come at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dht_torrent import __version__
from dht_torrent.errors import ControlError, DhtTorrentError, InputError

if TYPE_CHECKING:
    import signal

    from dht_torrent.config import Config
    from dht_torrent.daemon.client import Client
    from dht_torrent.daemon.control import Control
    from dht_torrent.engine.node import Node
    from dht_torrent.metainfo import Magnet, Metainfo

POLL = 0.5
"""Seconds between two looks at a download whose progress is shown."""
MAX_TORRENT_FILE = 10_000_000
"""Bytes of the largest .torrent read."""
_LOG_LEVELS = ("debug", "info", "warning", "error")

Command = TypeVar("Command", bound=Callable[..., Any])


# --- errors --------------------------------------------------------------------------------------


class _Failure(click.ClickException):
    """One line on stderr and an exit code."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.exit_code = code  # type: ignore[misc]  # as Click's own subclasses and users do

    def show(self, file: Any = None) -> None:
        from dht_torrent.cli_view import clean

        click.echo(f"dhtnode: {clean(self.message)}", file=file or sys.stderr)


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "dht"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "dht":  # a module of its own, imported when it is meant
            from dht_torrent.cli_dht import dht

            return dht
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except (DhtTorrentError, OSError, BaseExceptionGroup) as error:
            failure = _explain(error, ctx)
            if failure is None:
                raise
            raise failure from None


def _explain(
    error: BaseException, ctx: click.Context
) -> click.ClickException | click.exceptions.Exit | None:
    """What to tell the user; None for a bug of ours, which shows its traceback."""
    if isinstance(error, BaseExceptionGroup):
        told = [_explain(inner, ctx) for inner in error.exceptions]
        return None if None in told else told[0]
    if isinstance(error, KeyboardInterrupt):
        return click.exceptions.Exit(130)
    if isinstance(error, DhtTorrentError):
        return _Failure(str(error), 2 if isinstance(error, InputError) else 1)
    if not isinstance(error, OSError) or error.errno in (None, errno.EPIPE):
        return None
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
        return _Failure(f"cannot listen: {reason}", 1)
    if error.filename is None:
        return _Failure(reason, 1)
    return _Failure(
        f"{os.fsdecode(error.filename)}: {reason}", 1 if error.errno == errno.ENOSPC else 2
    )


# --- options -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """Which node: given before the command or after it (there it wins)."""

    bootstrap: tuple[str, ...] | None = None
    listen: tuple[str, ...] | None = None
    state_dir: Path
    download_dir: Path | None = None
    control: str | None = None
    limit_up: str | None = None
    limit_down: str | None = None
    dht_unlimited: bool = False
    log_level: str = "warning"

    @classmethod
    def of(cls, ctx: click.Context) -> _Options:
        given = dict(ctx.find_object(dict) or {})
        given.setdefault("state_dir", None)
        if given["state_dir"] is None:
            import platformdirs

            given["state_dir"] = platformdirs.user_state_path("dhtnode")
        else:
            given["state_dir"] = Path(given["state_dir"]).absolute()
        return cls(**given)

    def config(self) -> Config:
        """Raises InputError naming the option that is wrong."""
        from dht_torrent.config import Config

        download_dir = self.download_dir
        if download_dir is None:
            import platformdirs

            download_dir = platformdirs.user_downloads_path()
            if not download_dir.is_dir():
                download_dir = Path.cwd()
        options: dict[str, Any] = {}
        if self.bootstrap is not None:
            options["bootstrap"] = () if self.bootstrap == ("none",) else self.bootstrap
        options |= {f"limit_{way}": rate for way, rate in self.rates().items()}
        if self.dht_unlimited:
            from dht_torrent.config import DhtConfig

            options["dht"] = DhtConfig(unlimited=True)
        if self.listen is not None:
            options["listen"] = self.listen
        config = Config(
            state_dir=self.state_dir,
            download_dir=Path(download_dir).absolute(),
            **options,
        )
        config.bootstrap_points()
        config.listen_addresses()
        return config

    def rates(self) -> dict[str, int | None]:
        """The limits given, by direction. Raises InputError."""
        return _rates(self.limit_up, self.limit_down)


def _rates(up: str | None, down: str | None) -> dict[str, int | None]:
    """Bytes per second by direction, of what was given. Raises InputError."""
    from dht_torrent.config import parse_rate

    given = {"up": up, "down": down}
    return {way: parse_rate(text) for way, text in given.items() if text is not None}


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and value != ():
        ctx.ensure_object(dict)[param.name] = value


def _option(name: str, **attributes: Any) -> Callable[[Command], Command]:
    return click.option(name, expose_value=False, callback=_remember, **attributes)


def _which_node(command: Command) -> Command:
    for option in (
        _option("--control", metavar="unix:PATH|ADDR:PORT", help="Where the node takes commands."),
        _option("--state-dir", metavar="DIR", help="The node's own files."),
    ):
        command = option(command)
    return command


def _node_options(command: Command) -> Command:
    for option in (
        _option("--limit-down", metavar="RATE", help="Receive at most this, as 500K or 1.5MiB/s."),
        _option("--limit-up", metavar="RATE", help="Send at most this; 0 or 'none' for no limit."),
        _option(
            "--dht-unlimited",
            is_flag=True,
            default=None,
            help="For labs: lift the DHT's limits on queries, bytes, items and signatures.",
        ),
        _option("--log-level", type=click.Choice(_LOG_LEVELS), help="What to say on stderr."),
        _option("--download-dir", metavar="DIR", help="Where downloads go."),
        _option(
            "--listen",
            metavar="ADDR:PORT",
            multiple=True,
            help="For peers, TCP and UDP; port 0 means any. Twice: IPv4 and IPv6, the default.",
        ),
        _option(
            "--bootstrap",
            metavar="HOST:PORT",
            multiple=True,
            help="An entry point to the DHT (repeatable); 'none' for a network's first node.",
        ),
    ):
        command = option(command)
    return _which_node(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


# --- the node ------------------------------------------------------------------------------------


@click.group(cls=_Commands, invoke_without_command=True)
@_node_options
@click.version_option(__version__, prog_name="dhtnode")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A trackerless BitTorrent node. Without a command: run it until interrupted."""
    if ctx.invoked_subcommand is not None:
        return

    async def job(node: Node, control: Control) -> None:
        import trio

        more = "".join(f" listen6={address}" for address in node.addresses[1:])
        click.echo(f"ready listen={node.address} control={control} id={node.node_id.hex()}{more}")
        sys.stdout.flush()
        await trio.sleep_forever()

    _run(_Options.of(ctx), job)


def _run(
    options: _Options, job: Callable[[Node, Control], Awaitable[None]]
) -> signal.Signals | None:
    """A node in this process, until `job` ends, a signal or a client's stop. Returns the signal."""
    config = options.config()
    _log_to_stderr(options.log_level)
    import trio

    from dht_torrent.daemon.run import run

    return trio.run(run, config, options.control, job)


def _log_to_stderr(level: str) -> None:
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("hypercorn", "httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _client(ctx: click.Context) -> Client:
    """A client of the running node. Raises NoNode."""
    from dht_torrent.daemon.client import connect

    options = _Options.of(ctx)
    return connect(options.state_dir, options.control)


def _client_if_running(ctx: click.Context) -> Client | None:
    from dht_torrent.daemon.client import NoNode

    with contextlib.suppress(NoNode):
        return _client(ctx)
    return None


# --- share and get -------------------------------------------------------------------------------


@cli.command()
@click.argument("path")
@click.option("--torrent-out", metavar="FILE", help="Write the .torrent here as well.")
@click.option("--piece-length", type=int, metavar="N", help="Bytes in a piece, a power of two.")
@click.option("--private", is_flag=True, help="Peers exchange no addresses (BEP 27).")
@_node_options
@click.pass_context
def share(
    ctx: click.Context, path: str, torrent_out: str | None, piece_length: int | None, private: bool
) -> None:
    """Seed PATH where it is, and print its magnet link."""
    content = Path(path).absolute()
    content.stat()
    rates = _Options.of(ctx).rates()
    client = _client_if_running(ctx)
    if client is not None:
        with client, _view().hashing(path):
            torrent = client.share(content, piece_length=piece_length, private=private)
            if rates:
                client.limit(torrent["id"], **rates)  # the node's own are not ours to change
            if torrent_out is not None:
                _write_file(torrent_out, client.torrent_file(torrent["id"]))
        click.echo(torrent["magnet"])
        return

    async def job(node: Node, control: Control) -> None:
        import trio

        with _view().hashing(path) as progress:
            shared = await node.share(
                content, piece_length=piece_length, private=private, progress=progress
            )
        if torrent_out is not None and shared.metainfo is not None:
            _write_file(torrent_out, shared.metainfo.to_torrent())
        click.echo(str(shared.magnet))
        sys.stdout.flush()
        await trio.sleep_forever()

    _run(_Options.of(ctx), job)


@cli.command()
@click.argument("source", metavar="MAGNET|INFOHASH|FILE.torrent")
@click.option("--output", metavar="DIR", help="Put the content into this directory.")
@click.option("--select", metavar="0,2-3", help="Only these files, by index.")
@click.option("--sequential", is_flag=True, help="From the first piece to the last.")
@click.option("--no-wait", is_flag=True, help="Leave the download to the running node.")
@click.option(
    "--seed", is_flag=True, help="Without a running node: seed afterwards until interrupted."
)
@_node_options
@click.pass_context
def get(
    ctx: click.Context,
    source: str,
    output: str | None,
    select: str | None,
    sequential: bool,
    no_wait: bool,
    seed: bool,
) -> None:
    """Download, and end when all is verified on disk."""
    wanted = _read_source(source)
    rates = _Options.of(ctx).rates()
    ranges = None
    if select is not None:
        from dht_torrent.metainfo import parse_ranges

        ranges = parse_ranges(select)
    where = Path(output).absolute() if output is not None else None
    client = _client_if_running(ctx)
    if client is not None:
        with client:
            torrent = client.get(
                source if not isinstance(wanted, _TorrentFile) else wanted.data,
                output=where,
                select=select,
                sequential=sequential,
            )
            if rates:
                client.limit(torrent["id"], **rates)  # the node's own are not ours to change
            if no_wait:
                click.echo(torrent["id"])
            else:
                click.echo(os.fsencode(_wait(client, torrent["id"])["path"]))
        return
    if no_wait:
        raise InputError("--no-wait needs a running node, and none is running")
    done = False

    async def job(node: Node, control: Control) -> None:
        nonlocal done
        import trio

        download = await node.get(
            wanted.metainfo if isinstance(wanted, _TorrentFile) else wanted,
            output=where,
            select=ranges,
            sequential=sequential,
        )

        with _view().progress() as shown:

            async def show() -> None:
                while True:
                    shown.update(dataclasses.asdict(download.summary()))
                    await trio.sleep(POLL)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(show)
                path = await download.completed()
                nursery.cancel_scope.cancel()
            shown.update(dataclasses.asdict(download.summary()))
        done = True
        click.echo(os.fsencode(path))
        sys.stdout.flush()
        if seed:
            await trio.sleep_forever()

    ended_by = _run(_Options.of(ctx), job)
    if not done:
        if ended_by is not None:
            ctx.exit(128 + ended_by)
        raise ControlError("the node was stopped before the download was complete")


@dataclass(frozen=True, slots=True)
class _TorrentFile:
    data: bytes
    metainfo: Metainfo


def _read_source(source: str) -> Magnet | _TorrentFile:
    """Raises InputError, so a bad link is found before anything is started."""
    from dht_torrent.metainfo import Magnet, parse_torrent

    if source.lower().startswith("magnet:"):
        return Magnet.parse(source)
    path = Path(source)
    if path.is_file():
        with path.open("rb") as file:
            data = file.read(MAX_TORRENT_FILE + 1)
        return _TorrentFile(data, parse_torrent(data))
    if len(source) in (32, 40) and source.isascii() and source.isalnum():
        return Magnet.parse(f"magnet:?xt=urn:btih:{source}")
    raise InputError(f"not a magnet link, an infohash or a .torrent file: {source[:200]!r}")


def _wait(client: Client, torrent_id: str) -> Mapping[str, Any]:
    """Show progress until the download is done. Raises ControlError when it ends otherwise."""
    import time

    with _view().progress() as shown:
        while True:
            try:
                torrent = client.torrent(torrent_id)
            except InputError:
                raise ControlError("the torrent was removed before it was complete") from None
            shown.update(torrent)
            if torrent["state"] == "error":
                raise ControlError(torrent["error"] or "the download failed")
            if torrent["state"] == "seeding" or (
                torrent["state"] == "paused" and torrent["size"] and torrent["progress"] >= 1
            ):
                return torrent
            time.sleep(POLL)


# --- looking at a running node -------------------------------------------------------------------


@cli.command()
@_json_option
@_which_node
@click.pass_context
def ls(ctx: click.Context, as_json: bool) -> None:
    """List the torrents."""
    with _client(ctx) as client:
        torrents = client.torrents()
    _show(torrents, as_json, _view().torrents_table)


@cli.command()
@_json_option
@_which_node
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """How the node is, and why a download is stuck."""
    with _client(ctx) as client:
        node = client.status()
        torrents = client.torrents()
    stuck = [
        {key: torrent[key] for key in ("id", "name", "state", "progress", "error", "why")}
        for torrent in torrents
        if torrent["state"] != "seeding"
    ]
    if as_json:
        _print_json({**node, "unfinished": stuck})
    else:
        click.echo(_view().status_text(node, stuck))


@cli.command()
@click.argument("torrent_id", metavar="ID")
@_json_option
@_which_node
@click.pass_context
def peers(ctx: click.Context, torrent_id: str, as_json: bool) -> None:
    """List the peers of a torrent."""
    with _client(ctx) as client:
        _show(client.peers(torrent_id), as_json, _view().peers_table)


@cli.command()
@click.argument("torrent_id", metavar="ID")
@_json_option
@_which_node
@click.pass_context
def files(ctx: click.Context, torrent_id: str, as_json: bool) -> None:
    """List the files of a torrent."""
    with _client(ctx) as client:
        _show(client.files(torrent_id), as_json, _view().files_table)


# --- steering a running node ---------------------------------------------------------------------


@cli.command()
@click.argument("torrent_id", metavar="ID")
@click.option("--data", is_flag=True, help="Delete its content as well.")
@_json_option
@_which_node
@click.pass_context
def rm(ctx: click.Context, torrent_id: str, data: bool, as_json: bool) -> None:
    """Forget a torrent; its content stays unless --data."""
    with _client(ctx) as client:
        _answer(client.remove(torrent_id, data=data), as_json)


@cli.command()
@click.argument("torrent_id", metavar="ID")
@_json_option
@_which_node
@click.pass_context
def pause(ctx: click.Context, torrent_id: str, as_json: bool) -> None:
    """Stop a torrent until it is resumed, also over a restart."""
    with _client(ctx) as client:
        _answer(client.pause(torrent_id), as_json)


@cli.command()
@click.argument("torrent_id", metavar="ID")
@_json_option
@_which_node
@click.pass_context
def resume(ctx: click.Context, torrent_id: str, as_json: bool) -> None:
    """Go on with a paused torrent."""
    with _client(ctx) as client:
        _answer(client.resume(torrent_id), as_json)


@cli.command()
@click.argument("torrent_id", metavar="ID")
@_json_option
@_which_node
@click.pass_context
def recheck(ctx: click.Context, torrent_id: str, as_json: bool) -> None:
    """Hash what is on disk again."""
    with _client(ctx) as client:
        _answer(client.recheck(torrent_id), as_json)


@cli.command()
@click.argument("torrent_id", metavar="[ID]", required=False)
@click.option("--up", metavar="RATE", help="Send at most this, as 500K or 1.5MiB/s; 0 or 'none'.")
@click.option("--down", metavar="RATE", help="Receive at most this.")
@_json_option
@_which_node
@click.pass_context
def limit(
    ctx: click.Context, torrent_id: str | None, up: str | None, down: str | None, as_json: bool
) -> None:
    """Limit a torrent, or without ID the whole node, and show its limits."""
    rates = _rates(up, down)
    with _client(ctx) as client:
        if rates:
            limited = client.limit(torrent_id, **rates)
        elif torrent_id is not None:
            limited = client.torrent(torrent_id)
        else:
            limited = client.status()
    limits = {key: limited[key] for key in ("limit_up", "limit_down")}
    if as_json:
        _print_json(limits)
    else:
        click.echo(_view().limits_text(limits))


@cli.command()
@_json_option
@_which_node
@click.pass_context
def stop(ctx: click.Context, as_json: bool) -> None:
    """End the running node."""
    with _client(ctx) as client:
        client.stop(state_dir=_Options.of(ctx).state_dir)
    _answer({"stopped": True}, as_json)


# --- without a node ------------------------------------------------------------------------------


@cli.command()
@click.argument("path")
@click.option("-o", "--output", required=True, metavar="FILE.torrent")
@click.option("--piece-length", type=int, metavar="N", help="Bytes in a piece, a power of two.")
@click.option("--private", is_flag=True, help="Peers exchange no addresses (BEP 27).")
@click.option("--comment", metavar="TEXT")
def create(
    path: str, output: str, piece_length: int | None, private: bool, comment: str | None
) -> None:
    """Write a .torrent for PATH, and print its magnet link. Needs no node."""
    from dht_torrent.metainfo import make

    with _view().hashing(path) as progress:
        metainfo = make(
            Path(path),
            piece_length=piece_length,
            private=private,
            comment=comment,
            progress=progress,
        )
    _write_file(output, metainfo.to_torrent())
    click.echo(str(metainfo.magnet()))


@cli.command()
@click.argument("source", metavar="FILE.torrent|MAGNET")
@_json_option
def show(source: str, as_json: bool) -> None:
    """Say what a .torrent or a magnet link holds. Needs no node."""
    read = _read_source(source)
    facts = _torrent_facts(read.metainfo) if isinstance(read, _TorrentFile) else _magnet_facts(read)
    if as_json:
        _print_json(facts)
    else:
        click.echo(_view().facts_text(facts))


def _torrent_facts(metainfo: Metainfo) -> dict[str, Any]:
    geometry = metainfo.geometry
    root = () if metainfo.single else (metainfo.name,)
    return {
        "id": metainfo.info_hash.hex(),
        "name": metainfo.name,
        "size": sum(file.length for file in metainfo.files if not file.pad),
        "piece_length": geometry.piece_length,
        "pieces": geometry.piece_count,
        "private": metainfo.private,
        "comment": metainfo.comment,
        "created_by": metainfo.created_by,
        "creation_date": metainfo.creation_date,
        "nodes": [str(point) for point in metainfo.nodes],
        "magnet": str(metainfo.magnet()),
        "files": [
            {"index": index, "path": "/".join((*root, *file.path)), "size": file.length}
            for index, file in enumerate(metainfo.files)
            if not file.pad
        ],
    }


def _magnet_facts(magnet: Magnet) -> dict[str, Any]:
    return {
        "id": magnet.info_hash.hex(),
        "name": magnet.name,
        "peers": [str(point) for point in magnet.peers],
        "select": magnet.select,
        "trackers": list(magnet.trackers),
        "magnet": str(magnet),
    }


# --- output --------------------------------------------------------------------------------------


def _view() -> Any:
    # A module, loaded late like the rest.
    from dht_torrent import cli_view

    return cli_view


def _show(rows: list[dict[str, Any]], as_json: bool, table: Callable[[Any], str]) -> None:
    if as_json:
        _print_json(rows)
    else:
        click.echo(table(rows))


def _answer(answer: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(answer)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def _write_file(target: str, data: bytes) -> None:
    """All of it or nothing. Raises OSError naming the target."""
    import tempfile

    path = Path(target).absolute()
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}-", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # a file like any other, not mkstemp's private one
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def main() -> None:
    """The entry point of `dhtnode`."""
    cli(prog_name="dhtnode")
