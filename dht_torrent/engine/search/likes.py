"""What the torrents of this node are like, and what is similar to something. The rule: each torrent
is sketched once, while it is hashed or when it is first needed, and the catalogue has it from then
on; and of a private or SSL torrent nobody is asked.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import trio

from dht_torrent import given
from dht_torrent.catalogue import Entry, Source
from dht_torrent.engine.search.catalogue import LocalCatalogue
from dht_torrent.engine.search.checking import sketch_entry
from dht_torrent.engine.search.own import entry_of, is_public, why_not
from dht_torrent.engine.search.records import Records
from dht_torrent.engine.search.searching import Searcher
from dht_torrent.engine.search.similar import SimilarSearch
from dht_torrent.engine.search.sketching import (
    Sketched,
    Sketching,
    file_ids,
    sketch_files,
    traits_of,
)
from dht_torrent.engine.search.tree import Trees
from dht_torrent.engine.search.views import SearchQuery, SimilarFound, SimilarQuery
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.errors import DhtTorrentError, InputError
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import Magnet
from dht_torrent.metainfo import Metainfo
from dht_torrent.search import chunks
from dht_torrent.search.record import decode_sketches
from dht_torrent.search.similar import Traits, likeness
from dht_torrent.search.sketch import title_sketch
from dht_torrent.search.titles import clean_title
from dht_torrent.search.words import title_words

logger = logging.getLogger(__name__)

MAX_LOOKED_AT: Final = 16
"""Torrents of ours that one search looks at: of large files, a sixteenth is read."""
MAX_PENDING: Final = 1000
"""Sketches of torrents that were hashed and not yet noted; a further one is made again later."""
NO_NUMPY: Final = "contents are not compared without NumPy: pip install 'dht-torrent[similar]'"
_T = TypeVar("_T")


class Likes:
    """Sketches of our torrents, and searches for similar ones."""

    def __init__(
        self,
        context: NodeContext,
        supervisors: Mapping[InfoHash, Supervisor],
        trees: Trees,
        records: Records,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives Unix time."""
        self._context = context
        self._supervisors = supervisors
        self._trees = trees
        self._records = records
        self._clock = clock
        self._hashed: OrderedDict[InfoHash, bytes | None] = OrderedDict()
        self._ready: dict[InfoHash, Sketched] = {}

    # -- our torrents ---------------------------------------------------------------------------

    async def hashed(self, info_hash: InfoHash, sketching: Sketching) -> None:
        """A torrent was hashed, and seen by this one."""
        content = await self._in_thread(lambda cancelled: sketching.content())
        self._hashed[info_hash] = content
        while len(self._hashed) > MAX_PENDING:
            self._hashed.popitem(last=False)

    async def prepare(self, core: TorrentCore, catalogue: LocalCatalogue) -> None:
        """Look at the content of a torrent that is published, unless the catalogue knows what it is
        like: what was seen while it was hashed, or else at what is on the disk. What cannot be read
        is compared by its names. Raises StorageError."""
        info_hash = core.context.info_hash
        if core.published is None or why_not(core) is not None or info_hash in self._ready:
            return
        if info_hash not in self._hashed:
            known = await self._known(info_hash, catalogue)
            if known is not None and known.file_ids:
                return
        with suppress(InputError):
            self._ready[info_hash] = await self._sketched(core)

    async def note(self, core: TorrentCore, catalogue: LocalCatalogue) -> None:
        """Put into the catalogue what a torrent is like, which it has. Raises StorageError."""
        info_hash, metainfo = core.context.info_hash, core.metainfo
        if metainfo is None:
            return
        made = self._ready.pop(info_hash, None)
        if made is None and await self._known(info_hash, catalogue) is not None:
            return
        entry = sketch_entry(info_hash, _traits(metainfo, made or Sketched(None, ())))
        if entry is not None:
            await catalogue.put_sketches([entry])

    async def _sketched(self, core: TorrentCore) -> Sketched:
        """What the content of a torrent is like that is here. Raises InputError."""
        metainfo, root = core.metainfo, core.place.path(core.metainfo)
        if metainfo is None or root is None:
            raise InputError("its files are not known yet")
        files = [
            (root if metainfo.single else root.joinpath(*file.path), file.length)
            for file in core.place.named(metainfo).files
            if not file.pad
        ]
        if core.context.info_hash not in self._hashed:
            return await self._in_thread(lambda cancelled: sketch_files(files, cancelled))
        seen = self._hashed.pop(core.context.info_hash)
        return await self._in_thread(lambda cancelled: Sketched(seen, file_ids(files)))

    async def _known(self, info_hash: bytes, catalogue: LocalCatalogue) -> Traits | None:
        raw = (await catalogue.sketches([info_hash])).get(info_hash)
        entry = await catalogue.get(info_hash) if raw is not None else None
        if raw is None or entry is None:
            return None
        return decode_sketches(raw, entry.title, entry.size, entry.files)

    async def _in_thread(self, work: Callable[[Callable[[], bool]], _T]) -> _T:
        """Read from the disk; cancelled, it ends soon. Raises InputError."""
        cancelled = False
        try:
            return await self._context.disk.run(work, lambda: cancelled)
        except trio.Cancelled:
            cancelled = True
            raise

    # -- asking ---------------------------------------------------------------------------------

    async def search(
        self, query: SimilarQuery, catalogue: LocalCatalogue, searcher: Searcher
    ) -> SimilarFound:
        """See `Node.similar`."""
        traits, info_hash, may_ask = await self._asked(query, catalogue, searcher)
        ours = await self._ours(traits, info_hash, catalogue)
        if info_hash is None:  # a path may be that of a torrent that others are not to know of
            may_ask = all(
                is_public(core) or not likeness(traits, like).same_files for core, like in ours
            )
        search = SimilarSearch(
            traits,
            info_hash,
            [(_entry(core), like) for core, like in ours],
            catalogue=catalogue,
            trees=self._trees,
            records=self._records,
            config=self._context.config.search,
            clock=self._clock,
        )
        network = query.network and may_ask
        found = await search.run(query.limit, query.patience, network=network)
        has_numpy = chunks.is_available()
        return SimilarFound(
            asked=traits.title,
            compared="names" if traits.content is None else "content",
            warning=NO_NUMPY if traits.content is None and not has_numpy else None,
            results=tuple(found),
        )

    async def _asked(
        self, query: SimilarQuery, catalogue: LocalCatalogue, searcher: Searcher
    ) -> tuple[Traits, bytes | None, bool]:
        """What is asked about, its infohash if it has one, and whether others may be asked. Raises
        InputError."""
        source = query.source
        if not isinstance(source, (str, Path)):
            return await self._torrent(source, query, catalogue, searcher)
        named: Magnet | Metainfo | None = self._link(source)
        if named is None:
            found = await self._in_thread(lambda stop: _read(source, stop))
            if isinstance(found, Traits):
                return found, None, True
            named = found
        return await self._torrent(named, query, catalogue, searcher)

    async def _ours(
        self, asked: Traits, info_hash: bytes | None, catalogue: LocalCatalogue
    ) -> list[tuple[TorrentCore, Traits]]:
        """Our own torrents that may have just what is asked about, going by sizes, as far as the
        catalogue does not know what they are like: of what is not published it does not, unless
        that was asked. Raises StorageError."""
        found: list[tuple[TorrentCore, Traits]] = []
        for own, supervisor in list(self._supervisors.items()):
            core = supervisor.core
            if own == info_hash or not core.is_complete or not _has(core, asked.size):
                continue
            known = await self._known(own, catalogue)
            if known is None or not known.file_ids:
                known = await self._look(core, catalogue)
                if known is not None:
                    found.append((core, known))
            if len(found) == MAX_LOOKED_AT:
                break
        return found

    async def _look(self, core: TorrentCore, catalogue: LocalCatalogue) -> Traits | None:
        """What a torrent that is here is like; the catalogue knows it from now on, if it may. None:
        it cannot be read. Raises StorageError."""
        assert core.metainfo is not None
        try:
            found = _traits(core.metainfo, await self._sketched(core))
        except InputError as error:
            logger.info("%s is compared by its names: %s", core.name, error)
            return None
        entry = sketch_entry(core.context.info_hash, found)
        if entry is not None and is_public(core):
            await catalogue.put_sketches([entry])
        return found

    def _link(self, source: str | Path) -> Magnet | None:
        """What a text names that is not a path; None: it may be one."""
        if isinstance(source, Path):
            return None
        text = source.strip()
        if text[:7].lower() == "magnet:" or given.is_info_hash(text):
            return given.read_link(text)
        digits = text.lower()
        ours = [one for one in self._supervisors if digits and one.hex().startswith(digits)]
        return Magnet(ours[0]) if len(ours) == 1 and len(digits) >= 4 else None

    async def _torrent(
        self,
        source: Magnet | Metainfo,
        query: SimilarQuery,
        catalogue: LocalCatalogue,
        searcher: Searcher,
    ) -> tuple[Traits, bytes, bool]:
        info_hash = source.info_hash
        supervisor = self._supervisors.get(info_hash)
        core = supervisor.core if supervisor is not None else None
        metainfo = source if isinstance(source, Metainfo) else core.metainfo if core else None
        may_ask = core is None or is_public(core)
        if metainfo is not None:
            may_ask &= not metainfo.private and metainfo.ssl_cert is None
        known = await self._known(info_hash, catalogue)
        if (known is None or not known.file_ids) and core is not None and core.is_complete:
            known = await self._look(core, catalogue) or known
        name = metainfo.name if metainfo is not None else source.name
        if known is None and query.network and may_ask and title_words(name or ""):
            # Its publisher may say what it is like, where words of the name lead to.
            words = SearchQuery(text=(name or "")[:500], patience=query.patience)
            with suppress(DhtTorrentError):
                await searcher.run(words, lambda result: None)
            known = await self._known(info_hash, catalogue)
        if known is None and metainfo is not None:
            known = _traits(metainfo, Sketched(None, ()))
        if known is None and (title := clean_title(name or "")):
            known = Traits(title=title, named=title_sketch(title))
        if known is None or (known.content, known.named, known.listed) == (None, None, None):
            raise InputError(
                f"nothing is known of {info_hash.hex()}: give its .torrent file, or a magnet link "
                "with its name"
            )
        return known, info_hash, may_ask


def _has(core: TorrentCore, size: int | None) -> bool:
    """Whether a torrent has so many bytes, or a file of so many."""
    files = [file.length for file in core.metainfo.files if not file.pad] if core.metainfo else []
    return size is not None and (size in files or size == sum(files))


def _entry(core: TorrentCore) -> Entry:
    assert core.metainfo is not None
    return entry_of(core.metainfo, Source.OWN)


def _traits(metainfo: Metainfo, made: Sketched) -> Traits:
    files = [(file.path, file.length) for file in metainfo.files if not file.pad]
    traits = Traits.of(metainfo.name, files)
    return replace(traits, content=made.content, file_ids=made.file_ids)


def _read(source: str | Path, cancelled: Callable[[], bool]) -> Traits | Magnet | Metainfo:
    """What a path names. Blocking. Raises InputError."""
    path = Path(source).expanduser()
    if not path.exists():
        raise InputError(
            f"{str(source)[:200]!r} is neither a file or folder here, nor a magnet link, nor the "
            "id of a torrent"
        )
    if path.suffix.lower() != ".torrent" or path.is_dir():
        return traits_of(path.absolute(), cancelled)
    found = given.read(path)
    return found.metainfo if isinstance(found, given.TorrentFile) else found
