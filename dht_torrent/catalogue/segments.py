"""A publisher's catalogue as files that others fetch: *segments*, compressed JSON lines.

A segment is a zlib stream of a header line and of rows as `lines` has them, sorted by infohash. The
rows are divided among segments by the first bits of their infohashes, so that a new torrent changes
one segment, and who follows the catalogue fetches that alone.

The rule: a segment is from a stranger. It is unpacked piece by piece, within bounds, and never into
more memory than one piece and one line; a row that makes no sense is skipped and counted, and a
segment that does not keep the bounds is refused, as is a catalogue of segments that together do
not.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from dht_torrent.catalogue.entries import Entry
from dht_torrent.catalogue.lines import MAX_LINE, LineError, Normalise, parse_line, write_line
from dht_torrent.errors import SearchFormatError

SUFFIX: Final = ".rows"
VERSION: Final = 1
ROWS: Final = 1000
"""Of one segment, on average at most: 60 kB, if names are all that is known."""
MAX_SEGMENTS: Final = 4096
MAX_PACKED: Final = 16 * 1024 * 1024
"""Bytes of a segment's file ..."""
MAX_UNPACKED: Final = 64 * 1024 * 1024
"""... and of what is in it ..."""
MAX_ROWS: Final = 50_000
"""... in so many rows."""
MAX_ALL_UNPACKED: Final = 512 * 1024 * 1024
"""Bytes in all segments of a catalogue: each could be a bomb of its own ..."""
MAX_ALL_ROWS: Final = 1_000_000
"""... and the rows in them, good or bad: ten seconds of reading."""
_MAX_BITS: Final = 12
_FED: Final = 16 * 1024
"""Bytes unpacked at a time ..."""
_STEP: Final = 64 * 1024
"""... to so many: a stream of zlib grows a thousandfold."""

_name = re.compile(rf"[0-9a-f]{{4}}{re.escape(SUFFIX)}")


def is_segment(name: str) -> bool:
    """Whether a file of this name may be a segment."""
    return _name.fullmatch(name) is not None


def pack(entries: Iterable[Entry]) -> Mapping[str, bytes]:
    """All segments of a catalogue, by the names of their files."""
    rows = {entry.infohash: entry for entry in entries}
    bits = 0
    while len(rows) > ROWS << bits and bits < _MAX_BITS:
        bits += 1
    parts: dict[int, list[Entry]] = {}
    for infohash in sorted(rows):
        part = int.from_bytes(infohash[:2], "big") >> (16 - bits)
        parts.setdefault(part, []).append(rows[infohash])
    header = json.dumps({"catalogue": VERSION}).encode() + b"\n"
    return {
        f"{part:04x}{SUFFIX}": zlib.compress(header + b"".join(map(write_line, some)), 9)
        for part, some in (parts or {0: []}).items()
    }


def unpack(data: bytes) -> Iterator[bytes]:
    """The rows of a segment, each a line without its end. Raises SearchFormatError."""
    if len(data) > MAX_PACKED:
        raise SearchFormatError(f"a segment of {len(data):,} bytes")
    lines = _lines(data)
    header = next(lines, b"")
    try:
        found = json.loads(header)
    except (ValueError, RecursionError):
        found = None
    version = found.get("catalogue") if isinstance(found, dict) else None
    if type(version) is not int or version < 1:
        raise SearchFormatError("not a segment of a catalogue")
    if version > VERSION:
        raise SearchFormatError(f"a segment of version {version}, for a newer dht_torrent")
    for number, line in enumerate(lines, 1):
        if number > MAX_ROWS:
            raise SearchFormatError(f"a segment of more than {MAX_ROWS:,} rows")
        yield line


def read(segments: Iterable[bytes], normalise: Normalise, skipped: Counter[str]) -> Iterator[Entry]:
    """The torrents in all segments of a catalogue, as `parse_line` makes them; `skipped` counts
    what made no sense, by what was wrong. Raises SearchFormatError, and what `segments` raises."""
    count = size = 0
    for data in segments:
        for line in unpack(data):
            count += 1
            size += len(line)
            if count > MAX_ALL_ROWS or size > MAX_ALL_UNPACKED:
                raise SearchFormatError(
                    f"a catalogue of more than {MAX_ALL_ROWS:,} rows or"
                    f" {MAX_ALL_UNPACKED >> 20} MiB"
                )
            try:
                yield parse_line(line, normalise)
            except LineError as error:
                skipped[str(error)] += 1


def _lines(data: bytes) -> Iterator[bytes]:
    """Raises SearchFormatError."""
    rest = b""
    total = 0
    for part in _parts(data):
        total += len(part)
        if total > MAX_UNPACKED:
            raise SearchFormatError(f"a segment that unpacks to more than {MAX_UNPACKED >> 20} MiB")
        *whole, rest = (rest + part).split(b"\n")
        if len(rest) > MAX_LINE or any(len(line) > MAX_LINE for line in whole):
            raise SearchFormatError(f"a segment with a line longer than {MAX_LINE:,} bytes")
        yield from whole
    if rest:
        raise SearchFormatError("a segment whose last line has no end")


def _parts(data: bytes) -> Iterator[bytes]:
    """What is in a zlib stream, in parts of bounded size. Raises SearchFormatError."""
    stream = zlib.decompressobj()
    view = memoryview(data)
    try:
        for at in range(0, len(data), _FED):
            if stream.eof:
                break
            # What does not fit a part stays behind: little of it, or copying it would take long.
            fed: bytes | memoryview = view[at : at + _FED]
            while fed:
                yield stream.decompress(fed, _STEP)
                fed = stream.unconsumed_tail
            end = at + _FED
        while not stream.eof and (part := stream.decompress(b"", _STEP)):
            yield part
    except zlib.error as error:
        raise SearchFormatError(f"a segment that cannot be unpacked: {error}") from None
    if not stream.eof:
        raise SearchFormatError("a segment that ends too early")
    if stream.unused_data or end < len(data):
        raise SearchFormatError("a segment with something behind it")
