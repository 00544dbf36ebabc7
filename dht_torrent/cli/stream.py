"""`dhtnode stream`: play a file while it loads."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dht_torrent.cli.declared import node_options
from dht_torrent.cli.node import Options, place_of, run_node, running_node_if_any
from dht_torrent.errors import ControlError, InputError

if TYPE_CHECKING:
    from dht_torrent.daemon.client import Client
    from dht_torrent.daemon.control import Control
    from dht_torrent.engine.node import Node

Files = Sequence[Mapping[str, Any]]
"""As the control API tells of them."""

GONE = "the torrent was removed before its files were known"


@click.command()
@click.argument("source", metavar="MAGNET|INFOHASH|FILE.torrent")
@click.option("--file", "number", type=int, metavar="N", help="This file, and not the largest.")
@click.option(
    "--player", metavar="COMMAND", help="Start this with the address, such as 'mpv --fs'."
)
@node_options
def stream(ctx: click.Context, source: str, number: int | None, player: str | None) -> None:
    """Play a file while it loads: show the address that a player can open, or start one.

    The running node must have --web; where none runs, one runs until the player ends, or it is
    interrupted. All of the torrent is fetched, what is played first."""
    from dht_torrent.given import TorrentFile, read

    wanted = read(source)
    command = _player(player)
    client = running_node_if_any(ctx)
    state_dir, _ = place_of(ctx)
    if client is not None:
        with client:
            base = _base(state_dir)
            data = wanted.data if isinstance(wanted, TorrentFile) else str(wanted)
            torrent_id = client.get(data)["id"]
            files = _files(client, torrent_id)
            _play(command, _address(base, state_dir, torrent_id, chosen(files, number)))
        return
    if Options.of(ctx).web is not None:
        raise InputError("--web is for the node that runs all the time")

    async def job(node: Node, control: Control) -> None:
        import dataclasses

        import trio

        given = wanted.metainfo if isinstance(wanted, TorrentFile) else wanted
        torrent = await node.get(given)
        async for _ in torrent.watch():
            if torrent.metainfo is not None:
                break
        else:
            raise ControlError(GONE)
        files = [dataclasses.asdict(file) for file in torrent.files()]
        address = _address(_base(state_dir), state_dir, torrent.id, chosen(files, number))
        if command:
            await trio.to_thread.run_sync(_play, command, address, abandon_on_cancel=True)
        else:
            _play(command, address)
            await trio.sleep_forever()

    from dht_torrent.daemon.web_app import WebOptions
    from dht_torrent.ids import Address

    run_node(Options.of(ctx), job, WebOptions(address=Address("127.0.0.1", 0)))


def _player(text: str | None) -> list[str]:
    """Its command. Raises InputError where it cannot be started: before anything is fetched."""
    try:
        command = shlex.split(text) if text is not None else []
    except ValueError as error:
        raise InputError(f"--player {text}: {str(error).lower()}") from None
    if text is not None and not command:
        raise InputError("--player needs a command")
    if command and shutil.which(command[0]) is None:
        raise InputError(f"--player: there is no program {command[0]} here")
    return command


def chosen(files: Files, number: int | None) -> int:
    """The one that is meant, or else the largest that can be played, or the largest. Raises
    InputError."""
    from dht_torrent.daemon.media import is_played

    if number is not None:
        if number not in [file["index"] for file in files]:
            raise InputError(f"there is no file {number}: see `dhtnode files`")
        return number
    if not files:
        raise InputError("there is no file in it")
    best = max(files, key=lambda file: (is_played(file["path"]), file["size"]))
    return int(best["index"])


def _base(state_dir: Path) -> str:
    from dht_torrent.daemon.control import read_page_link
    from dht_torrent.daemon.web.door import ENTRY

    link = read_page_link(state_dir)
    if link is None:
        raise InputError("the running node plays nothing: start it with --web ADDR:PORT")
    return link.partition(ENTRY)[0]


def _address(base: str, state_dir: Path, torrent_id: str, file: int) -> str:
    from dht_torrent.daemon.stream import PATH
    from dht_torrent.daemon.tokens import WebTokens

    token = WebTokens.of(state_dir).token("stream")
    return f"{base}{PATH}/{torrent_id}/{file}?token={token}"


def _files(client: Client, torrent_id: str) -> Files:
    for _ in client.watch(torrent_id):
        if files := client.files(torrent_id):
            return files
    raise ControlError(GONE)


def _play(command: Sequence[str], address: str) -> None:
    click.echo(address)
    sys.stdout.flush()
    if command:
        try:
            subprocess.run([*command, address], check=False, stdout=sys.stderr)  # noqa: S603 - theirs
        except OSError as error:
            raise InputError(f"cannot start {command[0]}: {error.strerror}") from None
