"""What links need of the node they are on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from dht_torrent.config import FollowConfig
from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.state import StateDir
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.engine.views import Removal
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import Magnet

FOLDER = "links"
"""Of the records, in the state directory."""


class LinkHost(Protocol):
    """The torrents of a node: `Node` is one."""

    @property
    def torrents(self) -> Mapping[InfoHash, Torrent]: ...

    async def get(
        self, source: Magnet, *, output: Path | None = None, sources: Sequence[Path] = ()
    ) -> Torrent: ...

    async def share(self, path: Path) -> Torrent: ...

    async def remove(self, torrent: Torrent, *, delete_data: bool = False) -> Removal: ...


@dataclass(frozen=True, slots=True)
class LinkContext:
    """What the links of a node share."""

    dht: DualStack
    disk: Disk
    state: StateDir | None
    config: FollowConfig
    rng: random.Random
    clock: Callable[[], float]
    """Unix time."""
    turns: trio.Semaphore
    """Lookups at a time."""
    adding: trio.Lock
    """One begins with a torrent at a time."""
    wanted_elsewhere: Callable[[InfoHash, object], bool]
    """Whether a torrent is a version of another link than this one, too."""

    async def save(self, name: str, payload: bytes) -> None:
        """Write down the record of a link. Raises StorageError."""
        if self.state is not None:
            await self.disk.run(self.state.save_in, FOLDER, name, payload)

    async def forget(self, name: str) -> None:
        """Raises StorageError if the record is still there."""
        if self.state is not None:
            await self.disk.run(self.state.remove_in, FOLDER, name)
