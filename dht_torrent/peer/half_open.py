"""Incoming connections that have not said yet what they want.

The rule: however many there are, the next one gets in. The oldest unfinished one yields: of the
same host beyond what one host may have, else of the host that has most.
"""

from __future__ import annotations

from collections import OrderedDict

from dht_torrent.config import Config
from dht_torrent.ids import PeerKey


class HalfOpen:
    """Handshakes under way, at most `max_pending_handshakes`, and of one host (IPv4 address or
    /64) at most `max_pending_per_host`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._places: dict[str, OrderedDict[PeerKey, None]] = {}  # keys by place, oldest first
        self._where: dict[PeerKey, str] = {}  # in order of arrival

    def __len__(self) -> int:
        return len(self._where)

    def came(self, key: PeerKey, place: str) -> PeerKey | None:
        """A connection was accepted. Returns the key of the one to close for it, if any must be; it
        is forgotten already."""
        here = self._places.setdefault(place, OrderedDict())
        yields: PeerKey | None = None
        if len(here) >= self._config.max_pending_per_host:
            yields = next(iter(here))
        elif len(self._where) >= self._config.max_pending_handshakes:
            # The first of those that have most, so that many hosts of one each take turns.
            most = max(map(len, self._places.values()))
            yields = next(key for key, one in self._where.items() if len(self._places[one]) == most)
        here[key] = None
        self._where[key] = place
        if yields is not None:
            self.ended(yields)
        return yields

    def ended(self, key: PeerKey) -> None:
        """Its handshake is done, or it is closed. May be said twice."""
        place = self._where.pop(key, None)
        if place is not None:
            here = self._places[place]
            del here[key]
            if not here:
                del self._places[place]
