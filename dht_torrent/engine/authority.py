"""The files of an authority for SSL torrents, and of the members it signs: what `dhtnode tls-ca`
does. Blocking.

The rule: a key is readable by its owner only from its first moment on, and no file is ever
replaced: who has lost an authority's key can sign nobody any more.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dht_torrent.engine.net.tls import about, read_pem
from dht_torrent.errors import InputError
from dht_torrent.peer.certificates import (
    ANY,
    Issued,
    check_key,
    check_name,
    make_authority,
    root_of,
    sign_member,
)

CA: Final = "ca"
CA_DAYS: Final = 3650
"""An authority is valid for ten years: a torrent cannot change its root certificate."""
MEMBER_DAYS: Final = 730
MAX_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True)
class Written:
    """A certificate and its private key, in two new files."""

    certificate: Path
    key: Path


def create(folder: Path, *, days: int = CA_DAYS) -> Written:
    """Make an authority: `ca.pem` and `ca.key` in `folder`, which is made if it is not there.
    Raises InputError when it cannot, or there is one."""
    return _write(folder, CA, make_authority(_now(), _checked(days)))


def sign(
    folder: Path, member: str, *, torrent: str | None = None, days: int = MEMBER_DAYS
) -> Written:
    """Sign a certificate for a `member` with the authority in `folder`: `MEMBER.pem` and
    `MEMBER.key` there. `torrent` is the name of the one it is good for; None: all of that
    authority. Raises InputError."""
    if not member or member in (".", "..", CA) or set(member) & set("/\0") or member[0] in ".-":
        raise InputError(f"{member!r} cannot be the name of a file for a member")
    certificate, key = _files(folder, CA)
    authority = Issued(read_pem(certificate), read_pem(key))
    with about(certificate):
        root_of(authority.certificate)
    name = ANY if torrent is None else torrent
    check_name(name)
    with about(key):
        check_key(authority.certificate, authority.key)
    with about(certificate):
        issued = sign_member(authority, _now(), _checked(days), torrent=name)
    return _write(folder, member, issued)


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.pem", folder / f"{name}.key"


def _write(folder: Path, name: str, issued: Issued) -> Written:
    certificate, key = _files(folder, name)
    _make_folder(folder)
    _write_new(key, issued.key)
    try:
        _write_new(certificate, issued.certificate)
    except InputError:
        key.unlink(missing_ok=True)  # which nobody has used yet
        raise
    return Written(certificate, key)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot make {folder}: {_reason(error)}") from None


def _write_new(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise InputError(f"{path} is there already, and is not replaced") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {_reason(error)}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _checked(days: int) -> int:
    if not 0 < days <= MAX_DAYS:
        raise InputError(f"a certificate is valid for 1 to {MAX_DAYS} days, not {days}")
    return days


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
