"""What is remembered of links, those that are followed and those that are published: the codec of
their records. What is wrong in a record makes it one that cannot be read, and no more is believed
of an item in it than of one from the network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.dht.items import MAX_SALT, MAX_SEQ, MAX_VALUE, MutableItem, mutable_target
from dht_torrent.errors import BencodeError, InputError, StorageError
from dht_torrent.ids import InfoHash, parse_info_hash
from dht_torrent.magnet import MutableLink

_T = TypeVar("_T")

MAX_VERSIONS: Final = 200
"""Versions in a record."""
MAX_RECORD: Final = 256 * 1024
"""Bytes."""
_MAX_PATH: Final = 4096
_MAX_NAME: Final = 1024


@dataclass(frozen=True, slots=True)
class SeenVersion:
    """A version of a link, as this node has it."""

    info_hash: InfoHash
    seq: int
    ours: bool = True
    """Its torrent is here for the link's sake, and goes with it."""
    complete: bool = False
    """All of it was here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowRecord:
    """A link that is followed."""

    link: MutableLink
    output: Path
    keep: int
    """Old versions that stay."""
    seq: int = 0
    """The highest sequence number its owner was seen to have used."""
    item: MutableItem | None = None
    """The newest that names a version."""
    versions: tuple[SeenVersion, ...] = ()
    """Those that are here, or on their way, in the order in which they came."""
    current: InfoHash | None = None
    """The one that users find."""

    @property
    def name(self) -> str:
        """Of the file."""
        return target_of(self.link).hex()

    def encode(self) -> bytes:
        """`decode_follow` is the inverse."""
        fields: dict[bytes, Value] = {
            **_link_fields(self.link),
            b"output": os.fsencode(self.output),
            b"keep": self.keep,
            b"seq": self.seq,
            b"versions": [_version_fields(one) for one in self.versions],
        }
        if self.item is not None:
            fields[b"item"] = _item_fields(self.item)
        if self.current is not None:
            fields[b"current"] = self.current
        return bencode.encode(fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRecord:
    """A link that is published."""

    link: MutableLink
    key_name: str
    """Of the key, in the state directory."""
    path: Path
    """What is shared."""
    seq: int = 0
    """The highest sequence number that was used, or is about to be."""
    item: MutableItem | None = None
    """What was signed last; None until the DHT could be read."""
    versions: tuple[SeenVersion, ...] = ()
    """Those that are shared, the newest last."""

    @property
    def name(self) -> str:
        """Of the file."""
        return target_of(self.link).hex()

    def encode(self) -> bytes:
        """`decode_publish` is the inverse."""
        fields: dict[bytes, Value] = {
            **_link_fields(self.link),
            b"key_name": self.key_name.encode(),
            b"path": os.fsencode(self.path),
            b"seq": self.seq,
            b"versions": [_version_fields(one) for one in self.versions],
        }
        if self.item is not None:
            fields[b"item"] = _item_fields(self.item)
        return bencode.encode(fields)


def target_of(link: MutableLink) -> bytes:
    """Where the DHT has the link's item, and what the link is called by in files and commands."""
    return mutable_target(link.key, link.salt)


def decode_follow(payload: bytes) -> FollowRecord:
    """Raises StorageError saying what is wrong. Keys it does not know are ignored."""

    def read(fields: _Fields) -> FollowRecord:
        link = fields.link()
        return FollowRecord(
            link=link,
            output=fields.path(b"output"),
            keep=fields.integer(b"keep"),
            seq=fields.integer(b"seq"),
            item=fields.item(link),
            versions=fields.versions(),
            current=fields.maybe_info_hash(b"current"),
        )

    return _decoded(payload, read)


def decode_publish(payload: bytes) -> PublishRecord:
    """Raises StorageError saying what is wrong. Keys it does not know are ignored."""

    def read(fields: _Fields) -> PublishRecord:
        link = fields.link()
        return PublishRecord(
            link=link,
            key_name=fields.string(b"key_name", _MAX_NAME).decode(),
            path=fields.path(b"path"),
            seq=fields.integer(b"seq"),
            item=fields.item(link),
            versions=fields.versions(),
        )

    return _decoded(payload, read)


def _decoded(payload: bytes, read: Callable[[_Fields], _T]) -> _T:
    try:
        return read(_Fields(_dict(bencode.decode(payload, max_depth=5, max_size=MAX_RECORD))))
    except (BencodeError, InputError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise StorageError(f"not a record of a link: {error}") from error


def _link_fields(link: MutableLink) -> dict[bytes, Value]:
    name = {b"name": link.name.encode()} if link.name is not None else {}
    return {b"key": link.key, b"salt": link.salt, **name}


def _version_fields(version: SeenVersion) -> Value:
    return {
        b"ih": version.info_hash,
        b"seq": version.seq,
        b"ours": int(version.ours),
        b"complete": int(version.complete),
    }


def _item_fields(item: MutableItem) -> Value:
    return {b"v": item.encoded, b"seq": item.seq, b"sig": item.signature}


class _Fields:
    """Typed and bounded reads from a record. All raise ValueError, or InputError."""

    def __init__(self, values: Mapping[bytes, Value]) -> None:
        self._values = values

    def string(self, key: bytes, limit: int) -> bytes:
        return _string(self._values, key, limit)

    def integer(self, key: bytes) -> int:
        return _integer(self._values, key)

    def path(self, key: bytes) -> Path:
        raw = self.string(key, _MAX_PATH)
        if b"\0" in raw or not raw.startswith(b"/"):
            raise ValueError(f"{key.decode()} is not an absolute path")
        return Path(os.fsdecode(raw))

    def maybe_info_hash(self, key: bytes) -> InfoHash | None:
        return parse_info_hash(self._values[key]) if key in self._values else None

    def link(self) -> MutableLink:
        name = self.string(b"name", _MAX_NAME).decode() if b"name" in self._values else None
        return MutableLink(self.string(b"key", 32), self.string(b"salt", MAX_SALT), name)

    def item(self, link: MutableLink) -> MutableItem | None:
        if b"item" not in self._values:
            return None
        fields = _dict(self._values[b"item"])
        encoded = _string(fields, b"v", MAX_VALUE)
        try:
            bencode.decode(encoded)
        except BencodeError as error:
            raise ValueError(f"the item: {error}") from error
        return MutableItem(
            encoded, link.key, link.salt, _integer(fields, b"seq"), _string(fields, b"sig", 64)
        )

    def versions(self) -> tuple[SeenVersion, ...]:
        found = self._values.get(b"versions")
        if not isinstance(found, list) or len(found) > MAX_VERSIONS:
            raise ValueError("versions are missing, not a list or too many")
        return tuple(_version(_dict(one)) for one in found)


def _version(fields: Mapping[bytes, Value]) -> SeenVersion:
    return SeenVersion(
        parse_info_hash(fields.get(b"ih")),
        _integer(fields, b"seq"),
        _integer(fields, b"ours") == 1,
        _integer(fields, b"complete") == 1,
    )


def _dict(value: Value) -> Mapping[bytes, Value]:
    if not isinstance(value, dict):
        raise ValueError("not a dict")  # noqa: TRY004 - all that is wrong is one error
    return value


def _string(fields: Mapping[bytes, Value], key: bytes, limit: int) -> bytes:
    value = fields.get(key)
    if not isinstance(value, bytes) or len(value) > limit:
        raise ValueError(f"{key.decode()} is missing, not a string or too long")
    return value


def _integer(fields: Mapping[bytes, Value], key: bytes) -> int:
    value = fields.get(key)
    if not isinstance(value, int) or not 0 <= value <= MAX_SEQ:
        raise ValueError(f"{key.decode()} is missing or not a number")
    return value
