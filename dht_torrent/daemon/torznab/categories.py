"""What a torrent is, in Newznab's categories, as far as its name tells. Nobody who publishes says
it, and those who ask throw away what is in none that they named: so what is not known is in the
category that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

OTHER: Final = 8000
NAMES: Final = {
    1000: "Console",
    2000: "Movies",
    3000: "Audio",
    4000: "PC",
    5000: "TV",
    7000: "Books",
    OTHER: "Other",
}
SIZE: Final = 1000
"""A category's numbers run from its own up to the next; those in between are kinds of it."""

_EPISODE: Final = re.compile(
    r"\bs\d{1,2}(?:[ ._-]?e\d{1,3})?\b|\b\d{1,2}x\d{2}\b|\bseason[ ._-]?\d|"
    r"\b(?:19|20)\d\d[ ._-]\d\d[ ._-]\d\d\b",
    re.IGNORECASE,
)
_VIDEO: Final = re.compile(
    r"\b(?:2160p|1080[pi]|720p|480p|4k|uhd|blu[ -]?ray|bdrip|brrip|dvdrip|web[ -]?(?:dl|rip)|hdtv|"
    r"x26[45]|h[ .]?26[45]|hevc|xvid|mkv|mp4|avi)\b",
    re.IGNORECASE,
)
_FOUND: Final = (
    (
        4000,
        re.compile(
            r"\b(?:iso|linux|ubuntu|debian|fedora|windows|macos|amd64|x86[ _]64|setup|apk|dmg|exe)"
            r"\b",
            re.IGNORECASE,
        ),
    ),
    (
        3000,
        re.compile(
            r"\b(?:mp3|flac|ogg|opus|m4a|wav|320kbps|discography|ost|vinyl)\b", re.IGNORECASE
        ),
    ),
    (7000, re.compile(r"\b(?:epub|pdf|mobi|azw3|cbr|cbz|ebook|audiobook)\b", re.IGNORECASE)),
    (1000, re.compile(r"\b(?:ps[1-5]|xbox|nintendo|switch|wii|nsp|xci|gamecube)\b", re.IGNORECASE)),
)


def guessed(name: str) -> int | None:
    """The category of a torrent of that name; None: it does not say."""
    text = name.replace("_", " ")
    if _EPISODE.search(text):
        return 5000
    if _VIDEO.search(text):
        return 2000
    for category, pattern in _FOUND:
        if pattern.search(text):
            return category
    return None


def chosen(name: str, asked: Collection[int]) -> int | None:
    """What it is listed as to who asked for these categories, or for all with none; None: it is
    something else."""
    found = guessed(name)
    if not asked:
        return found if found is not None else OTHER
    tops = {number - number % SIZE for number in asked}
    if found is None:
        return min(tops & NAMES.keys(), default=OTHER)
    return found if found in tops else None
