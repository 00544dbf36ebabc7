"""Finding torrents by words, and choosing one of them to `get`. The rule: a node that runs for the
state directory is asked; else one of our own, for the length of the command.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from dht_torrent.cli import results, streams, view
from dht_torrent.cli.declared import node_options
from dht_torrent.cli.node import Options, run_node, running_node_if_any
from dht_torrent.cli.ranges import parse_since, parse_sizes
from dht_torrent.errors import ControlError, InputError

if TYPE_CHECKING:
    from dht_torrent.daemon.control import Control
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.search.views import SearchQuery

Json = dict[str, Any]
Take = Callable[[Json], bool]
"""Given a result; False: that is enough."""

MAX_CHOICES = 20
"""Results that `get` lets people choose from."""
LIMIT = 50
JOINING = 30.0
"""Seconds a node of our own gets to join the DHT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What the user searches for."""

    text: str
    prefix: bool = False
    min_size: int | None = None
    max_size: int | None = None
    since: float | None = None
    limit: int = LIMIT
    patience: float | None = None
    network: bool = True

    def query(self) -> SearchQuery:
        """Raises InputError."""
        from dht_torrent.engine.search.views import SearchQuery

        options = {} if self.patience is None else {"patience": self.patience}
        return SearchQuery(
            text=self.text,
            prefix=self.prefix,
            min_size=self.min_size,
            max_size=self.max_size,
            since=self.since,
            limit=self.limit,
            network=self.network,
            **options,
        )

    def __str__(self) -> str:
        """In words."""
        parts = []
        if self.text:
            parts.append(f'"{self.text[:200]}{"..." if self.prefix else ""}"')
        low, high = self.min_size, self.max_size
        if low is not None and low == high:
            parts.append(f"{low} bytes")
        elif low is not None and high is not None:
            parts.append(f"{view.size(low)} to {view.size(high)}")
        elif low is not None:
            parts.append(f"at least {view.size(low)}")
        elif high is not None:
            parts.append(f"at most {view.size(high)}")
        if self.since is not None:
            at = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
            parts.append(f"published since {at}")
        return ", ".join(parts)


# --- searching -----------------------------------------------------------------------------------


@click.command()
@click.argument("words", nargs=-1)
@click.option("--prefix", is_flag=True, help="The last word may be the beginning of one.")
@click.option(
    "--size", metavar="RANGE", help="Such as 1G..2G, 700M.. or ..4GiB; one size means about that."
)
@click.option("--since", metavar="WHEN", help="Published since: 12h, 7d, 2w, or 2026-11-28.")
@click.option("--limit", type=int, default=LIMIT, metavar="N", help=f"Results; {LIMIT} by default.")
@click.option("--wait", type=float, metavar="SECONDS", help="What the network gets; 3 by default.")
@click.option(
    "--local", is_flag=True, help="Only what this node knows; nothing is asked of others."
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object on a line for each result.")
@node_options
def search(
    ctx: click.Context,
    words: tuple[str, ...],
    prefix: bool,
    size: str | None,
    since: str | None,
    limit: int,
    wait: float | None,
    local: bool,
    as_json: bool,
) -> None:
    """Find torrents by all of WORDS, or by size and date alone.

    What this node knows comes first, then what the network answers. A name is its publisher's only
    if it is verified; anybody may have written the others, and of most of these only the beginning
    is known, which ends in an ellipsis.

    Elsewhere than on a terminal it is a line for each, with tabs: id, size, files, age, peers,
    trust, publisher, magnet link, name. Exits with 1 when nothing was found, but with --json, where
    no line says that, with 0."""
    low, high = parse_sizes(size) if size is not None else (None, None)
    asked = SearchRequest(
        text=_text(words),
        prefix=prefix,
        min_size=low,
        max_size=high,
        since=parse_since(since, time.time()) if since is not None else None,
        limit=limit,
        patience=wait,
        network=not local,
    )
    if not asked.text and asked.since is None and low is None and high is None:
        raise InputError("give words to search for, or a --size or --since")
    asked.query()  # whatever is wrong with it is told before a node is asked, or started
    count = 0

    def take(result: Json) -> bool:
        nonlocal count
        count += 1
        if as_json:
            text = results.json_line(result)
        elif sys.stdout.isatty():
            text = results.block(result)
        else:
            text = results.plain_line(result)
        click.echo(text)
        return not streams.is_unread(sys.stdout)

    warning = _find(ctx, asked, take)
    if count == 0:
        click.echo(f"dhtnode: nothing found for {view.clean(asked)}", err=True)
    if warning is not None:
        click.echo(f"dhtnode: {warning}", err=True)
    if count == 0 and not as_json:
        ctx.exit(1)


def _text(words: Sequence[str]) -> str:
    """Bytes of arguments that are not UTF-8 are in no word."""
    return " ".join(words).encode("utf-8", "replace").decode().strip()


def _find(ctx: click.Context, asked: SearchRequest, take: Take) -> str | None:
    """Search, and give each result to `take`. Returns what kept the network from answering."""
    client = running_node_if_any(ctx)
    if client is None:
        return _find_alone(ctx, asked, take)
    with client:
        found = client.search(
            asked.text,
            prefix=asked.prefix,
            min_size=asked.min_size,
            max_size=asked.max_size,
            since=asked.since,
            limit=asked.limit,
            patience=asked.patience,
            network=asked.network,
        )
        with closing(found):
            for result in found:
                if not take(result):
                    break
        return why_nobody(client.status()) if asked.network else None


def _find_alone(ctx: click.Context, asked: SearchRequest, take: Take) -> str | None:
    query = asked.query()
    warning: str | None = None

    async def job(node: Node, control: Control) -> None:
        nonlocal warning
        import dataclasses

        import trio

        from dht_torrent.daemon.search_api import result_facts

        seen: set[str] = set()

        async def go_through(query: SearchQuery) -> bool:
            async with node.search(query) as found:
                async for result in found:
                    if result.id not in seen:
                        seen.add(result.id)
                        if not take(result_facts(result)) or len(seen) == query.limit:
                            return False
            return True

        # What we know need not wait until we are in the DHT.
        if await go_through(replace(query, network=False)) and query.network:
            with trio.move_on_after(JOINING):
                await node.dht.bootstrapped()
            warning = why_nobody(dataclasses.asdict(node.status()))
            if warning is None:
                await go_through(query)

    ended_by = run_node(Options.of(ctx), job)
    if ended_by is not None:
        ctx.exit(128 + ended_by)
    return warning


def why_nobody(status: Json) -> str | None:
    """Why the network did not answer, by the status of a node."""
    networks = [status[name] for name in ("dht", "dht6") if status.get(name)]
    if any(one["good"] + one["questionable"] for one in networks):
        return None
    return "no DHT node is known to this one: only what it knows itself was searched"


def choose(ctx: click.Context, words: str) -> str:
    """The magnet link of the torrent that the user chooses among those found. Raises InputError
    where nobody can be asked, ControlError when nothing was found or chosen."""
    text = _text([words])
    if not text:
        raise InputError("give words after search:")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):  # stdout may be for a script
        raise InputError(
            "search: asks on a terminal which one to get; elsewhere use `dhtnode search`, and "
            "give `get` one of its magnet links"
        )
    asked = SearchRequest(text=text, limit=MAX_CHOICES)
    asked.query()
    found: list[Json] = []

    def take(result: Json) -> bool:
        found.append(result)
        return True

    warning = _find(ctx, asked, take)
    if warning is not None:
        click.echo(f"dhtnode: {warning}", err=True)
    if not found:
        raise ControlError(f"nothing found for {asked}")
    # What nobody vouches for comes last, however well it fits.
    found.sort(key=lambda result: (result["verified"], result.get("score") or 0.0), reverse=True)
    for number, result in enumerate(found, 1):
        click.echo(results.block(result, number=number), err=True)
    chosen = found[_ask_number(len(found)) - 1]
    if not chosen["verified"]:
        click.echo(
            "dhtnode: nobody vouches for that name: the torrent's own is shown as soon as a peer "
            "has sent it",
            err=True,
        )
    return str(chosen["magnet"])


def _ask_number(most: int) -> int:
    """Raises ControlError when none is chosen. Written to stderr by hand: `input` would write to
    stdout, where the path of the download is expected."""
    numbers = "1" if most == 1 else f"1-{most}"
    while True:
        sys.stderr.write(f"Which one? {numbers}, or Enter for none: ")
        sys.stderr.flush()
        answer = sys.stdin.readline().strip()
        if not answer:
            raise ControlError("nothing was chosen")
        if answer.isascii() and answer.isdecimal() and 1 <= int(answer[:4]) <= most:
            return int(answer[:4])
