"""The catalogues that this node publishes: lists of what it has published itself, each a link that
stays (BEP 46), made of segments (`catalogue.segments`).

The rule: a list has what its user has published, and nothing else. It is written anew when that
changes, and the DHT holds one item for all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from dht_torrent.catalogue import Entry, Source
from dht_torrent.catalogue.segments import is_segment, pack
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
"""In the state directory; in it a folder for each link, named by its salt in hex."""
CONTENT: Final = "catalogue"
"""In each of these: the name of the torrent."""


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

    async def publish(self, name: str, *, key: str = DEFAULT) -> MutableLink:
        """Give the list of all that this node has published a link that stays; from then on the
        list follows what is published. `key` is the name of a key in the state directory. Raises
        InputError, StorageError."""
        state = self._context.state
        if state is None:
            raise InputError("a catalogue can be published by a node with a state directory only")
        folder = state.path / FOLDER / salt_of(name).hex() / CONTENT
        async with self._writing:
            await self._write(folder)
            return await self._links.publish(folder, name, key)

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
        for one in self._links.published:
            path = Path(one.view().path)
            if path.parent.parent != state.path / FOLDER or path.name != CONTENT:
                continue
            async with self._writing:
                if await self._write(path):
                    await one.renew(path)

    async def _write(self, folder: Path) -> bool:
        """Write the list. False: it was like that. Raises StorageError."""
        return await self._context.disk.run(_replace, folder, pack(await self._own()))

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
