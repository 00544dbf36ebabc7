"""File names from strangers. What comes out of here is a path inside the torrent's folder, on any
system: no component leads up or out, names a device, hides what it is, or is a second name for
the same file.

Any name gives one that is safe: what leads out, separates or cannot be written is replaced, so that
a torrent with a careless name can be had, and one with a malicious name does no harm. Refused
(MetainfoError) is only what exceeds a bound. Only the names on disk are changed: the info dict, and
so the infohash, keep what the author wrote.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

from dht_torrent.errors import MetainfoError

MAX_COMPONENT = 240
"""UTF-8 bytes of one component: below the 255 of file systems, leaving room for a suffix."""
MAX_PATH = 4096
"""UTF-8 bytes of a whole path (Linux's PATH_MAX)."""
MAX_DEPTH = 100
"""Components of one path (libtorrent)."""
MAX_DUPLICATES = 500
"""Files renamed in one torrent because their name was taken (libtorrent)."""
MAX_FOLDERS = 100_000
"""Folders in one torrent: bounds memory, where a few bytes of a path name a new one."""
MAX_EXTENSION = 32
"""Bytes of an extension that survives when a long name is cut."""

Path = tuple[str, ...]

# C0, C1, and all that Unicode calls format characters (Cf), of which some reorder or hide text:
# `exe.gpj` shown from right to left, or letters that are not seen at all (U+E0020 and after).
_INVISIBLE = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_invisible = re.compile(f"[{_INVISIBLE}]")
# Separators of some system, and what Windows cannot have in a name: `:` opens a stream of another
# file there, or names a drive.
_forbidden = re.compile(r'[/\\<>:"|?*]')
_reserved = re.compile(
    r"(con|prn|aux|nul|clock\$|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)",
    re.IGNORECASE,
)
# Most names need nothing at all, and this sees it in one step. It leaves what begins like a device
# to the careful way.
_plain = re.compile(
    rb"(?!con|prn|aux|nul|clock|com|lpt)[a-z0-9 _.,;=+@#&!'()\[\]{}~^$%-]{0,239}[a-z0-9_)\]]",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    """`text` fit to be shown: no control, direction or zero-width characters, at most 255 long."""
    return "".join(c for c in _invisible.sub("", text) if not "\ud800" <= c <= "\udfff")[:255]


def check(raw: bytes) -> str:
    """One path component as it is on this system's disk, bytes that are not UTF-8 included (as
    `os.fsdecode` has them): for content that is shared where it lies.

    Raises MetainfoError for what no file here can be called: `.`, `..`, nothing at all, or a name
    with a separator or NUL.
    """
    name = os.fsdecode(raw)
    if name in {"", ".", ".."} or "/" in name or "\0" in name or os.sep in name:
        raise MetainfoError(f"{name[:60]!r} cannot be a file name")
    return name


def sanitise(raw: bytes) -> str:
    """One path component as it may appear on disk."""
    if _plain.fullmatch(raw):
        return raw.decode()
    # Bytes that are not UTF-8 become U+FFFD: something a person can see and type around.
    name = _forbidden.sub("_", _invisible.sub("", raw.decode("utf-8", "replace")))
    if _reserved.match(name):
        name = "_" + name
    name = _cut(name, MAX_COMPONENT)
    # Windows drops these silently: `a.` and `a` would be one file. `.` and `..` go the same way.
    kept = name.rstrip(". ")
    name = kept + "_" * (len(name) - len(kept))
    if _reserved.match(name):  # it was cut to that
        name = "_" + name[1:]
    return name or "_"


def sanitise_path(components: Sequence[bytes]) -> Path:
    """All components of one file's path. Raises MetainfoError when it is too deep or long."""
    return _path(components, sanitise)


def check_path(components: Sequence[bytes]) -> Path:
    """As `sanitise_path`, with the components as they were written: for files that are here."""
    return _path(components, check)


def _path(components: Sequence[bytes], read: Callable[[bytes], str]) -> Path:
    if not 1 <= len(components) <= MAX_DEPTH:
        raise MetainfoError(f"a path must have 1 to {MAX_DEPTH} components")
    path = tuple(map(read, components))
    if len("/".join(path).encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise MetainfoError(f"a path is longer than {MAX_PATH} bytes: {'/'.join(path)[:60]!r}")
    return path


def unique(paths: Iterable[Path]) -> Iterator[Path]:
    """The same paths in the same order, each one a file of its own on any file system.

    A name that is taken in its folder - by the same letters in another case or composition, by a
    folder for a file, by a file for a folder - gets ` .1`, ` .2` ... before its extension. Raises
    MetainfoError when more than `MAX_DUPLICATES` need it, or beyond `MAX_FOLDERS`.
    """
    root = _Folder("")
    folders = 0
    renamed = 0
    for path in paths:
        here = root
        final = []
        for name in path[:-1]:
            key = _key(name)
            if key not in here.folders:
                folders += 1
                if folders > MAX_FOLDERS:
                    raise MetainfoError(f"more than {MAX_FOLDERS} folders")
                here.folders[key] = _Folder(here.take(name))
                renamed += here.folders[key].name != name
            here = here.folders[key]
            final.append(here.name)
        final.append(here.take(path[-1]))
        renamed += final[-1] != path[-1]
        if renamed > MAX_DUPLICATES:
            raise MetainfoError(f"more than {MAX_DUPLICATES} files have duplicate names")
        yield tuple(final)


class _Folder:
    __slots__ = ("folders", "name", "taken")

    def __init__(self, name: str) -> None:
        self.name = name
        self.folders: dict[str, _Folder] = {}
        """By the name the torrent gives them, which may not be what they are called on disk."""
        self.taken: dict[str, int] = {}
        """Every name on disk in here -> how many numbers were tried after it."""

    def take(self, name: str) -> str:
        free = name
        key = first = _key(name)
        while key in self.taken:
            self.taken[first] += 1
            free = _numbered(name, self.taken[first])
            key = _key(free)
        self.taken[key] = 0
        return free


def _key(name: str) -> str:
    """Equal for all spellings that some file system takes for the same (macOS, Windows)."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _numbered(name: str, number: int) -> str:
    stem, extension = _split(name)
    suffix = f" .{number}"
    return _utf8_prefix(stem, MAX_COMPONENT - len((suffix + extension).encode())) + (
        suffix + extension
    )


def _cut(name: str, limit: int) -> str:
    if len(name.encode()) <= limit:
        return name
    stem, extension = _split(name)
    return _utf8_prefix(stem, limit - len(extension.encode())) + extension


def _split(name: str) -> tuple[str, str]:
    stem, dot, extension = name.rpartition(".")
    if not stem or not dot or len(extension.encode()) >= MAX_EXTENSION:
        return name, ""
    return stem, "." + extension


def _utf8_prefix(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")
