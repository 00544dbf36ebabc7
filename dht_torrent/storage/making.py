"""Makes .torrent files of what lies on this disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.bounds import (
    MAX_MADE_PIECE,
    MIN_MADE_PIECE,
)
from dht_torrent.errors import InputError, MetainfoError
from dht_torrent.ids import HostPort
from dht_torrent.metainfo import (
    LocalHints,
    Metainfo,
    check_hints,
    check_size,
    from_info_dict,
    geometry_of,
)
from dht_torrent.relief import Relief, no_relief
from dht_torrent.storage.hashing import Progress, Sampler, SharedFile, hash_pieces, list_sources

_PREFERRED_PIECES = 2000


_SMALLEST_PREFERRED = 256 * 1024


_LARGEST_PREFERRED = 16 * 1024 * 1024


def choose_piece_length(total: int) -> int:
    """A power of two that makes 1,000 to 2,000 pieces, within 256 KiB and 16 MiB."""
    length = _SMALLEST_PREFERRED
    while total > length * _PREFERRED_PIECES and length < _LARGEST_PREFERRED:
        length *= 2
    return length


def make(
    path: Path,
    *,
    piece_length: int | None = None,
    private: bool = False,
    ssl_cert: bytes | None = None,
    nodes: Sequence[HostPort] = (),
    comment: str | None = None,
    created_by: str | None = None,
    creation_date: int | None = None,
    hints: LocalHints = LocalHints(),  # noqa: B008 - it cannot change
    threads: int | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    relief: Relief = no_relief,
    sampler: Sampler | None = None,
) -> Metainfo:
    """Reads and hashes the file or folder at `path`, on all cores. Blocking: run it in a thread.

    `ssl_cert` is the root certificate, as PEM, that makes it an SSL torrent. `hints` say which
    other torrents have files in common with it (BEP 38), which makes it another torrent than one
    without.

    The info dict is the one libtorrent writes with `v1_only` for the files in this order (see
    `hashing.list_sources`). `progress` gets bytes done and bytes in all, from worker threads but
    never two at once; `cancelled` is asked often, and True ends it; `relief` is called when there
    is no descriptor to open a file with; `sampler` sees parts of the content. Raises InputError.
    """
    root = Path(path)
    name = root.name or root.resolve().name
    if name in {"", ".."}:
        name = root.resolve().name
    sources = list_sources(root, relief)
    total = sum(source.length for source in sources)
    if total == 0:
        raise InputError(f"{root} holds no data to share")
    if piece_length is None:
        piece_length = choose_piece_length(total)
    if not MIN_MADE_PIECE <= piece_length <= MAX_MADE_PIECE:
        raise MetainfoError(
            f"the piece length must be {MIN_MADE_PIECE} to {MAX_MADE_PIECE} bytes, "
            f"not {piece_length}"
        )
    # Names are the bytes that are on disk: those of any other encoding than UTF-8, too.
    info: dict[bytes, Value] = {b"name": os.fsencode(name), b"piece length": piece_length}
    if root.is_dir():
        info[b"files"] = [
            _file_entry(s) | {b"path": [os.fsencode(part) for part in s.path]} for s in sources
        ]
    else:
        info |= _file_entry(sources[0])
    if private:
        info[b"private"] = 1
    if ssl_cert is not None:
        info[b"ssl-cert"] = ssl_cert
    check_hints(hints)
    if hints.collections:  # where libtorrent puts them: there a magnet link has them too
        info[b"collections"] = [name.encode() for name in hints.collections]
    if hints.similar:
        info[b"similar"] = list(hints.similar)
    # All that could be wrong is found now: hashing may take hours.
    geometry = geometry_of(info, as_written=True)
    check_size(info, geometry)
    info[b"pieces"] = hash_pieces(
        sources,
        geometry,
        threads=threads,
        progress=progress,
        cancelled=cancelled,
        relief=relief,
        sampler=sampler,
    )
    return from_info_dict(
        info,
        bencode.encode(info),
        nodes=tuple(nodes),
        comment=comment,
        created_by=created_by,
        creation_date=creation_date,
        as_written=True,
    )


def _file_entry(source: SharedFile) -> dict[bytes, Value]:
    entry: dict[bytes, Value] = {b"length": source.length}
    if source.executable:
        entry[b"attr"] = b"x"
    return entry
