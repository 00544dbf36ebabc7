"""Under which words a title is published, and which words a query asks for. The rule: both are pure
functions of the words and of how common each is, so that a reader asks where publishers wrote.

A *key* is a word, or two words in order: the root of a tree of postings. How common a key is, is
how many postings its tree has; what nobody has looked up yet counts as nothing.

- A title goes under each of its words, and under each pair of those that are common.
- A tree that is full is a sample: the more it has, the fewer titles go there, by a lot that the
  title and the key draw. So N titles leave about sqrt(N * full) postings, of which some are as new
  as can be; a spammer cannot keep others out by being there first; and no word is too common to be
  searched for.
- A query reads the tree of its rarest word, for every title it wants is there. If that has more
  postings than it may read, it reads the trees of pairs instead. Titles have pairs long before:
  one that was published while its words were rare gets them when it is renewed only.

Measured with `scripts/lab_search.py` on 20,000 titles of eleven words: see there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Final, TypeAlias

MAX_WORDS: Final = 40
"""Words a title is published under: all, but of titles in scripts without spaces."""
MAX_PAIRS: Final = 16
FULL: Final = 60
"""Postings of a word beyond which its tree is a sample. A page of results has fifty."""
FULL_PAIR: Final = 40
"""The same of a pair."""
FULL_LIST: Final = 8
"""Titles of a word beyond which not all of them see that it is in the dictionary."""
COMMON: Final = 50
"""Postings of a word from which on it is paired with other such words."""
READABLE: Final = 100
"""Postings up to which a query reads the tree of a word to its end."""
RARE: Final = 10
"""Postings that one node can hold."""
FIRST_WORDS: Final = 4
"""Words that a query looks up at most when it does not know how common they are."""
_PAIRED: Final = 3
"""Words of a query that are paired."""
ENOUGH_READS: Final = 14
"""Nodes that a query reads, roots included."""
MOST_READS: Final = 24
"""Nodes that it reads as long as it found less than `THIN` titles."""
THIN: Final = 10

Key: TypeAlias = tuple[str, ...]
"""One word, or two in their order."""

# They say nothing of what a title is about, and soon are the most common. The list only decides
# what comes first: versions may differ.
STOP_WORDS: Final = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "in",
        "is",
        "it",
        "of",
        "on",
        "or",
        "that",
        "the",
        "this",
        "to",
        "with",
        "you",
        "your",
        "das",
        "der",
        "die",
        "ein",
        "eine",
        "fur",
        "im",
        "mit",
        "und",
        "von",
        "zu",
        "al",
        "con",
        "de",
        "del",
        "el",
        "en",
        "la",
        "las",
        "los",
        "para",
        "por",
        "un",
        "una",
        "y",
        "au",
        "aux",
        "avec",
        "dans",
        "des",
        "du",
        "et",
        "le",
        "les",
        "par",
        "pour",
        "sur",
        "da",
        "do",
        "dos",
        "e",
        "em",
        "na",
        "no",
        "o",
        "os",
        "um",
        "uma",
        "di",
        "e",
        "il",
        "per",
        "в",
        "и",
        "на",
        "не",
        "по",
        "с",
        "480p",
        "576p",
        "720p",
        "1080p",
        "1440p",
        "2160p",
        "4k",
        "uhd",
        "hd",
        "sd",
        "hdr",
        "sdr",
        "10bit",
        "8bit",
        "x264",
        "x265",
        "h264",
        "h265",
        "hevc",
        "avc",
        "av1",
        "xvid",
        "divx",
        "aac",
        "ac3",
        "dts",
        "ddp5",
        "dd5",
        "flac",
        "opus",
        "bluray",
        "bdrip",
        "brrip",
        "dvd",
        "dvdrip",
        "hdrip",
        "hdtv",
        "webrip",
        "web",
        "dl",
        "rip",
        "remux",
        "proper",
        "repack",
        "mkv",
        "mp4",
        "avi",
        "mov",
        "mp3",
        "m4b",
        "epub",
        "pdf",
        "mobi",
        "iso",
        "img",
        "zip",
        "rar",
        "7z",
        "tar",
        "gz",
        "xz",
        "exe",
        "com",
        "net",
        "org",
        "www",
        "torrent",
    ]
)


def says_little(word: str) -> bool:
    """Whether a title is asked for by this word only for want of a better one: the list has it, or
    it is one character. Where words are written without spaces a query has pairs of characters."""
    return len(word) < 2 or word in STOP_WORDS


def pair(one: str, other: str) -> Key:
    """The key of two words, whichever comes first."""
    return (one, other) if one < other else (other, one)


def root_of(key: Key) -> bytes:
    """The root key of its tree: words hold no NUL."""
    return "\0".join(key).encode()


def keys_of_title(
    infohash: bytes, words: Iterable[str], counts: Mapping[Key, int]
) -> tuple[Key, ...]:
    """What a title of these words is published under: words, the rarest first, then pairs.

    `counts` tells how many postings each tree has. Call it again when the counts of those it gave
    have been looked up.
    """
    order = _by_rarity(words, counts)[:MAX_WORDS]
    single: list[Key] = [(word,) for word in order]
    common = [word for word in order if counts.get((word,), 0) >= COMMON]
    # Those that queries read come first, and of these the ones with the fewest titles.
    pairs = sorted(
        (pair(one, other) for one, other in combinations(common, 2)),
        key=lambda key: (
            any(counts[word,] <= READABLE for word in key),
            counts.get(key, 0),
            sum(counts[word,] for word in key),
            key,
        ),
    )
    drawn = [key for key in pairs if is_drawn(infohash, key, counts)]
    return (
        *(key for key in single if is_drawn(infohash, key, counts)),
        *drawn[:MAX_PAIRS],
    )


def is_drawn(infohash: bytes, key: Key, counts: Mapping[Key, int]) -> bool:
    """Whether a title that could go under this key does."""
    return _is_drawn(infohash, key, counts, FULL if len(key) == 1 else FULL_PAIR)


def key_of(root: bytes) -> Key:
    """The key of a tree."""
    return tuple(root.decode().split("\0"))


def is_listed(infohash: bytes, word: str, counts: Mapping[Key, int]) -> bool:
    """Whether a title sees that this word of it is in the dictionary."""
    return _is_drawn(infohash, (word,), counts, FULL_LIST)


def stage(count: int) -> int:
    """A number that changes when so many postings of a key are reason to choose again."""
    steps = (count >= FULL_PAIR, count >= COMMON, count >= READABLE)
    return sum(steps) + (count // FULL_LIST).bit_length()


def first_keys(words: Iterable[str], counts: Mapping[Key, int]) -> tuple[Key, ...]:
    """The word whose root a query reads first: the rarest, if that is known to be rare or all are
    known; else the longest of those that are not known, which is probably the rarest."""
    known, unknown = _useful(words, counts)
    if known and (not unknown or _is_rare(counts[known[0],])):
        return ((known[0],),)
    return tuple((word,) for word in unknown[:1])


def more_keys(words: Iterable[str], counts: Mapping[Key, int], found: int = 1) -> tuple[Key, ...]:
    """The words whose roots a query reads next, now that `first_keys` have been looked up: what is
    not known yet, unless there is a rare word, whose tree costs no more than another root, and
    titles were found: an entry may be older than a word that its title was given since."""
    known, unknown = _useful(words, counts)
    if found and any(_is_rare(counts[word,]) for word in known):
        return ()
    return tuple((word,) for word in unknown[: FIRST_WORDS - 1])


def pair_keys(words: Iterable[str], counts: Mapping[Key, int]) -> tuple[Key, ...]:
    """The pairs whose roots a query reads when the roots of its words are known: none if the tree
    of a word can be read, for then all titles are in that."""
    order = _by_rarity(words, counts)
    if not order or (not says_little(order[0]) and counts.get((order[0],), 0) <= READABLE):
        return ()
    keys = [pair(one, other) for one, other in combinations(order[:_PAIRED], 2)]
    return tuple([key for key in keys if not all(map(says_little, key))] or keys)


def reading_order(words: Sequence[str], counts: Mapping[Key, int]) -> tuple[Key, ...]:
    """The tree that a query reads to its end when roots are known: that of the pair with the fewest
    postings, all of which are what it looks for, or else that of its rarest word."""
    pairs = [key for key in pair_keys(words, counts) if counts.get(key, 0) > 0]
    if pairs:
        return (min(pairs, key=lambda key: (counts[key], key)),)
    known = [key for word in _by_rarity(words, counts) if counts.get(key := (word,), 0) > 0]
    return tuple(known[:1])


def most_reads(found: int) -> int:
    """How many nodes a query may read in all that has found so many titles."""
    return MOST_READS if found < THIN else ENOUGH_READS


def _is_drawn(infohash: bytes, key: Key, counts: Mapping[Key, int], full: int) -> bool:
    """Whether a title goes under this key, which is full with so many postings."""
    count = counts.get(key, 0)
    if count <= full:
        return True
    # Not by the bits that are its place in the tree: there, all would be on one side.
    lot = hashlib.blake2b(infohash + root_of(key), digest_size=4).digest()
    return int.from_bytes(lot, "big") * count < full << 32


def _useful(words: Iterable[str], counts: Mapping[Key, int]) -> tuple[list[str], list[str]]:
    """The words that say enough, or all if none does: those whose count is known, the rarest first,
    and the others, the longest first."""
    order = _by_rarity(words, counts)
    useful = [word for word in order if not says_little(word)] or order
    known = [word for word in useful if (word,) in counts]
    unknown = [word for word in useful if (word,) not in counts]
    return known, sorted(unknown, key=len, reverse=True)


def _is_rare(count: int) -> bool:
    """Whether the root has all there is. With nothing in it, it may be lost."""
    return 0 < count <= RARE


def _by_rarity(words: Iterable[str], counts: Mapping[Key, int]) -> list[str]:
    return sorted(
        filter(None, dict.fromkeys(words)),
        key=lambda word: (says_little(word), counts.get((word,), 0)),
    )
