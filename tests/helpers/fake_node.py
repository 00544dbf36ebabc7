"""A node that lives in memory and has the surface the daemon uses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from dht_torrent.config import Config
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.search.views import (
    CatalogueImport,
    CatalogueStatus,
    PublisherView,
    SearchQuery,
    SearchResult,
    SimilarFound,
    SimilarResult,
    Verdict,
)
from dht_torrent.engine.speed import SpeedLimits
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


KEY = "ab" * 32


def result(number: int, **changes: Any) -> SearchResult:
    """Something that was found."""
    torrent_id = f"{number:040x}"
    facts: dict[str, Any] = {
        "id": torrent_id,
        "name": f"thing {number}",
        "size": 3 * 2**30,
        "files": 2,
        "published": 1_700_000_000.0,
        "trust": "verified",
        "publisher": KEY,
        "publishers": 1,
        "peers": 7,
        "seeds": 3,
        "peers_how": "bep33",
        "peers_at": 1_700_000_000.0,
        "source": "network",
        "magnet": f"magnet:?xt=urn:btih:{torrent_id}",
    }
    return SearchResult(**facts | changes)


def similar_result(number: int, **changes: Any) -> SimilarResult:
    """What is similar to something."""
    made = SimilarResult(
        id=f"{number:040x}",
        name=f"film {number}.mkv",
        size=number << 30,
        files=number,
        published=None,
        kinship="near duplicate",
        score=0.8,
        content=0.9,
        title=0.5,
        listed=None,
        same_files=0,
        trust="verified",
        publisher=KEY,
        source="network",
        magnet=f"magnet:?xt=urn:btih:{number:040x}",
    )
    return replace(made, **changes)


class FakeResults:
    """A search that does what its script says: a number is waited for, an error raised, and
    anything else found."""

    def __init__(self, script: Sequence[float | Exception | SearchResult], limit: int) -> None:
        self._script = list(script)
        self._left = limit
        self.taken = 0
        self.closed = trio.Event()

    def __aiter__(self) -> FakeResults:
        return self

    async def __anext__(self) -> SearchResult:
        await trio.lowlevel.checkpoint()
        while self._script and self._left:
            step = self._script.pop(0)
            if isinstance(step, SearchResult):
                self.taken += 1
                self._left -= 1
                return step
            if isinstance(step, Exception):
                raise step
            await trio.sleep(step)
        raise StopAsyncIteration

    async def __aenter__(self) -> FakeResults:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.closed.set()


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
        self.published = False
        self.why_not: str | None = None
        self.not_published: str | None = None

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
            published=self.published,
            not_published=self.not_published,
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

    def piece_states(self) -> bytes:
        return bytes((3, 2, 1, 0))

    def availability(self) -> list[int]:
        return [5, 0, 1, 2]

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
    questionable: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: {"late": 1})
    node_id: bytes = bytes(20)


class FakeNode:
    """Torrents in a dict; `calls` says what was asked of it."""

    def __init__(self) -> None:
        self.torrents: dict[InfoHash, FakeTorrent] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.broken: Exception | None = None
        self.limits: dict[str, int | None] = {}
        self.speed = SpeedLimits(lambda up, down: None, Config(), lambda: 0.0)
        self.faults = Faults(fail_fast=False)
        self.dht_status = FakeDhtStatus()
        self.found: Sequence[float | Exception | SearchResult] = []
        self.similar_to: SimilarFound | Exception = SimilarFound(
            asked="film.mkv", compared="content", warning=None, results=()
        )
        self.searches: list[tuple[SearchQuery, FakeResults]] = []
        self.verdicts: dict[str, Verdict] = {}
        self.exported: list[float | Exception | bytes] = []
        self.imported: list[bytes] = []

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
        **more: Any,
    ) -> FakeTorrent:
        if str(path).startswith("/no/"):
            raise InputError(f"{path}: no such file")
        self.calls.append(("share", path, piece_length, private, *more.items()))
        torrent = self.add(f"magnet:?xt=urn:btih:{'55' * 20}&dn=shared")
        if private:
            torrent.why_not = "a private torrent is not published"
        torrent.published = more.get("publish", False) and torrent.why_not is None
        if more.get("publish", False):
            torrent.not_published = torrent.why_not
        return torrent

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

    def search(self, query: SearchQuery) -> FakeResults:
        results = FakeResults(self.found, query.limit)
        self.searches.append((query, results))
        return results

    async def similar(self, source: str | Path | Magnet, **options: Any) -> SimilarFound:
        self.calls.append(("similar", source, options))
        if isinstance(self.similar_to, Exception):
            raise self.similar_to
        return self.similar_to

    async def publish(self, torrent: FakeTorrent, tags: Sequence[str] = ()) -> None:
        if torrent.why_not is not None:
            raise InputError(torrent.why_not)
        self.calls.append(("publish", torrent.id, list(tags)))
        torrent.published = True

    async def unpublish(self, torrent: FakeTorrent) -> bool:
        was, torrent.published = torrent.published, False
        return was

    async def trust(self, publisher: str, on: bool = True) -> None:
        self._judge(publisher, "trusted" if on else None)

    async def block(self, publisher: str, on: bool = True) -> None:
        self._judge(publisher, "blocked" if on else None)

    def _judge(self, publisher: str, verdict: Verdict | None) -> None:
        self.verdicts.pop(publisher, None)
        if verdict is not None:
            self.verdicts[publisher] = verdict

    async def publishers(self) -> list[PublisherView]:
        return [
            PublisherView(key=key, trust=trust, since=0.0) for key, trust in self.verdicts.items()
        ]

    async def catalogue_status(self) -> CatalogueStatus:
        return CatalogueStatus(torrents=12345, own=3, bytes=2**20, bytes_most=2**30)

    async def export_catalogue(self) -> AsyncGenerator[bytes, None]:
        for step in self.exported:
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, Exception):
                raise step
            else:
                await trio.sleep(step)

    async def import_catalogue(self, lines: bytes) -> CatalogueImport:
        self.imported.append(lines)
        return CatalogueImport(
            lines=lines.count(b"\n"),
            added=lines.count(b"{"),
            known=0,
            refused=0,
            skipped={"not JSON": lines.count(b"x")} if b"x" in lines else {},
            first_skipped={"not JSON": 1 + lines[: lines.find(b"x")].count(b"\n")}
            if b"x" in lines
            else {},
        )

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
        return replace(status, dht=self.dht_status)  # type: ignore[arg-type]
