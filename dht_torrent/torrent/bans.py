"""Banned is an address that was seen to send bad data; its host is only met with fewer chances.

A host may be many peers: programs on one machine, machines behind one NAT. So a conviction bans the
address of the connection alone, and puts the host on parole: after each further conviction the
next unproved peer of it is tried later, twice as late each time. An address whose peer completed a
whole piece alone does not share that: it may come back at any time. What a peer *says* of its
address has no effect here.
"""

from __future__ import annotations

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import Address, place_of

MAX_BANS = 1000
"""Addresses banned at once; the oldest ban is lifted first."""
MAX_PORTS = 64
"""Of them in one place (an IPv6 /64 is one): its bans lift each other, not those of others. When
it has had that many, its parole is what holds it."""
MAX_PLACES = 1000
"""Places with convictions; the one convicted longest ago is forgotten."""
MAX_TRUSTED = 1000
"""Addresses that proved themselves; the one that did so longest ago is forgotten."""


class _Place:
    __slots__ = ("banned", "convicted_at", "delay", "resumes")

    def __init__(self) -> None:
        self.banned: dict[Address, None] = {}  # the oldest first
        self.convicted_at = float("-inf")
        self.delay = 0.0
        self.resumes = float("-inf")


class Bans:
    """Of one torrent."""

    def __init__(self, config: TorrentConfig) -> None:
        self._config = config
        self._until: dict[Address, float] = {}  # the oldest ban first
        self._places: dict[str, _Place] = {}  # the one convicted longest ago first
        self._trusted: dict[Address, None] = {}  # the oldest first

    def convict(self, address: Address, now: float, *, on_parole: bool = True) -> None:
        """A peer at this address is proved to have sent bad data. `on_parole`: it was met when its
        place had been convicted before, so the next one has to wait longer. Those who were there
        already tell nothing about who comes back."""
        self.ban(address, now)
        self.distrust(address)
        place = self._place(address, now)
        place.convicted_at = now
        base = self._base(address)
        if not place.delay:
            place.delay = base
        elif on_parole:
            place.delay = min(2 * place.delay, self._config.max_parole_delay)
        place.resumes = now + place.delay

    def ban(self, address: Address, now: float) -> None:
        """Keep away from this one for `ban_time`."""
        place = self._place(address, now)
        self._until.pop(address, None)
        place.banned.pop(address, None)
        self._until[address] = now + self._config.ban_time
        place.banned[address] = None
        if len(place.banned) > MAX_PORTS:
            self._lift(next(iter(place.banned)))
        elif len(self._until) > MAX_BANS:
            self._lift(next(iter(self._until)))

    def is_banned(self, address: Address, now: float) -> bool:
        """This very address; others of its host are not."""
        return self._until.get(address, now) > now

    def trust(self, address: Address) -> None:
        """A peer at this address completed a whole piece alone."""
        self._trusted.pop(address, None)
        self._trusted[address] = None
        if len(self._trusted) > MAX_TRUSTED:
            del self._trusted[next(iter(self._trusted))]

    def distrust(self, address: Address) -> None:
        """It took part in a piece that failed."""
        self._trusted.pop(address, None)

    def trusts(self, address: Address) -> bool:
        return address in self._trusted

    def on_parole(self, address: Address, now: float) -> bool:
        """Was a peer of its place convicted, not longer than `ban_time` ago, and it has not
        proved itself?"""
        place = self._places.get(address.place)
        return (
            place is not None
            and now < place.convicted_at + self._config.ban_time
            and address not in self._trusted
        )

    def resumes(self, address: Address) -> float:
        """When a peer at this address may be tried; -inf: at any time."""
        place = self._places.get(address.place)
        if place is None or address in self._trusted:
            return float("-inf")
        return place.resumes

    def delay(self, address: Address) -> float:
        """How long that place has to wait after a conviction, at present."""
        place = self._places.get(address.place)
        return place.delay if place is not None else 0.0

    def dump(self, now: float) -> list[Address]:
        """The banned public addresses, the latest first. Ports of local ones mean nothing later."""
        return [
            address
            for address, until in reversed(self._until.items())
            if until > now and not address.is_local
        ]

    def _base(self, address: Address) -> float:
        config = self._config
        return config.local_parole_delay if address.is_local else config.parole_delay

    def _place(self, address: Address, now: float) -> _Place:
        """Its place, now the latest one."""
        name = place_of(address.host)
        place = self._places.pop(name, None)
        if place is None or (
            place.delay and now >= place.convicted_at + self._config.ban_time + place.delay
        ):
            banned = place.banned if place is not None else {}
            place = _Place()
            place.banned = banned
        self._places[name] = place
        if len(self._places) > MAX_PLACES:
            for other in list(self._places.pop(next(iter(self._places))).banned):
                del self._until[other]
        return place

    def _lift(self, address: Address) -> None:
        del self._until[address]
        del self._places[address.place].banned[address]
