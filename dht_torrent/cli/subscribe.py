"""Publishers' catalogues: `subscribe`, `unsubscribe`, and `catalogue publish`. The rule is that of
`follow`: the node that runs keeps them; without one it is noted for the next that does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from dht_torrent.cli import view
from dht_torrent.cli.declared import node_options
from dht_torrent.cli.node import Options, ask, json_option, run_node, running_node_if_any
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from dht_torrent.daemon.control import Control
    from dht_torrent.engine.node import Node

Json = dict[str, Any]


@click.command()
@click.argument("link", metavar="[LINK]", required=False)
@click.option("--list", "list_them", is_flag=True, help="List the catalogues subscribed to.")
@json_option
@node_options
def subscribe(ctx: click.Context, link: str | None, list_them: bool, as_json: bool) -> None:
    """Keep what a publisher lists under LINK (magnet:?xs=urn:btpk:...) in the local catalogue.

    Searches find it at once, as signed by that publisher. A new version of the list replaces the
    last one; `unsubscribe` forgets what came from it alone. Nothing that it lists is fetched."""
    if list_them == (link is not None):
        raise InputError("give either a link to subscribe to, or --list")
    if link is None:
        _list(ctx, as_json=as_json)
        return
    from dht_torrent.magnet import MutableLink

    wanted = str(MutableLink.parse(link))

    async def alone(node: Node) -> Json:
        from dht_torrent.daemon.lines import plain

        told: Any = plain(await node.subscriptions.subscribe(wanted))
        return dict(told)

    told = ask(ctx, lambda client: client.links.subscribe(wanted), alone)
    view.show(told, as_json, lambda: view.clean(f"{told['id'][:8]} {told['title']}"))
    if told["version"] is None and not as_json:
        running = running_node_if_any(ctx)
        if running is not None:
            running.close()
        when = "it is being fetched" if running is not None else "the next node fetches it"
        click.echo(f"dhtnode: {when}; see `dhtnode subscribe --list`", err=True)


@click.command()
@click.argument("link", metavar="LINK|ID|NAME")
@json_option
@node_options
def unsubscribe(ctx: click.Context, link: str, as_json: bool) -> None:
    """End a subscription, and forget what came from it alone."""

    async def alone(node: Node) -> Json:
        from dht_torrent.daemon.lines import plain

        told: Any = plain(await node.subscriptions.unsubscribe(link))
        return dict(told)

    told = ask(ctx, lambda client: client.links.unsubscribe(link), alone)
    view.show(told, as_json, lambda: view.clean(f"{told['id'][:8]} {told['title']}"))


def publish_catalogue(ctx: click.Context, name: str, key: str | None, *, as_json: bool) -> None:
    """`dhtnode catalogue publish --as NAME`: the link alone on stdout."""
    client = running_node_if_any(ctx)
    if client is not None:
        with client:
            told = client.links.publish_catalogue(name, key=key)
        view.show(told, as_json, lambda: str(told["link"]))
        return

    async def job(node: Node, control: Control) -> None:
        import trio

        options = {} if key is None else {"key": key}
        link = str(await node.subscriptions.feeds.publish(name, **options))
        view.show({"link": link}, as_json, lambda: link)
        sys.stdout.flush()
        await trio.sleep_forever()

    run_node(Options.of(ctx), job)


def _list(ctx: click.Context, *, as_json: bool) -> None:
    async def alone(node: Node) -> list[Json]:
        from dht_torrent.daemon.lines import plain

        listed: Any = plain(node.subscriptions.listed())
        return list(listed)

    listed = ask(ctx, lambda client: client.links.subscriptions(), alone)
    rows = [
        (
            one["id"][:8],
            view.clean(one["title"]),
            f"{one['torrents']:,}",
            one["state"],
            one["publisher"][:8],
        )
        for one in listed
    ]
    head = ("ID", "NAME", "TORRENTS", "STATE", "PUBLISHER")
    view.show(listed, as_json, lambda: view.table(head, rows))
    for one in listed:
        if one["error"]:
            line = view.clean(f"{one['title']}: {one['error']}")
            click.echo(f"dhtnode: warning: {line}", err=True)
