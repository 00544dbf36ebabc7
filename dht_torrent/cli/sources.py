"""Torrents as the command line tells and writes them: magnet links and .torrent files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from dht_torrent.given import TorrentFile
    from dht_torrent.metainfo import Magnet, Metainfo


def facts_of(source: Magnet | TorrentFile) -> dict[str, Any]:
    """What it holds, ready for JSON."""
    from dht_torrent.metainfo import Magnet

    return _magnet_facts(source) if isinstance(source, Magnet) else _file_facts(source.metainfo)


def _file_facts(metainfo: Metainfo) -> dict[str, Any]:
    geometry = metainfo.geometry
    root = () if metainfo.single else (metainfo.name,)
    return {
        "id": metainfo.info_hash.hex(),
        "name": metainfo.name,
        "size": sum(file.length for file in metainfo.files if not file.pad),
        "piece_length": geometry.piece_length,
        "pieces": geometry.piece_count,
        "private": metainfo.private,
        "ssl": metainfo.ssl_cert is not None,
        "comment": metainfo.comment,
        "created_by": metainfo.created_by,
        "creation_date": metainfo.creation_date,
        "nodes": [str(point) for point in metainfo.nodes],
        "similar": [other.hex() for other in metainfo.similar],
        "collections": list(metainfo.collections),
        "magnet": str(metainfo.magnet()),
        "files": [
            {"index": index, "path": "/".join((*root, *file.path)), "size": file.length}
            for index, file in enumerate(metainfo.files)
            if not file.pad
        ],
    }


def _magnet_facts(magnet: Magnet) -> dict[str, Any]:
    return {
        "id": magnet.info_hash.hex(),
        "name": magnet.name,
        "peers": [str(point) for point in magnet.peers],
        "select": magnet.select,
        "trackers": list(magnet.trackers),
        "magnet": str(magnet),
    }


def write_file(target: str, data: bytes) -> None:
    """All of it or nothing. Raises OSError naming the target."""
    with writing(target) as file:
        file.write(data)


@contextmanager
def writing(target: str) -> Iterator[BinaryIO]:
    """A file that is `target` once all was written, and is not there before. Raises OSError naming
    the target."""
    import tempfile

    path = Path(target).absolute()
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}-", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # a file like any other, not mkstemp's private one
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
