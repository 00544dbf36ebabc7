"""What others find by words: what this node publishes, and what the user thinks of publishers. The
rule is that of `search`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from dht_torrent.cli import view
from dht_torrent.cli.declared import node_options
from dht_torrent.cli.node import ask, json_option, running_node
from dht_torrent.cli.options import PLACE
from dht_torrent.errors import DhtTorrentError, InputError

if TYPE_CHECKING:
    from dht_torrent.daemon.client import Client
    from dht_torrent.daemon.search_api import Searches
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.torrent import Torrent

Json = dict[str, Any]


def tags_given(text: str | None) -> list[str]:
    """Those in `--tags a,b`."""
    return [tag.strip() for tag in (text or "").split(",") if tag.strip()]


@dataclass(frozen=True, slots=True)
class Publishing:
    """What `share` publishes. A torrent that cannot be published is shared all the same."""

    wanted: bool
    tags: list[str]
    secret: bool
    """Private, or with TLS: nobody expects it to be published, so nothing is said of it."""

    @classmethod
    def given(cls, *, wanted: bool, tags: str | None, secret: bool) -> Publishing:
        """By options. Raises InputError."""
        words = tags_given(tags)
        if words and not wanted:
            raise InputError("--tags are words to be found by; leave out --no-publish")
        if words:
            from dht_torrent.engine.search.own import check_tags

            check_tags(words)  # before anything is shared
        return cls(wanted, words, secret)

    def through(self, client: Client, torrent: Json) -> None:
        """Publish what a running node shares, and say so."""
        if not self.wanted:
            if torrent["published"]:
                client.unpublish(torrent["id"])
            return
        if not self._is_due(torrent["published"]):
            return
        try:
            client.publish(torrent["id"], self.tags)
        except DhtTorrentError as error:
            _say_why_not(error)
        else:
            _say_published(torrent["id"], torrent["name"])

    async def alone(self, node: Node, torrent: Torrent) -> None:
        """The same, of what a node of our own shares."""
        if not self.wanted:
            if torrent.published:
                await node.unpublish(torrent)
            return
        if not self._is_due(torrent.published):
            return
        try:
            await node.publish(torrent, self.tags)
        except DhtTorrentError as error:
            _say_why_not(error)
        else:
            _say_published(torrent.id, torrent.name)

    def _is_due(self, published: bool) -> bool:
        """Whether to publish it, be it only to hear why that cannot be. The tags of what is
        published already stay, unless there are new ones."""
        return bool(self.tags) or not (published or self.secret)


def _say_published(torrent_id: str, name: str) -> None:
    click.echo(
        f"published: everybody can now find {view.clean(name)} by the words of its name; end that "
        f"with `dhtnode unpublish {torrent_id[:8]}`, avoid it with --no-publish",
        err=True,
    )


def _say_why_not(error: DhtTorrentError) -> None:
    click.echo(f"dhtnode: not published: {view.clean(error)}", err=True)


# --- publishing ----------------------------------------------------------------------------------


@click.command()
@click.argument("what", metavar="PATH|ID", type=PLACE, required=False)
@click.option("--as", "name", metavar="NAME", help="Give PATH a link that stays.")
@click.option("--key", metavar="KEY", help="Sign the link with this key of `dhtnode key`.")
@click.option("--list", "list_them", is_flag=True, help="List the links that are published.")
@click.option("--tags", metavar="A,B", help="Words to be found by besides those of its name.")
@json_option
@node_options
def publish(
    ctx: click.Context,
    what: str | None,
    name: str | None,
    key: str | None,
    list_them: bool,
    tags: str | None,
    as_json: bool,
) -> None:
    """Share PATH under a link that stays (--as), or let everybody find the torrent ID by words.

    With --as NAME, prints the link alone. Given again, what is at PATH by then is a new version of
    it, also when it changed where it was; `dhtnode follow LINK` fetches each. Without a running
    node it is shared until interrupted.

    With ID, a torrent that is shared can be found by its name, as `share` does it with new ones;
    that needs a running node, which keeps it in the index until `unpublish` or `rm`."""
    from dht_torrent.cli.following import list_published, publish_path

    if list_them:
        if (what, name, key, tags) != (None, None, None, None):
            raise InputError("--list stands alone")
        list_published(ctx, as_json=as_json)
        return
    if what is None:
        raise InputError("give a PATH with --as NAME, the ID of a torrent, or --list")
    if name is not None:
        if tags is not None:
            raise InputError("--tags are for what is found by words: publish the torrent's ID")
        publish_path(ctx, what, name, key, as_json=as_json)
        return
    if key is not None:
        raise InputError("--key goes with --as NAME")
    torrent_id = what
    with running_node(ctx) as client:
        torrent = client.publish(torrent_id, tags_given(tags))
    view.show(torrent, as_json)
    view.warn(torrent)


@click.command()
@click.argument("torrent_id", metavar="[ID]", required=False)
@click.option("--as", "name", metavar="NAME|LINK", help="End the link, not the words.")
@json_option
@node_options
def unpublish(ctx: click.Context, torrent_id: str | None, name: str | None, as_json: bool) -> None:
    """End what `share` published; the torrent is shared on. What others keep of it is gone within a
    day.

    With --as, end a link that `publish --as` gave: it names no new version any more."""
    if (torrent_id is None) == (name is None):
        raise InputError("give either the ID of a torrent or --as NAME")
    if name is not None:
        from dht_torrent.cli.following import unpublish_link

        unpublish_link(ctx, name, as_json=as_json)
        return
    assert torrent_id is not None

    async def alone(node: Node) -> Json:
        torrent = node.find(torrent_id)
        return {"id": torrent.id, "unpublished": await node.unpublish(torrent)}

    answer = ask(ctx, lambda client: client.unpublish(torrent_id), alone)
    view.show(answer, as_json)
    if not answer["unpublished"]:
        click.echo(f"dhtnode: {answer['id'][:8]} was not published", err=True)


# --- publishers ----------------------------------------------------------------------------------

_KEY = (
    "KEY is a publisher's, as results show it: its first digits if it was shown lately, or all 64."
)


def _judges(name: str, verdict: str, what: str) -> click.Command:
    """A command that says what the user thinks of a publisher."""

    @click.command(name, help=f"{what}\n\n{_KEY}")
    @click.argument("key")
    @json_option
    @node_options
    def command(ctx: click.Context, key: str, as_json: bool) -> None:
        async def alone(node: Node) -> Json:
            return await _searches(node).judge({"key": key, "trust": verdict})

        on = verdict != "none"
        if verdict == "blocked":
            answer = ask(ctx, lambda client: client.block(key, on), alone)
        else:
            answer = ask(ctx, lambda client: client.trust(key, on), alone)
        view.show(answer, as_json)

    return command


trust = _judges("trust", "trusted", "Rank what this publisher has published above the rest.")
block = _judges("block", "blocked", "Never show what only this publisher has published.")
untrust = _judges("untrust", "none", "End `trust` for a publisher.")
unblock = _judges("unblock", "none", "End `block` for a publisher.")


@click.command()
@json_option
@node_options
def publishers(ctx: click.Context, as_json: bool) -> None:
    """List the publishers you trust or have blocked."""

    async def alone(node: Node) -> list[Json]:
        from dht_torrent.daemon.lines import plain

        listed: Any = plain(await node.publishers())
        return list(listed)

    listed = ask(ctx, lambda client: client.publishers(), alone)
    rows = [(one["trust"], one["key"]) for one in listed]
    view.show(listed, as_json, lambda: view.table(("TRUST", "KEY"), rows))


def _searches(node: Node) -> Searches:
    import trio

    from dht_torrent.daemon.search_api import Searches

    return Searches(node, trio.Event())
