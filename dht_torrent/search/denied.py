"""What this node neither stores nor publishes nor shows: a deny-list of words and infohashes.

A list is a text: each line is an infohash (40 hex digits), or words that a title, a tag or the path
of a file has all of, in any order. Case and accents do not matter, as in a search. A line that
begins with `#` is for people.

The rule: a list that cannot be understood is refused as a whole. Half of one would let through what
its owner wanted to keep out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from dht_torrent.errors import InputError
from dht_torrent.search.words import query_words, title_words

MAX_BYTES: Final = 32 * 1024 * 1024
"""Of a file."""
MAX_LINES: Final = 500_000
"""Entries of a list: some 100 MB of memory, if all are words."""
MAX_LINE: Final = 250
"""Characters of a line: of a longer text only the beginning is looked at anywhere."""

_infohash = re.compile(r"[0-9a-fA-F]{40}")


class DenyList:
    """Which torrents are denied."""

    def __init__(
        self, infohashes: Iterable[bytes] = (), words: Iterable[frozenset[str]] = ()
    ) -> None:
        self._infohashes = frozenset(infohashes)
        self._sets: dict[str, list[frozenset[str]]] = {}
        for together in words:
            # Each set is kept by one of its words, so that few are looked at.
            longest = max(together, key=lambda word: (len(word), word))
            self._sets.setdefault(longest, []).append(together)

    def __bool__(self) -> bool:
        """False: nothing is denied."""
        return bool(self._infohashes or self._sets)

    def __len__(self) -> int:
        return len(self._infohashes) + sum(map(len, self._sets.values()))

    def has(self, infohash: bytes) -> bool:
        """Whether this very torrent is in the list."""
        return infohash in self._infohashes

    def denies(self, infohash: bytes, texts: Iterable[str]) -> bool:
        """Whether the torrent, or one of the texts about it, is in the list."""
        return infohash in self._infohashes or (
            bool(self._sets) and any(self.has_words(title_words(text)) for text in texts)
        )

    def has_words(self, words: Collection[str]) -> bool:
        """Whether these, which `title_words` made, have all words of a line."""
        if not self._sets:
            return False
        given = frozenset(words)
        return any(together <= given for word in given for together in self._sets.get(word, ()))


def parse_deny_list(data: bytes) -> DenyList:
    """Raises InputError, which names the line that is wrong."""
    if len(data) > MAX_BYTES:
        raise InputError(f"it has more than {MAX_BYTES >> 20} MiB")
    infohashes: list[bytes] = []
    sets: list[frozenset[str]] = []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"it is not UTF-8 (byte {error.start:,})") from None
    for number, whole in enumerate(text.split("\n"), 1):
        line = whole.strip()
        if not line or line.startswith("#"):
            continue
        if len(line) > MAX_LINE:
            raise InputError(f"line {number:,} has more than {MAX_LINE:,} characters")
        if len(infohashes) + len(sets) >= MAX_LINES:
            raise InputError(f"it has more than {MAX_LINES:,} entries")
        if _infohash.fullmatch(line):
            infohashes.append(bytes.fromhex(line))
            continue
        together = frozenset(query_words(line))
        if not together:
            raise InputError(f"line {number:,} has no word that a title can have")
        sets.append(together)
    return DenyList(infohashes, sets)
