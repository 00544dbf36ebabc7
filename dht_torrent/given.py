"""What a user gives to name a torrent, read in one way wherever it is given: library, command
line and control API. A magnet link, an infohash of 40 hex or 32 base32 digits, or - where files
may be read - the path of a .torrent; blanks around it do not matter.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path

from dht_torrent.bounds import MAX_TORRENT
from dht_torrent.errors import InputError
from dht_torrent.magnet import Magnet
from dht_torrent.metainfo import Metainfo, parse_torrent

_BLANKS = "\ufeff\u200b\u2060"
"""What pasted text may begin with, and str.strip leaves."""


@dataclass(frozen=True, slots=True)
class TorrentFile:
    """As it was read."""

    data: bytes
    metainfo: Metainfo


def read(given: str | Path) -> Magnet | TorrentFile:
    """Blocking: it may read a file. A `Path` is always one. Raises InputError."""
    if isinstance(given, Path):
        return _read_file(given)
    stripped = _stripped(given)
    if not _is_link(stripped):
        for text in (given, stripped):
            path = _file_called(text)
            if path is not None:
                return _read_file(path)
        if stripped.lower().endswith(".torrent"):
            return _read_file(Path(stripped))  # says why it cannot be read
    return read_link(given)


def read_link(given: str) -> Magnet:
    """The same where no file may be read. Raises InputError."""
    text = _stripped(given)
    if _is_link(text):
        return Magnet.parse(text)
    if is_info_hash(text):
        return Magnet.parse(f"magnet:?xt=urn:btih:{text}")
    raise InputError(f"not a magnet link, an infohash or a .torrent file: {text[:200]!r}")


def is_info_hash(text: str) -> bool:
    """Whether `text` is an infohash in hex or base32."""
    try:
        if len(text) == 40:
            return len(binascii.unhexlify(text)) == 20
        return len(text) == 32 and len(base64.b32decode(text.upper())) == 20
    except ValueError:  # binascii.Error is one
        return False


def _stripped(given: str) -> str:
    return given.strip().strip(_BLANKS).strip()


def _is_link(text: str) -> bool:
    return text[:7].lower() == "magnet:"


def _file_called(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, no such user
        return None


def _read_file(path: Path) -> TorrentFile:
    try:
        path = path.expanduser()
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file")
        with path.open("rb") as file:
            data = file.read(MAX_TORRENT + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RuntimeError) as error:
        raise InputError(f"cannot read {str(path)!r}: {error}") from None
    return TorrentFile(data, parse_torrent(data))
