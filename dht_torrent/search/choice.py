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
  common, it reads the tree of a pair first.

Of 20,000 titles of eleven words each has 7.5 words and 4.8 pairs then, and queries of one to three
words find 0.977 of a page of fifty with at most fourteen reads, half of them with one, or three
when nothing is known of the words. With six words and no more it was 0.925.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Final, TypeAlias

from dht_torrent.search.words import is_spaceless

MAX_WORDS: Final = 12
"""Words a title is published under."""
ALWAYS: Final = 6
"""Words of these that it is published under however many postings they have: else a hundred of a
spammer would keep all others out."""
MAX_PAIRS: Final = 8
COMMON: Final = 36
"""Postings beyond which a tree takes more than a root and four leaves, and pairs are worth it."""
SATURATED: Final = 100
"""Postings beyond which a tree gets no more titles."""
FIRST_WORDS: Final = 4
"""Words that a query looks up at once when it does not know how common they are."""
FIRST_PAIRS: Final = 3
_PAIRED: Final = 3
"""Words of a query that are paired."""

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


def is_key(word: str) -> bool:
    """Whether there may be a tree of this word. One character is a word only where words are
    written without spaces."""
    return len(word) > 1 or is_spaceless(word)


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
    pairs.sort(key=lambda key: (_stop_words(key), -_postings(key, counts), key))
    return *((word,) for word in single), *pairs[:MAX_PAIRS]


def first_keys(words: Iterable[str], counts: Mapping[Key, int]) -> tuple[Key, ...]:
    """The words whose roots a query reads first, the rarest first: only that one, if it is known to
    be rare or all are known; else at most `FIRST_WORDS`."""
    order = _by_rarity(words, counts)
    useful = [word for word in order if word not in STOP_WORDS] or order
    known = [word for word in useful if (word,) in counts]
    unknown = [word for word in useful if (word,) not in counts]
    if known and (not unknown or counts[(known[0],)] <= COMMON):
        return ((known[0],),)
    return tuple((word,) for word in (unknown + known[:1])[:FIRST_WORDS])


def pair_keys(words: Iterable[str], counts: Mapping[Key, int]) -> tuple[Key, ...]:
    """The pairs whose roots a query reads when the roots of its words are known: none if a word is
    rare, for then all titles are in the tree of that."""
    order = _by_rarity(words, counts)
    if not order or (order[0] not in STOP_WORDS and counts.get((order[0],), 0) <= COMMON):
        return ()
    keys = (pair(one, other) for one, other in combinations(order[:_PAIRED], 2))
    return tuple(keys)[:FIRST_PAIRS]


def reading_order(words: Sequence[str], counts: Mapping[Key, int]) -> tuple[Key, ...]:
    """The trees that a query reads to their ends when their roots are known: the smallest of the
    pairs, of which all postings are what it looks for, then that of its rarest word."""
    pairs = [key for key in pair_keys(words, counts) if counts.get(key, 0) > 0]
    known = [key for word in _by_rarity(words, counts) if counts.get(key := (word,), 0) > 0]
    return *sorted(pairs, key=lambda key: (counts[key], key))[:1], *known[:1]


def _by_rarity(words: Iterable[str], counts: Mapping[Key, int]) -> list[str]:
    return sorted(
        filter(is_key, dict.fromkeys(words)),
        key=lambda word: (word in STOP_WORDS, counts.get((word,), 0)),
    )


def _stop_words(key: Key) -> int:
    return sum(word in STOP_WORDS for word in key)


def _postings(key: Key, counts: Mapping[Key, int]) -> int:
    return sum(counts.get((word,), 0) for word in key)
