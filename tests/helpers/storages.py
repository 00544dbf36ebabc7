"""Torrents of several files, with hashes or with names and sizes only; and storages for them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

from dht_torrent import bencode
from dht_torrent.config import DiskConfig
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage import FileStorage, Storage

PIECE = 16384


def hashed(content: bytes, sizes: Sequence[int], piece_length: int = PIECE) -> Metainfo:
    """The torrent of `content` as files 0, 1, 2 ... of these sizes."""
    starts = range(0, len(content), piece_length)
    files: list[bencode.Value] = [
        {b"length": size, b"path": [b"%d" % number]} for number, size in enumerate(sizes)
    ]
    info: dict[bytes, bencode.Value] = {
        b"files": files,
        b"name": b"album",
        b"piece length": piece_length,
        b"pieces": b"".join(
            hashlib.sha1(content[at : at + piece_length]).digest() for at in starts
        ),
    }
    return from_info(bencode.encode(info))


def torrent(*files: tuple[str, int], pads: Sequence[int] = (), name: str = "album") -> Metainfo:
    """A torrent of these (path, length) files; `pads` says which of them are padding."""
    entries: list[bencode.Value] = []
    for number, (path, length) in enumerate(files):
        parts: list[bencode.Value] = [part.encode() for part in path.split("/")]
        entry: dict[bytes, bencode.Value] = {b"length": length, b"path": parts}
        if number in pads:
            entry[b"attr"] = b"p"
        entries.append(entry)
    total = sum(length for _, length in files)
    return _from_info({b"files": entries}, total, name)


def single(length: int, name: str = "film.bin") -> Metainfo:
    return _from_info({b"length": length}, length, name)


def _from_info(fields: dict[bytes, bencode.Value], total: int, name: str) -> Metainfo:
    info: dict[bytes, bencode.Value] = {
        **fields,
        b"name": name.encode(),
        b"piece length": PIECE,
        b"pieces": bytes(20) * -(-total // PIECE),
    }
    return from_info(bencode.encode(info))


def opened(root: Path, meta: Metainfo, *, open_files: int = 4) -> FileStorage:
    return FileStorage(root, meta, DiskConfig(open_files=open_files))


def quickly(storage: Storage, offset: int, length: int) -> bytes | None:
    """What `try_read_into` reads into two buffers."""
    buffers = [bytearray(length // 3), bytearray(length - length // 3)]
    done = storage.try_read_into(offset, *[memoryview(buffer) for buffer in buffers])
    return b"".join(buffers) if done else None


ALBUM = torrent(("a", 10), ("b/c", 20000), ("b/empty", 0), ("b/d/e", 5), ("f", 40000))
CONTENT = random.Random(7).randbytes(ALBUM.geometry.total)
