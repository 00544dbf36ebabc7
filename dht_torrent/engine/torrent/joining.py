"""Whether we may take part in a torrent: in an SSL torrent with a certificate that its root signed,
in any other without one.
"""

from __future__ import annotations

from dht_torrent.engine.net.tls import Identity, Membership, join
from dht_torrent.errors import MetainfoError
from dht_torrent.ids import InfoHash
from dht_torrent.metainfo import Metainfo


def check_identity(metainfo: Metainfo | None, identity: Identity | None) -> None:
    """Raises MetainfoError where a certificate is needed and not given, or the other way round."""
    if metainfo is None:
        return
    if metainfo.ssl_cert is not None and identity is None:
        raise MetainfoError(
            f"{metainfo.name} is an SSL torrent, for members only: give a certificate and its key "
            "(--tls-cert, --tls-key)"
        )
    if metainfo.ssl_cert is None and identity is not None:
        raise MetainfoError(f"{metainfo.name} is not an SSL torrent: give it without a certificate")


def join_torrent(identity: Identity, info_hash: InfoHash, metainfo: Metainfo | None) -> Membership:
    """Take part in an SSL torrent. Blocking. Raises InputError."""
    if metainfo is None:
        return join(identity, info_hash, None, None)
    return join(identity, info_hash, metainfo.ssl_cert, metainfo.name)
