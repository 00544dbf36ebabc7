"""Publishers' catalogues that the user subscribes to: each is a followed link (BEP 46), whose
versions are torrents of segments (`catalogue.segments`), and what is in them is in our catalogue.

The rule: a row is what the holder of the link's key says, and counts for no more; a catalogue has
its own bounds, and takes nobody's place but its own. What a new version has no more is forgotten
again, and so is all that came from this catalogue alone when the user unsubscribes. What the user
has denied or blocked is left out, and is back as soon as that ends.
"""

from __future__ import annotations

import logging
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf
from pathlib import Path
from typing import Final, TypeVar

import trio

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.catalogue import Entry, Proof, Source, TitleClaim
from dht_torrent.catalogue.lines import write_line
from dht_torrent.catalogue.segments import MAX_PACKED, MAX_SEGMENTS, is_segment, read
from dht_torrent.config import SubscribeConfig
from dht_torrent.engine.following.followed import Followed
from dht_torrent.engine.following.records import target_of
from dht_torrent.engine.following.service import LinkService, find_link
from dht_torrent.engine.search.catalogue import LocalCatalogue
from dht_torrent.engine.search.feeds import CatalogueFeeds
from dht_torrent.engine.search.service import SearchService
from dht_torrent.engine.search.views import SubscriptionView
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.engine.user_files import absolute
from dht_torrent.errors import (
    BencodeError,
    InputError,
    MagnetError,
    SearchFormatError,
    StorageError,
)
from dht_torrent.ids import InfoHash, parse_info_hash
from dht_torrent.magnet import MutableLink
from dht_torrent.search.words import title_words

_T = TypeVar("_T")
logger = logging.getLogger(__name__)

FOLDER: Final = "subscriptions"
"""Of the records and of what is fetched, in the state directory."""
SUFFIX: Final = ".subscribed"
_HASH: Final = 20
_SUM: Final = 4
_BATCH: Final = 1000
"""Rows stored in one step."""
_PROBES: Final = 5
_LOOK: Final = 1.0
"""Seconds between two looks how large a version is that is on its way ..."""
_IDLE: Final = 30.0
"""... between two whether there is one ..."""
_CHECK: Final = 3600.0
"""... and between two whether our catalogue, which others may share, still has its rows."""


@dataclass(slots=True, eq=False)
class _Feed:
    """One subscription."""

    link: MutableLink
    merged: InfoHash | None = None
    """The version that is in the catalogue ..."""
    rows: dict[bytes, int] = field(default_factory=dict)
    """... and what it lists: infohashes, each with a checksum of all that it says of it."""
    skipped: int = 0
    """Rows that made no sense, or found no room."""
    refused: int = 0
    """Rows that the user has denied, or whose publisher is blocked."""
    verdicts: int = 0
    """How often the user has changed what is left out ..."""
    heeded: int = 0
    """... and how often they had when it was merged."""
    error: str | None = None
    followed: Followed | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    pause: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Ends its wait for something to do."""

    @property
    def id(self) -> str:
        return target_of(self.link).hex()


class Subscriptions:
    """Those of a node. `run` is their task."""

    def __init__(
        self,
        context: NodeContext,
        links: LinkService,
        search: SearchService,
        feeds: CatalogueFeeds,
        *,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives Unix time."""
        self.feeds = feeds
        """What this node publishes itself."""
        self.warnings: list[str] = []
        """Of records that could not be restored, a line each."""
        self._context = context
        self._config: SubscribeConfig = context.config.subscribe
        self._links = links
        self._search = search
        self._clock = clock
        self._feeds: dict[str, _Feed] = {}
        self._changing = trio.Lock()
        self._merging = trio.Lock()
        self._nursery: trio.Nursery | None = None
        self._ready = trio.Event()
        search.on_verdict = self._judged

    async def load(self) -> None:
        """Read the records of an earlier run."""
        state = self._context.state
        if state is None:
            return
        found, warnings = await self._context.disk.run(
            lambda: state.load_folder(FOLDER, SUFFIX, _decode)
        )
        self.warnings += warnings
        self._feeds = {stem: feed for stem, feed in found.items() if feed.id == stem}

    async def run(self) -> None:
        """A service, after `load`: keeps our catalogue in step with those of others."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for feed in self._feeds.values():
                    self._start(feed)
                self._ready.set()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._ready = trio.Event()

    async def subscribe(self, link: MutableLink | str) -> SubscriptionView:
        """Follow a publisher's catalogue, and keep what it lists in ours, restarts included. What
        is in it is found by searches at once, and counts as signed by its publisher. Raises
        InputError, StorageError."""
        wanted = link if isinstance(link, MutableLink) else MutableLink.parse(link)
        await self._ready.wait()
        async with self._changing:
            feed = _Feed(wanted)
            present = self._feeds.get(feed.id)
            if present is not None:
                if present.followed is not None:
                    present.followed.hurry()
                return self._view(present)
            if len(self._feeds) >= self._config.max_subscriptions:
                most = self._config.max_subscriptions
                raise InputError(f"one node subscribes to at most {most} catalogues")
            await self._save(feed)
            try:
                feed.followed = await self._follow(feed)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._remove(feed)
                raise
            self._feeds[feed.id] = feed
            self._start(feed)
            return self._view(feed)

    async def unsubscribe(self, which: str) -> SubscriptionView:
        """End a subscription, meant by its link, its title or the start of its id, and forget what
        came from it alone. Returns what it was. Raises InputError, StorageError."""
        await self._ready.wait()
        async with self._changing:
            feed = find_link(which, self._feeds)
            told = self._view(feed)
            feed.scope.cancel()
            await feed.ended.wait()
            try:
                await self._forget(feed, feed.rows)
                if self._is_followed(feed):
                    await self._links.unfollow(feed.id, delete_data=True)
                await self._remove(feed)
            except BaseException:
                feed.scope, feed.ended = trio.CancelScope(), trio.Event()
                feed.merged = None  # what is left of it is merged again
                if self._nursery is not None:
                    self._start(feed)
                raise
            del self._feeds[feed.id]
            return told

    def listed(self) -> list[SubscriptionView]:
        """All of them."""
        return [self._view(feed) for feed in self._feeds.values()]

    def _judged(self, publisher: bytes | None) -> None:
        """What is left out of this publisher's catalogues, or of all, is decided anew."""
        for feed in self._feeds.values():
            if publisher in (None, feed.link.key):
                feed.verdicts += 1
                feed.pause.cancel()

    # -- one subscription -----------------------------------------------------------------------

    def _start(self, feed: _Feed) -> None:
        assert self._nursery is not None
        what = f"the subscription to {feed.link.title}"

        async def own() -> None:
            try:
                with feed.scope:
                    await self._context.faults.keep(what, lambda: self._keep(feed))
            finally:
                feed.ended.set()

        self._nursery.start_soon(own, name=what)

    async def _keep(self, feed: _Feed) -> None:
        check = -inf
        while True:
            try:
                if trio.current_time() >= check:
                    if not await self._is_there(feed):
                        feed.merged = None  # the catalogue was lost, or others removed them
                    check = trio.current_time() + _CHECK
                if not self._is_followed(feed):
                    feed.followed = await self._follow(feed)
                assert feed.followed is not None
                await self._bound(feed, feed.followed)
                current = feed.followed.current
                is_due = current != feed.merged or feed.heeded != feed.verdicts
                if current is not None and is_due:
                    await self._merge(feed, current)
            except (InputError, StorageError, SearchFormatError) as error:
                self._failed(feed, str(error))
            pause = _LOOK if self._is_fetching(feed) else _IDLE
            with trio.move_on_after(pause) as feed.pause:
                if feed.followed is not None:
                    await feed.followed.changed()
                else:
                    await trio.sleep_forever()

    def _is_followed(self, feed: _Feed) -> bool:
        if feed.followed is None or not feed.followed.is_followed:
            found = [one for one in self._links.followed if one.id == feed.id]
            feed.followed = found[0] if found else None
        return feed.followed is not None

    async def _follow(self, feed: _Feed) -> Followed:
        """Raises InputError."""
        state = self._context.state
        folder = absolute(self._context.config.download_dir)
        output = state.path / FOLDER / feed.id if state is not None else None
        return await self._links.follow(feed.link, output, 0, folder)

    def _newest(self, feed: _Feed) -> Torrent | None:
        """The version that is on its way, or here."""
        followed = feed.followed
        newest = followed.versions[-1].info_hash if followed and followed.versions else None
        return self._links.torrents.get(newest) if newest is not None else None

    def _is_fetching(self, feed: _Feed) -> bool:
        followed = feed.followed
        if followed is None or not followed.versions:
            return False
        return followed.versions[-1].info_hash != followed.current

    async def _bound(self, feed: _Feed, followed: Followed) -> None:
        """A version that is too large to be a catalogue is not fetched."""
        torrent = self._newest(feed)
        metainfo = torrent.metainfo if torrent is not None else None
        if torrent is None or metainfo is None or torrent.info_hash == followed.current:
            return
        size, most = metainfo.geometry.total, self._config.max_bytes
        if size > most or len(metainfo.files) > MAX_SEGMENTS:
            await torrent.pause()
            self._failed(
                feed,
                f"its newest version has {size:,} bytes in {len(metainfo.files):,} files, and is"
                f" not fetched: a catalogue has at most {most:,}",
            )

    def _failed(self, feed: _Feed, why: str) -> None:
        if feed.error != why:
            logger.warning("the subscription to %s: %s", feed.link.title, why)
        feed.error = why

    # -- the catalogue --------------------------------------------------------------------------

    async def _merge(self, feed: _Feed, version: InfoHash) -> None:
        """Bring our catalogue in line with a version. Raises StorageError, and SearchFormatError
        for one that is not a catalogue: then the one before stays."""
        assert feed.followed is not None
        path = feed.followed.path
        seq = next((one.seq for one in feed.followed.versions if one.info_hash == version), 0)
        if path is None:
            return
        run = self._context.disk.run
        async with self._merging:
            files = await run(_segments_in, path, self._config.max_bytes)
            verdicts = feed.verdicts
            # It is read twice: a version that does not keep the bounds is not begun with.
            listed, skipped = await run(_listed, files, self._room_of(feed))
            before = feed.rows
            # What is put in now is known to be of it, whatever happens meanwhile.
            feed.rows = listed | before
            await self._save(feed)
            gone = [row for row, said in before.items() if listed.get(row) != said]
            await self._forget(feed, gone)
            refused = await self._put(files, feed.link.key, seq, set(listed))
            feed.rows, feed.skipped, feed.refused = listed, skipped, refused
            feed.merged, feed.heeded = version, verdicts
            feed.error = None
            await self._save(feed)
        logger.info("%s lists %d torrents", feed.link.title, len(listed))

    async def _put(self, files: list[Path], key: bytes, seq: int, wanted: set[bytes]) -> int:
        """The rows that are wanted, each once. Returns how many the catalogue refused."""
        catalogue = await self._search.local()
        refused = 0
        batches = _batches(_rows_of(files, key, seq))
        while batch := await self._context.disk.run(next, batches, None):
            fresh = []
            for row in batch:
                if row.infohash in wanted:
                    wanted.remove(row.infohash)
                    fresh.append(row)
            refused += (await catalogue.put(fresh, int(self._clock()))).refused
        return refused

    async def _is_there(self, feed: _Feed) -> bool:
        """Whether the catalogue has what we say we have put in, going by a few rows of it. Raises
        StorageError."""
        some = list(islice(feed.rows, _PROBES))
        catalogue = await self._search.local()
        return not some or any([await catalogue.get(row) is not None for row in some])

    def _room_of(self, feed: _Feed) -> int:
        """Rows it may have: its own share, and what others leave of all."""
        others = sum(len(one.rows) for one in self._feeds.values() if one is not feed)
        return max(0, min(self._config.max_rows, self._config.max_rows_of_all - others))

    async def _forget(self, feed: _Feed, rows: Iterable[bytes]) -> None:
        """These are in this catalogue no more; in others they may be. Raises StorageError."""
        others = [one for one in self._feeds.values() if one is not feed]
        same = [one for one in others if one.link.key == feed.link.key]
        catalogue: LocalCatalogue = await self._search.local()
        for batch in _batches(rows):
            unsigned = [row for row in batch if not any(row in one.rows for one in same)]
            gone = [row for row in batch if not any(row in one.rows for one in others)]
            await catalogue.withdraw(unsigned, feed.link.key)
            await catalogue.forget(gone, Source.FEED)

    # -- records --------------------------------------------------------------------------------

    async def _save(self, feed: _Feed) -> None:
        state = self._context.state
        if state is not None:
            await self._context.disk.run(state.save_in, FOLDER, feed.id + SUFFIX, _encode(feed))

    async def _remove(self, feed: _Feed) -> None:
        state = self._context.state
        if state is None:
            return
        await self._context.disk.run(state.remove_in, FOLDER, feed.id + SUFFIX)
        with suppress(OSError):  # where its versions were
            await self._context.disk.run((state.path / FOLDER / feed.id).rmdir)

    def _view(self, feed: _Feed) -> SubscriptionView:
        followed = feed.followed.view() if feed.followed is not None else None
        return SubscriptionView(
            id=feed.id,
            link=str(feed.link),
            title=feed.link.title,
            publisher=feed.link.key.hex(),
            torrents=len(feed.rows) - feed.refused,
            torrents_most=self._config.max_rows,
            skipped=feed.skipped,
            refused=feed.refused,
            version=feed.merged.hex() if feed.merged is not None else None,
            state=followed.state if followed is not None else "looking",
            error=feed.error or (followed.error if followed is not None else None),
        )


def _segments_in(path: Path, most: int) -> list[Path]:
    """The segments of a version, which lies at `path`. Raises StorageError, SearchFormatError."""
    try:
        names = sorted(one.name for one in path.iterdir() if is_segment(one.name))
        if len(names) > MAX_SEGMENTS:
            raise SearchFormatError(f"it has {len(names):,} segments")
        total = 0
        for name in names:
            info = (path / name).lstat()
            total += info.st_size
            if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_PACKED or total > most:
                raise SearchFormatError(f"{name} is too large, or not a file")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    if not names:
        raise SearchFormatError("it is not a catalogue: there is no segment in it")
    return [path / name for name in names]


def _contents(files: Iterable[Path]) -> Iterator[bytes]:
    """Raises StorageError."""
    for path in files:
        try:
            yield path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error


def _listed(files: Iterable[Path], room: int) -> tuple[dict[bytes, int], int]:
    """What a version lists, each with a checksum of all it says of it, as far as there is room; and
    how many rows were left out. Raises StorageError, SearchFormatError."""
    skipped: Counter[str] = Counter()
    listed: dict[bytes, int] = {}
    for entry in read(_contents(files), title_words, skipped):
        if entry.infohash in listed or len(listed) >= room:
            skipped["twice, or without room"] += 1
        else:
            listed[entry.infohash] = zlib.crc32(write_line(entry))
    return listed, skipped.total()


def _rows_of(files: Iterable[Path], key: bytes, seq: int) -> Iterator[Entry]:
    """The rows of a version, as what the holder of the key has signed. Raises StorageError,
    SearchFormatError."""
    for entry in read(_contents(files), title_words, Counter()):
        claim = TitleClaim(key, entry.title, seq, verified=True)
        yield replace(entry, sources=Source.FEED, proof=Proof.VERIFIED, claims=(claim,))


def _batches(rows: Iterable[_T]) -> Iterator[list[_T]]:
    left = iter(rows)
    while batch := list(islice(left, _BATCH)):
        yield batch


def _encode(feed: _Feed) -> bytes:
    fields: dict[bytes, Value] = {
        b"link": str(feed.link).encode(),
        b"rows": b"".join(row + said.to_bytes(_SUM, "big") for row, said in feed.rows.items()),
        b"skipped": feed.skipped,
        b"refused": feed.refused,
    }
    if feed.merged is not None:
        fields[b"merged"] = feed.merged
    return bencode.encode(fields)


def _decode(payload: bytes) -> _Feed:
    """Raises StorageError."""
    try:
        fields = bencode.decode(payload, max_depth=2, max_size=len(payload))
        assert isinstance(fields, dict)
        link, rows, merged = fields[b"link"], fields[b"rows"], fields.get(b"merged")
        skipped, refused = fields[b"skipped"], fields[b"refused"]
        assert isinstance(link, bytes)
        assert isinstance(rows, bytes)
        assert len(rows) % (_HASH + _SUM) == 0
        assert isinstance(skipped, int)
        assert isinstance(refused, int)
        return _Feed(
            MutableLink.parse(link.decode()),
            parse_info_hash(merged) if merged is not None else None,
            {
                rows[at : at + _HASH]: int.from_bytes(rows[at + _HASH : at + _HASH + _SUM], "big")
                for at in range(0, len(rows), _HASH + _SUM)
            },
            skipped,
            refused,
        )
    except (AssertionError, BencodeError, KeyError, MagnetError, ValueError) as error:
        raise StorageError(f"not a record of a subscription: {error!r}") from error
