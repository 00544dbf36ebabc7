"""Under which words a title is published, and which words a query asks for. The rule: both are pure
functions of the words and of how common each is, so that a reader asks where publishers wrote.

A *key* is a word, or two words in order: the root of a tree of postings. How common a key is, is
how many postings its tree has; what nobody has looked up yet counts as nothing.

- A title goes under its six rarest words, and under more as long as their trees are not saturated.
  A tree with `SATURATED` postings has two pages of results for those who search for that word
  alone, and one more would help nobody.
- It also goes under pairs of those of its words which are common, or under which it is not itself:
  the most common first, since their own trees are the least use.
- A query reads the tree of its rarest word, for every title it wants is there. If that word is
  common, it reads the tree of a pair first. It reads on while it has found hardly anything.
- Words that say little, such as `the` or a single letter, are words like others, but come last.

Of 20,000 titles with eleven words each has 7.8 words and 5.7 pairs then. Queries of one to three
words find 0.99 of a page of fifty (0.97 if any of them may say little), nine in ten with at most
fourteen reads, half of them with one (five). With six words and no more it was 0.925.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Final, TypeAlias

MAX_WORDS: Final = 16
"""Words a title is published under."""
ALWAYS: Final = 6
"""Words of these that it is published under however many postings they have: else a hundred of a
spammer would keep all others out."""
MAX_PAIRS: Final = 12
COMMON: Final = 50
"""Postings beyond which a tree is more than a page, and pairs are worth it."""
SATURATED: Final = 100
"""Postings beyond which a tree gets no more titles."""
FIRST_WORDS: Final = 4
"""Words that a query looks up at once when it does not know how common they are."""
FIRST_PAIRS: Final = 3
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


def keys_of_title(words: Iterable[str], counts: Mapping[Key, int]) -> tuple[Key, ...]:
    """What a title of these words is published under: words, the rarest first, then pairs.

    `counts` tells how many postings each tree has. Call it again when the counts of those it gave
    have been looked up: what is saturated gives way to others.
    """
    order = _by_rarity(words, counts)
    open_words = [word for word in order[ALWAYS:] if counts.get((word,), 0) <= SATURATED]
    single = (order[:ALWAYS] + open_words)[:MAX_WORDS]
    published = set(single)
    weak = [word for word in order if word not in published or counts.get((word,), 0) > COMMON]
    pairs = [
        key
        for one, other in combinations(weak, 2)
        if counts.get(key := pair(one, other), 0) <= SATURATED
    ]
    pairs.sort(key=lambda key: (all(map(says_little, key)), -_postings(key, counts), key))
    return *((word,) for word in single), *pairs[:MAX_PAIRS]


def first_keys(words: Iterable[str], counts: Mapping[Key, int]) -> tuple[Key, ...]:
    """The words whose roots a query reads first, the rarest first: only that one, if it is known to
    be rare or all are known; else at most `FIRST_WORDS`."""
    order = _by_rarity(words, counts)
    useful = [word for word in order if not says_little(word)] or order
    known = [word for word in useful if (word,) in counts]
    unknown = [word for word in useful if (word,) not in counts]
    if known and (not unknown or counts[(known[0],)] <= COMMON):
        return ((known[0],),)
    return tuple((word,) for word in (unknown + known[:1])[:FIRST_WORDS])


def pair_keys(words: Iterable[str], counts: Mapping[Key, int]) -> tuple[Key, ...]:
    """The pairs whose roots a query reads when the roots of its words are known: none if a word is
    rare, for then all titles are in the tree of that."""
    order = _by_rarity(words, counts)
    if not order or (not says_little(order[0]) and counts.get((order[0],), 0) <= COMMON):
        return ()
    keys = (pair(one, other) for one, other in combinations(order[:_PAIRED], 2))
    return tuple(keys)[:FIRST_PAIRS]


def reading_order(words: Sequence[str], counts: Mapping[Key, int]) -> tuple[Key, ...]:
    """The trees that a query reads to their ends when their roots are known: the smallest of the
    pairs (of equal ones that of the rarest words), then that of its rarest word."""
    pairs = [key for key in pair_keys(words, counts) if counts.get(key, 0) > 0]
    known = [key for word in _by_rarity(words, counts) if counts.get(key := (word,), 0) > 0]
    return *sorted(pairs, key=lambda key: counts[key])[:1], *known[:1]


def most_reads(found: int) -> int:
    """How many nodes a query may read in all that has found so many titles."""
    return MOST_READS if found < THIN else ENOUGH_READS


def _by_rarity(words: Iterable[str], counts: Mapping[Key, int]) -> list[str]:
    return sorted(
        filter(None, dict.fromkeys(words)),
        key=lambda word: (says_little(word), counts.get((word,), 0)),
    )


def _postings(key: Key, counts: Mapping[Key, int]) -> int:
    return sum(counts.get((word,), 0) for word in key)
