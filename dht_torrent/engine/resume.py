"""The resume record of one torrent: its codec. What it is worth today says `trust`."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dht_torrent import bencode
from dht_torrent.bounds import (
    MAX_FILES,
    MAX_INFO,
    MAX_MAGNET,
    MAX_PIECES,
    MAX_SOURCES,
    in_calendar,
)
from dht_torrent.config.seeding import THE_NODES, SeedingLimit, SeedingLimits, SharedEnough
from dht_torrent.engine.net.tls import Identity
from dht_torrent.engine.shift import Shift, decode_names, decode_shift, encode_names
from dht_torrent.errors import BencodeError, InputError, StorageError
from dht_torrent.ids import (
    Address,
    InfoHash,
    address_from_compact,
    parse_address,
    parse_info_hash,
)
from dht_torrent.storage import FileStamp
from dht_torrent.torrent.naming import Names

_T = TypeVar("_T")

MAX_PEERS = 200
"""Addresses kept to try first after a restart."""

MAX_BANNED = 1000
"""Banned addresses kept."""

MAX_TAGS = 16
"""Tags a torrent is published with."""

MAX_LABELS = 64
"""Labels of a torrent."""

_MAX_REASON = 1000
"""Bytes of a line that says why something is not so."""

_MAX_PATH = 4096
"""Bytes (Linux's PATH_MAX)."""

_STAMP = struct.Struct(">qq")
_MAX_HAVE = MAX_PIECES // 8
_MAX_MADE = -(-MAX_FILES // 8)

MAX_RECORD = MAX_INFO + _MAX_HAVE + MAX_FILES * _STAMP.size + (1 << 20)
"""The info dict, the pieces had, stamps of all files, and the rest."""

_TIME = struct.Struct(">d")
_NO_STAMP = _STAMP.pack(-1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """One torrent, as it is remembered. Times are Unix seconds; one outside the calendar, as of a
    clock that was never set, is not remembered."""

    info_hash: InfoHash
    magnet: str
    added_at: float
    content: Path
    """The folder the download goes into; if `shared`, the user's own file or folder."""
    shared: bool = False
    info: bytes | None = None
    """The info dict word for word; None while it is being fetched."""
    have: bytes = b""
    """Verified pieces, as on the wire (BEP 3). Worth what `stamps` say: see `trust.trusted`."""
    stamps: tuple[FileStamp | None, ...] | None = None
    """The files when `have` was true, from `trust.settled`; None if that is not known."""
    select: tuple[tuple[int, int], ...] | None = None
    """Inclusive ranges of wanted files; None is all."""
    priorities: Mapping[int, int] = field(default_factory=dict)
    """Of files: 1 is more important than most, -1 is less."""
    sequential: bool = False
    super_seed: bool = False
    paused: bool = False
    downloaded: int = 0
    uploaded: int = 0
    wasted: int = 0
    completed_at: float | None = None
    peers: tuple[Address, ...] = ()
    """Those beyond the first `MAX_PEERS` are not saved."""
    banned: tuple[Address, ...] = ()
    """Those beyond the first `MAX_BANNED` are not saved. Port 0 stands for no peer, only for a host
    to be careful with."""
    limit_up: int | None = None
    """Bytes per second; None is no limit."""
    limit_down: int | None = None
    stamped_at: int | None = None
    """Unix nanoseconds when `stamps` were taken; None in records of older versions."""
    made: bytes | None = None
    """A bit for each file that the torrent made, the first one the highest; None in records of
    older versions, which did not note it."""
    begun: bytes = b""
    """The same for files that were absent when the torrent began, and may have been made since."""
    filled: bytes = b""
    """The same for files that were there before, incomplete, and that the torrent wrote to."""
    mount: str | None = None
    """Where the file system of a download is mounted."""
    overwrite: bool = False
    """The user insisted, and it has not come to that yet."""
    identity: Identity | None = None
    """Of an SSL torrent: where our certificate and its private key lie. What is in them is not
    remembered."""
    superseded: bool = False
    """Another version lies where it was shared from."""
    published: tuple[str, ...] | None = None
    """It is to be in the index that everybody searches, with these tags; None, as in records of
    older versions: it is not."""
    not_published: str | None = None
    """Why it is not there, although that was asked for, in a line."""
    sources: tuple[Path, ...] = ()
    """Where to look for what is missing before peers are asked for it."""
    looked_around: bool = False
    """That was done, there and in the other torrents of this node."""
    reused: int = 0
    """Bytes that were found."""
    labels: tuple[str, ...] = ()
    seeding: SeedingLimits = THE_NODES
    retired: SharedEnough | None = None
    """It is paused as it has been shared enough, by this limit."""
    rank: float | None = None
    """Orders the queue; None: by when they were added."""
    names: Names = field(default_factory=dict)
    """What files and folders are called here, where that is not what the torrent calls them."""
    shift: Shift | None = None
    """It is on its way to another place."""

    def encode(self) -> bytes:
        """The payload of a record; `decode_resume` is the inverse."""
        fields: dict[bytes, bencode.Value] = {
            b"info_hash": self.info_hash,
            b"magnet": self.magnet.encode(),
            b"added_at": _TIME.pack(self.added_at if in_calendar(self.added_at) else 0.0),
            b"content": os.fsencode(self.content),
            b"shared": int(self.shared),
            b"have": self.have,
            b"sequential": int(self.sequential),
            b"paused": int(self.paused),
            b"downloaded": self.downloaded,
            b"uploaded": self.uploaded,
            b"wasted": self.wasted,
            b"peers": [peer.compact() for peer in self.peers[:MAX_PEERS]],
            b"banned": [str(address).encode() for address in self.banned[:MAX_BANNED]],
        }
        if self.info is not None:
            fields[b"info"] = self.info
        if self.stamps is not None:
            fields[b"stamps"] = b"".join(
                _NO_STAMP if stamp is None else _STAMP.pack(*stamp) for stamp in self.stamps
            )
        if self.select is not None:
            fields[b"select"] = [list(pair) for pair in self.select]
        if self.priorities:
            fields[b"priorities"] = [[file, one] for file, one in self.priorities.items()]
        if self.completed_at is not None and in_calendar(self.completed_at):
            fields[b"completed_at"] = _TIME.pack(self.completed_at)
        if self.limit_up is not None:
            fields[b"limit_up"] = self.limit_up
        if self.limit_down is not None:
            fields[b"limit_down"] = self.limit_down
        if self.stamped_at is not None:
            fields[b"stamped_at"] = self.stamped_at
        if self.made is not None:
            fields[b"made"] = self.made
        if self.begun:
            fields[b"begun"] = self.begun
        if self.filled:
            fields[b"filled"] = self.filled
        if self.mount is not None:
            fields[b"mount"] = os.fsencode(self.mount)
        if self.overwrite:
            fields[b"overwrite"] = 1
        if self.identity is not None:
            fields[b"tls_cert"] = os.fsencode(self.identity.certificate)
            fields[b"tls_key"] = os.fsencode(self.identity.key)
        if self.super_seed:
            fields[b"super_seed"] = 1
        if self.superseded:
            fields[b"superseded"] = 1
        if self.published is not None:
            fields[b"published"] = [tag.encode() for tag in self.published]
        if self.not_published is not None:
            fields[b"not_published"] = self.not_published.encode("utf-8", "replace")[:_MAX_REASON]
        if self.sources:
            fields[b"sources"] = [os.fsencode(path) for path in self.sources[:MAX_SOURCES]]
        if self.looked_around:
            fields[b"looked_around"] = 1
        if self.reused:
            fields[b"reused"] = self.reused
        if self.labels:
            fields[b"labels"] = [label.encode() for label in self.labels[:MAX_LABELS]]
        if self.seeding != THE_NODES:
            fields[b"seeding"] = [_choice(self.seeding.ratio), _choice(self.seeding.idle)]
        if self.retired is not None:
            fields[b"retired"] = self.retired.encode()
        if self.rank is not None and in_calendar(self.rank):
            fields[b"rank"] = _TIME.pack(self.rank)
        if self.names:
            fields[b"names"] = encode_names(self.names)
        if self.shift is not None:
            fields[b"shift"] = self.shift.encode()
        return bencode.encode(fields)


def decode_resume(payload: bytes) -> Resume:
    """Raises StorageError saying what is wrong. Keys it does not know are ignored."""
    try:
        value = bencode.decode(payload, max_depth=5, max_size=MAX_RECORD)
        if not isinstance(value, dict):
            raise ValueError("not a dict")  # noqa: TRY004, TRY301 - all that is wrong is one error
        fields = _Fields(value)
        info_hash = parse_info_hash(fields.string(b"info_hash", 20))
        info = fields.maybe(b"info", lambda key: fields.string(key, MAX_INFO))
        if info is not None and hashlib.sha1(info).digest() != info_hash:
            raise ValueError("the info dict is another torrent's")  # noqa: TRY301 - as above
        return Resume(
            info_hash=info_hash,
            magnet=fields.string(b"magnet", MAX_MAGNET).decode(),
            added_at=fields.time(b"added_at") or 0.0,
            content=fields.path(b"content"),
            shared=fields.integer(b"shared") == 1,
            info=info,
            have=fields.string(b"have", _MAX_HAVE),
            stamps=fields.maybe(b"stamps", fields.stamps),
            select=fields.maybe(b"select", fields.ranges),
            priorities=fields.maybe(b"priorities", fields.priorities) or {},
            sequential=fields.integer(b"sequential") == 1,
            paused=fields.integer(b"paused") == 1,
            downloaded=fields.integer(b"downloaded"),
            uploaded=fields.integer(b"uploaded"),
            wasted=fields.integer(b"wasted"),
            completed_at=fields.maybe(b"completed_at", fields.time),
            peers=tuple(map(address_from_compact, fields.strings(b"peers", MAX_PEERS))),
            banned=tuple(map(_banned, fields.strings(b"banned", MAX_BANNED))),
            limit_up=fields.maybe(b"limit_up", fields.integer),
            limit_down=fields.maybe(b"limit_down", fields.integer),
            stamped_at=fields.maybe(b"stamped_at", fields.integer),
            made=fields.maybe(b"made", lambda key: fields.string(key, _MAX_MADE)),
            begun=fields.maybe(b"begun", lambda key: fields.string(key, _MAX_MADE)) or b"",
            filled=fields.maybe(b"filled", lambda key: fields.string(key, _MAX_MADE)) or b"",
            mount=fields.maybe(b"mount", lambda key: os.fsdecode(fields.string(key, 4096))),
            overwrite=fields.maybe(b"overwrite", fields.integer) == 1,
            identity=fields.maybe(b"tls_cert", fields.identity),
            super_seed=fields.maybe(b"super_seed", fields.integer) == 1,
            superseded=fields.maybe(b"superseded", fields.integer) == 1,
            published=fields.maybe(b"published", fields.tags),
            not_published=fields.maybe(b"not_published", fields.reason),
            sources=fields.maybe(b"sources", fields.paths) or (),
            looked_around=fields.maybe(b"looked_around", fields.integer) == 1,
            reused=fields.maybe(b"reused", fields.integer) or 0,
            labels=fields.maybe(b"labels", fields.labels) or (),
            seeding=fields.maybe(b"seeding", fields.seeding) or THE_NODES,
            retired=fields.maybe(b"retired", fields.enough),
            rank=fields.maybe(b"rank", fields.time),
            names=fields.maybe(b"names", lambda key: decode_names(fields.items(key))) or {},
            shift=fields.maybe(b"shift", lambda key: decode_shift(value[key])),
        )
    except (BencodeError, InputError, ValueError) as exc:  # UnicodeDecodeError is a ValueError
        raise StorageError(f"not a resume record: {exc}") from exc


def _banned(raw: bytes) -> Address:
    text = raw.decode()
    try:
        return Address(str(ipaddress.ip_address(text)), 0)  # as older records have them
    except ValueError:
        try:
            return parse_address(text)
        except InputError as exc:
            raise ValueError(str(exc)) from exc


def _choice(choice: SeedingLimit) -> bytes:
    return choice.encode() if isinstance(choice, str) else repr(float(choice)).encode()


def _chosen(raw: bytes) -> SeedingLimit:
    match raw:
        case b"node":
            return "node"
        case b"none":
            return "none"
        case _:
            return float(raw)


def _path(key: bytes, raw: bytes) -> Path:
    if b"\0" in raw or len(raw) > _MAX_PATH:
        raise ValueError(f"{key.decode()} is not a path")
    return Path(os.fsdecode(raw))


class _Fields:
    """Typed and bounded reads from a decoded dict. All raise ValueError."""

    def __init__(self, values: dict[bytes, bencode.Value]) -> None:
        self._values = values

    def maybe(self, key: bytes, read: Callable[[bytes], _T]) -> _T | None:
        return read(key) if key in self._values else None

    def string(self, key: bytes, limit: int) -> bytes:
        value = self._values.get(key)
        if not isinstance(value, bytes) or len(value) > limit:
            raise ValueError(f"{key.decode()} is missing, not a string or too long")
        return value

    def integer(self, key: bytes) -> int:
        value = self._values.get(key)
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{key.decode()} is missing or not a number")
        return value

    def time(self, key: bytes) -> float | None:
        """None for one outside the calendar: not worth losing a record for."""
        raw = self.string(key, _TIME.size)
        if len(raw) != _TIME.size:
            raise ValueError(f"{key.decode()} is not a time")
        value = float(_TIME.unpack(raw)[0])
        return value if in_calendar(value) else None

    def path(self, key: bytes) -> Path:
        return _path(key, self.string(key, _MAX_PATH))

    def paths(self, key: bytes) -> tuple[Path, ...]:
        return tuple(_path(key, raw) for raw in self.strings(key, MAX_SOURCES))

    def identity(self, key: bytes) -> Identity:
        return Identity(self.path(key), self.path(b"tls_key"))

    def items(self, key: bytes) -> Sequence[bencode.Value]:
        value = self._values.get(key)
        if not isinstance(value, list):
            raise ValueError(f"{key.decode()} is missing or not a list")  # noqa: TRY004 - one error
        return value

    def strings(self, key: bytes, limit: int) -> Sequence[bytes]:
        found = [value for value in self.items(key) if isinstance(value, bytes)]
        if len(found) > limit or len(found) != len(self.items(key)):
            raise ValueError(f"{key.decode()} is too long or not all strings")
        return found

    def tags(self, key: bytes) -> tuple[str, ...]:
        return tuple(raw.decode() for raw in self.strings(key, MAX_TAGS))

    def priorities(self, key: bytes) -> dict[int, int]:
        found: dict[int, int] = {}
        for pair in self.items(key):
            match pair:
                case [int(file), (1 | -1) as priority] if 0 <= file < MAX_FILES:
                    found[file] = priority
                case _:
                    raise ValueError("priorities are not all of files")
        return found

    def labels(self, key: bytes) -> tuple[str, ...]:
        return tuple(raw.decode() for raw in self.strings(key, MAX_LABELS))

    def seeding(self, key: bytes) -> SeedingLimits:
        match self.strings(key, 2):
            case [ratio, idle]:
                return SeedingLimits(_chosen(ratio), _chosen(idle))
            case _:
                raise ValueError("seeding is not two limits")

    def enough(self, key: bytes) -> SharedEnough:
        match self.string(key, _MAX_REASON):
            case b"ratio":
                return "ratio"
            case b"idle":
                return "idle"
            case _:
                raise ValueError("retired names no limit")

    def reason(self, key: bytes) -> str:
        return self.string(key, _MAX_REASON).decode("utf-8", "ignore")

    def stamps(self, key: bytes) -> tuple[FileStamp | None, ...]:
        raw = self.string(key, MAX_RECORD)
        if len(raw) % _STAMP.size:
            raise ValueError("stamps are cut short")
        return tuple(
            FileStamp(size, mtime_ns) if size >= 0 else None
            for size, mtime_ns in _STAMP.iter_unpack(raw)
        )

    def ranges(self, key: bytes) -> tuple[tuple[int, int], ...]:
        found: list[tuple[int, int]] = []
        for pair in self.items(key):
            match pair:
                case [int(first), int(last)] if 0 <= first <= last:
                    found.append((first, last))
                case _:
                    raise ValueError("select is not all ranges")
        return tuple(found)
