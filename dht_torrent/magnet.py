"""Magnet links (BEP 9, BEP 53). A link names exactly one v1 torrent by its infohash. Peers and
trackers are hints, and a hint that cannot be used is dropped rather than refused."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from dht_torrent.bounds import MAX_FILES, MAX_HINTS, MAX_MAGNET, MAX_RANGES
from dht_torrent.errors import InputError, MagnetError
from dht_torrent.ids import HostPort, InfoHash, parse_host_port
from dht_torrent.names import printable

_PREFIX = "magnet:?"
_V1 = "urn:btih:"
_V2 = "urn:btmh:"


@dataclass(frozen=True, slots=True)
class Magnet:
    """What a magnet link says. `str(magnet)` is the canonical link."""

    info_hash: InfoHash
    name: str | None = None
    """`dn`: for display only, never a path. Without control and direction characters."""
    peers: tuple[HostPort, ...] = ()
    """`x.pe`: who may have it."""
    select: tuple[tuple[int, int], ...] | None = None
    """`so`: inclusive ranges of file indexes, ascending and apart; None means everything."""
    trackers: tuple[str, ...] = ()
    """`tr`: kept to be passed on, never contacted."""

    @classmethod
    def parse(cls, text: str) -> Magnet:
        """Raises MagnetError with a line that says what is wrong."""
        text = text.strip()
        if len(text) > MAX_MAGNET:
            raise MagnetError(f"the magnet link is longer than {MAX_MAGNET} characters")
        if text[: len(_PREFIX)].lower() != _PREFIX:
            raise MagnetError(f"a magnet link starts with {_PREFIX}, this is {text[:40]!r}")
        values: dict[str, list[str]] = {}
        for field in text[len(_PREFIX) :].split("&"):
            name, _, value = field.partition("=")
            # `x.pe.1` and `tr.2` are how some clients number repeated keys.
            stem, dot, number = name.lower().rpartition(".")
            key = stem if dot and number.isdecimal() else name.lower()
            values.setdefault(key, []).append(_unquote(value))
        select = next(iter(values.get("so", ())), None)
        return cls(
            info_hash=_only_info_hash(values.get("xt", [])),
            name=printable(values.get("dn", [""])[0]) or None,
            peers=_peers(values.get("x.pe", [])),
            select=parse_ranges(select) if select else None,
            trackers=tuple(dict.fromkeys(v for v in values.get("tr", ()) if v))[:MAX_HINTS],
        )

    def __str__(self) -> str:
        fields = [f"xt={_V1}{self.info_hash.hex()}"]
        if self.name:
            fields.append("dn=" + _quote(self.name))
        fields += ["tr=" + _quote(tracker) for tracker in self.trackers]
        fields += ["x.pe=" + quote(str(peer), safe=":[]") for peer in self.peers]
        if self.select is not None:
            fields.append("so=" + format_ranges(self.select))
        return _PREFIX + "&".join(fields)


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
            raise MagnetError(f"a range of files runs backwards: {part.strip()!r}")
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


def _merge(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def _only_info_hash(topics: list[str]) -> InfoHash:
    v1 = {_info_hash(t[len(_V1) :]) for t in topics if t[: len(_V1)].lower() == _V1}
    if len(v1) > 1:
        raise MagnetError("the magnet link names two different torrents")
    if v1:
        return v1.pop()
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
    return tuple(peers)[:MAX_HINTS]


def _unquote(value: str) -> str:
    """`+` is a space here, as in a form. Bytes that are no UTF-8 become U+FFFD."""
    raw = unquote_to_bytes(value.replace("+", " ").encode("utf-8", "replace"))
    return raw.decode("utf-8", "replace")


def _quote(value: str) -> str:
    return quote(value, safe="", errors="replace")
