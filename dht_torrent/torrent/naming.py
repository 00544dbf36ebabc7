"""What a user calls the files and folders of a torrent here: its names on this disk only. The info
dict, the infohash and what is told to others keep the author's.

A name belongs to the path that the torrent itself has, so that it holds whatever else is renamed;
that of the root is `()`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import replace

from dht_torrent import filenames
from dht_torrent.errors import InputError
from dht_torrent.metainfo import Metainfo

Parts = tuple[str, ...]
Names = Mapping[Parts, str]

MAX_NAMES = 10_000
"""Things renamed in one torrent ..."""
MAX_SIZE = 256 << 10
"""... and bytes of their paths: both bound its resume record."""


def renamed(metainfo: Metainfo, names: Names) -> Metainfo:
    """The torrent with the paths that it has on this disk."""
    if not names:
        return metainfo
    name = names.get((), metainfo.name)
    if metainfo.single:
        files = tuple(replace(file, path=(name,)) for file in metainfo.files)
    else:
        files = tuple(replace(file, path=path_here(file.path, names)) for file in metainfo.files)
    return replace(metainfo, name=name, geometry=replace(metainfo.geometry, files=files))


def path_here(path: Parts, names: Names) -> Parts:
    """Below the root, on this disk, of what the torrent calls `path`."""
    if not names:
        return path
    return tuple(names.get(path[: at + 1], part) for at, part in enumerate(path))


def find(metainfo: Metainfo, names: Names, path: str) -> Parts:
    """The torrent's own path of what is called `path` now, from its root on: `Album/cd1/a.flac`.
    Raises InputError."""
    parts = tuple(path.split("/"))
    if parts == (names.get((), metainfo.name),):
        return ()
    if not metainfo.single and parts[0] == names.get((), metainfo.name):
        rest = parts[1:]
        for file in metainfo.files:
            if not file.pad and path_here(file.path, names)[: len(rest)] == rest:
                return file.path[: len(rest)]
    raise InputError(f"there is no {path[:200]!r} in this torrent")


def rename(metainfo: Metainfo, names: Names, path: str, name: str) -> tuple[Parts, Names]:
    """What is called `path` now is called `name` from now on: the torrent's own path of it, and all
    names then. Raises InputError for a name that is not safe on every system, or is taken."""
    key = find(metainfo, names, path)
    try:
        safe = filenames.sanitise(name.encode())
    except UnicodeEncodeError:
        safe = ""
    if safe != name:
        raise InputError(f"{name[:80]!r} cannot be the name of a file")
    if key and _key(name) in _siblings(metainfo, names, key):
        raise InputError(f"there is a {name!r} there already")
    now = {**names, key: name}
    if name == (key[-1] if key else metainfo.name):
        del now[key]
    size = sum(len("/".join((*one, new)).encode()) for one, new in now.items())
    if len(now) > MAX_NAMES or size > MAX_SIZE:
        raise InputError("too many names of this torrent were changed")
    for file in metainfo.files:
        whole = "/".join((now.get((), metainfo.name), *path_here(file.path, now)))
        if len(whole.encode("utf-8", "surrogateescape")) > filenames.MAX_PATH:
            raise InputError(f"a path would be longer than {filenames.MAX_PATH} bytes")
    return key, now


def _siblings(metainfo: Metainfo, names: Names, key: Parts) -> set[str]:
    """What others in the same folder are called now."""
    depth = len(key)
    found = {
        file.path[:depth]
        for file in metainfo.files
        if not file.pad and file.path[: depth - 1] == key[:-1] and len(file.path) >= depth
    }
    return {_key(names.get(one, one[-1])) for one in found - {key}}


def _key(name: str) -> str:
    """Equal for what some file system takes for one name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
