"""The options of what a running node answers to browsers and other programs at `--web`: its page,
and Transmission's RPC; and the command that shows where the page is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dht_torrent.cli.declared import state_option
from dht_torrent.cli.node import Options, place_of
from dht_torrent.cli.options import FILE, FOLDER, check_web, mask_user, option
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from dht_torrent.daemon.web_app import WebOptions

Command = TypeVar("Command", bound=Callable[..., Any])


def web_options(command: Command) -> Command:
    """Of the command that runs a node."""
    for made in (
        option(
            "--web",
            metavar="ADDR:PORT",
            check=check_web,
            help="Show a page here, whose secret link is told on stderr and by `dhtnode web`; and"
            " answer Transmission's RPC, as transmission-remote, Sonarr or Flood speak it, at"
            " /transmission/rpc; and /healthz.",
        ),
        option(
            "--web-read-only/--no-web-read-only",
            default=None,
            standard=False,
            help="The page and its API only show; the RPC has its own credentials.",
        ),
        option(
            "--rpc-auth-file",
            metavar="FILE",
            type=FILE,
            help="USER:PASSWORD of those who may use the RPC, which is off without.",
        ),
        option(
            "--rpc-auth",
            metavar="USER:PASSWORD",
            mask=mask_user,
            help="The same in DHTNODE_RPC_AUTH, or here, where others can read it.",
        ),
        option(
            "--web-dir",
            metavar="DIR",
            type=FOLDER,
            multiple=True,
            help="A folder that clients may put content into, besides the download directory"
            " (repeatable).",
        ),
        option(
            "--web-host",
            metavar="NAME",
            multiple=True,
            help="A host name by which this node may be asked, besides localhost (repeatable).",
        ),
        option(
            "--web-tls",
            metavar="CERT KEY",
            nargs=2,
            type=FILE,
            help="Encrypt with this certificate and private key (PEM files).",
        ),
        option(
            "--web-insecure/--no-web-insecure",
            default=None,
            standard=False,
            help="Listen on an address of the network without --web-tls all the same.",
        ),
    ):
        command = made(command)
    return command


def web_of(options: Options) -> WebOptions | None:
    """What they say; None: nothing is answered. Raises InputError."""
    if options.web is None:
        if options.rpc_auth_file is not None:
            raise InputError("--rpc-auth-file is for --web ADDR:PORT")
        return None
    from dht_torrent.daemon.credentials import Credentials
    from dht_torrent.daemon.web_app import WebOptions, parse_web

    credentials = None
    if options.rpc_auth_file is not None:
        credentials = Credentials.read(Path(options.rpc_auth_file))
    elif options.rpc_auth is not None:
        credentials = Credentials.parse(options.rpc_auth)
    return WebOptions(
        address=parse_web(options.web),
        credentials=credentials,
        roots=tuple(Path(folder).absolute() for folder in options.web_dir),
        hosts=tuple(options.web_host),
        tls=(Path(options.web_tls[0]), Path(options.web_tls[1])) if options.web_tls else None,
        read_only=options.web_read_only,
        insecure=options.web_insecure,
        fixed=options.fixed,
        told=lambda line: click.echo(f"dhtnode: {line}", err=True),
    )


@click.command()
@click.option("--open", "opens", is_flag=True, help="Open it in the browser as well.")
@click.option(
    "--tokens", is_flag=True, help="Show instead what Prometheus, players and Prowlarr need."
)
@state_option
def web(ctx: click.Context, opens: bool, tokens: bool) -> None:
    """Show the secret link of the running node's page."""
    from dht_torrent.daemon.control import read_page_link
    from dht_torrent.daemon.presence import is_held

    state_dir, _ = place_of(ctx)
    link = read_page_link(state_dir) if is_held(state_dir) else None
    if link is None:
        raise InputError("no node with a page is running there: start it with --web ADDR:PORT")
    if tokens:
        _show_tokens(state_dir, link)
        return
    click.echo(link)
    if opens:
        click.launch(link)


def _show_tokens(state_dir: Path, link: str) -> None:
    """An address and a token for each purpose: a line for each, with tabs between."""
    from dht_torrent.daemon.tokens import WebTokens
    from dht_torrent.daemon.web.door import ENTRY

    base, known = link.partition(ENTRY)[0], WebTokens.of(state_dir)
    for purpose, path in WebTokens.PATHS.items():
        click.echo(f"{purpose}\t{base}{path}\t{known.token(purpose)}")
