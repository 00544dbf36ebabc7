"""`dhtnode catalogue ...`: what this node knows of what there is, as JSON lines and in figures. A
file goes through in parts, so that it is never in memory as a whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO

import click

from dht_torrent.cli import bars, streams, view
from dht_torrent.cli.declared import node_options
from dht_torrent.cli.node import ask, json_option, run_alone, running_node_if_any
from dht_torrent.cli.options import PLACE
from dht_torrent.cli.sources import writing
from dht_torrent.errors import InputError

Json = dict[str, Any]

PART = 4 * 1024 * 1024
"""Bytes of lines given to the node at a time: a fraction of a second's work."""
MAX_LINE = 64 * 1024
"""Bytes of a line that are read; longer ones are of no use, and the node says so."""


@click.group()
def catalogue() -> None:
    """The torrents this node knows of: export, import and figures."""


@catalogue.command()
@json_option
@node_options
def status(ctx: click.Context, as_json: bool) -> None:
    """Show how many torrents it knows, and what they take."""

    async def alone(node: Any) -> Json:
        from dht_torrent.daemon.lines import plain

        facts: Any = plain(await node.catalogue_status())
        return dict(facts)

    facts = ask(ctx, lambda client: client.catalogue_status(), alone)

    def text() -> str:
        return (
            f"torrents: {facts['torrents']:,}, of which this node shares {facts['own']:,}\n"
            f"size:     {view.size(facts['bytes'])} of at most {view.size(facts['bytes_most'])}"
        )

    view.show(facts, as_json, text)


@catalogue.command("export")
@click.argument("target", metavar="FILE|-", type=PLACE)
@node_options
def export_lines(ctx: click.Context, target: str) -> None:
    """Write all of it as JSON lines; `-` is standard output.

    Others can import the file: it names what was searched for and found here."""
    count = 0
    with ExitStack() as opened:
        file = sys.stdout.buffer if target == "-" else opened.enter_context(writing(target))
        shown = opened.enter_context(bars.working("exporting"))
        client = running_node_if_any(ctx)
        if client is not None:
            with client, closing(client.export_catalogue()) as lines:
                total = client.catalogue_status()["torrents"]
                for part in lines:
                    file.write(part)
                    count += part.count(b"\n")
                    shown(count, total)
                    if target == "-" and streams.is_unread(sys.stdout):
                        break
        else:

            async def job(node: Any) -> None:
                nonlocal count
                from contextlib import aclosing

                total = (await node.catalogue_status()).torrents
                async with aclosing(node.export_catalogue()) as parts:
                    async for part in parts:
                        file.write(part)
                        count += part.count(b"\n")
                        shown(count, total)
                        if target == "-" and streams.is_unread(sys.stdout):
                            break

            run_alone(ctx, job)
        file.flush()
    click.echo(f"exported {view.counted(count, 'torrent')}", err=True)


@catalogue.command("import")
@click.argument("source", metavar="FILE|-", type=PLACE)
@json_option
@node_options
def import_lines(ctx: click.Context, source: str, as_json: bool) -> None:
    """Add what a file of JSON lines tells; `-` is standard input.

    Of use is what `catalogue export` and `search --json` write: each line an object with `id`, the
    infohash, and `name`. None of it counts as verified."""
    total: Json = {
        "lines": 0,
        "added": 0,
        "known": 0,
        "refused": 0,
        "skipped": {},
        "first_skipped": {},
    }
    with ExitStack() as opened:
        size: int | None = None
        if source == "-":
            file: BinaryIO = sys.stdin.buffer
        else:
            file = opened.enter_context(Path(source).open("rb"))
            size = Path(source).stat().st_size or None
        shown = opened.enter_context(bars.working("importing"))
        done = 0

        def add(part: bytes, result: Json) -> None:
            nonlocal done
            done += len(part)
            _add(total, result)
            shown(done, size)

        client = running_node_if_any(ctx)
        if client is not None:
            with client:
                for part in parts(file):
                    add(part, client.import_catalogue(part))
        else:

            async def job(node: Any) -> None:
                import dataclasses

                import trio

                left = parts(file)
                # Standard input may keep us waiting, which is nothing to keep a node waiting for.
                while part := await trio.to_thread.run_sync(
                    next, left, b"", abandon_on_cancel=True
                ):
                    add(part, dataclasses.asdict(await node.import_catalogue(part)))

            run_alone(ctx, job)
    if total["skipped"] and not (total["added"] or total["known"] or total["refused"]):
        name = "standard input" if source == "-" else source
        raise InputError(f"{name}: nothing in it is of use: {', '.join(_skipped(total))}")
    view.show(total, as_json, lambda: import_text(total))


@catalogue.command()
@click.option("--as", "name", metavar="NAME", required=True, help="What to call the list.")
@click.option("--key", metavar="KEY", help="Sign the link with this key of `dhtnode key`.")
@json_option
@node_options
def publish(ctx: click.Context, name: str, key: str | None, as_json: bool) -> None:
    """Give the list of all that this node publishes a link that stays, and print it.

    Who subscribes to it (`dhtnode subscribe LINK`) has it in searches of his own catalogue. The
    list follows what is published, as long as a node runs; `unpublish --as NAME` ends it."""
    from dht_torrent.cli.subscribe import publish_catalogue

    publish_catalogue(ctx, name, key, as_json=as_json)


def parts(file: BinaryIO) -> Iterator[bytes]:
    """A file as some whole lines at a time. What a line has beyond MAX_LINE is left out, and it is
    still too long to be taken for a whole one."""
    part = bytearray()
    while line := file.readline(MAX_LINE + 1):
        part += line
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                pass
        if not part.endswith(b"\n"):
            part += b"\n"
        if len(part) >= PART:
            yield bytes(part)
            part.clear()
    if part:
        yield bytes(part)


def _add(total: Json, result: Json) -> None:
    """The figures of one more part."""
    for why, number in result["first_skipped"].items():
        total["first_skipped"].setdefault(why, total["lines"] + number)
    for why, count in result["skipped"].items():
        total["skipped"][why] = total["skipped"].get(why, 0) + count
    for key in ("lines", "added", "known", "refused"):
        total[key] += result[key]


def import_text(total: Json) -> str:
    """One line for people."""
    told = [f"{total['added']:,} added", f"{total['known']:,} known already"]
    if total["refused"]:
        told.append(f"{total['refused']:,} of blocked publishers left out")
    told += _skipped(total)
    return view.clean(f"{view.counted(total['lines'], 'line')}: {', '.join(told)}")


def _skipped(total: Json) -> list[str]:
    return [
        f"{count:,} skipped: {why} (first in line {total['first_skipped'][why]:,})"
        for why, count in total["skipped"].items()
    ]
