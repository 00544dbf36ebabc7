"""Titles from strangers, fit to be shown. What comes out of here has no control, direction or
zero-width characters and no towers of accents, on one line; letters that look like others are left,
since a query does not find them (`words`).
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category

from dht_torrent.filenames import printable

MAX_PREVIEW: Final = 48
"""Bytes of UTF-8 of the beginning of a title that an index entry holds."""
PREVIEW: Final = 16
"""Bytes that we put there. A result is shown when its record was fetched, which has the whole
title; and the shorter this is, the more entries a node holds, 12 instead of 9.6 with 48."""
MAX_MARKS: Final = 4
"""Combining marks in succession: more than any language has on a letter, and too few to reach the
lines above."""
_MAX_RAW: Final = 1024
"""Characters that are looked at."""

# Letters and marks that show nothing: fillers, blanks, joiners and selectors of variants.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U0001d159\U000e0000-\U000e0fff]"
)


def clean_title(text: str) -> str:
    """`text` as a title: at most 255 characters; empty when nothing of it can be seen."""
    # Lines and tabs become spaces before control characters go: they part words.
    title = printable(" ".join(text[:_MAX_RAW].split()))
    if not title.isascii():
        title = _without_towers(_BLANK.sub("", title))
    return " ".join(title.split())


def cut(text: str, size: int) -> str:
    """The beginning of `text`, at most `size` bytes of UTF-8, cut at the end of a character."""
    return text.encode()[:size].decode("utf-8", "ignore").rstrip()


def preview_of(title: str) -> str:
    """What an index entry holds of a title that was cleaned."""
    return cut(title, PREVIEW)


def may_be_cut(text: str, size: int = PREVIEW) -> bool:
    """Whether what `cut` may have cut to `size` bytes is only the beginning of a text: what it left
    out at the end is a part of one character and a space, at most."""
    return len(text.encode()) >= size - 4


def _without_towers(title: str) -> str:
    kept = []
    marks = 0
    for char in title:
        marks = marks + 1 if category(char) in ("Mn", "Me") else 0
        if marks <= MAX_MARKS:
            kept.append(char)
    return "".join(kept)
