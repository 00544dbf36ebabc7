"""The catalogues that this node publishes: lists of what it has published itself, each a link that
stays (BEP 46), made of segments (`catalogue.segments`).

The rule: a list has what its user has published, and nothing else. It is written anew when that
changes, and the DHT holds one item for all of it. There is one list, whatever links name it: it is
one torrent, which lies in one place.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from dht_torrent.catalogue import Entry, Source
from dht_torrent.catalogue.segments import is_segment, pack
from dht_torrent.engine.following.publication import Publication
from dht_torrent.engine.following.service import LinkService, salt_of
from dht_torrent.engine.keys import DEFAULT
from dht_torrent.engine.search.denying import Denied
from dht_torrent.engine.search.service import SearchService
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.errors import DhtTorrentError, InputError, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import MutableLink

logger = logging.getLogger(__name__)

FOLDER: Final = "catalogues"
"""In the state directory; in it a folder, named by the salt of the first link in hex ..."""
CONTENT: Final = "catalogue"
"""... and in that the list: the name of the torrent."""


class CatalogueFeeds:
    """Those of a node. `run` is their task."""

    def __init__(
        self,
        context: NodeContext,
        links: LinkService,
        search: SearchService,
        denied: Denied,
        torrents: Mapping[InfoHash, Torrent],
    ) -> None:
        self._context = context
        self._links = links
        self._search = search
        self._denied = denied
        self._torrents = torrents
        self._writing = trio.Lock()
        self._named: set[str] = set()
        """Links that name what is written; none yet when a node starts: the one before may have
        ended in between."""

    async def publish(self, name: str, *, key: str = DEFAULT) -> MutableLink:
        """Give the list of all that this node has published a link that stays; from then on the
        list follows what is published. `key` is the name of a key in the state directory. Raises
        InputError, StorageError."""
        state = self._context.state
        if state is None:
            raise InputError("a catalogue can be published by a node with a state directory only")
        new = state.path / FOLDER / salt_of(name).hex() / CONTENT
        async with self._writing:
            folder = self._place(state.path / FOLDER) or new
            await self._write(folder)
            link = await self._links.publish(folder, name, key)
            self._named.update(one.id for one in self._links.published if one.link == link)
            return link

    async def run(self) -> None:
        """A service: brings the lists in line with what is published."""
        while True:
            await trio.sleep(self._context.config.subscribe.publish_interval)
            try:
                await self._renew()
            except DhtTorrentError as error:
                logger.warning("a catalogue that is published stays as it was: %s", error)

    async def _renew(self) -> None:
        """Raises InputError, StorageError."""
        state = self._context.state
        if state is None:
            return
        async with self._writing:
            lists = self._lists(state.path / FOLDER)
            folder = self._place(state.path / FOLDER)
            if not lists or folder is None:
                return
            await self._write(folder)
            for one in lists:
                if one.id not in self._named:
                    await one.renew(folder)
                    self._named.add(one.id)

    def _lists(self, within: Path) -> list[Publication]:
        """The links to it."""
        return [one for one in self._links.published if _is_list(Path(one.view().path), within)]

    def _place(self, within: Path) -> Path | None:
        """Where it is, which stays also when no link names it any more; None: nowhere yet."""
        paths = [Path(one.view().path) for one in self._lists(within)]
        paths += [one.path for one in self._torrents.values() if one.path is not None]
        return next((path for path in paths if _is_list(path, within)), None)

    async def _write(self, folder: Path) -> None:
        """Write the list. Raises StorageError."""
        if await self._context.disk.run(_replace, folder, pack(await self._own())):
            self._named.clear()

    async def _own(self) -> list[Entry]:
        """What this node has published. Raises StorageError."""
        catalogue = await self._search.local()
        after, own = 0, list[Entry]()
        while True:
            entries, after = await catalogue.page(after, source=Source.OWN)
            if not entries:
                return own
            for entry in entries:
                torrent = self._torrents.get(InfoHash(entry.infohash))
                if torrent is not None and torrent.published and not self._denied.entry(entry):
                    own.append(entry)


def _is_list(path: Path, within: Path) -> bool:
    return path.name == CONTENT and path.parent.parent == within


def _replace(folder: Path, segments: Mapping[str, bytes]) -> bool:
    """Make these the files in the folder, each replaced in one step. False: they were. Raises
    StorageError."""
    changed = False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, data in segments.items():
            path = folder / name
            if not path.is_file() or path.read_bytes() != data:
                new = folder.parent / f"{name}.new"
                new.write_bytes(data)
                new.replace(path)
                changed = True
        for path in list(folder.iterdir()):
            if path.name not in segments and is_segment(path.name):
                path.unlink()
                changed = True
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}") from error
    return changed
