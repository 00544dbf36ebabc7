"""A catalogue as JSON lines, in files that people copy, edit and get from strangers.

A line is an object with `id` (the infohash in hex) and `name`, and perhaps `size`, `files`,
`published` (seconds since 1970), `tags`, `list` (`[path, size]` for each file), `publishers` (their
keys in hex) and `verified`. Other keys are passed over, so what `dhtnode search --json` prints can
be imported as well.

The rule: nothing in a line is believed. What is imported is unverified until its record or its info
dict was seen, whatever the line says; and it is never our own. A line that is not as above is
skipped and counted. One line, or one batch, is all that is ever held of a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, NoReturn

from dht_torrent.catalogue.entries import (
    MAX_CLAIMS,
    MAX_LISTED,
    MAX_MORE,
    MAX_PATH,
    MAX_TAG,
    MAX_TAGS,
    MAX_TITLE,
    Entry,
    ListedFile,
    Proof,
    Source,
    TitleClaim,
    shown,
)
from dht_torrent.catalogue.protocol import Catalogue

MAX_LINE: Final = 64 * 1024
"""Bytes of a line: what is exported is shorter, as everything in it is bounded."""
_BATCH_LINES: Final = 5000
_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Read and stored in one step, in half a second."""
_PAGE: Final = 500
"""Lines written in one step."""
_MAX_FILE_BYTES: Final = 2**63

_infohash = re.compile(r"[0-9a-fA-F]{40}")
_key = re.compile(r"[0-9a-fA-F]{64}")

IsDenied = Callable[[Entry], bool]
"""Whether an entry is left out, as the user wants it."""
Normalise = Callable[[str], Iterable[str]]
"""Gives the words of a title: `search.words.title_words`."""


@dataclass(slots=True)
class ImportSummary:
    """What became of the lines so far."""

    lines: int = 0
    added: int = 0
    known: int = 0
    refused: int = 0
    """Named blocked publishers only."""
    skipped: dict[str, int] = field(default_factory=dict)
    """By what was wrong with them: a few kinds."""
    first_skipped: dict[str, int] = field(default_factory=dict)
    """The number of the first line of each kind, from 1."""

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"{self.added:,} added", f"{self.known:,} known already"]
        if self.refused:
            parts.append(f"{self.refused:,} of blocked publishers left out")
        if self.skipped:
            kinds = ", ".join(
                f"{count:,} {why} (first in line {self.first_skipped[why]:,})"
                for why, count in self.skipped.items()
            )
            parts.append(f"{sum(self.skipped.values()):,} skipped: {kinds}")
        noun = "line" if self.lines == 1 else "lines"
        return f"{self.lines:,} {noun}: " + ", ".join(parts)


class LineImport:
    """Reads a file into a catalogue, step by step."""

    def __init__(
        self,
        catalogue: Catalogue,
        file: BinaryIO,
        normalise: Normalise,
        now: int,
        *,
        is_denied: IsDenied = lambda entry: False,
    ) -> None:
        self._is_denied = is_denied
        self.summary = ImportSummary()
        self._catalogue = catalogue
        self._file = file
        self._normalise = normalise
        self._now = now
        self._in_long_line = False

    def step(self) -> bool:
        """Store some more lines. False: that was the end. Raises StorageError, and OSError if the
        file cannot be read; what was stored before stays."""
        entries: list[Entry] = []
        room = _BATCH_BYTES
        more = True
        while more and room > 0 and len(entries) < _BATCH_LINES:
            line = self._file.readline(MAX_LINE + 1)
            more = bool(line)
            room -= max(len(line), 64)  # short lines that are skipped count, too
            if self._is_whole(line):
                try:
                    entry = parse_line(line, self._normalise)
                except LineError as error:
                    self._skip(str(error))
                    continue
                if self._is_denied(entry):
                    self._skip("on the deny-list")
                else:
                    entries.append(entry)
        if entries:
            stored = self._catalogue.put(entries, self._now)
            self.summary.added += stored.added
            self.summary.known += stored.known
            self.summary.refused += stored.refused
        return more

    def _is_whole(self, line: bytes) -> bool:
        """Whether this is a line to be parsed: neither a part of one too long nor empty."""
        ended = line.endswith(b"\n") or len(line) <= MAX_LINE
        if self._in_long_line:
            self._in_long_line = not ended
            return False
        if not line:
            return False
        self.summary.lines += 1
        if not ended:
            self._in_long_line = True
            self._skip(f"longer than {MAX_LINE:,} bytes")
            return False
        return bool(line.strip())

    def _skip(self, why: str) -> None:
        self.summary.skipped[why] = self.summary.skipped.get(why, 0) + 1
        self.summary.first_skipped.setdefault(why, self.summary.lines)


def import_lines(
    catalogue: Catalogue, file: BinaryIO, normalise: Normalise, now: int
) -> ImportSummary:
    """Store all lines of a file that make sense. Raises StorageError and OSError."""
    job = LineImport(catalogue, file, normalise, now)
    while job.step():
        pass
    return job.summary


def export_lines(
    catalogue: Catalogue,
    source: Source = Source.NONE,
    *,
    is_denied: IsDenied = lambda entry: False,
) -> Iterator[bytes]:
    """All torrents, or those of a source, as some lines at a time, oldest first."""
    after = 0
    while True:
        entries, after = catalogue.page(after, _PAGE, source)
        if not entries:
            return
        if part := b"".join(write_line(entry) for entry in entries if not is_denied(entry)):
            yield part


def write_line(entry: Entry) -> bytes:
    """The entry as a line, with its end."""
    fields: dict[str, object] = {"id": entry.infohash.hex(), "name": entry.title}
    optional = {
        "size": entry.size,
        "files": entry.files,
        "published": entry.published,
        "verified": entry.proof > Proof.UNVERIFIED or None,
        "tags": list(entry.tags) or None,
        "publishers": [claim.publisher.hex() for claim in entry.claims] or None,
        "list": [list(file) for file in entry.listed] or None,
    }
    fields |= {name: value for name, value in optional.items() if value is not None}
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8") + b"\n"


class LineError(Exception):
    """A line that makes no sense. The text is of a few kinds."""


def parse_line(line: bytes, normalise: Normalise) -> Entry:
    """One line. Raises LineError."""
    try:
        found = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise LineError("not JSON") from None
    if not isinstance(found, dict):
        raise LineError("not an object")
    infohash, name = found.get("id"), found.get("name")
    if not isinstance(infohash, str) or not _infohash.fullmatch(infohash):
        raise LineError("without an infohash as id")
    title = shown(name, MAX_TITLE) if isinstance(name, str) else ""
    if not title.strip():
        raise LineError("without a name")
    tags = tuple(shown(tag, MAX_TAG) for tag in _texts(found.get("tags"), MAX_TAGS))
    keys = _texts(found.get("publishers", found.get("publisher")), MAX_CLAIMS)
    if not all(map(_key.fullmatch, keys)):
        raise LineError("with a publisher that is not a key")
    listed = tuple(_files(found.get("list")))
    return Entry(
        infohash=bytes.fromhex(infohash),
        title=title,
        words=" ".join(normalise(title)),
        more=_words_of([*tags, *(file.path for file in listed)], normalise),
        size=_number(found.get("size")),
        files=_number(found.get("files")),
        published=_number(found.get("published")),
        sources=Source.IMPORT,
        proof=Proof.UNVERIFIED,
        tags=tags,
        listed=listed,
        claims=tuple(TitleClaim(bytes.fromhex(key), title, seq=0, verified=False) for key in keys),
    )


def _words_of(texts: Iterable[str], normalise: Normalise) -> str:
    """The different words of some texts, as far as they can be stored."""
    words: dict[str, None] = {}
    room = MAX_MORE
    for text in texts:
        if room < 0:
            break
        room -= len(text)
        words |= dict.fromkeys(normalise(text))
    return " ".join(words)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and infinities, which JSON has not


def _number(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_FILE_BYTES:
        raise LineError("with a number that is not one")
    return int(value)


def _texts(value: Any, limit: int) -> tuple[str, ...]:
    """A list of texts, or one."""
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values[:limit]):
        raise LineError("with a list that is not one")
    return tuple(values[:limit])


def _files(value: Any) -> Iterator[ListedFile]:
    if value is None:
        return
    if not isinstance(value, list):
        raise LineError("with a list that is not one")
    for file in value[:MAX_LISTED]:
        if not isinstance(file, list) or len(file) != 2 or not isinstance(file[0], str):
            raise LineError("with a list that is not one")
        yield ListedFile(shown(file[0], MAX_PATH), _number(file[1]) or 0)
