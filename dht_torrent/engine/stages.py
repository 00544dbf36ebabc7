"""The stages of a torrent, each with what exists only then; and what people hear of them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from dht_torrent.engine.crowd import Crowd
from dht_torrent.engine.families import Families
from dht_torrent.engine.info import InfoFetch
from dht_torrent.engine.swarm import Swarm
from dht_torrent.engine.views import State
from dht_torrent.errors import MetainfoError, OurFault, StorageError


@dataclass(frozen=True, slots=True)
class FetchingInfo:
    """Only the infohash is known: the info dict comes from peers (BEP 9)."""

    fetch: InfoFetch


@dataclass(slots=True)
class Checking:
    """The info is known; what is on disk already is being found out. Counted in pieces."""

    done: int = 0
    total: int = 1


@dataclass(frozen=True, slots=True)
class Active:
    """Exchanging pieces."""

    swarm: Swarm


@dataclass(frozen=True, slots=True)
class Failed:
    """Stopped by an error; `retry_at` is set when the torrent tries again by itself."""

    error: StorageError | MetainfoError | OurFault
    retry_at: float | None = None

    def __post_init__(self) -> None:
        # It may be shown for weeks, and its frames hold the pieces that could not be written.
        error: BaseException | None = self.error
        while error is not None:
            error.__traceback__ = None
            error = error.__cause__ or error.__context__

    def raised(self) -> StorageError | MetainfoError | OurFault:
        """The error for one who waits: a copy, or the frames of all who ever waited would stay."""
        return copy.copy(self.error)


@dataclass(frozen=True, slots=True)
class Paused:
    """Stopped by the user."""


Stage = FetchingInfo | Checking | Active | Failed | Paused


def state_of(stage: Stage) -> State:
    """The stage in a word."""
    match stage:
        case FetchingInfo():
            return "metadata"
        case Checking():
            return "checking"
        case Active(swarm):
            return "seeding" if swarm.picker.done else "downloading"
        case Failed():
            return "error"
        case Paused():
            return "paused"


def why_stuck(stage: Stage, crowd: Crowd, dht: Families | None, lookup: str) -> str | None:
    """Why nothing moves, in one line; None when all is well.

    `dht` is None for a private torrent; `lookup` says how the last one went."""
    peers = crowd.peers.values()
    match stage:
        case Failed(error, retry_at):
            return f"{error}; trying again by itself" if retry_at is not None else str(error)
        case Paused() | Checking():
            return None
        case Active(swarm) if swarm.picker.done:
            return None
    if not peers:
        return _why_no_peers(len(crowd.candidates), dht, lookup)
    if isinstance(stage, FetchingInfo):
        if trouble := stage.fetch.trouble():
            return trouble
        return f"{len(peers)} peers, none has sent the metadata yet"
    if not any(peer.am_interested for peer in peers):
        return f"none of {len(peers)} peers has a piece that is missing"
    if all(peer.chokes_us for peer in peers if peer.am_interested):
        return f"{len(peers)} peers, all choking us: waiting for a turn"
    return None


def _why_no_peers(known: int, dht: Families | None, lookup: str) -> str:
    if dht is None:
        return "a private torrent is not looked up in the DHT, and no peer is known"
    best = max(dht.status(), key=lambda one: (one.good, one.bootstrap_answered))
    if not best.good and best.bootstrap_total:
        return f"DHT: {best.bootstrap_answered} of {best.bootstrap_total} bootstrap nodes answered"
    if not best.good:
        return "DHT: no contacts yet, and no bootstrap nodes are configured"
    if known:
        return f"{known} peers known, none could be reached so far; {lookup}"
    return lookup
