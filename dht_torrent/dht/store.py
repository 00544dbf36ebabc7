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
from dht_torrent.dht.origins import Origin, facts
from dht_torrent.ids import Address, InfoHash, address_from_compact


class _Entry(NamedTuple):
    compact: bytes  # the peer's address
    expires: float
    seed: bool
    is_local: bool


# There may be many: so no object for what a few bytes can say.
_Place = bytes


class _Choice(NamedTuple):
    """The peers of a torrent that a node may be told of."""

    asker: int  # of which kind it is, and whether it wants seeds
    peers: list[bytes]
    encoded: bytes  # all of them, as bencoded strings


class StoredTorrent:
    """The peers of one torrent. For the store's own eyes."""

    __slots__ = ("choice", "entries", "expires")

    def __init__(self, expires: float) -> None:
        self.entries: dict[_Place, _Entry] = {}  # oldest first
        self.expires = expires  # none of them does before
        self.choice: _Choice | None = None  # what was chosen from last, until they change


class PeerStore:
    """infohash -> the peers announced for it, one per public IP, each for `peer_ttl` seconds."""

    def __init__(self, config: DhtConfig) -> None:
        self._config = config
        self._torrents: dict[InfoHash, StoredTorrent] = {}
        self._torrents_of: dict[_Place, int] = {}  # how many torrents a place is stored under
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
        return self.has_room(self.torrent(info_hash, now), facts(source))

    def has_room(self, torrent: StoredTorrent | None, source: Origin) -> bool:
        """As `accepts`, for what `torrent` found."""
        if self._has_room(torrent, source.place, source.is_local):
            return True
        if torrent is None:
            return False
        if source.is_local:
            return any(place[:-2] == source.host for place in torrent.entries)
        return source.place in torrent.entries

    def add(
        self,
        info_hash: InfoHash,
        peer: Address,
        now: float,
        *,
        seed: bool = False,
        origin: Origin | None = None,
    ) -> bool:
        """Store or refresh `peer`. False when a cap forbids it. `seed`: it has all (BEP 33).
        `origin`: the `facts` about its host, whatever the port, where they are known: of those who
        announce, hosts are remembered, and not each port that they announce as well."""
        torrent = self.torrent(info_hash, now)
        origin = origin or facts(peer)
        is_local, compact = origin.is_local, origin.host + peer.port.to_bytes(2, "big")
        place = compact if is_local else origin.place
        entry = _Entry(compact, now + self._config.peer_ttl, seed, is_local)
        known = torrent.entries.pop(place, None) if torrent is not None else None
        if torrent is None or known is None:
            if not self._has_room(torrent, place, is_local):
                return False
            if torrent is None:
                torrent = self._torrents[info_hash] = StoredTorrent(entry.expires)
            self._total += 1
            self._torrents_of[place] = self._torrents_of.get(place, 0) + 1
        if known is None or known.compact != compact or known.seed != seed:
            torrent.choice = None
        torrent.entries[place] = entry  # a known one goes to the end
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
        torrent = self.torrent(info_hash, now)
        if torrent is None:
            return []
        if asker is None:
            entries = torrent.entries.values()
            found = [entry.compact for entry in entries if seeds or not entry.seed]
        else:
            found = _choice(torrent, facts(asker), seeds).peers
        return found if len(found) <= count else rng.sample(found, count)

    def encoded_peers(
        self,
        torrent: StoredTorrent,
        rng: random.Random,
        count: int,
        room: int,
        asker: Origin,
    ) -> bytes | None:
        """As `compact_peers`, each a bencoded string, as many as fit `room` bytes. None where
        there is no peer for the asker: none may fit."""
        choice = _choice(torrent, asker, True)
        peers, encoded = choice.peers, choice.encoded
        if not peers:
            return None
        if len(peers) > count:
            peers = rng.sample(peers, count)
            encoded = _encode(peers)
        fit = max(0, room) // (len(asker.compact) + 3)
        return encoded if fit >= len(peers) else encoded[: fit * (len(encoded) // len(peers))]

    def scrape(self, info_hash: InfoHash, now: float) -> tuple[Bloom, Bloom] | None:
        """Filters of the seeds and of the others (BEP 33); None when no peer is known."""
        torrent = self.torrent(info_hash, now)
        if torrent is None:
            return None
        entries = torrent.entries.values()
        seeds = bloom.of(_host(entry) for entry in entries if entry.seed)
        others = bloom.of(_host(entry) for entry in entries if not entry.seed)
        return seeds, others

    def sample(self, now: float, rng: random.Random) -> list[InfoHash]:
        """At most `samples` infohashes (BEP 51). The same ones until `samples_interval` has passed:
        asking often must not reveal more. Only a sample of everything grows before."""
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
            self.torrent(info_hash, now)

    def _has_room(self, torrent: StoredTorrent | None, place: _Place, is_local: bool) -> bool:
        config = self._config
        if torrent is None:
            if len(self._torrents) >= config.max_torrents:
                return False
        elif len(torrent.entries) >= config.max_peers_per_torrent:
            return False
        if self._total >= config.max_peers_total:
            return False
        # A local host is many nodes in a lab, or a few machines we trust not to flood us.
        return is_local or self._torrents_of.get(place, 0) < config.max_torrents_per_host

    def torrent(self, info_hash: InfoHash, now: float) -> StoredTorrent | None:
        """Its peers that have not expired; None when there are none."""
        torrent = self._torrents.get(info_hash)
        if torrent is None or now < torrent.expires:
            return torrent
        entries = torrent.entries
        while entries:
            place, entry = next(iter(entries.items()))
            if now < entry.expires:
                torrent.expires = entry.expires
                return torrent
            torrent.choice = None
            del entries[place]
            self._total -= 1
            left = self._torrents_of.pop(place) - 1
            if left:
                self._torrents_of[place] = left
        del self._torrents[info_hash]
        return None


def _choice(torrent: StoredTorrent, asker: Origin, seeds: bool) -> _Choice:
    """The peers of the asker's family, nothing local unless it is local itself."""
    like = 2 * asker.kind + seeds
    choice = torrent.choice
    if choice is None or choice.asker != like:
        locals_too, width = asker.is_local, len(asker.compact)
        found = [
            compact
            for compact, _, seed, is_local in torrent.entries.values()
            if (locals_too or not is_local) and (seeds or not seed) and len(compact) == width
        ]
        choice = torrent.choice = _Choice(like, found, _encode(found))
    return choice


def _encode(peers: list[bytes]) -> bytes:
    return b"".join([b"%d:%b" % (len(peer), peer) for peer in peers])


def _host(entry: _Entry) -> str:
    return address_from_compact(entry.compact).host
