"""Peers that announced themselves to us (BEP 5). The rule: every count has a cap, and when a cap
is reached those who are in stay in and newcomers are sent elsewhere (they get no token), so that
a flood cannot push honest entries out.
"""

from __future__ import annotations

import random
from collections import OrderedDict

from dht_torrent.config import DhtConfig
from dht_torrent.dht.sources import Home, home
from dht_torrent.ids import Address, InfoHash

_Entries = OrderedDict[Home, tuple[Address, float]]  # home -> address, expiry; oldest first


class PeerStore:
    """infohash -> the peers announced for it, one per public IP, each for `peer_ttl` seconds."""

    def __init__(self, config: DhtConfig) -> None:
        self._config = config
        self._torrents: dict[InfoHash, _Entries] = {}
        self._torrents_of: dict[Home, int] = {}  # how many torrents a place is stored under
        self._total = 0

    @property
    def torrents(self) -> int:
        return len(self._torrents)

    def __len__(self) -> int:
        """Peers stored, over all torrents."""
        return self._total

    def accepts(self, info_hash: InfoHash, source: Address, now: float) -> bool:
        """Whether an announce from `source`'s IP would be stored; if not, withhold the token.

        The port to be announced is not known yet when a token is asked for.
        """
        self._expire_one(info_hash, now)
        entries = self._torrents.get(info_hash)
        if entries is not None:
            if source.is_local:
                known = any(peer.host == source.host for peer, _ in entries.values())
            else:
                known = home(source) in entries
            if known:
                return True
        return self._has_room(info_hash, source)

    def add(self, info_hash: InfoHash, peer: Address, now: float) -> bool:
        """Store or refresh `peer`. False when a cap forbids it."""
        self._expire_one(info_hash, now)
        place = home(peer)
        entries = self._torrents.get(info_hash)
        if entries is None or place not in entries:
            if not self._has_room(info_hash, peer):
                return False
            entries = self._torrents.setdefault(info_hash, OrderedDict())
            self._total += 1
            self._torrents_of[place] = self._torrents_of.get(place, 0) + 1
        entries[place] = (peer, now + self._config.peer_ttl)
        entries.move_to_end(place)
        return True

    def peers(
        self,
        info_hash: InfoHash,
        now: float,
        rng: random.Random,
        count: int,
        *,
        asker: Address | None = None,
    ) -> list[Address]:
        """At most `count` peers, a uniform sample. For an `asker`: of its family, and nothing
        local unless it is local itself."""
        self._expire_one(info_hash, now)
        entries = self._torrents.get(info_hash)
        if entries is None:
            return []
        found = [peer for peer, _ in entries.values()]
        if asker is not None:
            found = [
                peer
                for peer in found
                if peer.is_ipv6 == asker.is_ipv6 and (asker.is_local or not peer.is_local)
            ]
        return found if len(found) <= count else rng.sample(found, count)

    def expire(self, now: float) -> None:
        """Forget what was not announced again in time. Call every few seconds to minutes."""
        for info_hash in list(self._torrents):
            self._expire_one(info_hash, now)

    def _has_room(self, info_hash: InfoHash, peer: Address) -> bool:
        config = self._config
        entries = self._torrents.get(info_hash)
        if entries is None:
            if len(self._torrents) >= config.max_torrents:
                return False
        elif len(entries) >= config.max_peers_per_torrent:
            return False
        if self._total >= config.max_peers_total:
            return False
        # A local host is many nodes in a lab, or a few machines we trust not to flood us.
        return peer.is_local or self._torrents_of.get(home(peer), 0) < config.max_torrents_per_host

    def _expire_one(self, info_hash: InfoHash, now: float) -> None:
        entries = self._torrents.get(info_hash)
        if entries is None:
            return
        while entries:
            place, (_, expiry) = next(iter(entries.items()))
            if expiry > now:
                return
            del entries[place]
            self._total -= 1
            left = self._torrents_of.pop(place) - 1
            if left:
                self._torrents_of[place] = left
        del self._torrents[info_hash]
