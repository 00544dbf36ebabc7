"""Whose a file is. The rule: before a torrent's first write each file it may write to has one
owner, and what is there already is replaced by something else only if the user insisted.

A file that was absent is made by the torrent, and is its own from then on. One that was there is
adopted if its pieces verify: it may then be read, and a write may fill its holes or repeat what it
holds. Anything else is refused, with a reason for people.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from dht_torrent.errors import StorageError

NEW: Final = 0
"""Absent: made by the first write to it, which fails if something has appeared there meanwhile."""
KEEP: Final = 1
"""Another's, and right: a write may only repeat what it holds."""
FILL: Final = 2
"""An interrupted download: a write may fill zeros, or repeat what is there."""
OWN: Final = 3
"""Made by this torrent: written at will, and deleted with it."""
CLOSED: Final = 4
"""Not looked at, or another's: never written."""

ELSEWHERE = "choose another --output, or --overwrite to replace it"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file of a torrent as it was found on the disk."""

    length: int
    """Bytes the torrent says it has."""
    size: int | None
    """Bytes on the disk; None when it is absent."""
    odd: bool = False
    """Something is there that is not a regular file."""
    made: bool = False
    """The torrent's record says that the torrent made it."""
    begun: bool = False
    """The record says that it was absent when the torrent began to write."""
    filled: bool = False
    """The record says that it was there before, incomplete, and that the torrent wrote to it."""
    known: bool = False
    """Pieces of it were verified before, and on the disk."""
    changed: bool = False
    """It is not as the record left it."""
    pieces: int = 0
    """Pieces with bytes of it."""
    verified: int = 0
    """How many of these verify."""


def decide(found: FoundFile, blank: Callable[[bool], bool]) -> int | str:
    """How the torrent may write to the file, or why it may not.

    `blank(edges)`: are the file's bytes in pieces that do not verify holes or zeros? With `edges`
    False, pieces shared with other files do not count: they may lack nothing but the other file.
    """
    size = found.size
    if found.odd:
        return f"is not a regular file; {ELSEWHERE.partition(',')[0]}, or move it away"
    if size is None:
        return NEW
    if size > found.length:
        return f"is longer than the torrent's file; {ELSEWHERE}"
    whole = found.verified == found.pieces
    if whole:
        return OWN if found.made or (found.begun and found.length) else KEEP
    if found.made and (found.verified or not found.changed or not size):
        return OWN
    if found.made and not found.known:
        return FILL  # a piece that was being written, or what a power cut has left of it
    if found.made:
        return OWN if blank(True) else f"was replaced by something else; {ELSEWHERE}"
    if found.begun:
        return OWN if found.verified and blank(False) else FILL
    if found.filled or not size or (found.verified and blank(False)):
        return FILL
    return f"holds something else; {ELSEWHERE}"


def may_write(access: int, name: object, old: bytes | bytearray, new: bytes) -> bool:
    """May these bytes be written over `old`, which ends where the file does? False when that would
    change nothing. Raises StorageError when it would destroy what is not the torrent's."""
    if access in (NEW, OWN):
        return True
    if old == new:
        return False
    if access == CLOSED:
        raise StorageError(f"{name} does not belong to this torrent; {ELSEWHERE}")
    if access == FILL and _only_fills(old, new):
        return True
    raise StorageError(f"{name} holds something else; {ELSEWHERE}")


def _only_fills(old: bytes | bytearray, new: bytes) -> bool:
    for at in range(0, len(old), _CHUNK):
        there, then = old[at : at + _CHUNK], new[at : at + _CHUNK]
        if there == then or there.count(0) == len(there):
            continue
        if any(a and a != b for a, b in zip(there, then, strict=False)):
            return False
    return True


_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where a torrent's files lie, as the file system sees it. Made by a storage's survey."""

    root: str
    """The content's folder, or its one file: absolute, and with no link in it."""
    files: Callable[[], Iterable[tuple[int, str]]]
    """Number and path below the root (empty for a single file) of each file that is on disk."""
    folds: bool = False
    """The file system takes names that differ in case only for the same."""
    links: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """Device and inode of each file that has more than one name, and its number."""

    def key(self) -> str:
        """Equal for two places that are the same."""
        if not self.folds:
            return self.root
        return unicodedata.normalize("NFC", unicodedata.normalize("NFD", self.root).casefold())

    def paths(self, wanted: bytes | bytearray) -> dict[str, int]:
        """Number of each file, by path, whose byte in `wanted` is not `CLOSED`."""
        root = self.root
        found = {}
        for number, path in self.files():
            if wanted[number] != CLOSED:
                whole = f"{root}/{path}" if path else root
                if self.folds:
                    whole = unicodedata.normalize("NFD", whole).casefold()
                    whole = unicodedata.normalize("NFC", whole)
                found[whole] = number
        return found


class Conflict(NamedTuple):
    """A file that is another torrent's."""

    number: int
    other: str
    """Name and id of that torrent."""


@dataclass(frozen=True, slots=True)
class _Claim:
    name: str
    place: Place
    access: bytearray
    """For each file how it may be written. The storage's own: a file that is made becomes OWN."""


class Owners:
    """Which torrent of a node has which files. Two torrents never write one file; many may read
    one that none of them writes."""

    def __init__(self) -> None:
        self._claims: dict[bytes, _Claim] = {}
        # Owners by the root of their place, by each folder above it, and by inode: dicts for sets,
        # which keep their order. A thousand torrents in one folder are not compared in pairs.
        self._at: dict[str, dict[bytes, None]] = {}
        self._below: dict[str, dict[bytes, None]] = {}
        self._linked: dict[tuple[int, int], dict[bytes, None]] = {}

    def claim(self, owner: bytes, name: str, place: Place, access: bytearray) -> list[Conflict]:
        """Take hold of the files for torrent `owner`, unless there are conflicts: then nothing is
        taken, and what it held before is let go."""
        self._drop(owner)
        found = [
            Conflict(number, other.name)
            for other, pairs in self._shared_with(place, access)
            for number, theirs in pairs
            if _collide(access[number], theirs)
        ]
        if not found:
            self._claims[owner] = _Claim(name, place, access)
            for index, key in self._keys(place):
                index.setdefault(key, {})[owner] = None
        return found

    def release(self, owner: bytes, access: bytearray) -> None:
        """The torrent that claimed with this `access` is gone. Idempotent."""
        claim = self._claims.get(owner)
        if claim is not None and claim.access is access:
            self._drop(owner)

    def _drop(self, owner: bytes) -> None:
        claim = self._claims.pop(owner, None)
        if claim is None:
            return
        for index, key in self._keys(claim.place):
            owners = index[key]
            owners.pop(owner, None)
            if not owners:
                del index[key]

    def _keys(self, place: Place) -> Iterator[tuple[dict[Any, dict[bytes, None]], object]]:
        """The indexes a claim is found by, and under which key."""
        root = place.key()
        yield self._at, root
        for folder in _above(root):
            yield self._below, folder
        for inode in place.links:
            yield self._linked, inode

    def others(self, owner: bytes, place: Place, access: bytearray) -> dict[int, str]:
        """The files that another torrent holds as well, and which."""
        return {
            number: other.name
            for other, pairs in self._shared_with(place, access, but=owner)
            for number, _ in pairs
        }

    def within(self, owner: bytes, place: Place) -> str | None:
        """Another torrent whose place is this one, or below it."""
        root = place.key()
        near = dict(self._at.get(root, {})) | self._below.get(root, {})
        return next((self._claims[one].name for one in near if one != owner), None)

    def _shared_with(
        self, place: Place, access: bytearray, but: bytes | None = None
    ) -> Iterable[tuple[_Claim, Sequence[tuple[int, int]]]]:
        """Claims on files of this place; for each, our number and how they may write it."""
        root = place.key()
        near = dict(self._at.get(root, {})) | self._below.get(root, {})
        for folder in _above(root):
            near |= self._at.get(folder, {})
        near.pop(but or b"", None)  # its own files are looked through only for another's sake
        linked = {key: None for inode in place.links for key in self._linked.get(inode, {})}
        mine = place.paths(access) if near else {}
        for owner in near | linked:
            if owner == but:
                continue
            claim = self._claims[owner]
            pairs: list[tuple[int, int]] = []
            if owner in near:
                pairs += [
                    (mine[path], claim.access[number])
                    for path, number in claim.place.paths(claim.access).items()
                    if path in mine
                ]
            for inode, number in place.links.items():
                theirs = claim.place.links.get(inode)
                if theirs is not None and access[number] != CLOSED:
                    code = claim.access[theirs]
                    pairs += [(number, code)] if code != CLOSED else []
            if pairs:
                yield claim, pairs


def _collide(mine: int, theirs: int) -> bool:
    if theirs == CLOSED or mine in (KEEP, CLOSED):
        return False
    # What a torrent made and another one adopted stays its own: they agree on what it holds.
    return not (mine == OWN and theirs == KEEP)


def _above(path: str) -> Iterator[str]:
    """The folders a path lies in, the nearest first."""
    while (cut := path.rfind("/")) >= 0:
        path = path[:cut]
        yield path
