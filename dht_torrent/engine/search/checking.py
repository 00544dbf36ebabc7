"""What a search says of one torrent, and how it knows. The rule: a name from the index counts as a
publisher's only when the signed record was fetched and is about this torrent and this name; and
where the torrent's own info dict is known, that is what it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from dht_torrent.catalogue import (
    Entry,
    KnownPublisher,
    Proof,
    PublisherTrust,
    SketchEntry,
    Source,
    SwarmHealth,
    TitleClaim,
)
from dht_torrent.config import SearchConfig
from dht_torrent.dht.items import MutableItem
from dht_torrent.engine.search.catalogue import LocalCatalogue
from dht_torrent.engine.search.fits import Fits
from dht_torrent.engine.search.reading import SearchCost
from dht_torrent.engine.search.records import Records
from dht_torrent.engine.search.views import ResultTrust, SearchResult
from dht_torrent.errors import NoReply, SearchFormatError, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import Magnet
from dht_torrent.search.codes import least_size
from dht_torrent.search.node import EPOCH_2026, Posting
from dht_torrent.search.rank import (
    SeenEntries,
    combined,
    freshness,
    health,
    title_rank,
    title_trust,
)
from dht_torrent.search.record import (
    PublisherRecord,
    TitleTrust,
    agrees_with_name,
    encode_sketches,
    is_verified,
    may_be_beginning,
    parse_record,
    record_salt,
    record_target,
)
from dht_torrent.search.similar import Traits
from dht_torrent.search.sketch import tree_keys
from dht_torrent.search.titles import clean_title, may_be_cut
from dht_torrent.search.words import title_runs, title_words

ELLIPSIS: Final = "\u2026"
_TITLE_TRUST: Final[dict[ResultTrust, TitleTrust]] = {
    "unverified": TitleTrust.UNVERIFIED,
    "verified": TitleTrust.VERIFIED,
    "strong": TitleTrust.STRONG,
}
TRUST: Final[dict[Proof, ResultTrust]] = {
    Proof.UNVERIFIED: "unverified",
    Proof.VERIFIED: "verified",
    Proof.STRONG: "strong",
}


class Swarms(Protocol):
    """What this node itself sees of torrents."""

    def name(self, infohash: bytes) -> str | None:
        """As the torrent's own info dict has it, if the torrent is here."""
        ...

    def joined(self, infohash: bytes) -> SwarmHealth | None:
        """Of a swarm that we are connected to."""
        ...

    async def look(self, infohash: bytes) -> SwarmHealth | None:
        """Ask the DHT; None when nobody knows."""
        ...


@dataclass(slots=True)
class Found:
    """A torrent of which an entry fits."""

    infohash: bytes
    postings: dict[bytes, Posting] = field(default_factory=dict)
    """By the target of the record; those that proved wrong are gone."""
    targets: set[bytes] = field(default_factory=set)
    """Of all records that entries pointed to."""
    tried: set[bytes] = field(default_factory=set)
    """Those that were looked up."""
    is_failed: bool = False
    """It was checked, and nothing could be said for sure."""
    health: SwarmHealth | None = None
    looked: trio.Event | None = None
    """Set when somebody has looked at its swarm."""


class Checker:
    """Checks what one search finds."""

    def __init__(
        self,
        catalogue: LocalCatalogue,
        records: Records,
        swarms: Swarms,
        seen: SeenEntries,
        fits: Fits,
        config: SearchConfig,
        cost: SearchCost,
        *,
        clock: Callable[[], float],
    ) -> None:
        """`seen`: how much each publisher was met with; `clock` gives Unix time."""
        self._catalogue = catalogue
        self._records = records
        self._swarms = swarms
        self._seen = seen
        self._fits = fits
        self._config = config
        self._cost = cost
        self._clock = clock
        self._looks = config.peers_looked_up
        self._trusted: list[bytes] = []
        self._blocked: list[bytes] = []
        self._verified: list[Entry] = []
        self._sketches: list[SketchEntry] = []
        self._health: dict[bytes, SwarmHealth] = {}

    def heed(self, publishers: Sequence[KnownPublisher]) -> None:
        """Whom the user trusts and blocks."""
        for one in publishers:
            if one.trust is PublisherTrust.TRUSTED:
                self._trusted.append(one.key)
            elif one.trust is PublisherTrust.BLOCKED:
                self._blocked.append(one.key)

    # -- what can be said -----------------------------------------------------------------------

    def local(self, entry: Entry) -> SearchResult:
        """What our own catalogue has."""
        claims = [claim for claim in entry.claims if claim.verified]
        trusted = [one for one in claims if one.publisher in self._trusted]
        best = next(iter(trusted or claims), None)
        title = entry.title
        is_cut = may_be_beginning(title)  # neither records nor the catalogue have longer ones
        if is_cut and (name := self._swarms.name(entry.infohash)) is not None:
            is_cut = not (whole := clean_title(name)).startswith(title)
            title = title if is_cut else whole
        return self._result(
            entry.infohash,
            title,
            size=entry.size,
            files=entry.files,
            published=entry.published,
            trust=TRUST[entry.proof],
            publisher=best.publisher if best is not None else None,
            publishers=len(claims or entry.claims),
            swarm=self._swarms.joined(entry.infohash) or entry.health,
            is_local=True,
            is_cut=is_cut,
        )

    def unverified(self, found: Found) -> SearchResult | None:
        """What an entry says, when nothing better is known; None when none is left of it."""
        postings = self._by_trust(found)
        if not postings:
            return None
        posting = postings[0][1]
        return self._result(
            found.infohash,
            clean_title(posting.preview),
            is_cut=may_be_cut(posting.preview),
            size=least_size(posting.size_code),
            files=None,
            published=float(EPOCH_2026 + 60 * posting.minutes),
            trust="unverified",
            publisher=None,
            publishers=len(postings),
            swarm=found.health,
        )

    async def verify(self, found: Found, nursery: trio.Nursery) -> SearchResult | None:
        """What can be said of a torrent for sure; None: nothing, for now. `nursery` is for looking
        at its swarm, which may take longer."""
        self._look(found, nursery)
        infohash = found.infohash
        ours = await self._ours(infohash)
        name = whole = self._swarms.name(infohash)
        if name is None and ours is not None and ours.proof is Proof.STRONG:
            name = ours.title
        for target, posting in self._by_trust(found):
            if target in found.tried:
                continue
            found.tried.add(target)
            item = await self._fetch(infohash, target)
            if item is None:
                continue  # perhaps only now
            record = read_record(item, posting)
            if record is None or not self._fits.is_one(record):
                del found.postings[target]  # a forgery, or not what is looked for after all
                continue
            differs = name is not None and not agrees_with_name(record.title, name)
            if differs and not self._fits.has_words(title_words(name or "")):
                found.postings.clear()  # it is what the torrent itself says
                return None
            self._note(item, record)
            if found.looked is not None:
                with trio.move_on_after(self._config.peers_patience):
                    await found.looked.wait()
            title = record.title if name is None else clean_title(name)
            return self._result(
                infohash,
                title,
                is_cut=whole is None and may_be_beginning(title),
                size=record.size,
                files=record.files,
                published=float(record.published),
                trust="verified" if name is None else "strong",
                publisher=item.key,
                publishers=len(found.postings),
                swarm=found.health or (ours.health if ours is not None else None),
            )
        return None

    # -- how it is known ------------------------------------------------------------------------

    async def _ours(self, infohash: bytes) -> Entry | None:
        try:
            return await self._catalogue.get(infohash)
        except StorageError:  # the network goes on without
            return None

    def _note(self, publisher: MutableItem, record: PublisherRecord) -> None:
        """What was verified is known from now on."""
        now = self._clock()
        self._seen.note(publisher.key, record.infohash, now)
        claim = TitleClaim(publisher.key, record.title, publisher.seq, verified=True)
        if (sketch := sketch_entry(record.infohash, record.traits)) is not None:
            self._sketches.append(sketch)
        self._verified.append(
            Entry(
                infohash=record.infohash,
                title=record.title,
                words=" ".join(title_words(record.title)),
                more=" ".join(title_words(record.tags)),
                size=record.size,
                files=record.files,
                published=record.published,
                sources=Source.NETWORK,
                proof=Proof.VERIFIED,
                claims=(claim,),
            )
        )

    async def save(self) -> None:
        """Put what was verified, and seen, into the catalogue: the next search has it at once."""
        now = int(self._clock())
        with suppress(StorageError):
            if self._verified:
                await self._catalogue.put(self._verified, now)
                await self._catalogue.put_sketches(self._sketches)
            if self._health:
                await self._catalogue.set_health(self._health)

    def _by_trust(self, found: Found) -> list[tuple[bytes, Posting]]:
        """Those of its entries whose publishers are not blocked, trusted ones first."""
        infohash = found.infohash
        for key in self._blocked:
            found.postings.pop(record_target(key, infohash), None)
        trusted = {record_target(key, infohash) for key in self._trusted}
        return sorted(found.postings.items(), key=lambda item: item[0] not in trusted)

    async def _fetch(self, infohash: bytes, target: bytes) -> MutableItem | None:
        self._cost.records += 1
        with trio.move_on_after(self._config.record_patience), suppress(NoReply):
            return await self._records.get(target, record_salt(infohash))
        return None

    def _look(self, found: Found, nursery: trio.Nursery) -> None:
        """See how many have it: of the first few, while their records are looked up."""
        found.health = found.health or self._swarms.joined(found.infohash)
        if found.health is not None or found.looked is not None or self._looks <= 0:
            return
        self._looks -= 1
        found.looked = looked = trio.Event()

        async def look() -> None:
            try:
                with trio.move_on_after(self._config.record_patience), suppress(NoReply):
                    found.health = await self._swarms.look(found.infohash)
            finally:
                looked.set()
            if found.health is not None:
                self._health[found.infohash] = found.health

        nursery.start_soon(look)

    def _result(
        self,
        infohash: bytes,
        name: str,
        *,
        size: int | None,
        files: int | None,
        published: float | None,
        trust: ResultTrust,
        publisher: bytes | None,
        publishers: int,
        swarm: SwarmHealth | None,
        is_local: bool = False,
        is_cut: bool = False,
    ) -> SearchResult:
        trusted = publisher in self._trusted
        now = self._clock()
        share = 1.0
        if publisher is not None and not trusted:
            share = min(self._seen.points(publisher, now), 1.0)
        words = self._fits.words
        score = combined(
            text=title_rank(words, title_runs(name)),
            health=health(swarm.peers if swarm is not None else None),
            trust=title_trust(_TITLE_TRUST[trust], share, is_trusted=trusted),
            fresh=freshness(published, now),
        )
        return SearchResult(
            id=infohash.hex(),
            name=name + ELLIPSIS if is_cut else name,
            name_is_cut=is_cut,
            size=size,
            files=files,
            published=float(published) if published is not None else None,
            trust=trust,
            publisher=publisher.hex() if publisher is not None else None,
            publishers=publishers,
            peers=swarm.peers if swarm is not None else None,
            seeds=swarm.seeds if swarm is not None else None,
            peers_how=swarm.how if swarm is not None else None,
            peers_at=float(swarm.checked) if swarm is not None else None,
            source="local" if is_local else "network",
            magnet=str(Magnet(InfoHash(infohash), None if is_cut else name)),
            trusted=trusted,
            score=score * share,  # who fills pages comes last
        )


def sketch_entry(infohash: bytes, traits: Traits) -> SketchEntry | None:
    """What a torrent is like, for the catalogue; None when nothing is known."""
    keys = [
        (f"{code}{tree}", key)
        for code, tree, key in tree_keys(traits.content, traits.named, traits.listed)
    ]
    keys += [("r", one) for one in traits.file_ids]
    return SketchEntry(infohash, encode_sketches(traits), tuple(keys)) if keys else None


def read_record(item: MutableItem, posting: Posting) -> PublisherRecord | None:
    """The record that an entry points to; None when it is not one, or not of this torrent and this
    title."""
    try:
        record = parse_record(item.value)
    except SearchFormatError:
        return None
    right = is_verified(
        record,
        infohash=posting.infohash,
        preview=posting.preview,
        key=item.key,
        salt=item.salt,
        target=posting.record,
    )
    return record if right else None
