"""Keys that a node publishes under: seeds in files for their owner's eyes only, 64 hex digits and
the end of a line, as `dhtnode dht put --key` has them. Blocking.

The rule: a key that is there is never replaced, and only `export` shows what is secret of it.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final, NamedTuple

from dht_torrent.dht.items import KEY_SIZE, SigningKey
from dht_torrent.errors import InputError, StorageError

DEFAULT: Final = "default"
"""The key that is used where none is named."""
PUBLISHER: Final = "publisher"
"""The key under which the node publishes into the search index."""
MAX_KEYS: Final = 1000
"""Files looked at."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIX: Final = ".key"
_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_LONGEST: Final = 1024
_HEX: Final = frozenset("0123456789abcdefABCDEF")


class KeyFile(NamedTuple):
    """A key by its name."""

    name: str
    path: Path
    public: bytes
    open_to_others: bool
    """Others than its owner may read the file."""


class KeyStore:
    """The keys in a state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._state = state_dir
        self._folder = state_dir / "keys"

    def path(self, name: str) -> Path:
        """Where the key of this name is, or would be. Raises InputError."""
        if not _NAME.fullmatch(name):
            raise InputError(
                f"a key's name has 1 to 64 letters, digits, dots, dashes and underscores, not "
                f"{name[:80]!r}"
            )
        if name == PUBLISHER:
            return self._state / f"{PUBLISHER}{_SUFFIX}"
        return self._folder / (name + _SUFFIX)

    def read(self, name: str) -> SigningKey | None:
        """The key of this name, None when there is none. Raises InputError, StorageError."""
        seed = read_seed(self.path(name))
        return None if seed is None else SigningKey(seed)

    def make(self, name: str, seed: bytes) -> SigningKey:
        """Keep this seed, where none is yet. Raises InputError where one is, StorageError."""
        path = self.path(name)
        if path.exists():
            raise InputError(f"there is a key {name} already, in {path}")
        try:
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {path.parent}: {error.strerror}") from error
        write_seed(path, seed)
        return SigningKey(seed)

    def read_or_make(self, name: str, seed: bytes) -> SigningKey:
        """The key of this name; made of `seed` if there is none. Raises as both do."""
        return self.read(name) or self.make(name, seed)

    def all(self) -> list[KeyFile]:
        """Those that can be read, by name. Raises StorageError."""
        try:
            names = [path.name for path in self._folder.glob(f"*{_SUFFIX}")]
        except OSError as error:
            raise StorageError(f"cannot read {self._folder}: {error.strerror}") from error
        found = []
        for name in sorted([PUBLISHER + _SUFFIX, *names])[:MAX_KEYS]:
            stem = name.removesuffix(_SUFFIX)
            if _NAME.fullmatch(stem) and (key := self.read(stem)) is not None:
                path = self.path(stem)
                lax = bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
                found.append(KeyFile(stem, path, key.public, lax))
        return found


def read_seed(path: Path) -> bytes | None:
    """What is secret of the key there; None when there is none. Raises InputError for a file that
    holds no key, and StorageError for one that cannot be read: a new one must not take its place,
    as everybody would have to trust it anew."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            raw = file.read(_LONGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return parse_seed(raw.decode("ascii", "replace"), str(path))


def parse_seed(text: str, where: str) -> bytes:
    """Raises InputError."""
    text = text.strip()
    if len(text) != 2 * KEY_SIZE or not _HEX.issuperset(text):
        raise InputError(f"{where} must hold a seed of {2 * KEY_SIZE} hex digits")
    return bytes.fromhex(text)


def seed_text(seed: bytes) -> str:
    """What a key file holds."""
    return seed.hex() + "\n"


def write_seed(path: Path, seed: bytes) -> None:
    """Keep `seed` in a file of mode 0600 where none is. Raises InputError where something is, and
    StorageError."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
        descriptor = os.open(temporary, flags, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
            file.write(seed_text(seed))
            file.flush()
            os.fsync(descriptor)
        try:
            # A link, unlike a rename, never replaces a key that came into being meanwhile.
            os.link(temporary, path)
        finally:
            temporary.unlink()
    except FileExistsError:
        raise InputError(f"{path} is there already, and keys are not replaced") from None
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
