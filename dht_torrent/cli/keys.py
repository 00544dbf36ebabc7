"""`dhtnode key ...`: the keys that a node publishes under. They are files in its state directory;
no node needs to run. The rule: what is secret of a key is shown by `export` alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dht_torrent.cli import view
from dht_torrent.cli.declared import state_option
from dht_torrent.cli.node import json_option, place_of
from dht_torrent.cli.options import PLACE
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from dht_torrent.engine.keys import KeyStore

_LONGEST = 1024


@click.group()
def key() -> None:
    """Make, show and move the keys that links are published under.

    A key is one file with 64 hex digits, as `dht put --key` reads it. Who has it can change what
    its links name; who has lost it cannot. `default` is used where none is named, and `publisher`
    is what the node signs its entries of the search index with."""


@key.command()
@click.argument("name", required=False, default="default")
@json_option
@state_option
def new(ctx: click.Context, name: str, as_json: bool) -> None:
    """Make a key, and print its public half."""
    import secrets

    made = _store(ctx).make(name, secrets.token_bytes(32))
    _show(ctx, name, made.public, as_json)


@key.command()
@click.argument("name", required=False, default="default")
@json_option
@state_option
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Print the public half of a key."""
    found = _store(ctx).read(name)
    if found is None:
        raise _missing(name)
    _show(ctx, name, found.public, as_json)


@key.command("ls")
@json_option
@state_option
def list_keys(ctx: click.Context, as_json: bool) -> None:
    """List the keys, their public halves and their files."""
    keys = _store(ctx).all()
    rows = [(one.name, one.public.hex(), str(one.path)) for one in keys]
    facts = [{"name": name, "public": public, "path": path} for name, public, path in rows]
    view.show(facts, as_json, lambda: view.table(("NAME", "PUBLIC", "FILE"), rows))
    for one in keys:
        if one.open_to_others:
            click.echo(f"dhtnode: others may read {one.path}: chmod 600 it", err=True)


@key.command("export")
@click.argument("name")
@click.argument("target", metavar="FILE|-", type=PLACE)
@state_option
def export_key(ctx: click.Context, name: str, target: str) -> None:
    """Write the private half of a key to a new file of mode 0600, or to stdout with "-".

    Whoever reads it can publish in your name."""
    from dht_torrent.engine.keys import read_seed, seed_text, write_seed

    seed = read_seed(_store(ctx).path(name))
    if seed is None:
        raise _missing(name)
    if target == "-":
        click.echo(seed_text(seed), nl=False)
    else:
        write_seed(Path(target).absolute(), seed)


@key.command("import")
@click.argument("name")
@click.argument("source", metavar="FILE|-", type=PLACE)
@json_option
@state_option
def import_key(ctx: click.Context, name: str, source: str, as_json: bool) -> None:
    """Keep the key in FILE, or on stdin with "-", under NAME, and print its public half."""
    from dht_torrent.engine.keys import parse_seed

    if source == "-":
        raw = sys.stdin.buffer.read(_LONGEST)
    else:
        with Path(source).open("rb") as file:
            raw = file.read(_LONGEST)
    text = raw.decode("ascii", "replace")
    made = _store(ctx).make(name, parse_seed(text, "stdin" if source == "-" else source))
    _show(ctx, name, made.public, as_json)


def _store(ctx: click.Context) -> KeyStore:
    from dht_torrent.engine.keys import KeyStore

    return KeyStore(place_of(ctx)[0])


def _missing(name: str) -> InputError:
    return InputError(f"there is no key {name}; `dhtnode key ls` lists those there are")


def _show(ctx: click.Context, name: str, public: bytes, as_json: bool) -> None:
    path = str(_store(ctx).path(name))
    facts = {"name": name, "public": public.hex(), "path": path}
    view.show(facts, as_json, lambda: public.hex())
