"""Which torrents are similar to one: in our own catalogue, and in the trees of sketches. The rule:
what is said of a torrent's content is what its publisher signed; entries of trees, which anybody
may write, only say whose records to look up.

All trees are read side by side. A torrent that is near in many of them is looked up first, so that
entries that are strewn over a tree come last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from dht_torrent.catalogue import Entry, Proof, PublisherTrust, Source, TitleClaim
from dht_torrent.config import SearchConfig
from dht_torrent.dht.items import MutableItem
from dht_torrent.engine.search.catalogue import LocalCatalogue
from dht_torrent.engine.search.checking import ELLIPSIS, TRUST, read_record, sketch_entry
from dht_torrent.engine.search.records import Records
from dht_torrent.engine.search.tree import Trees
from dht_torrent.engine.search.views import ResultSource, ResultTrust, SimilarResult
from dht_torrent.errors import NoReply, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import Magnet
from dht_torrent.search.codes import hash_digits
from dht_torrent.search.label import Index, Label, tree_root
from dht_torrent.search.node import Entry as IndexEntry
from dht_torrent.search.node import Posting, key_in
from dht_torrent.search.record import (
    PublisherRecord,
    decode_sketches,
    may_be_beginning,
    record_salt,
    record_target,
)
from dht_torrent.search.similar import Likeness, Traits, likeness, ranked
from dht_torrent.search.sketch import tree_keys
from dht_torrent.search.words import title_words

MAX_POSTINGS: Final = 4000
"""Entries of trees that are remembered; all that `similar_gets` slots of 18 trees hold."""
SAME: Final = 16
"""What counts as much as digits in common: an entry that has the same file."""
STRONG: Final = 3
"""Digits in common from which on a torrent's record is looked up in any case. By chance, one
torrent in 400 has as many in one of ten trees."""
SAVE_PATIENCE: Final = 1.0
"""Seconds that storing what was verified gets when a search is cut short."""
_INDEXES: Final = {"c": Index.CONTENT, "n": Index.NAMES}


@dataclass(frozen=True, slots=True)
class _Known:
    """A torrent that was looked at."""

    traits: Traits
    alike: Likeness
    name: str
    published: int | None
    trust: ResultTrust
    publisher: bytes | None
    source: ResultSource


class SimilarSearch:
    """One search."""

    def __init__(
        self,
        asked: Traits,
        infohash: bytes | None,
        own: Sequence[tuple[Entry, Traits]] = (),
        *,
        catalogue: LocalCatalogue,
        trees: Trees,
        records: Records,
        config: SearchConfig,
        clock: Callable[[], float],
    ) -> None:
        """`infohash`: of the torrent itself, which is not among the results. `own`: torrents that
        are here and that the catalogue does not know so well."""
        self.gets = 0
        """Slots that were read."""
        self.records = 0
        """Publishers' records that were looked up."""
        self._asked = asked
        self._infohash = infohash
        self._own = own
        self._catalogue = catalogue
        self._trees = trees
        self._record_items = records
        self._config = config
        self._clock = clock
        self._keys = tree_keys(asked.content, asked.named, asked.listed)
        self._known: dict[bytes, _Known] = {}
        self._near: Counter[tuple[bytes, bytes]] = Counter()
        """How near an infohash is, by whose record: digits that keys have in common, of all trees
        together."""
        self._postings: dict[tuple[bytes, bytes], Posting] = {}
        self._verified: list[tuple[MutableItem, PublisherRecord]] = []

    async def run(self, limit: int, patience: float, *, network: bool) -> list[SimilarResult]:
        """The most similar first. Raises StorageError."""
        deadline = trio.current_time() + patience
        await self._here()
        try:
            if network:
                with trio.move_on_at(deadline):
                    await self._there()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_PATIENCE):
                await self._save()
        found = list(self._known.items())
        order = ranked(self._asked, [(one.traits, one.alike) for _, one in found])
        return [_result(*found[place]) for place in order[:limit]]

    # -- our own catalogue ----------------------------------------------------------------------

    async def _here(self) -> None:
        keys = [(f"{code}{tree}", key) for code, tree, key in self._keys]
        keys += [("r", one) for one in self._asked.file_ids]
        near = [one for one in await self._catalogue.alike(keys) if one != self._infohash]
        sketches = await self._catalogue.sketches(near)
        for infohash in near:
            entry = await self._catalogue.get(infohash)
            if entry is None or infohash not in sketches:
                continue
            raw = sketches[infohash]
            self._add_entry(entry, decode_sketches(raw, entry.title, entry.size, entry.files))
        for entry, traits in self._own:
            if not self._catalogue.denied.entry(entry):
                self._add_entry(entry, traits)

    # -- the index ------------------------------------------------------------------------------

    async def _there(self) -> None:
        blocked = [
            one.key
            for one in await self._catalogue.publishers()
            if one.trust is PublisherTrust.BLOCKED
        ]
        async with trio.open_nursery() as nursery:
            for code, tree, key in self._keys:
                top = Label(_INDEXES[code], tree_root(tree))
                nursery.start_soon(self._read_near, top, hash_digits(key, top.index.width))
            for one in self._asked.file_ids:
                nursery.start_soon(self._read_file, Label(Index.FILES, one))
        order = sorted(self._near, key=lambda name: (-self._near[name], name))
        wanted = [
            name
            for name in order
            if name[0] not in self._known
            and name[0] != self._infohash
            and all(record_target(key, name[0]) != name[1] for key in blocked)
        ]
        # What is in a tree's upper nodes, or beside, is hardly similar: of that, only some.
        strong = sum(self._near[name] >= STRONG for name in wanted)
        del wanted[max(strong, self._config.similar_enough) :]
        limit = trio.Semaphore(self._config.records_at_once)
        async with trio.open_nursery() as nursery:
            for name in wanted[: self._config.similar_records]:
                nursery.start_soon(self._check, self._postings[name], limit)

    async def _read_near(self, top: Label, digits: bytes) -> None:
        seen: set[tuple[bytes, bytes]] = set()
        with suppress(NoReply):
            walked = await self._trees.nearest(
                top,
                digits,
                partial(self._take, seen, digits),
                gets=self._config.similar_gets,
                enough=self._config.similar_enough,
                first=True,
            )
            self.gets += walked.gets

    async def _read_file(self, top: Label) -> None:
        seen: set[tuple[bytes, bytes]] = set()
        with suppress(NoReply):
            walked = await self._trees.walk(
                top, partial(self._take, seen, None), gets=self._config.similar_gets, first=True
            )
            self.gets += walked.gets

    async def _take(
        self,
        seen: set[tuple[bytes, bytes]],
        digits: bytes | None,
        entries: Sequence[IndexEntry],
    ) -> bool:
        """Count what one tree has; `digits` are those of our key, if it is one of sketches."""
        await trio.lowlevel.checkpoint()
        for one in entries:
            if not isinstance(one, Posting):
                continue
            name = one.infohash, one.record
            if name in seen or (name not in self._postings and len(self._postings) >= MAX_POSTINGS):
                continue
            seen.add(name)
            self._postings[name] = one
            self._near[name] += SAME if digits is None else _in_common(one, digits)
        return False

    async def _check(self, posting: Posting, limit: trio.Semaphore) -> None:
        """Look up the record that an entry points to."""
        item = None
        async with limit:
            self.records += 1
            with trio.move_on_after(self._config.record_patience), suppress(NoReply):
                item = await self._record_items.get(posting.record, record_salt(posting.infohash))
        record = read_record(item, posting) if item is not None else None
        if item is None or record is None:
            return  # a forgery, or nobody has it just now
        entry = _entry_of(item, record)
        if self._catalogue.denied.entry(entry):
            return
        self._verified.append((item, record))
        self._add(
            record.infohash,
            record.traits,
            name=record.title,
            published=record.published,
            trust="verified",
            publisher=item.key,
            source="network",
        )

    # -- within ---------------------------------------------------------------------------------

    def _add_entry(self, entry: Entry, traits: Traits) -> None:
        claim = next((one for one in entry.claims if one.verified), None)
        self._add(
            entry.infohash,
            traits,
            name=entry.title,
            published=entry.published,
            trust=TRUST[entry.proof],
            publisher=claim.publisher if claim is not None else None,
            source="local",
        )

    def _add(
        self,
        infohash: bytes,
        traits: Traits,
        *,
        name: str,
        published: int | None,
        trust: ResultTrust,
        publisher: bytes | None,
        source: ResultSource,
    ) -> None:
        alike = likeness(self._asked, traits)
        before = self._known.get(infohash)
        if before is None or before.alike.score < alike.score:
            self._known[infohash] = _Known(traits, alike, name, published, trust, publisher, source)

    async def _save(self) -> None:
        """What was verified is known from now on."""
        with suppress(StorageError):
            if self._verified:
                entries = [_entry_of(item, record) for item, record in self._verified]
                await self._catalogue.put(entries, int(self._clock()))
                sketches = [sketch_entry(one.infohash, one.traits) for _, one in self._verified]
                await self._catalogue.put_sketches([one for one in sketches if one is not None])


def _in_common(posting: Posting, digits: bytes) -> int:
    """How many digits its key and another begin with."""
    own = hash_digits(key_in(posting), Index.CONTENT.width)
    return next((n for n, (a, b) in enumerate(zip(own, digits, strict=False)) if a != b), len(own))


def _entry_of(item: MutableItem, record: PublisherRecord) -> Entry:
    return Entry(
        infohash=record.infohash,
        title=record.title,
        words=" ".join(title_words(record.title)),
        more=" ".join(title_words(record.tags)),
        size=record.size,
        files=record.files,
        published=record.published,
        sources=Source.NETWORK,
        proof=Proof.VERIFIED,
        claims=(TitleClaim(item.key, record.title, item.seq, verified=True),),
    )


def _result(infohash: bytes, one: _Known) -> SimilarResult:
    alike, kinship = one.alike, one.alike.kinship
    assert kinship is not None  # or it was not ranked
    is_cut = may_be_beginning(one.name)
    return SimilarResult(
        id=infohash.hex(),
        name=one.name + ELLIPSIS if is_cut else one.name,
        size=one.traits.size,
        files=one.traits.files,
        published=float(one.published) if one.published is not None else None,
        kinship=kinship.value,
        score=round(min(alike.score, 1.0), 4),
        content=alike.content,
        title=alike.title,
        listed=alike.listed,
        same_files=alike.same_files,
        trust=one.trust,
        publisher=one.publisher.hex() if one.publisher is not None else None,
        source=one.source,
        magnet=str(Magnet(InfoHash(infohash), None if is_cut else one.name)),
    )
