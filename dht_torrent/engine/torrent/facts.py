"""What is known of a torrent but for what its connections and the clock change all the time.

The rule: all here is immutable, or has a version that says when it is not the same any more. So
what was made of equal facts, and of nothing else, is the same too, and may be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dht_torrent.config.seeding import SeedingLimits, SharedEnough
from dht_torrent.engine.torrent import inventory
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.record import ResumeRecord
from dht_torrent.engine.torrent.stages import Failed, state_of
from dht_torrent.engine.views import FileInfo, State
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import Magnet
from dht_torrent.metainfo import Metainfo
from dht_torrent.torrent.pieces import Bitfield
from dht_torrent.torrent.selection import Selection, wanted_size


class Facts(NamedTuple):
    """Of one torrent. Read what is of `have` before anything else can happen: it lives on."""

    info_hash: InfoHash
    state: State
    paused: bool
    error: str | None
    warning: str | None
    connected: int
    """Peers."""
    downloaded: int
    uploaded: int
    wasted: int
    ratio: float
    have_version: int | None
    """Of `have`: before it, as two bitfields that are equal now may not have been."""
    have: Bitfield | None
    """The verified pieces; None while they are not known."""
    counted_left: int | None
    """See `inventory.counted_left` ..."""
    believed_here: float
    """... and `inventory.believed_here`."""
    metainfo: Metainfo | None
    named: Metainfo | None
    """The same with the names that things have here."""
    name: str
    root: Path
    shared: bool
    magnet: Magnet
    select: Selection | None
    priorities: Mapping[int, int]
    sequential: bool
    limit_up: int | None
    limit_down: int | None
    labels: tuple[str, ...]
    seeding_limits: SeedingLimits
    shared_enough: SharedEnough | None
    added_at: float
    started_at: float
    completed_at: float | None
    active_at: float | None

    @property
    def folder(self) -> Path:
        """Where its content lies, or will lie: what it is called is in there."""
        return self.root.parent if self.shared else self.root

    @property
    def size(self) -> int:
        """Bytes wanted; 0 while the metadata is not known."""
        return wanted_size(self.select, self.metainfo.geometry) if self.metainfo is not None else 0

    @property
    def left(self) -> int:
        """Wanted bytes that are not verified."""
        known, believed = self.counted_left, self.believed_here
        return inventory.bytes_missing(
            self.metainfo, self.have, self.select, self.size, known, believed
        )

    @property
    def verified(self) -> int:
        """Verified bytes, wanted or not."""
        return inventory.verified_bytes(self.metainfo, self.have)

    def files(self) -> list[FileInfo]:
        """See `Torrent.files`."""
        return inventory.files(self.named, self.have, self.select, self.priorities)


def facts_of(core: TorrentCore, record: ResumeRecord) -> Facts:
    """Those of now."""
    place, keeping, stage, metainfo = core.place, core.keeping, core.stage, core.metainfo
    have, limits = inventory.have_of(core), core.connections.limits
    return Facts(
        core.context.info_hash,
        state_of(stage),
        core.paused,
        str(stage.error) if isinstance(stage, Failed) else None,
        warning_of(core, record),
        len(core.connections.peers),
        core.totals.downloaded,
        core.totals.uploaded,
        core.wasted,
        core.ratio,
        have.version if have is not None else None,
        have,
        inventory.counted_left(core),
        inventory.believed_here(core),
        metainfo,
        place.named(metainfo) if metainfo is not None else None,
        core.name,
        place.root,
        place.shared,
        core.context.magnet,
        core.select,
        core.priorities,
        core.sequential,
        limits.up.rate,
        limits.down.rate,
        keeping.labels,
        keeping.limits,
        keeping.retired,
        keeping.added_at,
        keeping.started_at,
        keeping.completed_at,
        keeping.times.active_at,
    )


def warning_of(core: TorrentCore, record: ResumeRecord) -> str | None:
    """What is wrong although the torrent works."""
    return record.warning or core.place.trouble or core.no_room or core.reuse_trouble
