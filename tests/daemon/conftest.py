"""A node that lives in memory and has the surface the daemon uses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dht_torrent.engine.faults import Faults
from dht_torrent.engine.torrent.watch import Watch
from dht_torrent.engine.views import (
    FileInfo,
    Left,
    NodeStatus,
    PeerInfo,
    Removal,
    State,
    Summary,
)
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.metainfo import Magnet, Metainfo


def check(rates: dict[str, int | None]) -> None:
    for rate in rates.values():
        if rate is not None and rate < 0:
            raise InputError(f"no rate: {rate}")


class FakeTorrent:
    def __init__(self, magnet: Magnet, metainfo: Metainfo | None = None) -> None:
        self.info_hash = magnet.info_hash
        self.id = magnet.info_hash.hex()
        self.magnet = magnet
        self.metainfo = metainfo
        self.state: State = "downloading"
        self.calls: list[str] = []
        self.limits: dict[str, int | None] = {}
        self.changed = AutoResetEvent()
        self.gone = False

    def summary(self) -> Summary:
        return Summary(
            id=self.id,
            name=self.magnet.name or self.id,
            state=self.state,
            progress=0.5,
            size=1000,
            downloaded=500,
            uploaded=10,
            wasted=0,
            down_rate=1.5,
            up_rate=0.0,
            peers=1,
            error=None,
            why="no peer has the rest",
            magnet=str(self.magnet),
            path="/downloads/thing",
            eta=None,
            limit_up=self.limits.get("up"),
            limit_down=self.limits.get("down"),
        )

    def watch(self, *, repeat_after: float | None = None) -> Watch:
        return Watch(
            self.summary,
            self.changed.wait,
            lambda: self.gone,
            interval=0.5,
            repeat_after=repeat_after,
        )

    def set_limits(self, **rates: int | None) -> None:
        check(rates)
        self.limits |= rates

    async def save(self) -> None: ...

    def peers(self) -> list[PeerInfo]:
        return [PeerInfo("127.0.0.1:5", "x", "dht", False, 1.0, 0.0, 0.0, 0, 0, "D")]

    def files(self) -> list[FileInfo]:
        return [FileInfo(0, "thing", 1000, 0.5, True)]

    async def pause(self) -> None:
        self.calls.append("pause")
        self.state = "paused"
        self.changed.set()

    async def resume(self) -> None:
        self.calls.append("resume")
        self.state = "downloading"

    async def recheck(self) -> None:
        self.calls.append("recheck")


@dataclass
class FakeDhtStatus:
    good: int = 3
    dropped: dict[str, int] = field(default_factory=lambda: {"late": 1})
    node_id: bytes = bytes(20)


class FakeNode:
    """Torrents in a dict; `calls` says what was asked of it."""

    def __init__(self) -> None:
        self.torrents: dict[InfoHash, FakeTorrent] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.broken: Exception | None = None
        self.limits: dict[str, int | None] = {}
        self.faults = Faults(fail_fast=False)

    def add(self, magnet: str | Magnet) -> FakeTorrent:
        torrent = FakeTorrent(Magnet.parse(magnet) if isinstance(magnet, str) else magnet)
        self.torrents[torrent.info_hash] = torrent
        return torrent

    async def share(
        self,
        path: Path,
        *,
        piece_length: int | None = None,
        private: bool = False,
        **tls: str,
    ) -> FakeTorrent:
        if str(path).startswith("/no/"):
            raise InputError(f"{path}: no such file")
        self.calls.append(("share", path, piece_length, private, *tls.items()))
        return self.add(f"magnet:?xt=urn:btih:{'55' * 20}&dn=shared")

    async def get(self, source: Magnet | Metainfo, **options: object) -> FakeTorrent:
        self.calls.append(("get", source, options))
        if options.get("output") == "/full":
            raise StorageError("no space left on device", disk_full=True)
        if isinstance(source, Metainfo):
            torrent = FakeTorrent(source.magnet(), source)
            self.torrents[torrent.info_hash] = torrent
        else:
            torrent = self.add(source)
        if options.get("paused"):
            await torrent.pause()
        return torrent

    def find(self, prefix: str) -> FakeTorrent:
        found = [t for t in self.torrents.values() if t.id.startswith(prefix)]
        if len(prefix) < 4 or len(found) != 1:
            raise InputError(f"no such torrent: {prefix}")
        return found[0]

    async def remove(self, torrent: FakeTorrent, *, delete_data: bool = False) -> Removal:
        self.calls.append(("remove", torrent.id, delete_data))
        del self.torrents[torrent.info_hash]
        torrent.gone = True
        torrent.changed.set()
        return Removal(1, (Left("/d/notes.txt", "this torrent did not make it"),), 1)

    def set_limits(self, **rates: int | None) -> None:
        check(rates)
        self.limits |= rates

    def status(self) -> NodeStatus:
        if self.broken is not None:
            raise self.broken
        status = NodeStatus(
            id="00" * 20,
            listen="127.0.0.1:6881",
            version="0",
            uptime=1.0,
            dht=None,  # type: ignore[arg-type]
            torrents=len(self.torrents),
            connections=0,
            peers_by_source={"dht": 1},
            reachable=None,
            down_rate=0.0,
            up_rate=0.0,
            last_announce=None,
            warnings=(),
            limit_up=self.limits.get("up"),
            limit_down=self.limits.get("down"),
        )
        return replace(status, dht=FakeDhtStatus())  # type: ignore[arg-type]


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()
