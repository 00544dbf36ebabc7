"""Links that stay while their content changes (BEP 46): `publish PATH --as NAME`, `follow` and
`unfollow`. The rule is that of `share` and `get`: the node that runs does it, and goes on; without
one, a node of our own does, until it is interrupted.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dht_torrent.cli import bars, view
from dht_torrent.cli.declared import node_options
from dht_torrent.cli.node import Options, ask, json_option, run_node, running_node_if_any
from dht_torrent.cli.options import PLACE
from dht_torrent.errors import ControlError, InputError

if TYPE_CHECKING:
    from dht_torrent.daemon.client import Client
    from dht_torrent.daemon.control import Control
    from dht_torrent.engine.node import Node

Json = dict[str, Any]

STOPPED = "the node was stopped before a version was here"


# --- publishing ----------------------------------------------------------------------------------


def publish_path(
    ctx: click.Context, path: str, name: str, key: str | None, *, as_json: bool
) -> None:
    """`dhtnode publish PATH --as NAME`: the link alone on stdout."""
    content = Path(path).absolute()
    content.stat()
    client = running_node_if_any(ctx)
    if client is not None:
        with client:
            with bars.hashing(path):
                published = client.links.publish(content, name, key=key)
            view.show(published, as_json, lambda: str(published["link"]))
            _warn(published)
        return

    async def job(node: Node, control: Control) -> None:
        import trio

        from dht_torrent.daemon.lines import plain

        options = {} if key is None else {"key": key}
        with bars.hashing(path):
            link = await node.publish_link(content, name, **options)
        facts: Any = plain([one for one in node.published_links() if one.link == str(link)])
        view.show(facts[0], as_json, lambda: str(link))
        sys.stdout.flush()
        await trio.sleep_forever()

    run_node(Options.of(ctx), job)


def list_published(ctx: click.Context, *, as_json: bool) -> None:
    """`dhtnode publish --list`."""

    async def alone(node: Node) -> list[Json]:
        from dht_torrent.daemon.lines import plain

        listed: Any = plain(node.published_links())
        return list(listed)

    listed = ask(ctx, lambda client: client.links.published(), alone)
    rows = [
        (one["name"], str(one["seq"] or "-"), one["torrent"][:8], one["path"], one["link"])
        for one in listed
    ]
    head = ("NAME", "VERSION", "TORRENT", "PATH", "LINK")
    view.show(listed, as_json, lambda: view.table(head, rows))
    for one in listed:
        _warn(one)


def unpublish_link(ctx: click.Context, name: str, *, as_json: bool) -> None:
    """`dhtnode unpublish --as NAME`."""

    async def alone(node: Node) -> Json:
        from dht_torrent.daemon.lines import plain

        told: Any = plain(await node.unpublish_link(name))
        return dict(told)

    view.show(ask(ctx, lambda client: client.links.unpublish(name), alone), as_json)


def _warn(published: Json) -> None:
    name = view.clean(published["name"])
    if published["replaced"]:
        click.echo(
            f"dhtnode: warning: {name}: another holder of its key has published a newer version",
            err=True,
        )
    if published["error"]:
        click.echo(f"dhtnode: warning: {name}: {view.clean(published['error'])}", err=True)


# --- following -----------------------------------------------------------------------------------


@click.command()
@click.argument("link", metavar="[LINK]", required=False)
@click.option("--output", type=PLACE, metavar="DIR", help="The folder for its versions.")
@click.option("--keep", type=int, metavar="N", help="So many old versions stay; 1 by default.")
@click.option("--no-wait", is_flag=True, help="Leave it to the running node.")
@click.option("--list", "list_them", is_flag=True, help="List the links that are followed.")
@json_option
@node_options
def follow(
    ctx: click.Context,
    link: str | None,
    output: str | None,
    keep: int | None,
    no_wait: bool,
    list_them: bool,
    as_json: bool,
) -> None:
    """Fetch what LINK (magnet:?xs=urn:btpk:...) names today, and each new version from then on.

    In DIR, `current` is always a whole version: a symbolic link to `versions/ID`, replaced in one
    step when all of a new one is here. Prints the path to its content, and ends then; the running
    node goes on to follow it until `unfollow`. Without a running node it follows until it is
    interrupted, and prints the path again with each version."""
    if list_them:
        if link is not None or output is not None or keep is not None or no_wait:
            raise InputError("--list stands alone")
        _list_followed(ctx, as_json=as_json)
        return
    if link is None:
        raise InputError("give a link to follow, or --list")
    from dht_torrent.magnet import MutableLink

    wanted = str(MutableLink.parse(link))
    where = Path(output).absolute() if output is not None else None
    client = running_node_if_any(ctx)
    if client is not None:
        with client:
            followed = client.links.follow(wanted, output=where, keep=keep)
            if not no_wait:
                followed = _wait(client, followed["id"])
            elif not as_json:
                click.echo(followed["id"])
                return
            _show_path(followed, as_json)
        return
    if no_wait:
        raise InputError("--no-wait needs a running node, and none is running")

    async def job(node: Node, control: Control) -> None:
        from dht_torrent.daemon.lines import plain

        following = await node.follow(wanted, output=where, keep=keep)
        before = None
        while True:
            before = await following.switched(before)
            facts: Any = plain(following.view())
            _show_path(facts, as_json)
            sys.stdout.flush()

    run_node(Options.of(ctx), job)


@click.command()
@click.argument("link", metavar="LINK|ID|NAME")
@click.option("--data", is_flag=True, help="Delete its versions as well.")
@json_option
@node_options
def unfollow(ctx: click.Context, link: str, data: bool, as_json: bool) -> None:
    """Follow a link no more. What is here of it stays, and is shared on, unless --data."""

    async def alone(node: Node) -> Json:
        from dht_torrent.daemon.lines import plain

        told: Any = plain(await node.unfollow(link, delete_data=data))
        return dict(told)

    view.show(ask(ctx, lambda client: client.links.unfollow(link, data=data), alone), as_json)


def _wait(client: Client, link_id: str) -> Json:
    """Until users find the newest version. Raises ControlError when that cannot be."""
    said = None
    with closing(client.links.watch(link_id)) as views:
        for followed in views:
            if followed["state"] == "current":
                return followed
            if followed["state"] == "error":
                raise ControlError(f"{followed['error']}; it is followed on")
            if followed["state"] != said:
                said = followed["state"]
                click.echo(_DOING[said], err=True)
    raise ControlError(STOPPED)


_DOING = {
    "looking": "looking for the version of today ...",
    "fetching": "fetching it ...",
}


def _show_path(followed: Json, as_json: bool) -> None:
    if as_json:
        view.show(followed, as_json=True)
    else:
        click.echo(os.fsencode(followed["current"] or followed["output"]))


def _list_followed(ctx: click.Context, *, as_json: bool) -> None:
    async def alone(node: Node) -> list[Json]:
        from dht_torrent.daemon.lines import plain

        listed: Any = plain([one.view() for one in node.followed])
        return list(listed)

    listed = ask(ctx, lambda client: client.links.followed(), alone)
    rows = [
        (
            one["title"],
            str(one["seq"] or "-"),
            f"{one['state']} {one['progress']:.0%}" if one["state"] == "fetching" else one["state"],
            str(len(one["versions"])),
            one["current"] or one["output"],
            one["link"],
        )
        for one in listed
    ]
    head = ("NAME", "VERSION", "STATE", "KEPT", "PATH", "LINK")
    view.show(listed, as_json, lambda: view.table(head, rows))
    for one in listed:
        if one["error"]:
            name, error = view.clean(one["title"]), view.clean(one["error"])
            click.echo(f"dhtnode: warning: {name}: {error}", err=True)
