"""How much two torrents have in common, and what that is called. The rule: a word is used where
sketches can bear it, and what is said of content is never said for the sake of a name.

- "same file": both have a file of the same size and the same bytes, at as many places as a file id
  looks at; and folders that have much in common are called so only if all that is known of their
  contents is the same. Only the hashes of pieces prove that it is the same file.
- "near duplicate": four fifths of both contents are the same. It is said where the estimate is
  `SURE` or more: as estimates are off by 0.035, one that is 0.8 is half the time one of less.
- "related": three tenths are the same.
- "similar name": nothing is known of their contents, or these differ; but titles or lists of files
  have half in common. So it is with compressed archives, most of whose bytes change with the first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from dht_torrent.search.sketch import files_sketch, similarity, title_sketch
from dht_torrent.search.titles import clean_title

NEAR: Final = 0.8
"""The similarity of contents from which on they are near duplicates ..."""
SURE: Final = 0.84
"""... and the estimate from which on we say so."""
RELATED: Final = 0.3
NAMED: Final = 0.5
"""The similarity of titles, or of lists of files, from which on they count."""
FILE_ID: Final = 16
"""Bytes of a file's id."""
MAX_FILE_IDS: Final = 6
"""Files of a torrent that have one: the largest ..."""
LEAST_FILE: Final = 16 * 1024
"""... of at least so many bytes; the largest one has one in any case."""
SAMPLES: Final = 64
"""Places of a file that its id looks at, evenly spread, the first and last bytes included ..."""
SAMPLE: Final = 16 * 1024
"""... and the bytes there. A file of no more than a MiB is looked at as a whole."""
_CONTENT, _NAME, _SIZE = 0.6, 0.2, 0.2
_NEXT: Final = 0.1
"""What the next version gains over others of the same name, in the order of results."""
_NUMBERS = re.compile(r"\d+", re.ASCII)
_VERSION = re.compile(r"\d+(?:[._ -]\d+)*", re.ASCII)


class Kinship(Enum):
    """What two torrents are to each other, the closest first."""

    SAME_FILE = "same file"
    NEAR_DUPLICATE = "near duplicate"
    RELATED = "related"
    SIMILAR_NAME = "similar name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What of a torrent is compared. None: not known."""

    title: str
    """Cleaned; may be empty."""
    size: int | None = None
    files: int | None = None
    """How many."""
    content: bytes | None = None
    """Sketches, see `search.sketch`."""
    named: bytes | None = None
    listed: bytes | None = None
    file_ids: tuple[bytes, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        files: Sequence[tuple[Sequence[str], int]],
        content: bytes | None = None,
        file_ids: Iterable[bytes] = (),
    ) -> Traits:
        """Those of a torrent whose files are known, each a path and a size."""
        title = clean_title(name)
        return cls(
            title=title,
            size=sum(size for _, size in files),
            files=len(files),
            content=content,
            named=title_sketch(title),
            listed=files_sketch(files),
            file_ids=tuple(file_ids),
        )


class Likeness(NamedTuple):
    """How much two have in common."""

    kinship: Kinship | None
    """None: not enough to be worth a word."""
    score: float
    """0 to 1."""
    content: float | None
    """Estimates of Jaccard similarities. None: not known of both."""
    title: float | None
    listed: float | None
    same_files: int
    """Of the largest ones of both."""


def likeness(one: Traits, other: Traits) -> Likeness:
    """Symmetric."""
    content = similarity(one.content, other.content)
    title = similarity(one.named, other.named)
    listed = similarity(one.listed, other.listed)
    shared = len(set(one.file_ids) & set(other.file_ids))
    name = max(title or 0.0, listed or 0.0)
    score = _CONTENT * max(content or 0.0, 1.0 if shared and _is_one(one, other) else 0.0)
    score += _NAME * name + _SIZE * _ratio(one.size, other.size)
    is_same = _is_one(one, other) or _contents(one) == _contents(other)
    return Likeness(
        _kinship(content, name, bool(shared), is_same=is_same),
        score,
        content,
        title,
        listed,
        shared,
    )


def _kinship(content: float | None, name: float, shared: bool, *, is_same: bool) -> Kinship | None:
    # Two folders that are nearly the same, or related, have files in common for that reason.
    if shared and (is_same or content is None or content < RELATED):
        return Kinship.SAME_FILE
    if content is not None and content >= RELATED:
        return Kinship.NEAR_DUPLICATE if content >= SURE else Kinship.RELATED
    return Kinship.SIMILAR_NAME if name >= NAMED else None


def _is_one(one: Traits, other: Traits) -> bool:
    """Whether one of them is a single file."""
    return 1 in (one.files, other.files)


def _contents(one: Traits) -> tuple[object, ...]:
    return one.size, one.files, one.content, frozenset(one.file_ids)


def _ratio(one: int | None, other: int | None) -> float:
    return min(one, other) / max(one, other) if one and other else 0.0


def ranked(asked: Traits, found: Sequence[tuple[Traits, Likeness]]) -> list[int]:
    """The places in `found` of those that are alike, the most alike first.

    It goes by score, but similar names come last. Of those whose titles are that of `asked` but for
    the numbers, versions of the same thing for instance, the one before and the one after come
    before those further away.
    """
    bonus = _bonuses(asked.title, [traits.title for traits, _ in found])
    kept = [
        (alike.kinship is Kinship.SIMILAR_NAME, -(alike.score + bonus[place]), place)
        for place, (_, alike) in enumerate(found)
        if alike.kinship is not None
    ]
    return [place for _, _, place in sorted(kept)]


def _bonuses(title: str, titles: Sequence[str]) -> list[float]:
    """For each title, what it gains for being near in number."""
    own = _numbered(title)
    others = [_numbered(one) for one in titles]
    family = sorted({numbers for shape, numbers in others if shape == own[0]})
    below = [numbers for numbers in family if numbers < own[1]]
    above = [numbers for numbers in family if numbers > own[1]]
    steps = {numbers: place for place, numbers in enumerate(reversed(below), 1)}
    steps |= {numbers: place for place, numbers in enumerate(above, 1)}
    steps[own[1]] = 1
    return [_NEXT / steps[numbers] if shape == own[0] else 0.0 for shape, numbers in others]


def _numbered(title: str) -> tuple[str, tuple[int, ...]]:
    """A title without its numbers, and those."""
    text = title.casefold()
    numbers = tuple(int(number) for number in _NUMBERS.findall(text))
    return _VERSION.sub("0", text), numbers


def with_id(sizes: Sequence[int]) -> list[int]:
    """The places of the files that have an id, of the sizes of all."""
    largest = sorted((-size, place) for place, size in enumerate(sizes) if size > 0)
    kept = [place for size, place in largest[:MAX_FILE_IDS] if -size >= LEAST_FILE]
    return kept or [place for _, place in largest[:1]]


def samples(size: int) -> list[tuple[int, int]]:
    """Places and lengths of what the id of a file of this size looks at."""
    if size <= SAMPLES * SAMPLE:
        return [(0, size)]
    last = size - SAMPLE
    return [(last * number // (SAMPLES - 1), SAMPLE) for number in range(SAMPLES)]


def file_id(size: int, sampled: Iterable[bytes]) -> bytes:
    """The id of a file with these bytes at the places of `samples`."""
    digest = hashlib.blake2b(
        size.to_bytes(8, "big"), digest_size=FILE_ID, person=b"dht_torrent file"
    )
    for one in sampled:
        digest.update(one)
    return digest.digest()
