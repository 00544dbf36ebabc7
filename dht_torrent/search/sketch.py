"""Sketches: a few hundred bytes of which two tell how much two sets have in common, and which lie
close together in a tree when that is much. The rule: a sketch is a pure function of the set, the
same on every machine and for ever.

The elements of a set are numbers of 64 bits, hashed. They are dealt out to bins by their upper
bits, and of each bin the smallest element is kept: one permutation hashing (Li et al., 2012). A bin
that stays empty takes over another's, chosen by a hash: optimal densification (Shrivastava, 2017).
Then two sketches agree in a bin with the probability that is the Jaccard similarity of the sets; as
MinHash, with one hash of each element instead of one for each bin. A sketch has the low 16 bits of
each bin.

A tree has eight digits of four bits, each of one bin: two sets whose similarity is J begin with the
same m digits with a probability of about (J + (1 - J) / 16)^m.

A torrent has up to three sketches: of its content (`chunks`), of its title and of its files' names
and sizes. Numbers in a title count as words, but not as letters: versions of one thing lie close
together.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from dht_torrent.search.chunks import BINS, EMPTY
from dht_torrent.search.words import title_words

CONTENT_TREES: Final = 8
NAME_TREES: Final = 4
"""The first two are of titles, the others of files."""
DIGITS: Final = 8
"""Of a key in a tree ..."""
WIDTH: Final = 4
"""... and the bits of each."""
KEY_SIZE: Final = DIGITS * WIDTH // 8
CONTENT_SIZE: Final = 2 * BINS
"""Bytes of a sketch of content."""
NAME_BINS: Final = 32
NAME_SIZE: Final = 2 * NAME_BINS
"""Bytes of a sketch of a title, and of one of files."""
LEAST: Final = 16
"""Bins that have elements of their own, or content has no sketch: it would say more than is
known."""
MAX_NAMED: Final = 200
"""Files whose names and sizes are in a sketch: the first ones."""
LARGE: Final = 1024 * 1024
"""Bytes of a file whose exact size says something about it."""
_DIGITS = re.compile(r"\d+")


def content_sketch(minima: Sequence[int]) -> bytes | None:
    """The sketch of content whose smallest elements are these; None when they are too few."""
    if sum(one != EMPTY for one in minima) < LEAST:
        return None
    return _packed(minima)


def title_sketch(title: str) -> bytes | None:
    """The sketch of a title that was cleaned; None for one without words."""
    words = title_words(title)
    if not words:
        return None
    plain = f" {_DIGITS.sub('0', ' '.join(words))} "
    grams = {f"g{plain[at : at + 3]}" for at in range(len(plain) - 2)}
    return _packed(minima_of(map(_element, grams | {f"w{word}" for word in words}), NAME_BINS))


def files_sketch(files: Iterable[tuple[Sequence[str], int]]) -> bytes | None:
    """The sketch of a torrent's files, each the path in its folder and the size. None when these
    say nothing: of a single file only a large size does, for its name is the title."""
    named = [(path, size) for path, size in files if size > 0][: MAX_NAMED + 1]
    texts = {f"s{size}" for _, size in named if size >= LARGE}
    if len(named) > 1:
        for path, _ in named[:MAX_NAMED]:
            texts.add("p" + "/".join(path).lower())
    return _packed(minima_of(map(_element, texts), NAME_BINS)) if texts else None


def minima_of(elements: Iterable[int], bins: int) -> list[int]:
    """The smallest element of each bin, as `Chunker.minima`. `bins`: a power of two."""
    shift = 65 - bins.bit_length()
    minima = [EMPTY] * bins
    for element in elements:
        place = element >> shift
        if element < minima[place]:
            minima[place] = element
    return minima


def content_key(sketch: bytes, tree: int) -> bytes:
    """The key of a sketch of content in one of its trees, packed."""
    return _key(sketch, tree * (BINS // CONTENT_TREES))


def name_key(title: bytes | None, files: bytes | None, tree: int) -> bytes | None:
    """The same in one of the trees of names; None when nothing is there for that tree."""
    sketch = title if tree < 2 else files
    return None if sketch is None else _key(sketch, tree % 2 * (NAME_BINS // 2))


def tree_keys(
    content: bytes | None, title: bytes | None, files: bytes | None
) -> list[tuple[str, int, bytes]]:
    """All keys of a torrent's sketches: `c` or `n` (`label.Index`), the number of the tree, and
    the key in it."""
    keys = []
    if content is not None:
        keys += [("c", tree, content_key(content, tree)) for tree in range(CONTENT_TREES)]
    for tree in range(NAME_TREES):
        if (key := name_key(title, files, tree)) is not None:
            keys.append(("n", tree, key))
    return keys


def similarity(one: bytes | None, other: bytes | None) -> float | None:
    """An estimate of the Jaccard similarity of the sets of two sketches of a kind, with a standard
    error of sqrt(J (1 - J) / bins). None when one is not known."""
    if not one or not other or len(one) != len(other):
        return None
    same = sum(one[at : at + 2] == other[at : at + 2] for at in range(0, len(one), 2))
    return same / (len(one) // 2)


def _packed(minima: Sequence[int]) -> bytes:
    """Sixteen bits of each bin. At least one of them has an element."""
    filled = [one != EMPTY for one in minima]
    return b"".join(
        [
            (minima[_source(place, filled)] & 0xFFFF).to_bytes(2, "big")
            for place in range(len(filled))
        ]
    )


def _source(place: int, filled: Sequence[bool]) -> int:
    """The bin whose element this bin has: its own, or one that a hash chooses."""
    attempt, at = 0, place
    while not filled[at]:
        attempt += 1
        at = _mix(place << 32 | attempt) % len(filled)
    return at


def _mix(number: int) -> int:
    """SplitMix64."""
    number = (number + 0x9E3779B97F4A7C15) & EMPTY
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & EMPTY
    number = (number ^ number >> 27) * 0x94D049BB133111EB & EMPTY
    return number ^ number >> 31


def _key(sketch: bytes, first: int) -> bytes:
    """Four bits of each of eight bins, packed."""
    low = sketch[2 * first + 1 : 2 * (first + DIGITS) : 2]
    return bytes(
        (high & 15) << 4 | below & 15 for high, below in zip(low[::2], low[1::2], strict=True)
    )


def _element(text: str) -> int:
    raw = hashlib.blake2b(
        text.encode("utf-8", "surrogateescape"), digest_size=8, person=b"dht_torrent 1"
    )
    return int.from_bytes(raw.digest(), "big")
