"""Peers that announced themselves to us (BEP 5). The rule: every count has a cap, and when a cap
is reached those who are in stay in and newcomers are sent elsewhere (they get no token), so that
a flood cannot push honest entries out.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from dht_torrent.config import DhtConfig
from dht_torrent.dht import bloom
from dht_torrent.dht.bloom import Bloom
from dht_torrent.dht.sources import facts
from dht_torrent.ids import Address, InfoHash, address_from_compact


class _Entry(NamedTuple):
    compact: bytes  # the peer's address
    expires: float
    seed: bool
    is_local: bool


# There may be many: so no object for what a few bytes can say.
_Place = bytes
_Entries = dict[_Place, _Entry]  # oldest first


def _place(compact: bytes, is_local: bool) -> _Place:
    """What `sources.home` says, in bytes: a public IP (v6: its /64), a local address with its port.
    No two kinds have the same length."""
    if is_local:
        return compact
    return compact[:4] if len(compact) == 6 else compact[:8]


class PeerStore:
    """infohash -> the peers announced for it, one per public IP, each for `peer_ttl` seconds."""

    def __init__(self, config: DhtConfig) -> None:
        self._config = config
        self._torrents: dict[InfoHash, _Entries] = {}
        self._torrents_of: dict[_Place, int] = {}  # how many torrents a place is stored under
        # What `compact_peers` chose from last, until the torrent's entries change.
        self._choices: dict[InfoHash, tuple[int, bool, bool, list[bytes]]] = {}
        self._total = 0
        self._sample: list[InfoHash] = []
        self._sampled_at = float("-inf")

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
        _, is_local, compact = facts(source)
        if self._has_room(info_hash, _place(compact, is_local), is_local):
            return True
        entries = self._torrents.get(info_hash)
        if entries is None:
            return False
        if is_local:
            return any(place[:-2] == compact[:-2] for place in entries)
        return _place(compact, is_local) in entries

    def add(self, info_hash: InfoHash, peer: Address, now: float, *, seed: bool = False) -> bool:
        """Store or refresh `peer`. False when a cap forbids it. `seed`: it has all (BEP 33)."""
        self._expire_one(info_hash, now)
        compact, is_local = peer.compact(), peer.is_local
        place = _place(compact, is_local)
        entries = self._torrents.get(info_hash)
        if entries is None or entries.pop(place, None) is None:  # a known one goes to the end
            if not self._has_room(info_hash, place, is_local):
                return False
            entries = self._torrents.setdefault(info_hash, {})
            self._total += 1
            self._torrents_of[place] = self._torrents_of.get(place, 0) + 1
        entries[place] = _Entry(compact, now + self._config.peer_ttl, seed, is_local)
        self._choices.pop(info_hash, None)
        return True

    def peers(
        self,
        info_hash: InfoHash,
        now: float,
        rng: random.Random,
        count: int,
        *,
        asker: Address | None = None,
        seeds: bool = True,
    ) -> list[Address]:
        """At most `count` peers, a uniform sample, on wish without seeds. For an `asker`: of its
        family, and nothing local unless it is local itself."""
        found = self.compact_peers(info_hash, now, rng, count, asker=asker, seeds=seeds)
        return [address_from_compact(peer) for peer in found]

    def compact_peers(
        self,
        info_hash: InfoHash,
        now: float,
        rng: random.Random,
        count: int,
        *,
        asker: Address | None = None,
        seeds: bool = True,
    ) -> list[bytes]:
        """As `peers`, as they go into a reply. For reading only."""
        self._expire_one(info_hash, now)
        entries = self._torrents.get(info_hash)
        if entries is None:
            return []
        if asker is None:
            found = [entry.compact for entry in entries.values() if seeds or not entry.seed]
        else:
            _, locals_too, same = facts(asker)
            width = len(same)
            choice = self._choices.get(info_hash)
            if choice is None or choice[:3] != (width, locals_too, seeds):
                found = [
                    compact
                    for compact, _, seed, is_local in entries.values()
                    if (locals_too or not is_local)
                    and (seeds or not seed)
                    and len(compact) == width
                ]
                choice = self._choices[info_hash] = (width, locals_too, seeds, found)
            found = choice[3]
        return found if len(found) <= count else rng.sample(found, count)

    def scrape(self, info_hash: InfoHash, now: float) -> tuple[Bloom, Bloom] | None:
        """Filters of the seeds and of the others (BEP 33); None when nobody is known."""
        self._expire_one(info_hash, now)
        entries = self._torrents.get(info_hash)
        if entries is None:
            return None
        seeds = bloom.of(_host(entry) for entry in entries.values() if entry.seed)
        others = bloom.of(_host(entry) for entry in entries.values() if not entry.seed)
        return seeds, others

    def sample(self, now: float, rng: random.Random) -> list[InfoHash]:
        """At most `samples` infohashes (BEP 51). The same ones until `samples_interval` has passed:
        asking often shall tell nobody more. Only a sample of everything grows before."""
        most = self._config.samples
        stale = now - self._sampled_at >= self._config.samples_interval
        if stale or len(self._sample) < min(most, len(self._torrents)):
            everything = list(self._torrents)
            self._sample = rng.sample(everything, min(most, len(everything)))
            self._sampled_at = now
        return self._sample

    def expire(self, now: float) -> None:
        """Forget what was not announced again in time. Call every few seconds to minutes."""
        for info_hash in list(self._torrents):
            self._expire_one(info_hash, now)

    def _has_room(self, info_hash: InfoHash, place: _Place, is_local: bool) -> bool:
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
        return is_local or self._torrents_of.get(place, 0) < config.max_torrents_per_host

    def _expire_one(self, info_hash: InfoHash, now: float) -> None:
        entries = self._torrents.get(info_hash)
        if entries is None:
            return
        while entries:
            place, entry = next(iter(entries.items()))
            if entry.expires > now:
                return
            self._choices.pop(info_hash, None)
            del entries[place]
            self._total -= 1
            left = self._torrents_of.pop(place) - 1
            if left:
                self._torrents_of[place] = left
        del self._torrents[info_hash]


def _host(entry: _Entry) -> str:
    return address_from_compact(entry.compact).host
