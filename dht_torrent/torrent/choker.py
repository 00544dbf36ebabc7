"""Who gives gets: upload goes to those we get most from, and a little to chance.

BEP 3's choker. Downloading: `unchoke_slots` peers by what they send us; better ones that are not
interested are unchoked as well, so that they are served the moment they are. Seeding: in turns,
each until it had its quota, so that a fast peer that throws the data away cannot keep its slot, and
one that asks for nothing cannot either.
The optimistic slot (or slots) moves every `optimistic_interval`; newcomers have better odds for it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import PeerKey

MIN_TURN = 60.0
"""Seconds a seed serves a peer before its quota counts (libtorrent) ..."""
IDLE_TURN = 20.0
"""... and before its slot goes to others because it is idle: time enough to ask for something."""
NEWCOMER_ROUNDS = 3
"""A peer is a newcomer for this many unchoke intervals (BEP 3)."""
MAX_OPTIMISTIC = 4
"""Optimistic slots when all peers snub us, unless there are more anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerView:
    """What the choker needs to know of a connection."""

    key: PeerKey
    interested: bool
    """It wants something of ours."""
    unchoked: bool = False
    """We serve it now."""
    rate_down: float = 0.0
    """Payload bytes per second it sends us."""
    rate_up: float = 0.0
    """Payload bytes per second we send it."""
    pieces_sent: float = 0.0
    """Pieces' worth of payload sent to it since it was last unchoked."""
    unchoked_since: float = 0.0
    """When it was last unchoked."""
    choked_since: float = 0.0
    """When it was last choked, or connected."""
    connected_at: float = 0.0
    idle: bool = False
    """It asks us for nothing, and was sent nothing for seconds."""
    snubs_us: bool = False
    """It unchokes us, has requests of ours, and sends nothing."""


@dataclass(frozen=True, slots=True)
class Choices:
    """All peers not in `unchoke` are to be choked."""

    unchoke: tuple[PeerKey, ...]
    """Regular slots, best first, then better but uninterested peers, then optimistic ones."""
    optimistic: PeerKey | None
    """Who of them owes it to chance. While peers snub us there are more; this is the first."""


class Choker:
    """One torrent's choker. Remembers who holds which kind of slot between rounds."""

    def __init__(self, config: TorrentConfig) -> None:
        self._config = config
        self._regular: tuple[PeerKey, ...] = ()
        self._optimistic: tuple[PeerKey, ...] = ()
        self._moved_at = float("-inf")

    def round(
        self,
        peers: Sequence[PeerView],
        now: float,
        rng: random.Random,
        *,
        seeding: bool,
        only_free_slots: bool = False,
    ) -> Choices:
        """Choose the peers to unchoke. Call every `unchoke_interval` seconds.

        With `only_free_slots`, call it when a peer comes, leaves or changes its interest: slots
        stay with the peers that have them and are still interested; only empty ones are given away.
        So a newcomer need not wait, and toggling interest gains nothing.
        """
        slots = self._config.unchoke_slots
        interested = [peer for peer in peers if peer.interested]
        if seeding:
            ranked = self._by_turn(interested, now)
        else:
            # Anti-snubbing (BEP 3): who takes our requests and sends nothing has no claim.
            ranked = sorted((peer for peer in interested if not peer.snubs_us), key=_best_first)
        if only_free_slots:
            # A stable sort: among those who stay and among those who wait the order remains.
            ranked.sort(key=lambda peer: peer.key not in self._regular)
        regular = ranked[:slots]
        self._regular = tuple(peer.key for peer in regular)
        better = [] if seeding else self._better(peers, regular)
        chosen = {*self._regular, *better}
        self._optimistic = self._chance(
            [peer for peer in interested if peer.key not in chosen],
            now,
            rng,
            slots=self._chances(peers, seeding=seeding),
            due=not only_free_slots and now - self._moved_at >= self._config.optimistic_interval,
        )
        return Choices(
            (*self._regular, *better, *self._optimistic),
            self._optimistic[0] if self._optimistic else None,
        )

    def _better(
        self, peers: Sequence[PeerView], regular: Sequence[PeerView]
    ) -> tuple[PeerKey, ...]:
        """BEP 3: peers that send more than the last regular one but are not interested."""
        full = len(regular) == self._config.unchoke_slots
        least = min(peer.rate_down for peer in regular) if regular and full else 0.0
        idle = [
            peer
            for peer in peers
            if not peer.interested and not peer.snubs_us and peer.rate_down > least
        ]
        return tuple(
            peer.key for peer in sorted(idle, key=_best_first)[: self._config.unchoke_slots]
        )

    def _chances(self, peers: Sequence[PeerView], *, seeding: bool) -> int:
        """Optimistic slots: one more for each peer that snubs us (BEP 3's anti-snubbing)."""
        slots = self._config.optimistic_slots
        if seeding or not slots:
            return slots
        return min(slots + sum(peer.snubs_us for peer in peers), max(slots, MAX_OPTIMISTIC))

    def _by_turn(self, interested: list[PeerView], now: float) -> list[PeerView]:
        """libtorrent's round robin: a served peer keeps its slot until it had `seed_quota` pieces
        and a minute, or does not use it (the fastest first); then come the longest waiting, then
        those who had their turn, the one unchoked longest ago first."""

        def turn(peer: PeerView) -> tuple[int, float, float]:
            if not peer.unchoked or peer.key not in self._regular:
                return (1, peer.choked_since, peer.connected_at)
            served = now - peer.unchoked_since
            had_quota = peer.pieces_sent >= self._config.seed_quota
            if (had_quota and served >= MIN_TURN) or (peer.idle and served >= IDLE_TURN):
                return (2, peer.unchoked_since, peer.connected_at)
            return (0, -peer.rate_up, peer.unchoked_since)

        return sorted(interested, key=turn)

    def _chance(
        self,
        choice: list[PeerView],
        now: float,
        rng: random.Random,
        *,
        slots: int,
        due: bool,
    ) -> tuple[PeerKey, ...]:
        """The optimistic peers: those of before until it is time to move, then others by chance."""
        before = self._optimistic
        picked = [] if due else [peer.key for peer in choice if peer.key in before][:slots]
        if due and choice:
            self._moved_at = now
        # The slot moves: who had it comes last, and newcomers have better odds.
        waiting = [peer for peer in choice if peer.key not in before]
        again = [peer for peer in choice if peer.key in before and peer.key not in picked]
        newcomer = NEWCOMER_ROUNDS * self._config.unchoke_interval
        for pool in (waiting, again):
            while pool and len(picked) < slots:
                odds = [
                    self._config.newcomer_weight if now - peer.connected_at <= newcomer else 1
                    for peer in pool
                ]
                (peer,) = rng.choices(pool, odds)
                pool.remove(peer)
                picked.append(peer.key)
        return tuple(picked)


def _best_first(peer: PeerView) -> tuple[float, bool, float]:
    # Among equals who is served stays served (no flapping), then who came first.
    return (-peer.rate_down, not peer.unchoked, peer.connected_at)
