"""The stages of a torrent, each with what exists only then; and what people hear of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.extensions import Extensions
from dht_torrent.engine.torrent.metadata import MetadataFetch
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.swarm import Swarm
from dht_torrent.engine.views import State, counted
from dht_torrent.errors import MetainfoError, OurFault, StorageError
from dht_torrent.peer.connection import Event
from dht_torrent.peer.extensions import ExtensionHandshake, MetadataData, MetadataReject
from dht_torrent.peer.messages import Choke, HaveNone, Interested, NotInterested, Unchoke
from dht_torrent.torrent.outlook import Outlook, Trouble


class _BeforePieces:
    """Connections while no pieces can be exchanged: peers are heard on what they want and who they
    are, and are not told of pieces yet."""

    admits = True
    complete = False

    def __init__(self, extensions: Extensions) -> None:
        self._extensions = extensions

    def opened(self, peer: Peer, now: float) -> None:
        if peer.connection.fast:
            peer.tell(HaveNone())
        self._extensions.opened(peer)

    def on_events(self, peer: Peer, events: Sequence[Event], now: float) -> None:
        for event in events:
            match event:
                case Choke():
                    peer.choked_us()
                case Unchoke():
                    peer.unchoked_us(now)
                case Interested():
                    peer.told_interest(True)
                case NotInterested():
                    peer.told_interest(False)
                case _:
                    self._on_other(peer, event, now)

    def closed(self, peer: Peer, now: float) -> None:
        self._extensions.closed(peer, now)

    def _on_other(self, peer: Peer, event: Event, now: float) -> None:
        self._extensions.on_event(peer, event, now)


class FetchingInfo(_BeforePieces):
    """Only the infohash is known: the info dict comes from peers (BEP 9)."""

    def __init__(self, fetch: MetadataFetch, extensions: Extensions) -> None:
        super().__init__(extensions)
        self.fetch = fetch

    def closed(self, peer: Peer, now: float) -> None:
        super().closed(peer, now)
        self.fetch.left(peer)

    def _on_other(self, peer: Peer, event: Event, now: float) -> None:
        if isinstance(event, MetadataData | MetadataReject):
            self.fetch.received(peer, event, now)
            return
        super()._on_other(peer, event, now)
        if isinstance(event, ExtensionHandshake) and not peer.is_dropped:
            self.fetch.offered(peer, event.metadata_size, now)


class Checking(_BeforePieces):
    """The info is known; what is on disk already is being found out. Counted in pieces. Those who
    came before stay, and nobody else is admitted."""

    admits = False

    def __init__(self, extensions: Extensions) -> None:
        super().__init__(extensions)
        self.done = 0
        self.total = 1


class Active:
    """Exchanging pieces."""

    admits = True

    def __init__(self, swarm: Swarm, extensions: Extensions) -> None:
        self.swarm = swarm
        self._extensions = extensions

    @property
    def complete(self) -> bool:
        return self.swarm.picker.done

    def opened(self, peer: Peer, now: float) -> None:
        self.swarm.join(peer, now)
        self._extensions.opened(peer)

    def on_events(self, peer: Peer, events: Sequence[Event], now: float) -> None:
        self.swarm.on_events(peer, events, now)

    def closed(self, peer: Peer, now: float) -> None:
        self._extensions.closed(peer, now)
        self.swarm.leave(peer, now)


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
    """Stopped by the user, or until there is room on the disk: then `why`."""

    why: str | None = None


class Queued:
    """Waits for its turn: as many others are at work as the node wants at a time."""


class Moving:
    """Its content goes to another place, or to another name. Counted in bytes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.done = 0
        self.total = 1


Stage = FetchingInfo | Checking | Active | Moving | Failed | Paused | Queued


def state_of(stage: Stage) -> State:
    """The stage in a word."""
    if type(stage) is Active:
        return "seeding" if stage.complete else "downloading"
    return _STATES[type(stage)]


_STATES: Final[dict[type[Stage], State]] = {
    FetchingInfo: "metadata",
    Checking: "checking",
    Moving: "moving",
    Failed: "error",
    Paused: "paused",
    Queued: "queued",
}


def why_stuck(
    stage: Stage, connections: Connections, dht: DualStack | None, lookup: str
) -> str | None:
    """Why nothing moves, in one line; None when all is well.

    `dht` is None for a private torrent; `lookup` says how the last one went."""
    match stage:
        case Failed(error, retry_at):
            return f"{error}; trying again by itself" if retry_at is not None else str(error)
        case Paused(why=why):
            return why
        case Checking():
            return None
        case Moving(root=root):
            return f"is being moved to {root}"
        case Queued():
            return "waits for its turn in the queue"
        case Active(complete=True):
            return None
    peers = [peer for peer in connections.peers.values() if not peer.is_dropped]
    if not peers:
        return _why_no_peers(connections, dht, lookup)
    count = counted(len(peers), "peer")
    if isinstance(stage, FetchingInfo):
        if trouble := stage.fetch.trouble():
            return _with_mismatches(trouble, connections)
        if any(peer.offers_info for peer in peers):
            lack = f"{'it has not' if len(peers) == 1 else 'none has'} sent the metadata yet"
        else:  # libtorrent keeps that of private torrents to itself
            who = "it does not offer" if len(peers) == 1 else "none offers"
            lack = f"{who} the metadata; if the torrent is private, add its .torrent"
        return _with_mismatches(f"{count} connected; {lack}", connections)
    able = [peer for peer in peers if peer.am_interested]
    if not able:
        which = "it has no" if len(peers) == 1 else "none has a"
        return f"{count} connected; {which} piece that is missing"
    if any(not peer.chokes_us and not peer.snubs_us for peer in able):
        return None
    some = len(able) < len(peers)
    one = len(able) == 1
    have = f"{len(able)} {'has' if one else 'have'} what is missing and" if some else ""
    if all(peer.chokes_us for peer in able):
        who = have or ("it" if one else "all")
        return f"{count} connected; {who} {'is' if one else 'are'} choking us: waiting for a turn"
    if some:
        return f"{count} connected; {have} {'does' if one else 'do'} not send it"
    return f"{count} connected; {'it does not send' if one else 'none sends'} what we asked for"


def _why_no_peers(connections: Connections, dht: DualStack | None, lookup: str) -> str:
    known = _known(connections.candidates.outlook())
    if known:
        known = _with_mismatches(known, connections)
    if dht is None:
        return known or "a private torrent is not looked up in the DHT, and no peer is known"
    networks = dht.status()
    best = max(networks, key=lambda one: (one.good, one.bootstrap_answered))
    if all(one.down is not None for one in networks):
        lookup = f"DHT: down: {best.down}"
    elif not best.good and best.bootstrap_total:
        lookup = (
            f"DHT: {best.bootstrap_answered} of {best.bootstrap_total} bootstrap nodes answered"
        )
    elif not best.good:
        lookup = "DHT: no contacts yet, and no bootstrap nodes are configured"
    return f"{known}; {lookup}" if known else lookup


def _known(outlook: Outlook) -> str:
    """What became of the peers that are known; empty when there are none."""
    if not outlook.known:
        return ""
    known = f"{counted(outlook.known, 'peer')} known"
    if outlook.dialling == outlook.known:
        return f"{known}, the first dial is under way"
    parts = []
    if outlook.dialling:
        verb = "is" if outlook.dialling == 1 else "are"
        parts.append(f"{outlook.dialling} {verb} being dialled for the first time")
    if outlook.untried:
        verb = "has" if outlook.untried == 1 else "have"
        parts.append(f"{outlook.untried} {verb} not been dialled yet")
    parts += [f"{outlook.troubles[one]} {one.value}" for one in Trouble if one in outlook.troubles]
    if outlook.left:
        parts.append(f"{outlook.left} left after being connected")
    return f"{known}, none connected: {', '.join(parts)}" if parts else f"{known}, none connected"


def _with_mismatches(text: str, connections: Connections) -> str:
    count = len(connections.mismatched)
    return f"{text}; {counted(count, 'peer')} sent metadata that does not match" if count else text
