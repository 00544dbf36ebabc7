"""What is known of a torrent but for what its connections and time change, and what time changes.

The rule: all in `Facts` is immutable, or has a version that says when it is not the same any more.
So what was made of equal facts, and of nothing else, is the same too, and may be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from dht_torrent.config.seeding import SeedingLimits, SharedEnough
from dht_torrent.engine.torrent import inventory
from dht_torrent.engine.torrent.core import TorrentCore, ratio_of
from dht_torrent.engine.torrent.record import ResumeRecord
from dht_torrent.engine.torrent.stages import Checking, Failed, Moving, state_of
from dht_torrent.engine.views import FileInfo, State
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import Magnet
from dht_torrent.metainfo import Metainfo
from dht_torrent.torrent.naming import Names
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
    names: Names
    """What things are called here, where that is not what the torrent calls them."""
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
    def name(self) -> str:
        """See `Torrent.name`."""
        if self.metainfo is not None:
            return self.names.get((), self.metainfo.name)
        return self.names.get((), self.magnet.name or self.info_hash.hex())

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
    def ratio(self) -> float:
        """See `Torrent.ratio`."""
        return ratio_of(self.uploaded, self.downloaded, self.have, self.metainfo)

    @property
    def verified(self) -> int:
        """Verified bytes, wanted or not."""
        return inventory.verified_bytes(self.metainfo, self.have)

    def files(self) -> list[FileInfo]:
        """See `Torrent.files`."""
        return inventory.files(self.named, self.have, self.select, self.priorities)


_FACTS: Final[Callable[[Sequence[object]], Facts]] = partial(tuple.__new__, Facts)
"""As `Facts._make`, which counts how many there are each time."""


class Clock(NamedTuple):
    """What time changes of a torrent, whatever its connections do."""

    seconds_downloading: int
    seconds_seeding: int
    stalled: bool
    unchecked: int
    """Bytes; see `Torrent.unchecked`."""
    looked_at: float
    """The share of it, while it is checked or moved; else 0."""


def clock_of(core: TorrentCore) -> Clock:
    """Now."""
    keeping, stage = core.keeping, core.stage
    times, looks = keeping.times, isinstance(stage, Checking | Moving)
    return Clock(
        int(times.downloading),
        int(times.seeding),
        keeping.still >= core.node.config.stalled_after,
        inventory.unchecked_bytes(core) if looks else 0,
        inventory.looked_at(core) if looks else 0.0,
    )


def facts_of(core: TorrentCore, record: ResumeRecord) -> Facts:
    """Those of now."""
    context, place, keeping = core.context, core.place, core.keeping
    connections, totals, stage = core.connections, core.totals, core.stage
    metainfo, content, (up, down) = context.metainfo, place.content, connections.limits.rates
    have = content.have if content is not None else None
    return _FACTS(
        (
            context.magnet.info_hash,
            state_of(stage),
            core.paused,
            str(stage.error) if isinstance(stage, Failed) else None,
            warning_of(core, record),
            len(connections.peers),
            totals.downloaded,
            totals.uploaded,
            core.wasted,
            have.version if have is not None else None,
            have,
            inventory.counted_left(core),
            inventory.believed_here(core) if have is None else 0.0,
            metainfo,
            place.named(metainfo) if metainfo is not None else None,
            place.names,
            place.root,
            place.shared,
            context.magnet,
            core.select,
            core.priorities,
            core.sequential,
            up,
            down,
            keeping.labels,
            keeping.limits,
            keeping.retired,
            keeping.added_at,
            keeping.started_at,
            keeping.completed_at,
            keeping.times.active_at,
        )
    )


def warning_of(core: TorrentCore, record: ResumeRecord) -> str | None:
    """What is wrong although the torrent works."""
    return record.warning or core.place.trouble or core.no_room or core.reuse_trouble
