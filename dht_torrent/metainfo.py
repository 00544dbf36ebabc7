"""What a torrent is: its info dict, checked once. A Metainfo that exists has paths that stay in
its folder, lengths that add up and a hash for every piece, wherever it came from - a file, a peer
or our own disk. The infohash is taken of the info dict's very bytes, which are kept.

Read through its v1 part; the v2 part of a hybrid torrent (BEP 52) is kept but not used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dht_torrent import bencode
from dht_torrent import filenames as names
from dht_torrent.bencode import Value
from dht_torrent.bounds import (
    MAX_CERTIFICATE,
    MAX_COLLECTION,
    MAX_COMMENT,
    MAX_FILES,
    MAX_INFO,
    MAX_LOCAL_HINTS,
    MAX_NODES,
    MAX_PIECE_LENGTH,
    MAX_PIECES,
    MAX_TORRENT,
    MAX_TOTAL,
    in_calendar,
)
from dht_torrent.errors import BencodeError, MetainfoError
from dht_torrent.geometry import BLOCK, File, Geometry, Span
from dht_torrent.ids import HostPort, InfoHash
from dht_torrent.magnet import Magnet, format_ranges, parse_ranges

__all__ = [
    "BLOCK",
    "MAX_FILES",
    "MAX_TORRENT",
    "MAX_TOTAL",
    "File",
    "Geometry",
    "LocalHints",
    "Magnet",
    "Metainfo",
    "Span",
    "format_ranges",
    "from_info",
    "parse_ranges",
    "parse_torrent",
]


@dataclass(frozen=True, slots=True)
class LocalHints:
    """Which other torrents may have files in common with this one (BEP 38). Only hints: whoever has
    such a torrent looks there before asking peers."""

    similar: tuple[InfoHash, ...] = ()
    collections: tuple[str, ...] = ()
    """Names that all torrents of a collection have, whatever they mean to their authors."""

    def __bool__(self) -> bool:
        return bool(self.similar or self.collections)


_NO_HINTS: Final = LocalHints()


@dataclass(frozen=True, slots=True)
class Metainfo:
    """A torrent whose content we know how to check. Made only by the functions of this module."""

    info_hash: InfoHash
    name: str
    """Sanitised: the folder's, or the single file's."""
    geometry: Geometry
    pieces: bytes
    """20 bytes of SHA-1 for each piece."""
    private: bool
    """BEP 27: such a torrent may not be looked up in the DHT, nor its peers passed on."""
    single: bool
    """One file and no folder around it."""
    info: bytes
    """The info dict as it was written."""
    nodes: tuple[HostPort, ...] = ()
    """Where to enter the DHT (BEP 5)."""
    comment: str | None = None
    created_by: str | None = None
    creation_date: int | None = None
    """Seconds since 1970, as the author claims; None if that is not a date of the calendar."""
    as_written: bool = False
    """Paths are the info dict's own: content that was shared from this disk, under names that a
    download would have replaced. Remember it beside the info dict, for `from_info`."""
    ssl_cert: bytes | None = None
    """The root certificate of an SSL torrent, as PEM, not looked into yet: whoever takes part needs
    a certificate that it signed."""
    hints: LocalHints = LocalHints()
    """In its info dict ..."""
    more_hints: LocalHints = LocalHints()
    """... and beside it, in the .torrent."""

    @property
    def files(self) -> tuple[File, ...]:
        """The files in the order of their bytes, pad files included."""
        return self.geometry.files

    @property
    def similar(self) -> tuple[InfoHash, ...]:
        """Torrents that it says it has files in common with (BEP 38)."""
        return tuple(dict.fromkeys((*self.hints.similar, *self.more_hints.similar)))

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections it is in (BEP 38)."""
        return tuple(dict.fromkeys((*self.hints.collections, *self.more_hints.collections)))

    def may_share_files(self, other: Metainfo) -> bool:
        """Does any of the two say that they have files in common?"""
        return (
            other.info_hash in self.similar
            or self.info_hash in other.similar
            or not set(self.collections).isdisjoint(other.collections)
        )

    def piece_hash(self, index: int) -> bytes:
        """The SHA-1 of a piece, 20 bytes."""
        return self.pieces[20 * index : 20 * index + 20]

    def to_torrent(self) -> bytes:
        """A .torrent file, with the info dict byte for byte."""
        head: dict[bytes, Value] = {}
        if self.more_hints.collections:
            head[b"collections"] = [name.encode() for name in self.more_hints.collections]
        if self.comment is not None:
            head[b"comment"] = _cut(self.comment)
        if self.created_by is not None:
            head[b"created by"] = _cut(self.created_by)
        if self.creation_date is not None:
            head[b"creation date"] = self.creation_date
        tail: dict[bytes, Value] = {}
        if self.nodes:
            tail[b"nodes"] = [[node.host.encode(), node.port] for node in self.nodes[:MAX_NODES]]
        if self.more_hints.similar:
            tail[b"similar"] = list(self.more_hints.similar)
        # All keys of head sort before `info`, those of tail after it.
        return bencode.encode(head)[:-1] + b"4:info" + self.info + bencode.encode(tail)[1:]

    def magnet(self, peers: Sequence[HostPort] = ()) -> Magnet:
        """A link to this torrent, with `peers` as those who have it."""
        return Magnet(self.info_hash, names.printable(self.name) or None, tuple(peers))


def parse_torrent(data: bytes) -> Metainfo:
    """Reads a .torrent file, with the faults that real ones have (`bencode.decode_lenient`). Raises
    MetainfoError."""
    if len(data) > MAX_TORRENT:
        raise MetainfoError(
            f"a .torrent may have {MAX_TORRENT >> 20} MiB at most, "
            f"this one has {len(data)} bytes or more"
        )
    try:
        top = bencode.decode_lenient(data, max_size=MAX_TORRENT)
        info = bencode.raw_slice(data, b"info", max_size=MAX_TORRENT)
    except BencodeError as exc:
        raise MetainfoError(f"not a .torrent file: {exc}") from None
    assert isinstance(top, dict)  # or it would have no slice
    date = top.get(b"creation date")
    return from_info_dict(
        top[b"info"],
        info,
        nodes=_nodes(top.get(b"nodes")),
        comment=_text(top, b"comment"),
        created_by=_text(top, b"created by"),
        creation_date=date if isinstance(date, int) and in_calendar(date) else None,
        more_hints=_local_hints(top),
    )


def from_info(
    info: bytes,
    *,
    info_hash: InfoHash | None = None,
    nodes: Sequence[HostPort] = (),
    as_written: bool = False,
) -> Metainfo:
    """Reads an info dict alone, as peers send it (BEP 9).

    `as_written` leaves awkward names alone (never dangerous ones): only for an info dict that
    `make` made here. Raises MetainfoError, also when it is not what `info_hash` names.
    """
    if info_hash is not None and hashlib.sha1(info, usedforsecurity=False).digest() != info_hash:
        raise MetainfoError("the info dict does not match the infohash")
    try:
        value = bencode.decode_lenient(info, max_size=MAX_INFO)
    except BencodeError as exc:
        raise MetainfoError(f"not an info dict: {exc}") from None
    return from_info_dict(value, info, nodes=tuple(nodes), as_written=as_written)


def check_hints(hints: LocalHints) -> None:
    """That all of them would be read again. Raises MetainfoError."""
    for what, ones in (("similar torrents", hints.similar), ("collections", hints.collections)):
        if len(ones) > MAX_LOCAL_HINTS:
            raise MetainfoError(f"at most {MAX_LOCAL_HINTS} {what}, not {len(ones)}")
    for name in hints.collections:
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise MetainfoError("the name of a collection must be UTF-8") from None
        if not 0 < size <= MAX_COLLECTION:
            raise MetainfoError(f"the name of a collection has 1 to {MAX_COLLECTION} bytes")


def check_size(info: dict[bytes, Value], geometry: Geometry) -> None:
    """That the info dict, once it has its hashes, is not too large for others to take. Raises
    MetainfoError."""
    hashes = 20 * geometry.piece_count
    size = len(bencode.encode(info)) + len(f"6:pieces{hashes}:") + hashes
    if size > MAX_INFO:
        files, hint = len(geometry.files), "longer pieces"
        if size - hashes > MAX_INFO // 2:
            hint = "fewer files, or one archive of them"
        raise MetainfoError(
            f"the metadata would have {size} bytes, of {files} file{'s' * (files != 1)} and "
            f"{geometry.piece_count} pieces, but peers accept no more than {MAX_INFO} "
            f"({MAX_INFO >> 20} MiB): share {hint}"
        )


def from_info_dict(
    info: Value,
    raw: bytes,
    *,
    nodes: tuple[HostPort, ...],
    comment: str | None = None,
    created_by: str | None = None,
    creation_date: int | None = None,
    as_written: bool = False,
    more_hints: LocalHints = _NO_HINTS,
) -> Metainfo:
    """The one validator of info dicts. `raw` is `info` as it was written."""
    if not isinstance(info, dict):
        raise MetainfoError("the info dict is not a dict")
    if len(raw) > MAX_INFO:
        raise MetainfoError(
            f"the info dict has {len(raw)} bytes, more than {MAX_INFO} ({MAX_INFO >> 20} MiB)"
        )
    if b"pieces" not in info and b"file tree" in info:
        raise MetainfoError("this is a v2-only torrent (BEP 52), which is not supported")
    geometry = geometry_of(info, as_written=as_written)
    pieces = _bytes(info, b"pieces")
    if len(pieces) != 20 * geometry.piece_count:
        raise MetainfoError(
            f"{geometry.piece_count} pieces need {20 * geometry.piece_count} bytes of hashes, "
            f"not {len(pieces)}"
        )
    return Metainfo(
        info_hash=InfoHash(hashlib.sha1(raw, usedforsecurity=False).digest()),
        name=_name(info, as_written=as_written),
        geometry=geometry,
        pieces=pieces,
        private=info.get(b"private") == 1,
        single=b"files" not in info,
        info=raw,
        nodes=nodes,
        comment=comment,
        created_by=created_by,
        creation_date=creation_date,
        as_written=as_written,
        ssl_cert=_root_certificate(info),
        hints=_local_hints(info),
        more_hints=more_hints,
    )


def geometry_of(info: dict[bytes, Value], *, as_written: bool) -> Geometry:
    """Files and pieces, checked: all that an info dict says but the hashes.

    Raises MetainfoError."""
    piece_length = _integer(info, b"piece length")
    name = _name(info, as_written=as_written)
    entries = [info]
    paths: list[names.Path] = [(name,)]
    if b"files" in info:
        entries = _entries(info)
        read = names.check_path if as_written else names.sanitise_path
        paths = [read(_raw_path(entry)) for entry in entries]
    return _checked_geometry(piece_length, _files(paths, entries, as_written=as_written))


def _name(info: dict[bytes, Value], *, as_written: bool) -> str:
    raw = info.get(b"name.utf-8")
    if not isinstance(raw, bytes):
        raw = info.get(b"name")
    if not isinstance(raw, bytes):
        raise MetainfoError("the info dict has no valid `name`")
    return names.check(raw) if as_written else names.sanitise(raw)


def _entries(info: dict[bytes, Value]) -> list[dict[bytes, Value]]:
    files = info[b"files"]
    if not isinstance(files, list) or not files:
        raise MetainfoError("`files` is not a list of files")
    if len(files) > MAX_FILES:
        raise MetainfoError(f"more than {MAX_FILES} files")
    entries = [entry for entry in files if isinstance(entry, dict)]
    if len(entries) != len(files):
        raise MetainfoError("`files` holds something that is not a dict")
    return entries


def _files(
    paths: Sequence[names.Path], entries: Sequence[dict[bytes, Value]], *, as_written: bool
) -> list[File]:
    """Files with their names as they are on disk, not yet laid end to end."""
    attributes = [_attributes(entry) for entry in entries]
    # What is never written takes nobody's name. Pads may well come twice under the same one.
    phantom = ["p" in letters or "l" in letters for letters in attributes]
    real = (path for path, skip in zip(paths, phantom, strict=True) if not skip)
    final = real if as_written else names.unique(real)
    files = []
    for entry, path, letters, skip in zip(entries, paths, attributes, phantom, strict=True):
        length = 0 if "l" in letters and b"length" not in entry else _integer(entry, b"length")
        if length < 0:
            raise MetainfoError("a file has a negative length")
        if "l" in letters and length:
            raise MetainfoError("a symbolic link with content")
        files.append(File(path if skip else next(final), length, 0, skip, letters))
    return files


def _checked_geometry(piece_length: int, files: Sequence[File]) -> Geometry:
    if not 1 <= piece_length <= MAX_PIECE_LENGTH:
        raise MetainfoError(
            f"the piece length must be 1 to {MAX_PIECE_LENGTH} bytes, not {_told(piece_length)}"
        )
    total = sum(file.length for file in files)
    if not 0 < total <= MAX_TOTAL:
        raise MetainfoError(
            f"a torrent must have 1 to {MAX_TOTAL} bytes of content, not {_told(total)}"
        )
    if total > MAX_PIECES * piece_length:
        raise MetainfoError(f"more than {MAX_PIECES} pieces")
    if len(files) > MAX_FILES:
        raise MetainfoError(f"more than {MAX_FILES} files")
    laid = []
    offset = 0
    for file in files:
        laid.append(File(file.path, file.length, offset, file.pad, file.attributes))
        offset += file.length
    return Geometry(piece_length, tuple(laid))


def _attributes(entry: dict[bytes, Value]) -> str:
    """BEP 47's letters, without those that mean nothing to us. None at all is not an error."""
    raw = entry.get(b"attr")
    return "".join(c for c in "hlpx" if c.encode() in raw) if isinstance(raw, bytes) else ""


def _raw_path(entry: dict[bytes, Value]) -> list[bytes]:
    for key in (b"path.utf-8", b"path"):
        path = entry.get(key)
        parts = [part for part in path if isinstance(part, bytes)] if isinstance(path, list) else []
        if isinstance(path, list) and parts and len(parts) == len(path):
            return parts
    raise MetainfoError("a file has no valid `path`")


def _bytes(where: dict[bytes, Value], key: bytes) -> bytes:
    value = where.get(key)
    if not isinstance(value, bytes):
        raise MetainfoError(f"the info dict has no valid `{key.decode()}`")
    return value


def _root_certificate(info: dict[bytes, Value]) -> bytes | None:
    """None only where the key is absent: a torrent that was meant for members only must not pass
    for one that is for everybody."""
    if b"ssl-cert" not in info:
        return None
    value = _bytes(info, b"ssl-cert")
    if not 0 < len(value) <= MAX_CERTIFICATE:
        raise MetainfoError(f"`ssl-cert` must have 1 to {MAX_CERTIFICATE} bytes, not {len(value)}")
    return value


def _local_hints(where: dict[bytes, Value]) -> LocalHints:
    """What is not as it should be is passed over: they are only hints."""
    similar, collections = where.get(b"similar"), where.get(b"collections")
    hashes = similar[:MAX_LOCAL_HINTS] if isinstance(similar, list) else ()
    names = collections[:MAX_LOCAL_HINTS] if isinstance(collections, list) else ()
    return LocalHints(
        tuple(InfoHash(one) for one in hashes if isinstance(one, bytes) and len(one) == 20),
        tuple(
            one.decode("utf-8", "replace")
            for one in names
            if isinstance(one, bytes) and 0 < len(one) <= MAX_COLLECTION
        ),
    )


def _integer(where: dict[bytes, Value], key: bytes) -> int:
    value = where.get(key)
    if not isinstance(value, int):
        raise MetainfoError(f"the info dict has no valid `{key.decode()}`")
    return value


def _told(number: int) -> str:
    """For people: the lenient reader gives what is out of int64 as the next number beyond."""
    return str(number) if -(2**63) <= number < 2**63 else "a number beyond 64 bits"


def _text(top: dict[bytes, Value], key: bytes) -> str | None:
    for name in (key + b".utf-8", key):
        value = top.get(name)
        if isinstance(value, bytes):
            return _cut(value.decode("utf-8", "replace")).decode()
    return None


def _cut(text: str) -> bytes:
    """As much of `text` as one may write, in UTF-8."""
    return text.encode("utf-8", "replace")[:MAX_COMMENT].decode("utf-8", "ignore").encode()


def _nodes(value: Value | None) -> tuple[HostPort, ...]:
    """Entry points to the DHT. They are hints: what is not a [host, port] is passed over."""
    nodes = []
    for entry in value[:MAX_NODES] if isinstance(value, list) else ():
        match entry:
            case [bytes(host), int(port)] if 0 < port < 65536 and 0 < len(host) < 254:
                if host.isascii() and (text := host.decode()).isprintable() and " " not in text:
                    nodes.append(HostPort(text, port))
            case _:
                pass
    return tuple(nodes)
