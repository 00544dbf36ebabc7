"""What the engine shows of links: frozen snapshots, ready for `dataclasses.asdict` and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FollowState = Literal["looking", "fetching", "current", "error"]
"""No version is known yet; one is on its way; the newest one is what users find; it cannot be
fetched or be shown to them."""


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version of a link, as this node has it."""

    id: str
    """Its torrent's infohash, 40 hex digits."""
    seq: int
    """Its sequence number in the DHT."""
    complete: bool


@dataclass(frozen=True, slots=True)
class FollowView:
    """A link that is followed."""

    id: str
    """Its place in the DHT, 40 hex digits."""
    link: str
    title: str
    output: str
    """The folder in which its versions are."""
    current: str | None
    """The path under which users find the version of today; None until there is one."""
    current_id: str | None
    """Its torrent ..."""
    newest_id: str | None
    """... and that of the newest version known, which may be on its way."""
    seq: int
    """The highest sequence number that its owner was seen to have used."""
    state: FollowState
    progress: float
    """Of the newest version (0..1)."""
    keep: int
    """Old versions that stay."""
    versions: tuple[VersionView, ...]
    """Those that are here, or on their way; the newest last."""
    looked: float | None
    """Seconds since it was last looked for a newer one ..."""
    next_look: float | None
    """... and until it will be; None while we are not in the DHT."""
    malformed: int
    """Items of its owner that name no torrent: dropped ..."""
    stale: int
    """... as were these, which are older than what was seen ..."""
    foreign: int
    """... and these, which somebody else made up."""
    error: str | None
    """What is wrong, in a line."""


@dataclass(frozen=True, slots=True)
class PublishedView:
    """A link that is published."""

    id: str
    """Its place in the DHT, 40 hex digits."""
    link: str
    name: str
    key_name: str
    """What the key is called here."""
    path: str
    """What is shared."""
    torrent: str
    """The infohash of the version of today."""
    seq: int
    """Its sequence number; 0 while it is not in the DHT yet."""
    nodes: int | None
    """DHT nodes that stored it last; None when that was not tried yet."""
    replaced: bool
    """Another holder of the key has published a newer version."""
    versions: tuple[VersionView, ...]
    """Those that are seeded; the newest last."""
    error: str | None
    """What is wrong, in a line."""
