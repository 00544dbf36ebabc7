"""`dhtnode tls-ca`: an authority for SSL torrents, and certificates for their members. Needs no
node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dht_torrent.cli.options import PLACE

if TYPE_CHECKING:
    from dht_torrent.engine.authority import Written


@click.group("tls-ca")
def tls_ca() -> None:
    """Make an authority for SSL torrents, and sign certificates for their members."""


@tls_ca.command()
@click.argument("folder", metavar="DIR", type=PLACE)
@click.option("--days", type=int, metavar="N", help="Valid for so long; ten years by default.")
def new(folder: str, days: int | None) -> None:
    """Make DIR/ca.pem, the root certificate of torrents, and its private key DIR/ca.key.

    Keep the key: it alone makes members. Print where both are."""
    from dht_torrent.engine.authority import CA_DAYS, create

    _tell(create(Path(folder), days=CA_DAYS if days is None else days))


@tls_ca.command()
@click.argument("folder", metavar="DIR", type=PLACE)
@click.argument("member")
@click.option("--torrent", metavar="NAME", help="Good for the torrent of this name only.")
@click.option("--days", type=int, metavar="N", help="Valid for so long; two years by default.")
def sign(folder: str, member: str, torrent: str | None, days: int | None) -> None:
    """Make DIR/MEMBER.pem, signed by DIR/ca.key, and its private key DIR/MEMBER.key.

    A member needs these two files, for `get` as for `share`. Print where they are."""
    from dht_torrent.engine import authority

    valid = authority.MEMBER_DAYS if days is None else days
    _tell(authority.sign(Path(folder), member, torrent=torrent, days=valid))


def _tell(written: Written) -> None:
    for path in (written.certificate, written.key):
        click.echo(os.fsencode(path))
