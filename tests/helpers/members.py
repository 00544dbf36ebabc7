"""Authorities and members of SSL torrents, and their files."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path

from dht_torrent.engine.net.tls import Identity
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.peer.certificates import Issued, make_authority, sign_member
from tests.helpers.engine import KIB, Sample, sample

NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Swarm:
    """An authority, and a torrent of its members."""

    authority: Issued
    folder: Path
    sample: Sample

    @property
    def metainfo(self) -> Metainfo:
        return self.sample.metainfo

    def member(self, name: str, *, torrent: str = "*", days: int = 30, age: int = 0) -> Identity:
        """One whose certificate was made `age` days ago."""
        made = NOW - datetime.timedelta(days=age)
        issued = sign_member(self.authority, made, days, torrent=torrent)
        return written(issued, self.folder, name)

    @property
    def ca(self) -> Path:
        path = self.folder / "ca.pem"
        path.write_bytes(self.authority.certificate)
        return path


def swarm(folder: Path, size: int = 256 * KIB) -> Swarm:
    authority = make_authority(NOW, 60)
    one = sample(size)
    cert = authority.certificate
    info = one.info[:-1] + b"8:ssl-cert%d:%be" % (len(cert), cert)
    assert from_info(info).ssl_cert == cert
    return Swarm(authority, folder, replace(one, info=info))


def stranger(folder: Path, name: str = "stranger") -> Identity:
    """A member of another swarm."""
    return written(sign_member(make_authority(NOW, 60), NOW, 30), folder, name)


def written(issued: Issued, folder: Path, name: str) -> Identity:
    identity = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    identity.certificate.write_bytes(issued.certificate)
    identity.key.write_bytes(issued.key)
    return identity
