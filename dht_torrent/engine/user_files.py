"""Files and folders as users name them: a path may begin with "~", and is relative to the working
directory."""

from __future__ import annotations

from pathlib import Path

from dht_torrent import given
from dht_torrent.engine.net.tls import Identity
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.errors import InputError
from dht_torrent.given import TorrentFile
from dht_torrent.metainfo import Magnet, Metainfo


def tls_identity(certificate: Path | str | None, key: Path | str | None) -> Identity | None:
    """The certificate and the private key for an SSL torrent, of which both or none are given."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InputError("a certificate and its private key go together: tls_cert and tls_key")
    return Identity(absolute(certificate), absolute(key))


def absolute(path: Path | str) -> Path:
    """Wherever the node runs. Raises InputError if it begins with a home that does not exist."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # "~" of a user without a home
        raise InputError(f"{path}: {error}") from None


async def understand(
    disk: Disk, source: str | Magnet | Metainfo | Path
) -> tuple[Magnet, Metainfo | None]:
    """What to fetch, and all that is known of it (see `given`). Raises InputError."""
    if isinstance(source, (str, Path)):
        found = await disk.run(given.read, source)
        source = found.metainfo if isinstance(found, TorrentFile) else found
    if isinstance(source, Magnet):
        return source, None
    return source.magnet(), source
