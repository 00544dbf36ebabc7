"""Room for another connection, in a torrent and in the node: free, or left by who is of least use.

The rule: nobody is closed for an address, but only for a connection whose handshakes are done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dht_torrent.config import Config
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.rate_limits import TorrentLimits
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address, PeerKey
from dht_torrent.torrent.connection_slots import NEVER, ConnectionSlots, ConnectionView, Use

ENOUGH_PEERS = "enough peers"
ENOUGH_CONNECTIONS = "enough connections"
LOOK_AGAIN = 1.0
"""Seconds for which it is believed that nobody in the whole node yields: a look costs as much as
there are torrents, and each of them looks."""


class NodeRoom:
    """The connections of all torrents together."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.torrents: dict[int, TorrentRoom] = {}
        """Those that exchange now, by a number of their own."""
        self.guests: set[str] = set()
        """Hosts, or local addresses, that are told of others and take no place: see `referring`."""
        self._open: dict[PeerKey, bool] = {}  # connections by key, and whether we dialled
        self._dialled = 0
        self._none_until = NEVER

    @property
    def connections(self) -> int:
        """Open ones, without those that were told to yield."""
        return len(self._open)

    def opened(self, key: PeerKey, *, dialled: bool) -> None:
        self._open[key] = dialled
        self._dialled += dialled

    def closed(self, key: PeerKey) -> None:
        """It has ended, or will at once. May be said twice."""
        self._dialled -= self._open.pop(key, False)

    def has_place(self, *, incoming: bool) -> bool:
        """One is free. Some are kept for those we dial while any torrent lacks something."""
        most = self.config.max_connections
        free = most - len(self._open)
        if not incoming or free <= 0:
            return free > 0
        kept = int(most * self.config.torrent.dialled_share) - self._dialled
        return free > kept or not any(room.needy() for room in self.torrents.values())

    def least_useful(
        self, asking: TorrentRoom, now: float, place: str | None, *, dialling: bool
    ) -> tuple[TorrentRoom, Use, PeerKey] | None:
        """Who yields, of which torrent, when none of `asking`'s own must; None when nobody does."""
        # A starving download may dial some peers even if all others are busy seeding.
        share = int(self.config.max_connections * self.config.torrent.dialled_share)
        pressed = dialling and self._dialled < share and asking.starves(now)
        if now < self._none_until and not pressed:
            return None
        best: tuple[Use, int, int] | None = None
        for number, room in self.torrents.items():
            may = room.yielding(now, place, pressed=pressed and room is not asking)
            if may:
                rank = (may[0][0], -len(room.peers), number)
                best = rank if best is None else min(best, rank)
        if best is None:
            self._none_until = now + LOOK_AGAIN
            return None
        room = self.torrents[best[2]]
        use, key = room.yielding(now, place, pressed=pressed and room is not asking)[0]
        return room, use, key


class TorrentRoom:
    """The connections of one torrent."""

    def __init__(
        self,
        node: NodeRoom,
        peers: Mapping[PeerKey, Peer],
        limits: TorrentLimits,
        needy: Callable[[], bool],
    ) -> None:
        """`needy`: the torrent exchanges, and lacks something."""
        self.peers = peers
        self.needy = needy
        self._node = node
        self._limits = limits
        self._config = node.config.torrent
        self._slots = ConnectionSlots(node.config.torrent)

    def may_dial(self, dialing: int, now: float) -> bool:
        """Should one more of those being dialled answer, there is room, or some can be made."""
        free = self._config.max_connections - self._live() - dialing
        if free <= 0 and len(self.yielding(now, None)) <= -free:
            return False
        return (
            free <= 0
            or self._node.has_place(incoming=False)
            or self._node.least_useful(self, now, None, dialling=True) is not None
        )

    def make(self, address: Address, now: float, *, incoming: bool) -> str | None:
        """A connection with `address` is there: close another one for it if need be. Returns why
        there is no room for it, or None."""
        most, needy = self._config.max_connections, self.needy()
        free = most - self._live()
        if incoming and needy:
            free -= self._slots.kept(self._views(), most)
        if free <= 0:
            may = self.yielding(now, address.place)
            if not may:
                return ENOUGH_PEERS
            self._close(*may[0], now)
        elif not self._node.has_place(incoming=incoming):
            found = self._node.least_useful(self, now, address.place, dialling=not incoming)
            if found is None:
                return ENOUGH_CONNECTIONS
            room, use, key = found
            room._close(use, key, now)
        return None

    def yielding(
        self, now: float, place: str | None, *, pressed: bool = False
    ) -> list[tuple[Use, PeerKey]]:
        """Who may yield now, the least useful first."""
        return self._slots.yielding(
            self._views(),
            now,
            most=self._config.max_connections,
            needy=self.needy(),
            place=place,
            patience=self._patience(),
            pressed=pressed,
        )

    def starves(self, now: float) -> bool:
        """We lack something, and nobody gives."""
        patience = self._config.newcomer_grace + self._patience()
        return self.needy() and all(
            now - peer.gave_at > patience for peer in self.peers.values() if not peer.is_dropped
        )

    def _patience(self) -> float:
        """Under a limit it is we who let them wait for a block, either way."""
        blocks = BLOCK * len(self.peers)
        return max(self._limits.down.takes(blocks), self._limits.up.takes(blocks))

    def _live(self) -> int:
        return sum(not peer.is_dropped for peer in self.peers.values())

    def _views(self) -> list[ConnectionView]:
        return [_view(peer) for peer in self.peers.values() if not peer.is_dropped]

    def _close(self, use: Use, key: PeerKey, now: float) -> None:
        peer = self.peers[key]
        peer.make_room()
        self._node.closed(key)
        self._slots.yielded(use, now)


def _view(peer: Peer) -> ConnectionView:
    return ConnectionView(
        key=peer.key,
        place=peer.address.place,
        crowded=peer.address.is_local,
        dialled=not peer.incoming,
        connected_at=peer.connected_at,
        gave_at=peer.gave_at,
        took_at=peer.took_at,
        # Before the metadata is here, who offers it is who is of interest.
        interesting=peer.am_interested or (peer.serve is None and peer.offers_info),
        stalls=peer.snubs_us,
        wants=peer.interested,
        served_since=None if peer.am_choking or peer.asked else peer.unchoked_at,
        parting=peer.has_no_use,
    )
