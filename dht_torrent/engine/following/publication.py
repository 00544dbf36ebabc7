"""A link that is published: what is shared at a path is its version of today.

The rule: the record says what is to be in the DHT, and is written before the DHT hears of it. A
version that was replaced where it lies is served as far as it is still there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from dht_torrent.dht.items import MutableItem, SigningKey
from dht_torrent.dht.versions import named_by, refresh_pause
from dht_torrent.engine.following.follower import view_of
from dht_torrent.engine.following.host import LinkContext, LinkHost
from dht_torrent.engine.following.records import PublishRecord, SeenVersion
from dht_torrent.engine.following.views import PublishedView
from dht_torrent.engine.following.writing import LinkWriter
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import InputError, NoReply, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import MutableLink

logger = logging.getLogger(__name__)

PUBLISHED: Final = ".published"
"""Ends the name of the record."""


class Publication:
    """A link that this node publishes."""

    def __init__(
        self,
        record: PublishRecord,
        context: LinkContext,
        host: LinkHost,
        read_key: Callable[[str], Awaitable[SigningKey | None]],
    ) -> None:
        """`read_key` gives the key of a name, when something is to be signed."""
        self._record = record
        self._context = context
        self._host = host
        self._read_key = read_key
        self._writer = LinkWriter(
            context.dht, record.link, context.config, rng=context.rng, clock=context.clock
        )
        self._news = AutoResetEvent()
        self._renewing = trio.Lock()
        self._nodes: int | None = None
        self._replaced = False
        self._ended = False
        self._trouble: str | None = None

    @property
    def link(self) -> MutableLink:
        return self._record.link

    @property
    def id(self) -> str:
        """Its place in the DHT, 40 hex digits."""
        return self._record.name

    @property
    def versions(self) -> tuple[SeenVersion, ...]:
        """Those that are seeded; the newest last."""
        return self._record.versions

    @property
    def is_current(self) -> bool:
        """The DHT was told of the newest version."""
        item, versions = self._record.item, self._record.versions
        return item is not None and bool(versions) and named_by(item) == versions[-1].info_hash

    def view(self) -> PublishedView:
        """A snapshot for people."""
        record = self._record
        return PublishedView(
            id=self.id,
            link=str(record.link),
            name=record.link.title,
            key_name=record.key_name,
            path=str(record.path),
            torrent=record.versions[-1].info_hash.hex() if record.versions else "",
            seq=record.item.seq if record.item is not None and self.is_current else 0,
            nodes=self._nodes,
            replaced=self._replaced,
            versions=tuple(view_of(one) for one in record.versions),
            error=self._trouble,
        )

    # -- what is published ----------------------------------------------------------------------

    async def renew(self, path: Path) -> None:
        """What is at `path` now is the version of today. Returns when that is written down; the DHT
        hears of it as soon as it can be asked. Raises InputError, StorageError."""
        async with self._renewing:
            if self._ended:
                raise InputError(f"{self.link.title} was unpublished meanwhile")
            present = set(self._host.torrents)
            torrent = await self._host.share(path)
            info_hash = torrent.info_hash
            known = [one for one in self._record.versions if one.info_hash == info_hash]
            ours = known[0].ours if known else info_hash not in present
            others = [one for one in self._record.versions if one.info_hash != info_hash]
            version = SeenVersion(info_hash, known[0].seq if known else 0, ours, complete=True)
            record = replace(self._record, path=path, versions=(*others, version))
            await self._save(record)
            await self._supersede(torrent, path)
            await self._prune()
            self._replaced = False
            self._news.set()

    async def _supersede(self, torrent: Torrent, path: Path) -> None:
        """Whatever was shared from there before is served as far as it is left."""
        paths = {one.info_hash: one.path for one in self._host.torrents.values()}

        def same() -> list[InfoHash]:
            here = os.path.realpath(path)
            return [key for key, one in paths.items() if one and os.path.realpath(one) == here]

        for info_hash in await self._context.disk.run(same):
            old = self._host.torrents.get(info_hash)
            if old is not None and old is not torrent and not old.superseded:
                try:
                    await old.supersede()
                except InputError as error:  # it is a download of the user's
                    logger.info("%s", error)

    async def _prune(self) -> None:
        """Forget the versions that nobody may be in the middle of any more."""
        *old, _ = self._record.versions
        for version in old[: max(0, len(old) - self._context.config.published_kept)]:
            await self._drop(version)
            kept = tuple(one for one in self._record.versions if one is not version)
            await self._save(replace(self._record, versions=kept))

    async def _drop(self, version: SeenVersion) -> None:
        torrent = self._host.torrents.get(version.info_hash)
        if torrent is None or not version.ours:
            return
        if not self._context.wanted_elsewhere(version.info_hash, self):
            await self._host.remove(torrent)

    async def end(self) -> None:
        """It is published no more; `run` has ended. The version of today is shared on, as what was
        shared without a link. Raises StorageError."""
        async with self._renewing:
            await self._context.forget(self._record.name + PUBLISHED)
            self._ended = True
            self._writer.stop()
            for version in self._record.versions[:-1]:
                await self._drop(version)

    async def _save(self, record: PublishRecord) -> None:
        self._record = record
        await self._context.save(record.name + PUBLISHED, record.encode())

    # -- in the DHT -----------------------------------------------------------------------------

    async def run(self) -> None:
        """A service: tells the DHT of the newest version, and keeps that alive."""
        await self._context.dht.bootstrapped()
        config = self._context.config
        kept = False
        while True:
            pause = refresh_pause(config, self._context.rng)
            try:
                if not self.is_current:
                    await self._write()
                    kept = True
                elif not kept:
                    await self._put_again()
                    kept = True
                await self._look()
                self._trouble = None
            except (NoReply, InputError, StorageError) as error:
                pause = config.retry_interval
                if self._trouble != str(error):  # said once, not every minute
                    logger.warning("%s: not published yet: %s", self.link.title, error)
                self._trouble = str(error)
            with trio.move_on_after(pause):
                await self._news.wait()

    async def _write(self) -> None:
        key = await self._read_key(self._record.key_name)
        if key is None or key.public != self.link.key:
            raise InputError(f"the key {self._record.key_name} of this link is not here any more")
        info_hash = self._record.versions[-1].info_hash

        async def note(item: MutableItem) -> None:
            versions = tuple(
                replace(one, seq=item.seq) if one.info_hash == info_hash else one
                for one in self._record.versions
            )
            await self._save(replace(self._record, seq=item.seq, item=item, versions=versions))

        async with self._context.turns:
            stored = await self._writer.write(key, info_hash, self._record.seq, note)
        self._nodes = len(stored.stored)

    async def _put_again(self) -> None:
        item = self._record.item
        assert item is not None  # it is current
        async with self._context.turns:
            self._nodes = len((await self._writer.keep(item)).stored)

    async def _look(self) -> None:
        """Has another holder of the key gone on?"""
        item = self._record.item
        if item is not None and self.is_current:
            async with self._context.turns:
                self._replaced = not await self._writer.is_newest(item)
