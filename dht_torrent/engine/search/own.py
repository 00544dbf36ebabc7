"""What this node shares itself, as search has it: entries of the catalogue, and what it sees of
swarms. The rule: nothing of a private or an SSL torrent gets into the catalogue, which people
export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dht_torrent.catalogue import Entry, ListedFile, Proof, Source, SwarmHealth
from dht_torrent.catalogue.entries import MAX_TAG, MAX_TAGS
from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.errors import InputError
from dht_torrent.ids import InfoHash, parse_info_hash
from dht_torrent.metainfo import Metainfo
from dht_torrent.search.record import joined_tags
from dht_torrent.search.titles import clean_title
from dht_torrent.search.words import title_words

MAX_LISTED = 100
"""Files of a torrent that are listed, and whose names it is found by in our own catalogue."""


def is_public(core: TorrentCore) -> bool:
    """Whether it may be in the catalogue."""
    return not core.context.is_ssl and not core.context.is_private


def check_tags(tags: Sequence[str]) -> None:
    """Raises InputError for tags that nothing can be published with."""
    if len(tags) > MAX_TAGS:
        raise InputError(f"a torrent has at most {MAX_TAGS} tags")
    for tag in tags:
        try:
            size = len(tag.encode())
        except UnicodeEncodeError:
            raise InputError("a tag holds half a character (a lone surrogate)") from None
        if size > MAX_TAG:
            raise InputError(f"a tag has at most {MAX_TAG} bytes, which {tag[:40]!r} exceeds")
    joined_tags(tags)


def why_not(core: TorrentCore) -> str | None:
    """Why a torrent is not to be published, in a line; None: it may be."""
    if core.context.is_ssl:
        return "an SSL torrent is for those who have a certificate, and is not published"
    if core.context.is_private:
        return "a private torrent is not published"
    if core.metainfo is None or not core.place.shared:
        return "what was fetched is not published; share its files from another folder to do so"
    return None


def own_entry(core: TorrentCore, now: float) -> Entry | None:
    """The entry of a torrent that is here; None while its metadata is not known, or for ever."""
    metainfo = core.metainfo
    if metainfo is None or not is_public(core):
        return None
    published = int(now) if core.published is not None else None
    tags = core.published or ()
    return entry_of(metainfo, Source.OWN, tags=tags, published=published)


def entry_of(
    metainfo: Metainfo, source: Source, *, tags: Sequence[str] = (), published: int | None = None
) -> Entry:
    """What a torrent's own metadata says of it."""
    files = [file for file in metainfo.files if not file.pad]
    listed = [ListedFile("/".join(file.path), file.length) for file in files[:MAX_LISTED]]
    title = clean_title(metainfo.name)
    more = [word for text in (*tags, *(file.path for file in listed)) for word in title_words(text)]
    return Entry(
        infohash=metainfo.info_hash,
        title=title,
        words=" ".join(title_words(title)),
        more=" ".join(dict.fromkeys(more)),
        size=sum(file.length for file in files),
        files=len(files),
        published=published,
        sources=source,
        proof=Proof.STRONG,
        tags=tuple(tags),
        listed=tuple(listed) if len(files) > 1 else (),
    )


class NodeSwarms:
    """`engine.search.searching.Swarms` of a node."""

    def __init__(
        self,
        torrents: Mapping[InfoHash, Torrent],
        dht: DualStack,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives Unix time."""
        self._torrents = torrents
        self._dht = dht
        self._clock = clock

    def name(self, infohash: bytes) -> str | None:
        """See `Swarms.name`."""
        torrent = self._torrents.get(parse_info_hash(infohash))
        if torrent is None or torrent.metainfo is None:
            return None
        return torrent.metainfo.name

    def joined(self, infohash: bytes) -> SwarmHealth | None:
        """See `Swarms.joined`."""
        torrent = self._torrents.get(parse_info_hash(infohash))
        peers = torrent.peers() if torrent is not None else []
        if not peers:
            return None
        seeds = sum(peer.progress >= 1 for peer in peers)
        return SwarmHealth(seeds, len(peers), int(self._clock()), "joined")

    async def look(self, infohash: bytes) -> SwarmHealth | None:
        """See `Swarms.look`: an estimate of BEP 33, or where nobody gives one, the addresses that
        are named."""
        info_hash = parse_info_hash(infohash)
        scrape = await self._dht.scrape(info_hash)
        seeds, peers = round(scrape.seeds), round(scrape.seeds + scrape.downloaders)
        if scrape.answered and peers:
            return SwarmHealth(seeds, peers, int(self._clock()), "bep33")
        lookup = await self._dht.find_peers(info_hash, on_peers=lambda peers: None)
        if not lookup.answered:
            return None
        return SwarmHealth(None, len(lookup.peers), int(self._clock()), "get_peers")
