"""What a catalogue stores. `bounded` checks what comes in: after it, everything is of a size that a
stranger cannot choose, and fit to be stored and shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from dht_torrent.bounds import MAX_FILES, MAX_TOTAL, in_calendar
from dht_torrent.filenames import printable

MAX_TITLE: Final = 160
"""UTF-8 bytes of a title, as in a publisher's record."""
MAX_WORD: Final = 64
"""UTF-8 bytes of a word; the search package's have at most 24."""
MAX_WORDS: Final = 1024
"""UTF-8 bytes of a title's words with the spaces between them: 160 bytes of Chinese with their
pairs of characters have 590."""
MAX_MORE: Final = 4096
"""UTF-8 bytes of further words: of the names of files, and of tags."""
MAX_LISTED: Final = 100
"""Files listed of one torrent."""
MAX_PATH: Final = 240
"""UTF-8 bytes of a listed file's path."""
MAX_TAGS: Final = 16
MAX_TAG: Final = 32
"""UTF-8 bytes of a tag."""
MAX_CLAIMS: Final = 16
"""Publishers kept of one torrent. When there are more, the one not seen for longest gives way."""
MAX_QUERY_WORDS: Final = 16
MAX_RESULTS: Final = 1000
"""Results of one query, and entries in one page."""
MAX_KEY: Final = 64
"""Bytes of a word or a key in the outbox, and of a word that is counted."""
MAX_SKETCH: Final = 1000
MAX_SKETCH_KEYS: Final = 32
MAX_COUNTED: Final = 10_000
"""Words whose number of torrents is remembered; the one remembered longest gives way."""
MAX_SEQ: Final = 2**63 - 1
MAX_PEERS: Final = 2**31 - 1

_SEPARATORS = re.compile(r"[\x00-\x20\x7f]+")
_plain_text = re.compile(r"[ -~]*")
_plain_words = re.compile(r"[!-~]{1,64}(?: [!-~]{1,64})*")


class Source(IntFlag):
    """Where we know a torrent from. The numbers are stored: they never change their meaning."""

    NONE = 0
    OWN = 1
    """Shared by this node: never evicted, and only we change it."""
    NETWORK = 2
    """A search found it in the DHT."""
    IMPORT = 4
    """It was in a file of JSON lines."""
    CRAWL = 8
    """A crawl of the DHT came upon it (BEP 51)."""
    FEED = 16
    """It is in the catalogue of a publisher that the user subscribes to."""


class Proof(IntEnum):
    """How well title and size are known. The numbers are stored."""

    UNVERIFIED = 0
    """Claimed, and not checked."""
    VERIFIED = 1
    """A publisher's signed record says so."""
    STRONG = 2
    """The torrent's own info dict says so."""


class PublisherTrust(IntEnum):
    """What the user thinks of a publisher. The numbers are stored."""

    BLOCKED = -1
    NEUTRAL = 0
    TRUSTED = 1


class ListedFile(NamedTuple):
    path: str
    """For people: components with `/` between them."""
    size: int


class TitleClaim(NamedTuple):
    """A publisher says what a torrent is."""

    publisher: bytes
    """Its Ed25519 key, 32 bytes."""
    title: str
    seq: int
    """Of its record (BEP 44)."""
    verified: bool
    """The record was fetched, and its signature, infohash and title agreed."""
    trust: PublisherTrust = PublisherTrust.NEUTRAL
    """Filled in by the catalogue."""


class SwarmHealth(NamedTuple):
    """How many have a torrent, as we found it ourselves."""

    seeds: int | None
    peers: int
    checked: int
    """Seconds since 1970."""
    how: str
    """`bep33`, `get_peers` or `joined`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A torrent. Times are whole seconds since 1970."""

    infohash: bytes
    """20 bytes."""
    title: str
    words: str
    """Those of the title, normalised, with spaces between them."""
    more: str = ""
    """Further words it can be found by, normalised: of its files and tags."""
    size: int | None = None
    files: int | None = None
    """How many."""
    published: int | None = None
    sources: Source = Source.NONE
    proof: Proof = Proof.UNVERIFIED
    tags: tuple[str, ...] = ()
    listed: tuple[ListedFile, ...] = ()
    """Some of its files. What a search returns has none: `get` has them."""
    claims: tuple[TitleClaim, ...] = ()
    # What follows is the catalogue's own, and ignored in what is put in.
    health: SwarmHealth | None = None
    first_seen: int = 0
    seen: int = 0
    """Put in last."""
    relevance: float = 0.0
    """How well it matches the query (BM25), larger is better. Of use within one query only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueQuery:
    """Torrents that have all the words, and lie within all limits (inclusive). Without a word:
    the newest here within the limits."""

    words: tuple[str, ...] = ()
    """Normalised."""
    prefix: bool = False
    """The last word is the beginning of one."""
    min_size: int | None = None
    max_size: int | None = None
    since: int | None = None
    until: int | None = None
    """When it was published, in seconds since 1970. A torrent whose date or size is not known lies
    within no limit of it."""
    limit: int = 200
    """Results, of which a ranking makes the final order."""


class KnownPublisher(NamedTuple):
    """A publisher the user trusts or blocks."""

    key: bytes
    trust: PublisherTrust
    name: str
    """What the user calls it."""
    since: int


class OutboxEntry(NamedTuple):
    """An entry of ours in the network's index, and when it is to be renewed."""

    infohash: bytes
    tree: str
    """The kind of tree, or `record`; at most 16 characters."""
    root: bytes
    """The tree's root key: a word, a pair of words."""
    due: int
    """Seconds since 1970."""
    depth: int = 0
    """Where in the tree it was last: there the next write begins to look."""
    failures: int = 0
    """In a row."""


class SketchEntry(NamedTuple):
    """What a torrent is like. The catalogue does not look into the sketch."""

    infohash: bytes
    sketch: bytes
    """At most `MAX_SKETCH` bytes."""
    keys: tuple[tuple[str, bytes], ...]
    """Trees, and the sketch's keys in them: the more two keys of a tree begin alike, the more are
    the torrents."""


class PutResult(NamedTuple):
    """What became of what was put in."""

    added: int = 0
    known: int = 0
    """Here already; their entries were completed."""
    refused: int = 0
    """Only blocked publishers vouch for them."""


class CatalogueSummary(NamedTuple):
    """The state of a catalogue."""

    torrents: int
    own: int
    outbox: int
    bytes: int
    """Of the database, without what is free for use in it."""
    bytes_most: int
    """What they may be before the catalogue forgets."""


def bounded(entry: Entry) -> Entry:
    """The entry as it may be stored: cut, cleaned, and without values that cannot be true.

    Raises ValueError for an infohash or a key that has not the length of one: a bug of the caller.
    """
    if len(entry.infohash) != 20:
        raise ValueError("an infohash has 20 bytes")
    title, words = shown(entry.title, MAX_TITLE), stored_words(entry.words, MAX_WORDS)
    more = stored_words(entry.more, MAX_MORE) if entry.more else ""
    plain = not (entry.tags or entry.listed or entry.claims)
    if plain and title is entry.title and words is entry.words and more is entry.more:
        times = date(entry.published) == entry.published
        if times and _fits(entry.size, MAX_TOTAL) and _fits(entry.files, MAX_FILES):
            return entry  # as most are: a copy would cost as much as all the rest
    return replace(
        entry,
        title=title,
        words=words,
        more=more,
        size=within(entry.size, MAX_TOTAL),
        files=within(entry.files, MAX_FILES),
        published=date(entry.published),
        tags=tuple(bounded_tags(entry.tags)) if entry.tags else (),
        listed=tuple(_listed(entry.listed[:MAX_LISTED])) if entry.listed else (),
        claims=_claims(entry.claims[:MAX_CLAIMS]) if entry.claims else (),
    )


def shown(text: str, limit: int) -> str:
    """`text` without what must not reach a terminal, and at most `limit` bytes of UTF-8."""
    if len(text) <= limit and _plain_text.fullmatch(text):
        return text
    text = printable(text[:limit])
    return text if text.isascii() else cut(text, limit)


def check_sketch(entry: SketchEntry) -> None:
    """Raises ValueError for one that is too large: a bug of the caller."""
    if len(entry.sketch) > MAX_SKETCH or len(entry.keys) > MAX_SKETCH_KEYS:
        raise ValueError("a sketch has at most 1000 bytes, and 32 keys")
    if any(len(tree) > 16 or len(key) > MAX_KEY for tree, key in entry.keys):
        raise ValueError("a tree's name has at most 16 characters, and a key 64 bytes")


def cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, whole characters, none that UTF-8 has not."""
    return text[:limit].encode("utf-8", "ignore")[:limit].decode("utf-8", "ignore")


def stored_words(text: str, limit: int) -> str:
    """Words with spaces between them, at most `limit` bytes: whole words, none too long."""
    if len(text) <= limit and _plain_words.fullmatch(text):
        return text
    kept: list[str] = []
    # No character is left out of a word but what no word has, so this is enough to look at.
    for word in _SEPARATORS.split(text[: 2 * limit]):
        if word := cut(word, MAX_WORD):
            limit -= len(word.encode()) + bool(kept)
            if limit < 0:
                break
            kept.append(word)
    return " ".join(kept)


def query_words(words: Iterable[str]) -> tuple[str, ...]:
    """Those of a query as they are looked for."""
    text = stored_words(" ".join(words), MAX_WORDS)
    return tuple(text.split(" ")[:MAX_QUERY_WORDS]) if text else ()


def within(number: int | None, limit: int) -> int | None:
    """`number` if it can be true, None otherwise."""
    return number if _fits(number, limit) else None


def _fits(number: int | None, limit: int) -> bool:
    return number is None or 0 <= number <= limit


def date(seconds: float | None) -> int | None:
    return int(seconds) if seconds is not None and in_calendar(seconds) else None


def bounded_tags(tags: Iterable[str]) -> Iterable[str]:
    """Different ones, without spaces: they are stored with spaces between them."""
    kept = dict.fromkeys("-".join(shown(tag, MAX_TAG).split()) for tag in tags)
    return [tag for tag in kept if tag][:MAX_TAGS]


def _listed(files: Iterable[ListedFile]) -> Iterable[ListedFile]:
    return (ListedFile(shown(path, MAX_PATH), within(size, MAX_TOTAL) or 0) for path, size in files)


def _claims(claims: Iterable[TitleClaim]) -> tuple[TitleClaim, ...]:
    """One for each publisher, the last."""
    kept: dict[bytes, TitleClaim] = {}
    for claim in claims:
        check_key(claim.publisher)
        kept[claim.publisher] = claim._replace(
            title=shown(claim.title, MAX_TITLE), seq=max(0, min(claim.seq, MAX_SEQ))
        )
    return tuple(kept.values())


def check_key(key: bytes) -> None:
    """Raises ValueError unless this can be a publisher's."""
    if len(key) != 32:
        raise ValueError("a publisher's key has 32 bytes")
