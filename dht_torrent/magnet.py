"""Magnet links (BEP 9, BEP 53). A link names exactly one v1 torrent by its infohash. Peers and
trackers are hints, and a hint that cannot be used is dropped rather than refused.

A Magnet that exists can be written, and what is written can be read: its hints are as many as fit.

A `MutableLink` (BEP 46) names no torrent, but by a public key who may say which one it is today.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import quote, unquote_to_bytes

from dht_torrent.bounds import MAX_FILES, MAX_HINTS, MAX_MAGNET, MAX_RANGES
from dht_torrent.errors import InputError, MagnetError
from dht_torrent.filenames import printable
from dht_torrent.ids import HostPort, InfoHash, parse_host_port

_Hint = TypeVar("_Hint")
_PREFIX = "magnet:?"
_V1 = "urn:btih:"
_V2 = "urn:btmh:"
_KEY = "urn:btpk:"
_KEY_SIZE = 32
_MAX_SALT = 64


@dataclass(frozen=True, slots=True)
class Magnet:
    """What a magnet link says. `str(magnet)` is the canonical link. Raises MagnetError when made
    with a selection that no link can hold."""

    info_hash: InfoHash
    name: str | None = None
    """`dn`: for display only, never a path. Without control and direction characters."""
    peers: tuple[HostPort, ...] = ()
    """`x.pe`: who may have it."""
    select: tuple[tuple[int, int], ...] | None = None
    """`so`: inclusive ranges of file indexes, ascending and apart; None means everything."""
    trackers: tuple[str, ...] = ()
    """`tr`: kept to be passed on, never contacted."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "name", printable(self.name or "") or None)
        if self.select is not None:
            put(self, "select", _checked(self.select))
        room = MAX_MAGNET - len(_PREFIX + "&".join(self._needed()))
        peers, room = _fitting(self.peers, _peer_field, room)
        put(self, "peers", peers)
        trackers = (tracker.encode("utf-8", "replace").decode() for tracker in self.trackers)
        put(self, "trackers", _fitting(filter(None, trackers), _tracker_field, room)[0])

    @classmethod
    def parse(cls, text: str) -> Magnet:
        """Reads a link, also one with blanks around it or whose `&` a web page wrote as `&amp;`.

        Raises MagnetError with a line that says what is wrong."""
        values = _values_in(text)
        select = next(iter(values.get("so", ())), None)
        return cls(
            info_hash=_only_info_hash(values.get("xt", []), values.get("xs", [])),
            name=printable(values.get("dn", [""])[0]) or None,
            peers=_peers(values.get("x.pe", [])),
            select=parse_ranges(select) if select else None,
            trackers=tuple(values.get("tr", ())),
        )

    def with_hints(self, other: Magnet) -> Magnet:
        """This link with what another one of the same torrent knows besides: its name if this has
        none, peers and trackers as far as there is room. What is selected stays."""
        return replace(
            self,
            name=self.name or other.name,
            peers=tuple(dict.fromkeys((*self.peers, *other.peers)))[:MAX_HINTS],
            trackers=tuple(dict.fromkeys((*self.trackers, *other.trackers)))[:MAX_HINTS],
        )

    def __str__(self) -> str:
        topic, name, select = self._needed()
        trackers = map(_tracker_field, self.trackers)
        peers = map(_peer_field, self.peers)
        return _PREFIX + "&".join(filter(None, (topic, name, *trackers, *peers, select)))

    def _needed(self) -> tuple[str, str, str]:
        """What is not a hint: topic, name and selection."""
        return (
            f"xt={_V1}{self.info_hash.hex()}",
            "dn=" + _quote(self.name) if self.name else "",
            "so=" + format_ranges(self.select) if self.select is not None else "",
        )


@dataclass(frozen=True, slots=True)
class MutableLink:
    """A link that stays while its content changes (BEP 46): the owner of a key says in the DHT
    which torrent it is today. `str(link)` is the canonical link. Raises MagnetError when made with
    a key or a salt that cannot be one."""

    key: bytes
    """The Ed25519 public key, 32 bytes."""
    salt: bytes = b""
    """Tells the links of one key apart: at most 64 bytes, here mostly the link's name."""
    name: str | None = None
    """`dn`: for display only. Without control and direction characters."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable(self.name or "") or None)
        if len(self.key) != _KEY_SIZE:
            raise MagnetError(f"a public key has {_KEY_SIZE} bytes, not {len(self.key)}")
        if len(self.salt) > _MAX_SALT:
            raise MagnetError(f"a salt has at most {_MAX_SALT} bytes, not {len(self.salt)}")

    @classmethod
    def parse(cls, text: str) -> MutableLink:
        """Reads a link as `Magnet.parse` does. Raises MagnetError."""
        values = _values_in(text)
        topics = [*values.get("xs", []), *values.get("xt", [])]
        keys = {topic[len(_KEY) :].lower() for topic in topics if _is_key(topic)}
        salts = {salt.lower() for salt in values.get("s", [])}
        if not keys:
            raise MagnetError("the magnet link has no public key (xs=urn:btpk:...)")
        if len(keys) > 1 or len(salts) > 1:
            raise MagnetError("the magnet link names two different keys or salts")
        key = _hex(keys.pop(), f"a public key has {2 * _KEY_SIZE} hex digits")
        salt = _hex(salts.pop() if salts else "", "a salt (s=) is in hex digits")
        return cls(key, salt, values.get("dn", [""])[0])

    @property
    def title(self) -> str:
        """What to call it: its name, else its salt where that is a text, else its key's digits."""
        return self.name or _text(self.salt) or self.key.hex()[:16]

    def __str__(self) -> str:
        salt = "s=" + self.salt.hex() if self.salt else ""
        name = "dn=" + _quote(self.name) if self.name else ""
        return _PREFIX + "&".join(filter(None, (f"xs={_KEY}{self.key.hex()}", salt, name)))


def parse_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Reads file indexes such as `0,2,6-8` (BEP 53): zero-based, inclusive, in any order.

    Gives ascending ranges that neither overlap nor touch. Raises MagnetError for anything else,
    and for more than `MAX_RANGES` of them or an index of `MAX_FILES` or above.
    """
    parts = text.split(",", MAX_RANGES)
    if len(parts) > MAX_RANGES:
        raise MagnetError(f"more than {MAX_RANGES} file ranges")
    ranges = []
    for part in parts:
        low, dash, high = part.strip().partition("-")
        first = _file_index(low)
        last = _file_index(high) if dash else first
        if last < first:
            raise MagnetError(f"a file range runs backwards: {part.strip()!r}")
        ranges.append((first, last))
    return _merge(ranges)


def format_ranges(ranges: Iterable[tuple[int, int]]) -> str:
    """The inverse of `parse_ranges`."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _file_index(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise MagnetError(f"expected file indexes such as 0,2,6-8, got {text[:20]!r}")
    if len(text) > 9 or int(text) >= MAX_FILES:
        raise MagnetError(f"a file index must be below {MAX_FILES}, got {text[:20]}")
    return int(text)


def _checked(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    given = list(ranges)
    if any(not 0 <= first <= last < MAX_FILES for first, last in given):
        raise MagnetError(f"a file range must run upwards and stay below {MAX_FILES}")
    merged = _merge(given)
    if not 0 < len(merged) <= MAX_RANGES:
        raise MagnetError(f"a selection has 1 to {MAX_RANGES} file ranges")
    return merged


def _fitting(
    hints: Iterable[_Hint], field: Callable[[_Hint], str], room: int
) -> tuple[tuple[_Hint, ...], int]:
    """The first few `hints`, each once, whose fields have room in the link; and the room left."""
    kept: dict[_Hint, None] = {}
    for hint in hints:
        if len(kept) == MAX_HINTS:
            break
        size = len(field(hint)) + 1
        if hint not in kept and size <= room:
            kept[hint] = None
            room -= size
    return tuple(kept), room


def _merge(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def _values_in(text: str) -> dict[str, list[str]]:
    """The fields of a link by name, unquoted. Raises MagnetError for what is not a magnet link."""
    text = text.strip()
    if len(text) > MAX_MAGNET:
        raise MagnetError(f"the magnet link is longer than {MAX_MAGNET} characters")
    if text[: len(_PREFIX)].lower() != _PREFIX:
        raise MagnetError(f"a magnet link starts with {_PREFIX}, not with {text[:40]!r}")
    values: dict[str, list[str]] = {}
    for field in text[len(_PREFIX) :].replace("&amp;", "&").split("&"):
        name, _, value = field.partition("=")
        # `x.pe.1` and `tr.2` are how some clients number repeated keys.
        stem, dot, number = name.lower().rpartition(".")
        key = stem if dot and number.isdecimal() else name.lower()
        values.setdefault(key, []).append(_unquote(value))
    return values


def _is_key(topic: str) -> bool:
    return topic[: len(_KEY)].lower() == _KEY


def _hex(text: str, expected: str) -> bytes:
    try:
        found = binascii.unhexlify(text)
    except ValueError:  # binascii.Error is one
        raise MagnetError(f"{expected}, not {text[:80]!r}") from None
    return found


def _text(raw: bytes) -> str | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if text == printable(text) else None


def _only_info_hash(topics: list[str], sources: list[str]) -> InfoHash:
    v1 = {_info_hash(t[len(_V1) :]) for t in topics if t[: len(_V1)].lower() == _V1}
    if len(v1) > 1:
        raise MagnetError("the magnet link names two different torrents")
    if v1:
        return v1.pop()
    if any(map(_is_key, (*sources, *topics))):
        raise MagnetError(
            "this magnet link is one whose content changes (btpk): it can be followed, not fetched"
        )
    if any(t[: len(_V2)].lower() == _V2 for t in topics):
        raise MagnetError(
            "this magnet link is for a v2-only torrent (btmh), which is not supported"
        )
    raise MagnetError("the magnet link has no infohash (xt=urn:btih:...)")


def _info_hash(text: str) -> InfoHash:
    try:
        if len(text) == 40:
            return InfoHash(binascii.unhexlify(text))
        if len(text) == 32:
            return InfoHash(base64.b32decode(text.upper()))
    except ValueError:  # binascii.Error is one
        pass
    raise MagnetError(f"an infohash has 40 hex or 32 base32 digits, not {text[:50]!r}")


def _peers(texts: list[str]) -> tuple[HostPort, ...]:
    peers: dict[HostPort, None] = {}
    for text in texts:
        try:
            peer = parse_host_port(text)
        except InputError:
            continue
        if peer.port and peer.host.isascii() and peer.host.isprintable() and " " not in peer.host:
            peers[peer] = None
    return tuple(peers)


def _unquote(value: str) -> str:
    """`+` is a space here, as in a form. Bytes that are not UTF-8 become U+FFFD."""
    raw = unquote_to_bytes(value.replace("+", " ").encode("utf-8", "replace"))
    return raw.decode("utf-8", "replace")


def _peer_field(peer: HostPort) -> str:
    return "x.pe=" + quote(str(peer), safe=":[]", errors="replace")


def _tracker_field(tracker: str) -> str:
    return "tr=" + _quote(tracker)


def _quote(value: str) -> str:
    return quote(value, safe="", errors="replace")
