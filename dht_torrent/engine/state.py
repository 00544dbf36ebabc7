"""What survives a restart. A record is either read back exactly as it was saved, or set aside.

The rule: a piece is claimed after a restart only if nothing about the files it lies in has changed
since it was recorded; whatever cannot be proved is hashed again. Hence the order of saving: first
`Storage.sync`, then `Storage.stamps`, then the record.

Everything here blocks; the engine calls it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from dht_torrent.engine.resume import MAX_RECORD, Resume, decode_resume
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.relief import Relief, no_relief, relieved
from dht_torrent.syscalls import UNSUPPORTED, flush, flush_folder

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_MAGIC = b"dht_torrent state 1\n"
"""A file of another version begins differently, and is set aside like a broken one."""
_RESUME_NAME = re.compile(r"[0-9a-f]{40}\.resume")
_DHT_NAMES = ("dht.state", "dht6.state")  # of IPv4, of IPv6
_CATALOGUE_KEY = "catalogue.node"
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NO_LOCKS: Final = UNSUPPORTED | {errno.ENOLCK}
"""How Lustre and NFS without locks say so."""


class StateDir:
    """A folder that belongs to one running node, held by a lock until `close`.

    Raises InputError if another node holds it, or it cannot be used. A file that is corrupt, cut
    short or of another version is renamed to `.bad` and reported, never a reason to stop.
    """

    def __init__(self, path: Path | str, relief: Relief = no_relief) -> None:
        """`relief` is called when there is no descriptor for a file."""
        self.path = Path(path)
        self._relief = relief
        self._torrents = self.path / "torrents"
        self._writing = threading.Lock()  # one temporary file of a name at a time
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._torrents.mkdir(mode=0o700, exist_ok=True)
            self._fd: int | None = os.open(
                self.path / "lock", os.O_RDWR | os.O_CREAT | _FLAGS, 0o600
            )
        except OSError as exc:
            raise InputError(f"cannot use the state folder {self.path}: {exc.strerror}") from exc
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno in _NO_LOCKS:
                logger.warning(
                    "cannot lock the state folder %s (%s): make sure that only one node uses it",
                    self.path,
                    exc.strerror,
                )
                return
            self.close()
            if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise InputError(
                    f"another node is running with the state folder {self.path}"
                ) from exc
            raise InputError(f"cannot lock the state folder {self.path}: {exc.strerror}") from exc

    def close(self) -> None:
        """Let another node have the folder. Idempotent."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> StateDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load_all(self) -> tuple[list[Resume], list[str]]:
        """All readable records, oldest torrent first, and a line on each that was set aside."""
        found: list[Resume] = []
        warnings: list[str] = []
        try:
            paths = sorted(self._torrents.iterdir())
        except OSError as exc:
            return [], [f"cannot read {self._torrents}: {exc.strerror}"]
        for path in paths:
            if path.suffix == ".tmp":  # left by a save that did not end
                with contextlib.suppress(OSError):
                    path.unlink()
            elif _RESUME_NAME.fullmatch(path.name):
                resume = self._load(path, decode_resume, warnings)
                if resume is not None and resume.info_hash.hex() != path.stem:
                    self._set_aside(path, "it is another torrent's", warnings)
                elif resume is not None:
                    found.append(resume)
        return sorted(found, key=lambda resume: resume.added_at), warnings

    def save(self, resume: Resume) -> None:
        """Replace the torrent's record; the old one stays if this fails. Raises StorageError."""
        self._save(self._path(resume.info_hash), resume.encode())

    def remove(self, info_hash: InfoHash) -> None:
        """Forget the torrent. Raises StorageError if its record is still there."""
        self._remove(self._path(info_hash))

    def _remove(self, path: Path) -> None:
        try:
            with self._writing:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # gone, if perhaps not after a power cut
                    relieved(self._relief, flush_folder, path.parent)
        except OSError as exc:
            raise StorageError(f"cannot remove {path}: {exc.strerror}") from exc

    def load_folder(
        self, folder: str, suffix: str, decode: Callable[[bytes], _T]
    ) -> tuple[dict[str, _T], list[str]]:
        """All readable records of a kind, by name, and a line on each that was set aside. `decode`
        raises StorageError."""
        found: dict[str, _T] = {}
        warnings: list[str] = []
        try:
            paths = sorted((self.path / folder).iterdir())
        except FileNotFoundError:
            return {}, []
        except OSError as exc:
            return {}, [f"cannot read {self.path / folder}: {exc.strerror}"]
        for path in paths:
            if path.name.endswith(f"{suffix}.tmp"):  # left by a save that did not end
                with contextlib.suppress(OSError):
                    path.unlink()
            elif path.suffix == suffix:
                record = self._load(path, decode, warnings)
                if record is not None:
                    found[path.stem] = record
        return found, warnings

    def save_in(self, folder: str, name: str, payload: bytes) -> None:
        """Replace a record of a kind; the old one stays if this fails. Raises StorageError."""
        try:
            (self.path / folder).mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise StorageError(f"{self.path / folder}: {exc.strerror}") from exc
        self._save(self.path / folder / name, payload)

    def remove_in(self, folder: str, name: str) -> None:
        """Raises StorageError if the record is still there."""
        self._remove(self.path / folder / name)

    def load_dht(self, ipv6: bool = False) -> tuple[bytes | None, list[str]]:
        """What `save_dht` was given last for that address family, None if nothing; and a line if
        it was set aside."""
        warnings: list[str] = []
        return self._load(self.path / _DHT_NAMES[ipv6], bytes, warnings), warnings

    def save_dht(self, state: bytes, ipv6: bool = False) -> None:
        """Raises StorageError; what was saved before then stays."""
        self._save(self.path / _DHT_NAMES[ipv6], state)

    def load_catalogue_key(self) -> tuple[bytes | None, list[str]]:
        """By what a catalogue that several nodes share knows this one; and a line if it cannot be
        read, or was set aside."""
        warnings: list[str] = []
        return self._load(self.path / _CATALOGUE_KEY, bytes, warnings), warnings

    def save_catalogue_key(self, key: bytes) -> None:
        """Raises StorageError."""
        self._save(self.path / _CATALOGUE_KEY, key)

    def _path(self, info_hash: InfoHash) -> Path:
        return self._torrents / f"{info_hash.hex()}.resume"

    def _load(self, path: Path, parse: Callable[[bytes], _T], warnings: list[str]) -> _T | None:
        try:
            return parse(_unseal(_read(path)))
        except FileNotFoundError:
            return None
        except OSError as exc:  # perhaps only for now: leave it where it is
            warnings.append(f"cannot read {path}: {exc.strerror}")
        except StorageError as exc:
            self._set_aside(path, str(exc), warnings)
        return None

    def _set_aside(self, path: Path, why: str, warnings: list[str]) -> None:
        bad = path.with_name(path.name + ".bad")
        try:
            path.replace(bad)
            warnings.append(f"{path} set aside as {bad.name}: {why}")
        except OSError as exc:
            warnings.append(f"{path} ignored: {why}; cannot rename it: {exc.strerror}")

    def _save(self, path: Path, payload: bytes) -> None:
        temporary = path.with_name(path.name + ".tmp")
        with self._writing:
            try:
                relieved(self._relief, _write, temporary, _seal(payload))
                temporary.replace(path)
                relieved(self._relief, flush_folder, path.parent)
            except OSError as exc:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise StorageError(
                    f"{path}: {exc.strerror}", disk_full=exc.errno in (errno.ENOSPC, errno.EDQUOT)
                ) from exc


def read_record(path: Path, decode: Callable[[bytes], _T]) -> _T:
    """A record in a state folder that may be another node's. Raises StorageError, OSError."""
    return decode(_unseal(_read(path)))


def _seal(payload: bytes) -> bytes:
    data = _MAGIC + payload
    return data + hashlib.sha256(data).digest()


def _unseal(data: bytes) -> bytes:
    """Raises StorageError unless `_seal` made `data`."""
    if not data.startswith(_MAGIC):
        raise StorageError("not a state file of this version")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise StorageError("the checksum does not match")
    return data[len(_MAGIC) : -32]


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | _FLAGS)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_RECORD:
            raise StorageError("not a regular file, or too large")
        return file.read(MAX_RECORD)


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(data)
        file.flush()
        flush(fd)
