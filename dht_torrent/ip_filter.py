"""Addresses that a node has nothing to do with: an IP filter, as other clients and firewalls have
theirs in files.

The rule: a line that cannot be understood is counted and left out, and the rest holds; but a file
in which only remarks can be understood is refused as a whole, for it is another file than was
meant.

A line is one of these, and a file may mix them. `#`, `;` and `//` begin what is for people.

- P2P (PeerGuardian): `name:1.2.3.4-1.2.3.9`
- DAT (eMule): `001.002.003.004 - 001.002.003.009 , 100 , name`, where a level above 127 allows
- plain: `1.2.3.4`, `1.2.3.0/24`, `1.2.3.4 - 1.2.3.9`

each for IPv4 and IPv6. The file may be compressed with gzip.
"""

from __future__ import annotations

import gzip
import io
import re
import socket
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dht_torrent.errors import InputError

MAX_BYTES: Final = 128 * 1024 * 1024
"""Of a file, when it is unpacked. The largest public lists have some 20 MB."""
MAX_RANGES: Final = 2_000_000
"""Of a file: eight times what the largest public lists have."""
MAX_LINE: Final = 1000
"""Characters: a longer line is not of a filter."""
ALLOWED_ABOVE: Final = 127
"""The access level of a DAT line that forbids at most (eMule, libtorrent, qBittorrent)."""
_SHOWN: Final = 60  # characters of a bad line
_OTHERS: Final = {
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"BZh": "packed with bzip2: unpack it first",
    b"\xfd7zXZ\x00": "packed with xz: unpack it first",
    b"(\xb5/\xfd": "packed with zstd: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"\xff\xff\xff\xffP2B": "a P2B file: take the list as text (P2P, DAT or CIDR)",
    b"\xff\xfe": "text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "text in UTF-16: save it as UTF-8",
}
"""What lists come as, too, by how they begin."""

_DOTTED: Final = r"\d{1,3}(?:\.\d{1,3}){3}"
_REMARK: Final = r"\s*(?:(?:[#;]|//).*)?"
# What nearly all lines of all lists are: two IPv4 addresses.
_plain = re.compile(rf"({_DOTTED})\s*-\s*({_DOTTED})(?:\s*,\s*(\d{{1,3}})\s*(?:,.*)?|{_REMARK})")
_p2p = re.compile(rf".*:\s*({_DOTTED})\s*-\s*({_DOTTED})")
# Everything else.
_remark = re.compile(_REMARK)
_one = re.compile(rf"([0-9A-Fa-f:.]+)(?:\s*/\s*(\d{{1,3}}))?{_REMARK}")
_two6 = re.compile(
    rf"([0-9A-Fa-f:.]+)\s*-\s*([0-9A-Fa-f:.]+)(?:\s*,\s*(\d{{1,3}})\s*(?:,.*)?|{_REMARK})"
)
_LONGEST6: Final = 45  # characters of an IPv6 literal (INET6_ADDRSTRLEN)

_MAPPED: Final = 0xFFFF << 32
"""IPv4-mapped IPv6 addresses begin with this (RFC 4291): they are the IPv4 address they hold."""


class IpFilter:
    """Which addresses are forbidden."""

    def __init__(
        self, ipv4: Iterable[tuple[int, int]] = (), ipv6: Iterable[tuple[int, int]] = ()
    ) -> None:
        """First and last address of each range, as numbers; they may overlap."""
        self._edges4 = array("Q", _edges(ipv4))
        self._edges6 = _edges(ipv6)

    def __len__(self) -> int:
        """Ranges, those merged that touch each other."""
        return (len(self._edges4) + len(self._edges6)) // 2

    def forbids(self, host: str) -> bool:
        """Whether this IP literal is in one of the ranges. What is not one is not."""
        # Where a range begins and where it has ended take turns: so an odd number of these edges
        # is at or before an address that is inside.
        if ":" in host:
            return self._forbids6(host)
        try:
            number = int.from_bytes(socket.inet_pton(socket.AF_INET, host), "big")
        except (OSError, ValueError):
            return False
        return bisect_right(self._edges4, number) % 2 == 1

    def _forbids6(self, host: str) -> bool:
        number = _number6(host)
        if number is None:
            return False
        if number >> 32 == 0xFFFF:
            return bisect_right(self._edges4, number - _MAPPED) % 2 == 1
        return bisect_right(self._edges6, number) % 2 == 1


@dataclass(frozen=True, slots=True)
class ParsedFilter:
    """What a file says."""

    filter: IpFilter
    bad_lines: int = 0
    """Lines that were left out ..."""
    first_bad: str | None = None
    """... and the first of them, for people."""


def parse_ip_filter(data: bytes) -> ParsedFilter:
    """Raises InputError when it cannot be a filter."""
    ipv4: list[tuple[int, int]] = []
    ipv6: list[tuple[int, int]] = []
    bad, first_bad, said, remarks = 0, None, False, False
    # Names are of any encoding. None of what matters is beyond ASCII.
    lines = io.TextIOWrapper(io.BytesIO(_unpacked(data)), "latin-1")
    for number, whole in enumerate(lines, 1):
        line = whole.strip()
        found = _plain.fullmatch(line) or _p2p.fullmatch(line) if len(line) <= MAX_LINE else None
        if found is not None:
            one, other = _number4(found[1]), _number4(found[2])
            if one is not None and other is not None and one <= other:
                said = True
                if found.re is _p2p or found[3] is None or int(found[3]) <= ALLOWED_ABOVE:
                    ipv4.append((one, other))
                    if len(ipv4) > MAX_RANGES:
                        raise InputError(f"it has more than {MAX_RANGES:,} ranges")
                continue
        elif not line or _remark.fullmatch(line):
            remarks = remarks or bool(line)
            continue
        elif len(line) <= MAX_LINE and (rule := _other(line)) is not None:
            said = True
            first, last, allows = rule
            if not allows:
                if first >> 32 == 0xFFFF:
                    ipv4.append((first - _MAPPED, last - _MAPPED))
                else:
                    ipv6.append((first, last))
                if len(ipv4) + len(ipv6) > MAX_RANGES:
                    raise InputError(f"it has more than {MAX_RANGES:,} ranges")
            continue
        bad += 1
        if first_bad is None:
            first_bad = f"line {number:,}: {line[:_SHOWN]!r}"
    if not said and (bad or not remarks):
        why = f"; {first_bad}" if first_bad is not None else ""
        raise InputError(f"it has no range of addresses in it{why}")
    return ParsedFilter(IpFilter(ipv4, ipv6), bad, first_bad)


def _unpacked(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"it cannot be unpacked: {error}") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"it has more than {MAX_BYTES >> 20} MiB")
    for begin, what in _OTHERS.items():
        if data.startswith(begin):
            raise InputError(f"it is {what}")
    return data.removeprefix(b"\xef\xbb\xbf")


def _other(line: str) -> tuple[int, int, bool] | None:
    """First, last, and whether it allows them: of a line that is not two IPv4 addresses. As IPv6;
    IPv4 is mapped."""
    if (one := _one.fullmatch(line)) is not None:
        number = _number(one[1])
        if number is None:
            return None
        host_bits = 0
        if one[2] is not None:
            width = 32 if number >> 32 == 0xFFFF and "." in one[1] and ":" not in one[1] else 128
            host_bits = width - int(one[2])
            if host_bits < 0:
                return None
        first = number >> host_bits << host_bits
        return first, first + (1 << host_bits) - 1, False
    if (two := _two6.fullmatch(line)) is not None:
        begin, end = _number(two[1]), _number(two[2])
        if begin is not None and end is not None:
            allows = two[3] is not None and int(two[3]) > ALLOWED_ABOVE
            return (begin, end, allows) if _is_range(begin, end) else None
    # A name may end in what looks like the beginning of an address: the longest that makes a range
    # is meant.
    named, _, after = line.rpartition("-")
    rest, end = named.rstrip()[-_LONGEST6 - 1 :], _number6(after.strip())
    while end is not None and rest:
        _, _, rest = rest.partition(":")
        begin = _number6(rest.strip())
        if begin is not None and _is_range(begin, end):
            return begin, end, False
    return None


def _is_range(first: int, last: int) -> bool:
    """From lower to higher, in one family."""
    return first <= last and (first >> 32 == 0xFFFF) == (last >> 32 == 0xFFFF)


def _number(text: str) -> int | None:
    """Of an address, IPv4 as mapped IPv6."""
    if ":" in text:
        return _number6(text)
    number = _number4(text)
    return None if number is None else _MAPPED | number


def _number4(text: str) -> int | None:
    """Zeros in front do not make it octal: these files are padded with them."""
    try:
        one, two, three, four = map(int, text.split("."))
    except ValueError:
        return None
    if one > 255 or two > 255 or three > 255 or four > 255:
        return None
    return one << 24 | two << 16 | three << 8 | four


def _number6(text: str) -> int | None:
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big")
    except (OSError, ValueError):
        return None


def _edges(ranges: Iterable[tuple[int, int]]) -> list[int]:
    """Where the ranges begin and where they have ended, in turns; merged where they touch."""
    edges: list[int] = []
    end = -1
    for first, last in sorted(ranges):
        if first > end:
            if edges:
                edges.append(end)
            edges.append(first)
            end = last + 1
        elif last >= end:
            end = last + 1
    if edges:
        edges.append(end)
    return edges
