"""A link that is followed: each new version is fetched, shown to users in one step, and takes the
place of older ones.

The rule: users find a version only when it is complete, and never one that is older than what they
found before. What was seen is written down before anything is done about it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from dht_torrent.dht.versions import Versions
from dht_torrent.engine.following.host import LinkContext, LinkHost
from dht_torrent.engine.following.place import LinkPlace
from dht_torrent.engine.following.records import FollowRecord, SeenVersion
from dht_torrent.engine.following.views import FollowState, FollowView, VersionView
from dht_torrent.engine.following.watching import LinkWatch
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import Magnet, MutableLink

logger = logging.getLogger(__name__)

FOLLOWED: Final = ".followed"
"""Ends the name of the record."""
MAX_OLDER: Final = 4
"""Older versions that a new one is compared with."""
REMOVAL_PATIENCE: Final = 5.0
"""Seconds the removal of an old version may go on when the node ends."""


class Follower:
    """What follows one link. Users have a `Followed` of it."""

    def __init__(self, record: FollowRecord, context: LinkContext, host: LinkHost) -> None:
        self._record = record
        self._context = context
        self._host = host
        self._place = LinkPlace(record.output)
        self._versions = Versions(record.link.key, record.link.salt, record.item, record.seq)
        self._watch: LinkWatch | None = None
        self._wanted = AutoResetEvent()
        self._attempt = trio.CancelScope()
        self.changed = AutoResetEvent()
        """Set when what `view` shows is different, progress and times left out."""
        self._saving = trio.Lock()
        self._unsaved: str | None = None
        self._trouble: str | None = None
        self._retries = False
        self.gone = False
        """It is not followed any more."""

    # -- what users see -------------------------------------------------------------------------

    @property
    def link(self) -> MutableLink:
        return self._record.link

    @property
    def id(self) -> str:
        """See `Followed.id`."""
        return self._record.name

    @property
    def output(self) -> Path:
        """See `Followed.output`."""
        return self._record.output

    @property
    def current(self) -> InfoHash | None:
        """See `Followed.current`."""
        return self._record.current

    @property
    def path(self) -> Path | None:
        """See `Followed.path`."""
        if self._record.current is None:
            return None
        torrent = self._host.torrents.get(self._record.current)
        content = torrent.path if torrent is not None else None
        return self._place.current / content.name if content is not None else self._place.current

    @property
    def versions(self) -> tuple[SeenVersion, ...]:
        """See `Followed.versions`."""
        return self._record.versions

    def view(self) -> FollowView:
        """See `Followed.view`."""
        now, versions, watch = trio.current_time(), self._versions, self._watch
        newest = versions.info_hash
        torrent = self._host.torrents.get(newest) if newest is not None else None
        path, error = self.path, self._trouble or self._unsaved
        state: FollowState = "fetching"
        if newest is None:
            state = "looking"
        elif newest == self.current:
            state = "current"
        elif self._trouble is not None:
            state = "error"
        return FollowView(
            id=self.id,
            link=str(self.link),
            title=self.link.title,
            output=str(self.output),
            current=str(path) if path is not None else None,
            current_id=self.current.hex() if self.current is not None else None,
            newest_id=newest.hex() if newest is not None else None,
            seq=versions.seq,
            state=state,
            progress=torrent.progress if torrent is not None else 0.0,
            keep=self._record.keep,
            versions=tuple(view_of(one) for one in self._record.versions),
            looked=now - watch.looked_at if watch and watch.looked_at is not None else None,
            next_look=max(0.0, watch.schedule.due - now) if watch else None,
            malformed=versions.malformed,
            stale=versions.stale,
            foreign=versions.foreign,
            error=error,
        )

    # -- what it does ---------------------------------------------------------------------------

    async def run(self, *, first: float = 0.0) -> None:
        """A service. The first look is after `first` seconds."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_fetched)
            await self._context.dht.bootstrapped()
            self._watch = LinkWatch(
                self._context.dht,
                self.link,
                self._versions,
                self._context.config,
                rng=self._context.rng,
                turns=self._context.turns,
                peers=self._followers,
                first=first,
            )
            try:
                await self._watch.run(self._seen)
            finally:
                self._watch = None

    def hurry(self) -> None:
        """Look for a new version at once, and try again what went wrong."""
        if self._watch is not None:
            self._watch.hurry()
        self._wanted.set()

    async def keep_more(self, keep: int) -> None:
        """So many old versions stay from now on."""
        self._record = replace(self._record, keep=keep)
        await self.save()
        self._wanted.set()

    async def save(self) -> None:
        """Write down what is known. Where that fails, it is told and tried again."""
        async with self._saving:
            try:
                await self._context.save(self._record.name + FOLLOWED, self._record.encode())
                self._unsaved = None
            except StorageError as error:
                if self._unsaved is None:
                    logger.warning("%s: cannot be saved: %s", self.link.title, error)
                self._unsaved = f"cannot be saved, and would be forgotten at a restart: {error}"

    async def end(self, *, delete_data: bool = False) -> None:
        """It is not followed any more; `run` has ended. What is here stays, as torrents like all
        others; or goes with `delete_data`. Raises StorageError."""
        await self._context.forget(self._record.name + FOLLOWED)
        self.gone = True
        self.changed.set()
        if delete_data:
            for version in self._record.versions:
                await self._drop(version)
            await self._context.disk.run(self._place.leave)

    def _followers(self) -> int:
        """How many others have a version of it, and so may follow it."""
        current = self._record.current
        torrent = self._host.torrents.get(current) if current is not None else None
        return len(torrent.peers()) if torrent is not None else 0

    async def _seen(self) -> None:
        versions = self._versions
        self._record = replace(self._record, seq=versions.seq, item=versions.newest)
        await self.save()
        self._attempt.cancel()
        self._wanted.set()
        self.changed.set()

    async def _keep_fetched(self) -> None:
        while True:
            self._retries = True
            await self._try()
            retry = self._unsaved is not None or (self._trouble is not None and self._retries)
            seconds = self._context.config.retry_interval if retry else float("inf")
            with trio.move_on_after(seconds):
                await self._wanted.wait()
            if self._unsaved is not None:
                await self.save()

    async def _try(self) -> None:
        newest, info_hash = self._versions.newest, self._versions.info_hash
        if newest is None or info_hash is None:
            return
        try:
            await self._go_over_to(info_hash, newest.seq)
            self._tell(None)
        except (StorageError, InputError) as error:
            self._tell(str(error))

    def _tell(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble is not None:
                logger.warning("%s: %s", self.link.title, trouble)
            self.changed.set()

    async def _go_over_to(self, info_hash: InfoHash, seq: int) -> None:
        disk, place = self._context.disk, self._place
        if self.current == info_hash and await disk.run(place.is_at, info_hash):
            self._note(info_hash, seq=seq)
        else:
            torrent = await self._torrent(info_hash, seq)
            with trio.CancelScope() as self._attempt:
                await self._completed(torrent)
            if self._attempt.cancelled_caught:
                return  # there is something newer
            path = torrent.path
            if path is not None and path.parent != place.folder(info_hash):
                # The user's, or of another link that began with it at the same moment.
                await disk.run(place.adopt, info_hash, path)
            await disk.run(place.switch, info_hash)
            self._note(info_hash, complete=True)
            self._record = replace(self._record, current=info_hash)
            logger.info("%s: now at version %d", self.link.title, seq)
        await self.save()
        self.changed.set()
        await self._prune(info_hash)

    async def _torrent(self, info_hash: InfoHash, seq: int) -> Torrent:
        """That of a version; it is fetched from now on, and no other one is."""
        async with self._context.adding:  # or another link begins with it as well, elsewhere
            torrent = await self._begun(info_hash, seq)
        for other in self._record.versions:
            left = self._host.torrents.get(other.info_hash)
            if left is None or other.complete or not other.ours or left is torrent:
                continue
            if left.state != "paused":
                await left.pause()
        return torrent

    async def _begun(self, info_hash: InfoHash, seq: int) -> Torrent:
        listed = [one for one in self._record.versions if one.info_hash == info_hash]
        again = bool(listed) and listed[0] is not self._record.versions[-1]
        torrent = self._host.torrents.get(info_hash)
        folder = self._place.folder(info_hash)
        # One that lies there is of a time when the link was followed before.
        ours = torrent is None or (torrent.path is not None and torrent.path.parent == folder)
        self._note(info_hash, seq=seq, ours=ours)
        await self.save()  # so that what is made is known to be ours, whatever happens
        self.changed.set()
        if torrent is None:
            await self._context.disk.run(self._place.prepare, info_hash)
            torrent = await self._host.get(
                Magnet(info_hash, name=self.link.title),
                output=folder,
                sources=await self._older(info_hash),
            )
        elif torrent.select is not None:
            await self._host.get(Magnet(info_hash))  # all of it
        elif again and torrent.state == "paused":
            await torrent.resume()
        return torrent

    async def _older(self, info_hash: InfoHash) -> list[Path]:
        """Where older versions lie, of which most may still be right; the newest first."""
        older = [one for one in reversed(self._record.versions) if one.info_hash != info_hash]
        paths = []
        for version in [one for one in older if one.complete][:MAX_OLDER]:
            torrent = self._host.torrents.get(version.info_hash)
            lies = torrent.path if torrent is not None else None
            paths.append(lies or self._place.folder(version.info_hash))

        def there() -> list[Path]:
            return [path for path in paths if path.exists()]

        return await self._context.disk.run(there)

    async def _completed(self, torrent: Torrent) -> None:
        """Returns when it is. Raises StorageError when it is removed first."""
        async for summary in torrent.watch(per_second=1):
            self._tell(summary.error)
            if summary.state == "seeding" and not summary.superseded:
                return
        self._retries = False  # it was the user's will
        raise StorageError("its torrent was removed; waiting for the next version")

    async def _prune(self, newest: InfoHash) -> None:
        """Remove what is too old. Raises StorageError."""
        old = [one for one in self._record.versions if one.info_hash != newest]
        complete = [one for one in old if one.complete]
        stay = complete[max(0, len(complete) - self._record.keep) :]
        for version in old:
            if version not in stay and await self._drop(version):
                kept = [one for one in self._record.versions if one.info_hash != version.info_hash]
                self._record = replace(self._record, versions=tuple(kept))
                await self.save()

    async def _drop(self, version: SeenVersion) -> bool:
        """Remove a version with the files that are ours; False where it is needed elsewhere."""
        info_hash = version.info_hash
        if self._context.wanted_elsewhere(info_hash, self):
            return False
        torrent = self._host.torrents.get(info_hash)
        if version.ours and torrent is not None:
            # Not by halves: who has forgotten a torrent does not know its files any more.
            with trio.move_on_after(REMOVAL_PATIENCE, shield=True):
                await self._host.remove(torrent, delete_data=True)
        await self._context.disk.run(self._place.clear, info_hash)
        return True

    def _note(
        self,
        info_hash: InfoHash,
        *,
        seq: int | None = None,
        ours: bool = True,
        complete: bool | None = None,
    ) -> None:
        """Something is known of a version, which is the last one from now on."""
        kept = [one for one in self._record.versions if one.info_hash != info_hash]
        known = [one for one in self._record.versions if one.info_hash == info_hash]
        version = known[0] if known else SeenVersion(info_hash, 0, ours)
        version = replace(
            version,
            seq=version.seq if seq is None else seq,
            complete=version.complete if complete is None else complete,
        )
        self._record = replace(self._record, versions=(*kept, version))


def view_of(version: SeenVersion) -> VersionView:
    return VersionView(version.info_hash.hex(), version.seq, version.complete)
