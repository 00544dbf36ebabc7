"""Super seeding in a running swarm: does what `torrent.super_seed` decides, at its time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import trio

from dht_torrent.engine.torrent.peer import Peer, Serve
from dht_torrent.ids import PeerKey
from dht_torrent.peer.messages import Have
from dht_torrent.torrent.pieces import Bitfield
from dht_torrent.torrent.requests import Run, single_requests
from dht_torrent.torrent.super_seed import Offer, SuperSeed

TICK = 1.0
"""Seconds between two looks at who has waited long enough."""


class Hiding:
    """What peers are shown of pieces that are all here. It ends when `on_done` is called, or before
    that when the swarm calls `end`."""

    def __init__(
        self,
        peers: Mapping[PeerKey, Peer],
        super_seed: SuperSeed,
        read: Serve,
        on_done: Callable[[float], None],
    ) -> None:
        """`read` reads blocks for peers."""
        self._peers = peers
        self._super_seed = super_seed
        self._read = read
        self._on_done: Callable[[float], None] | None = on_done

    @property
    def spread(self) -> float:
        """The share of pieces (0..1) that were seen at other peers."""
        return self._super_seed.spread

    def end(self) -> None:
        """Nothing is hidden any more."""
        self._on_done = None

    def joined(self, peer: Peer, now: float) -> None:
        """It is shown something when it has told what it has, or at the next look."""
        self._super_seed.joined(peer.key, peer.address.place, now)
        peer.serve_with(partial(self._serve, peer))

    def left(self, peer: Peer) -> None:
        self._super_seed.left(peer.key)
        peer.serve_with(None)  # which holds on to the peer

    def shown_to(self, peer: Peer) -> Bitfield:
        """The pieces it was told of, and may ask for. Not to be changed."""
        return self._super_seed.revealed(peer.key)

    def shows(self, peer: Peer, index: int, now: float) -> None:
        """It has just said, for the first time, that it has this piece."""
        self._reveal(self._super_seed.shows(peer.key, index, now), now)

    def told(self, peer: Peer, now: float) -> None:
        """It has said what it has, all at once."""
        self._reveal(self._super_seed.told(peer.key, now), now)

    async def run(self) -> None:
        """Look at who has waited long enough, until it has ended."""
        while self._on_done is not None:
            await trio.sleep(TICK)
            if self._peers and self._on_done is not None:
                now = trio.current_time()
                queued = {p.key for p in self._peers.values() if p.interested and p.am_choking}
                self._reveal(self._super_seed.tick(now, queued), now)

    async def _serve(self, peer: Peer, runs: Sequence[Run], into: Sequence[memoryview]) -> None:
        await self._read(runs, into)
        if self._on_done is not None:
            now = trio.current_time()
            self._reveal(self._super_seed.sent(peer.key, single_requests(runs), now), now)

    def _reveal(self, offers: Iterable[Offer], now: float) -> None:
        for key, index in offers:
            if key in self._peers:
                self._peers[key].tell(Have(index))
        if self._super_seed.done and self._on_done is not None:
            self._on_done(now)
