"""The key that a node publishes under: a seed in its state directory, for its owner's eyes only, in
the format of `dhtnode dht put --key`. Blocking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from dht_torrent.dht.items import KEY_SIZE, SigningKey
from dht_torrent.errors import InputError, StorageError

NAME: Final = "publisher.key"
_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_LONGEST: Final = 1024
_HEX: Final = frozenset("0123456789abcdefABCDEF")


def read_key(folder: Path) -> SigningKey | None:
    """The key there; None when there is none. Raises InputError for a file that holds none, and
    StorageError for one that cannot be read: a new one must not take its place, as everybody would
    have to trust it anew."""
    path = folder / NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            raw = file.read(_LONGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    text = raw.decode("ascii", "replace").strip()
    if len(text) != 2 * KEY_SIZE or not _HEX.issuperset(text):
        raise InputError(f"{path} must hold a seed of {2 * KEY_SIZE} hex digits")
    return SigningKey(bytes.fromhex(text))


def make_key(folder: Path, seed: bytes) -> SigningKey:
    """Write `seed` down, where no key is yet. Raises StorageError."""
    path = folder / NAME
    temporary = path.with_name(NAME + ".tmp")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
            file.write(seed.hex() + "\n")
            file.flush()
            os.fsync(descriptor)
        # A link, unlike a rename, never replaces a key that came into being meanwhile.
        os.link(temporary, path)
        temporary.unlink()
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    return SigningKey(seed)
