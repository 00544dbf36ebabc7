"""What a user finds of a link that is followed. In the folder that was named:

    current -> versions/<id>      the version of today; replaced in one step
    versions/<id>/                what `get --output` would have put there: a file or a folder

The rule: `current` always names a version that is complete, and nothing here is replaced or removed
that this program did not make. Blocking.
"""

from __future__ import annotations

import contextlib
import errno
import stat
from pathlib import Path
from typing import Final

from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.syscalls import flush_folder

CURRENT: Final = "current"
VERSIONS: Final = "versions"
_NEXT: Final = ".current.next"
"""The new link, before it takes the place of the old one."""


class LinkPlace:
    """The folder of one link."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.current = root / CURRENT

    def folder(self, info_hash: InfoHash) -> Path:
        """Where a version is."""
        return self.root / VERSIONS / info_hash.hex()

    def check(self) -> None:
        """Raises InputError if something is in the way, before anything was made."""
        try:
            if self.root.exists() and not self.root.is_dir():
                raise InputError(f"{self.root} is not a folder; choose another --output")
            self._check_current()
        except StorageError as error:
            raise InputError(f"{error}; choose another --output") from None
        except OSError as error:
            raise InputError(f"cannot use {self.root}: {error.strerror}") from None

    def prepare(self, info_hash: InfoHash) -> Path:
        """Make the folder of a version. Raises StorageError."""
        folder = self.folder(info_hash)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _trouble(folder, error) from error
        return folder

    def adopt(self, info_hash: InfoHash, content: Path) -> None:
        """A version lies elsewhere, as another torrent of the user's: link to it. Raises
        StorageError."""
        link = self.prepare(info_hash) / content.name
        try:
            if link.is_symlink() or not link.exists():
                link.unlink(missing_ok=True)  # it may be of a torrent that was moved
                link.symlink_to(content)
            elif not content.exists() or not link.samefile(content):
                raise StorageError(f"{link} is in the way")
        except OSError as error:
            raise _trouble(link, error) from error

    def switch(self, info_hash: InfoHash) -> None:
        """From now on `current` is this version; at no moment it is none. Raises StorageError."""
        self._check_current()
        new = self.root / _NEXT
        try:
            if new.is_symlink():
                new.unlink()  # left by a switch that was interrupted
            new.symlink_to(Path(VERSIONS, info_hash.hex()), target_is_directory=True)
            new.replace(self.current)
            flush_folder(self.root)
        except OSError as error:
            raise _trouble(self.current, error) from error

    def is_at(self, info_hash: InfoHash) -> bool:
        """Whether `current` is this version."""
        try:
            return self.current.readlink() == Path(VERSIONS, info_hash.hex())
        except OSError:
            return False

    def clear(self, info_hash: InfoHash) -> None:
        """A version's files were removed: its folder goes too, unless something is left in it."""
        folder = self.folder(info_hash)
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                if path.is_symlink():  # what `adopt` made; files of a torrent are no links
                    path.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()

    def leave(self) -> None:
        """Nothing is followed here any more, and its versions were removed."""
        if self._is_ours():
            with contextlib.suppress(OSError):
                self.current.unlink()
        with contextlib.suppress(OSError):
            (self.root / VERSIONS).rmdir()

    def _check_current(self) -> None:
        """Raises StorageError where something else has that name."""
        try:
            info = self.current.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise _trouble(self.current, error) from error
        if not stat.S_ISLNK(info.st_mode) or not self._is_ours():
            raise StorageError(f"{self.current} is in the way: this program did not make it")

    def _is_ours(self) -> bool:
        try:
            return self.current.readlink().parts[:-1] == (VERSIONS,)
        except OSError:
            return False


def _trouble(path: Path, error: OSError) -> StorageError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StorageError(f"{path}: {error.strerror}", disk_full=full)
