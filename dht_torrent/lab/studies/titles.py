"""Titles to publish and to search for, and what a search should find. The rule: the truth is found
by looking at every title, with nothing of the index but the words of a text.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dht_torrent.errors import InputError
from dht_torrent.ids import InfoHash
from dht_torrent.search.record import MAX_TITLE
from dht_torrent.search.titles import clean_title, cut
from dht_torrent.search.words import query_words, title_words

MOST: Final = 1_000_000
"""Titles that a study takes."""
MOST_WORDS: Final = 3
"""Of a query."""
_LONGEST: Final = 1000


@dataclass(frozen=True, slots=True)
class Title:
    """A torrent that there might be."""

    number: int
    text: str
    words: frozenset[str]
    size: int
    """Bytes."""

    @property
    def info_hash(self) -> InfoHash:
        """Which no other title has."""
        return InfoHash(hashlib.sha1(b"%d %s" % (self.number, self.text.encode())).digest())


class Corpus:
    """Titles, and which of them have which words."""

    def __init__(self, texts: Iterable[str], rng: random.Random) -> None:
        """A title is what a publisher's record can hold of a text. Sizes are drawn: from a megabyte
        to sixteen gigabytes, evenly on a logarithmic scale."""
        titles = (cut(clean_title(text), MAX_TITLE) for text in texts)
        self.titles = [
            Title(number, text, frozenset(title_words(text)), int(2 ** rng.uniform(20, 34)))
            for number, text in enumerate(titles)
        ]
        self._having: dict[str, set[int]] = {}
        for title in self.titles:
            for word in title.words:
                self._having.setdefault(word, set()).add(title.number)
        self._by_hash: dict[bytes, Title] = {title.info_hash: title for title in self.titles}

    def __len__(self) -> int:
        return len(self.titles)

    @property
    def vocabulary(self) -> list[str]:
        """All words, in their order."""
        return sorted(self._having)

    def number(self, infohash: bytes) -> int | None:
        """Of the title with this infohash."""
        title = self._by_hash.get(infohash)
        return None if title is None else title.number

    def frequency(self, word: str) -> int:
        """How many titles have it."""
        return len(self._having.get(word, ()))

    def truth(self, text: str, *, prefix: bool = False) -> set[int]:
        """The numbers of all titles that a search for this text should find. `prefix`: the last
        word may be the beginning of one."""
        words = list(query_words(text))
        if not words:
            return set()
        sets = [self._having.get(word, set()) for word in words]
        if prefix:
            begins = (self._having[word] for word in self._having if word.startswith(words[-1]))
            sets[-1] = set().union(*begins)
        return set.intersection(*sets)

    def queries(self, count: int, rng: random.Random) -> list[str]:
        """Texts of one to three words each, drawn from a title that is drawn."""
        drawn: list[str] = []
        while len(drawn) < count:
            words = sorted(rng.choice(self.titles).words)
            if words:
                many = min(rng.randint(1, MOST_WORDS), len(words))
                drawn.append(" ".join(rng.sample(words, many)))
        return drawn


def read_titles(path: Path, most: int = MOST) -> list[str]:
    """The first `most` of a file with lines of a name, a tab and a summary, compressed with gzip if
    its name ends so: a title is the one and the other. Raises InputError."""
    titles: list[str] = []
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            while len(titles) < most and (line := file.readline(_LONGEST + 1)):
                if len(line) > _LONGEST:
                    raise InputError(f"{path}: line {len(titles) + 1} is too long for a title")
                if text := " ".join(line.decode().split()):
                    titles.append(text)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "not a gzip file, or cut"
        raise InputError(f"{path}: {reason}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: line {len(titles) + 1} is not UTF-8") from None
    if not titles:
        raise InputError(f"{path}: no titles")
    return titles


def recall(found: Iterable[int], truth: Sequence[int] | set[int], most: int = 50) -> float:
    """The share of what should have been found of `most` at a time; 1 where there is nothing."""
    wanted = min(most, len(truth))
    return min(most, len(set(found).intersection(truth))) / wanted if wanted else 1.0


def precision(found: Sequence[int], truth: Sequence[int] | set[int], most: int = 10) -> float:
    """The share of the first results that are right; 1 where there is none."""
    first = found[:most]
    return sum(one in truth for one in first) / len(first) if first else 1.0
