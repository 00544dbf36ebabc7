"""Members of a swarm that do not play fair. The rule: each is a node of ours with one thing
changed; in all else it is what honest nodes are used to.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dht_torrent.config import Config
from dht_torrent.engine.torrent.context import OpenStorage
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStorage, Storage


def free_rider(config: Config) -> Config:
    """The same node, but it gives nothing: it unchokes no peer, and allows none a piece while
    choked (BEP 6)."""
    return replace(
        config,
        torrent=replace(config.torrent, unchoke_slots=0, optimistic_slots=0),
        peer=replace(config.peer, allowed_fast=0),
    )


class PoisonedStorage(FileStorage):
    """A seed's own files, read with one wrong bit in every block. What it hashes is right, so the
    node believes itself to be an honest seed."""

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray(super().read(offset, length))
        _spoil(memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        super().read_into(offset, *buffers)
        for buffer in buffers:
            _spoil(buffer)

    def try_read_into(self, offset: int, *buffers: memoryview) -> bool:
        if not super().try_read_into(offset, *buffers):
            return False
        _spoil(*buffers)
        return True


def poisoned(config: Config) -> OpenStorage:
    """For `open_node`: what the node shares is poisoned on its way out."""

    def open_one(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        if shared:
            return PoisonedStorage(path.parent, metainfo, config.disk, content=path, writable=False)
        return FileStorage(path, metainfo, config.disk)

    return open_one


def _spoil(*buffers: memoryview) -> None:
    for buffer in buffers:
        if buffer:
            buffer[0] ^= 1
