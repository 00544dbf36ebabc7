"""Content that is on its way to another place, or to another name, as the resume record has it:
whatever happens to the process, the next one goes on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dht_torrent.bencode import Value
from dht_torrent.filenames import MAX_DEPTH
from dht_torrent.torrent.naming import MAX_NAMES, Names, Parts

_MAX_PATH = 4096


@dataclass(frozen=True, slots=True)
class Shift:
    """Where it goes."""

    root: Path
    """The folder of a download or, of what is shared, the file or folder itself."""
    names: Names
    """What things are called there."""
    path: Parts | None = None
    """What gets another name, as the torrent calls it; None: all of it goes to another folder."""
    number: int | None = None
    """What the file system calls that which is renamed, in the step that counts; None: it has not
    come to that."""

    def encode(self) -> Value:
        fields: dict[bytes, Value] = {
            b"root": os.fsencode(self.root),
            b"names": encode_names(self.names),
        }
        if self.path is not None:
            fields[b"path"] = [os.fsencode(part) for part in self.path]
        if self.number is not None:
            fields[b"number"] = self.number
        return fields


def decode_shift(value: Value) -> Shift:
    """Raises ValueError."""
    match value:
        case {b"root": bytes(root), b"names": list(names), **rest} if (
            b"\0" not in root and len(root) <= _MAX_PATH
        ):
            number, path = rest.get(b"number"), rest.get(b"path")
            if ((isinstance(number, int) and number >= 0) or number is None) and (
                isinstance(path, list | None)
            ):
                return Shift(
                    Path(os.fsdecode(root)),
                    decode_names(names),
                    None if path is None else _parts(path),
                    number,
                )
    raise ValueError("shift is not a place")


def encode_names(names: Names) -> Value:
    """`decode_names` is the inverse."""
    return [
        [*(os.fsencode(part) for part in path), os.fsencode(name)] for path, name in names.items()
    ]


def decode_names(rows: Sequence[Value]) -> Names:
    """Raises ValueError."""
    if len(rows) > MAX_NAMES:
        raise ValueError("names are too many")
    found = {}
    for row in rows:
        if not isinstance(row, list) or not row:
            raise ValueError("names are not all of paths")
        *path, name = _parts(row)
        found[tuple(path)] = name
    return found


def _parts(row: Sequence[Value]) -> Parts:
    if len(row) > MAX_DEPTH + 1:
        raise ValueError("a path is too deep")
    found = []
    for part in row:
        if (
            not isinstance(part, bytes)
            or part in (b"", b".", b"..")
            or b"/" in part
            or b"\0" in part
        ):
            raise ValueError("a path has parts that are not names")
        found.append(os.fsdecode(part))
    return tuple(found)
