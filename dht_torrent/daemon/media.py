"""What a file is, by its name, for players: the same on every system, as its own table of types may
lack half of them, or say that a recording (`.ts`) is the text of a translator.
"""

from __future__ import annotations

import mimetypes
import re
from typing import Final

BYTES: Final = "application/octet-stream"
_VIDEO: Final = {
    "3gp": "3gpp", "avi": "x-msvideo", "divx": "x-msvideo", "flv": "x-flv", "m2ts": "mp2t",
    "m4v": "mp4", "mkv": "x-matroska", "mov": "quicktime", "mp4": "mp4", "mpeg": "mpeg",
    "mpg": "mpeg", "mts": "mp2t", "ogm": "ogg", "ogv": "ogg", "ts": "mp2t", "vob": "mpeg",
    "webm": "webm", "wmv": "x-ms-wmv",
}  # fmt: skip
_AUDIO: Final = {
    "aac": "aac", "ac3": "ac3", "aif": "aiff", "aiff": "aiff", "ape": "x-ape", "dts": "vnd.dts",
    "flac": "flac", "m4a": "mp4", "m4b": "mp4", "mka": "x-matroska", "mp2": "mpeg", "mp3": "mpeg",
    "oga": "ogg", "ogg": "ogg", "opus": "ogg", "wav": "wav", "weba": "webm", "wma": "x-ms-wma",
    "wv": "x-wavpack",
}  # fmt: skip
_OTHERS: Final = {
    "ass": "text/x-ssa", "gif": "image/gif", "jpeg": "image/jpeg", "jpg": "image/jpeg",
    "png": "image/png", "srt": "application/x-subrip", "ssa": "text/x-ssa", "txt": "text/plain",
    "vtt": "text/vtt", "webp": "image/webp",
}  # fmt: skip
_TYPES: Final = {
    **{suffix: f"video/{kind}" for suffix, kind in _VIDEO.items()},
    **{suffix: f"audio/{kind}" for suffix, kind in _AUDIO.items()},
    **_OTHERS,
}
_PLAYED: Final = ("video/", "audio/")
_NUMBER: Final = re.compile(r"(\d+)", re.ASCII)


def media_type(name: str) -> str:
    """Of a file, by its name; nothing that a browser would run as a part of the page, but bytes, to
    be saved."""
    suffix = name.lower().rpartition("/")[2].rpartition(".")[2]
    known = _TYPES.get(suffix)
    if known is not None:
        return known
    guessed = mimetypes.guess_type(f"x.{suffix}")[0] or ""
    return guessed if guessed.startswith(_PLAYED) else BYTES


def is_played(name: str) -> bool:
    """Whether it is a film or music, by its name."""
    return media_type(name).startswith(_PLAYED)


def playing_order(path: str) -> list[list[tuple[int, str]]]:
    """Sorts by it as people count: `Episode 2` before `Episode 10`, folder by folder, and without
    regard to capitals."""
    return [
        [
            # An odd place is a number: of more digits is larger, once zeros in front are gone.
            (len(digits := part.lstrip("0")), digits) if place % 2 else (0, part)
            for place, part in enumerate(_NUMBER.split(name))
        ]
        for name in path.casefold().split("/")
    ]
