"""Finding what is similar to a file, a folder or a torrent. The rule: a node that runs for the
state directory is asked; else one of our own, for the length of the command.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dht_torrent.cli import results, streams, view
from dht_torrent.cli.declared import node_options
from dht_torrent.cli.node import Options, run_node, running_node_if_any
from dht_torrent.cli.options import PLACE
from dht_torrent.cli.search import JOINING, why_nobody
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from dht_torrent.daemon.control import Control
    from dht_torrent.engine.node import Node

Json = dict[str, Any]

_ID: Final = re.compile("[0-9a-fA-F]+|[A-Za-z2-7]{32}")

LIMIT = 20
WAIT = 10.0


@click.command()
@click.argument("what", metavar="PATH|MAGNET|ID", type=PLACE)
@click.option("--limit", type=int, default=LIMIT, metavar="N", help=f"Results; {LIMIT} by default.")
@click.option(
    "--wait",
    type=float,
    default=WAIT,
    metavar="SECONDS",
    help=f"What the network gets; {WAIT:.0f} by default.",
)
@click.option(
    "--local", is_flag=True, help="Only what this node knows; nothing is asked of others."
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object on a line for each result.")
@node_options
def similar(
    ctx: click.Context, what: str, limit: int, wait: float, local: bool, as_json: bool
) -> None:
    """Find torrents that are similar to a file or folder, a .torrent, a magnet link, or a torrent
    by its infohash, of which the first digits are enough where this node has it.

    "same file": both have a file with the same bytes, as far as they were looked at. "near
    duplicate": at least four fifths of both contents are the same; "related": three tenths.
    "similar name": nothing is known of their contents, or they differ, as those of compressed
    archives do. What is said of a content is what its publisher signed.

    Elsewhere than on a terminal it is a line for each, with tabs: id, what it is, percent of the
    content that is the same, size, files, trust, publisher, magnet link, name. Exits with 1 when
    nothing was found, but with --json, where no line says that, with 0."""
    from dht_torrent.engine.search.views import SimilarQuery

    path = _path(what)
    # Whatever is wrong with it is told before a node is asked, or started.
    query = SimilarQuery(source=path or what, limit=limit, patience=wait, network=not local)
    client = running_node_if_any(ctx)
    if client is not None:
        with client:
            options: Json = {"limit": limit, "patience": wait, "network": not local}
            found = client.similar(what, path=path, **options)
            trouble = why_nobody(client.status()) if not local else None
    else:
        found, trouble = _alone(ctx, query)
    for result in found["results"]:
        if as_json:
            text = results.json_line(result)
        else:
            text = block(result) if sys.stdout.isatty() else plain_line(result)
        click.echo(text)
        if streams.is_unread(sys.stdout):
            break
    for warning in (found["warning"], trouble):
        if warning is not None:
            click.echo(f"dhtnode: {view.clean(warning)}", err=True)
    if not found["results"]:
        click.echo(f"dhtnode: nothing similar to {view.clean(found['asked'])} found", err=True)
        if not as_json:
            ctx.exit(1)


def _path(what: str) -> Path | None:
    """The file or folder that is meant; None: there is none of that name. Raises InputError."""
    if what.strip()[:7].lower() == "magnet:":
        return None
    try:
        path = Path(what).expanduser()
        if path.exists():
            return path.absolute()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot read {what[:200]!r}: {error}") from None
    if not _ID.fullmatch(what):
        raise InputError(f"{what[:200]!r}: no such file or folder, and not the ID of a torrent")
    return None


def _alone(ctx: click.Context, query: Any) -> tuple[Json, str | None]:
    found: list[Json] = []
    trouble: str | None = None

    async def job(node: Node, control: Control) -> None:
        nonlocal trouble
        import dataclasses

        import trio

        if query.network:
            with trio.move_on_after(JOINING):
                await node.dht.bootstrapped()
            trouble = why_nobody(dataclasses.asdict(node.status()))
        similar = await node.similar(
            query.source, limit=query.limit, patience=query.patience, network=query.network
        )
        found.append(dataclasses.asdict(similar))

    ended_by = run_node(Options.of(ctx), job)
    if ended_by is not None:
        ctx.exit(128 + ended_by)
    return found[0], trouble


def plain_line(result: Json) -> str:
    """Tabs between what is known, and `-` for what is not."""
    cells = (
        result["id"],
        result["kinship"],
        "-" if result["content"] is None else f"{100 * result['content']:.0f}",
        "-" if result["size"] is None else view.size(result["size"]),
        "-" if result["files"] is None else view.counted(result["files"], "file"),
        result["trust"],
        result["publisher"][: results.SHORT_KEY] if result["publisher"] else "-",
        result["magnet"],
        result["name"],
    )
    return "\t".join(map(view.clean, cells))


def block(result: Json) -> str:
    """For people, on a terminal."""
    known = [
        alike(result),
        view.size(result["size"]) if result["size"] is not None else None,
        view.counted(result["files"], "file") if result["files"] is not None else None,
        "UNVERIFIED" if result["trust"] == "unverified" else result["trust"],
        f"published by {result['publisher'][: results.SHORT_KEY]}" if result["publisher"] else None,
    ]
    details = view.clean(", ".join(filter(None, known)))
    return "\n".join(
        [
            results.bold(view.clean(result["name"])),
            f"    {details}",
            f"    {view.clean(result['magnet'])}",
        ]
    )


def alike(result: Json) -> str:
    """In words and numbers what it is."""
    told: str = result["kinship"]
    if result["kinship"] == "same file" and result["same_files"] > 1:
        told = f"{result['same_files']} files are the same"
    if result["kinship"] != "similar name" and result["content"] is not None:
        told += f" ({100 * result['content']:.0f} % of the content)"
    return told
