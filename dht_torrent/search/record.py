"""A publisher's record: what one key holder says of one torrent, as the value of a mutable item
(BEP 44) under that key. The rule: only what the signature covers is shown as verified, and only
when it is about the torrent that was found.

The dict has `ih`, so that the item is one of BEP 46 as well, and `n`, `z`, `f`, `t`, and perhaps
`ty` and `k`; and perhaps what similar torrents are told by (`sketch`, `similar`): `c`, the sketch
of the content, `s`, those of the title and of the list of files, and `r`, ids of the largest files.
Keys of later versions are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Final, TypedDict

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.bounds import LAST_DATE, MAX_FILES, MAX_TOTAL
from dht_torrent.errors import BencodeError, InputError, SearchFormatError
from dht_torrent.search.similar import FILE_ID, MAX_FILE_IDS, Traits
from dht_torrent.search.sketch import CONTENT_SIZE, NAME_SIZE
from dht_torrent.search.titles import clean_title, cut, may_be_cut
from dht_torrent.search.words import title_words

MAX_RECORD: Final = 1000
"""Bytes, bencoded (BEP 44)."""
MAX_TITLE: Final = 160
"""Bytes of UTF-8."""
MAX_TAGS: Final = 100
"""Bytes of UTF-8 of all tags, with spaces between them."""
MAX_KIND: Final = 255
INFOHASH_SIZE: Final = 20


class TitleTrust(Enum):
    """Who vouches for the title of a result."""

    DIFFERS = "differs"
    """The torrent's own info dict has a name which lacks words of the title."""
    UNVERIFIED = "unverified"
    """Whoever wrote into the index, and nobody else."""
    VERIFIED = "verified"
    """A publisher signed it."""
    STRONG = "strong"
    """A publisher signed it, and the torrent's own info dict agrees."""


@lru_cache(maxsize=512)
def _words(title: str, tags: str) -> tuple[str, ...]:
    """Of a title and tags that are as short as a record's. A publisher asks again and again."""
    return tuple(dict.fromkeys(title_words(title) + title_words(tags)))


@dataclass(frozen=True, slots=True)
class PublisherRecord:
    """Made by `make_record`, or read by `parse_record` and `decode_record`: within the bounds."""

    infohash: bytes
    """20 bytes; of a torrent of version 2 alone, the truncated hash."""
    title: str
    """Clean, and not empty."""
    size: int
    """Bytes of content."""
    files: int
    published: int
    """Unix seconds."""
    kind: int = 0
    """Of what kind the content is. 0: not said."""
    tags: str = ""
    """More words to be found by, with spaces between them. Clean."""
    content: bytes | None = None
    """The sketch of the content. None: not known."""
    named: bytes | None = None
    """That of the title ..."""
    listed: bytes | None = None
    """... and of the list of files: only where there is one of the title."""
    file_ids: tuple[bytes, ...] = ()
    """Of the largest files."""

    @property
    def traits(self) -> Traits:
        """What of it is compared with other torrents."""
        return Traits(
            title=self.title,
            size=self.size,
            files=self.files,
            content=self.content,
            named=self.named,
            listed=self.listed,
            file_ids=self.file_ids,
        )

    @property
    def words(self) -> tuple[str, ...]:
        """All words it can be found by. A result that lacks a word of the query is not one."""
        return _words(self.title, self.tags)


def make_record(
    infohash: bytes,
    title: str,
    *,
    size: int,
    files: int,
    published: int,
    kind: int = 0,
    tags: Iterable[str] = (),
    alike: Traits | None = None,
) -> PublisherRecord:
    """A record of our own. The title is cleaned, and cut if it is too long. `alike`: what similar
    torrents are told by, of which sketches and file ids are used.

    Raises InputError for a title or tags without a word, or tags that are too long.
    """
    if len(infohash) != INFOHASH_SIZE:
        raise ValueError("an infohash in a record has 20 bytes")
    shown = cut(clean_title(title), MAX_TITLE)
    if not title_words(shown):
        raise InputError(f"nothing can be found by this title: {shown!r}")
    all_tags = joined_tags(tags)
    for value, name, largest in [
        (size, "size", MAX_TOTAL),
        (files, "files", MAX_FILES),
        (published, "published", LAST_DATE),
        (kind, "kind", MAX_KIND),
    ]:
        if not 0 <= value <= largest:
            raise ValueError(f"{name} is from 0 to {largest}")
    record = PublisherRecord(infohash, shown, size, files, published, kind, all_tags)
    if alike is None:
        return record
    return replace(
        record,
        content=alike.content,
        named=alike.named,
        listed=alike.listed if alike.named else None,
        file_ids=alike.file_ids[:MAX_FILE_IDS],
    )


def joined_tags(tags: Iterable[str]) -> str:
    """Tags as a record has them. Raises InputError for one without a word, or if they are too
    long."""
    joined = []
    for tag in tags:
        if not title_words(clean := clean_title(tag)):
            raise InputError(f"nothing can be found by this tag: {clean!r}")
        joined.append(clean)
    all_tags = " ".join(joined)
    if len(all_tags.encode()) > MAX_TAGS:
        raise InputError(f"all tags together have at most {MAX_TAGS} bytes")
    return all_tags


def record_value(record: PublisherRecord) -> dict[bytes, Value]:
    """What is put: less than `MAX_RECORD` bytes."""
    value: dict[bytes, Value] = {
        b"f": record.files,
        b"ih": record.infohash,
        b"n": record.title.encode(),
        b"t": record.published,
        b"z": record.size,
    }
    if record.tags:
        value[b"k"] = record.tags.encode()
    if record.kind:
        value[b"ty"] = record.kind
    return value | _sketches_value(record)


def encode_sketches(traits: Traits) -> bytes:
    """What is not in the catalogue's entry of a torrent, as it is in a record. Less than
    `MAX_RECORD` bytes."""
    return bencode.encode(_sketches_value(traits))


def decode_sketches(raw: bytes, title: str, size: int | None, files: int | None) -> Traits:
    """Of what `encode_sketches` gave; nothing else than the arguments of what it did not."""
    try:
        value = bencode.decode(raw, max_depth=2, max_tokens=20, max_size=MAX_RECORD)
    except BencodeError:
        value = {}
    sketches = _sketches_of(value) if isinstance(value, dict) else {}
    return Traits(title=title, size=size, files=files, **sketches)


def _sketches_value(one: PublisherRecord | Traits) -> dict[bytes, Value]:
    value: dict[bytes, Value] = {}
    if one.content is not None:
        value[b"c"] = one.content
    if one.named is not None:
        value[b"s"] = one.named + (one.listed or b"")
    if one.file_ids:
        value[b"r"] = b"".join(one.file_ids[:MAX_FILE_IDS])
    return value


class _Sketches(TypedDict, total=False):
    content: bytes | None
    named: bytes | None
    listed: bytes | None
    file_ids: tuple[bytes, ...]


def _sketches_of(value: Mapping[bytes, Value]) -> _Sketches:
    named = _sketch(value, b"s", NAME_SIZE, 2 * NAME_SIZE) or b""
    ids = _sketch(value, b"r", *range(FILE_ID, (MAX_FILE_IDS + 1) * FILE_ID, FILE_ID)) or b""
    return {
        "content": _sketch(value, b"c", CONTENT_SIZE),
        "named": named[:NAME_SIZE] or None,
        "listed": named[NAME_SIZE:] or None,
        "file_ids": tuple(ids[at : at + FILE_ID] for at in range(0, len(ids), FILE_ID)),
    }


def encode_record(record: PublisherRecord) -> bytes:
    """The same bencoded."""
    return bencode.encode(record_value(record))


def parse_record(value: Value) -> PublisherRecord:
    """Reads what an item holds. Raises SearchFormatError."""
    if not isinstance(value, dict):
        raise SearchFormatError("a record is a dict")
    infohash = value.get(b"ih")
    if not isinstance(infohash, bytes) or len(infohash) != INFOHASH_SIZE:
        raise SearchFormatError("a record has an infohash of 20 bytes")
    title = _text(value, b"n", MAX_TITLE)
    if not title:
        raise SearchFormatError("a record's title shows nothing")
    return PublisherRecord(
        infohash,
        title,
        size=_number(value, b"z", MAX_TOTAL),
        files=_number(value, b"f", MAX_FILES),
        published=_number(value, b"t", LAST_DATE),
        kind=_number(value, b"ty", MAX_KIND) if b"ty" in value else 0,
        tags=_text(value, b"k", MAX_TAGS) if b"k" in value else "",
        **_sketches_of(value),
    )


def decode_record(raw: bytes) -> PublisherRecord:
    """As `parse_record`, of what is still bencoded. Raises SearchFormatError."""
    try:
        value = bencode.decode(raw, max_depth=8, max_tokens=200, max_size=MAX_RECORD)
    except BencodeError as exc:
        raise SearchFormatError(f"a record is not bencoded: {exc}") from None
    return parse_record(value)


def record_salt(infohash: bytes) -> bytes:
    """The salt of the item, under the publisher's key."""
    return b"r" + infohash


def record_target(key: bytes, infohash: bytes) -> bytes:
    """Where the DHT has the record of this torrent by this key."""
    return hashlib.sha1(key + record_salt(infohash)).digest()


def is_verified(
    record: PublisherRecord,
    *,
    infohash: bytes,
    preview: str,
    key: bytes,
    salt: bytes,
    target: bytes,
) -> bool:
    """Whether an index entry says what the record says that it points to.

    `infohash`, `preview` and `target` are the entry's; `key` and `salt` those of the item that was
    found, whose signature was checked.
    """
    seen = clean_title(preview)
    return (
        record.infohash == infohash
        and salt == record_salt(infohash)
        and target == record_target(key, infohash)
        and seen != ""
        and record.title.startswith(seen)
    )


def may_be_beginning(title: str) -> bool:
    """Whether the title of a record, which nothing else bears out, may be that of a longer one."""
    return may_be_cut(title, MAX_TITLE) and len(title.encode()) <= MAX_TITLE


def agrees_with_name(title: str, name: str) -> bool:
    """Whether the name in a torrent's info dict has all words of a record's title: by whichever
    word it was found, the torrent itself bears it."""
    own = clean_title(name)
    if title == cut(own, MAX_TITLE):  # perhaps in the middle of a word
        return True
    words = set(title_words(title))
    return bool(words) and words <= set(title_words(own))


def trust_in(title: str, *, verified: bool, name: str | None) -> TitleTrust:
    """`name` is what the info dict has, once it is known.

    When it DIFFERS, the name is what is to be shown: the infohash vouches for that.
    """
    if name is not None and not agrees_with_name(title, name):
        return TitleTrust.DIFFERS
    if not verified:
        return TitleTrust.UNVERIFIED
    return TitleTrust.VERIFIED if name is None else TitleTrust.STRONG


def _text(value: Mapping[bytes, Value], key: bytes, size: int) -> str:
    raw = value.get(key)
    if not isinstance(raw, bytes) or len(raw) > size:
        raise SearchFormatError(f"a record's {key.decode()!r} has at most {size} bytes")
    try:
        return clean_title(raw.decode())
    except UnicodeDecodeError:
        raise SearchFormatError(f"a record's {key.decode()!r} is not UTF-8") from None


def _sketch(value: Mapping[bytes, Value], key: bytes, *sizes: int) -> bytes | None:
    """Bytes that may be missing. What has none of these sizes is a later version's, and ignored."""
    raw = value.get(key)
    return raw if isinstance(raw, bytes) and len(raw) in sizes else None


def _number(value: Mapping[bytes, Value], key: bytes, largest: int) -> int:
    number = value.get(key)
    if not isinstance(number, int) or not 0 <= number <= largest:
        raise SearchFormatError(f"a record's {key.decode()!r} is a number up to {largest}")
    return number
