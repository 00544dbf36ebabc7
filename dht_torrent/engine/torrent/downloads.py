"""What we ask peers for: to each that may be asked, enough requests in flight; and what one does
not answer, others are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import trio

from dht_torrent.config import Config
from dht_torrent.engine.chores import Chores
from dht_torrent.engine.torrent.banning import Banning
from dht_torrent.engine.torrent.choking import FILL_PAUSE
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.rate_limits import Line
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import PeerKey
from dht_torrent.peer.messages import AllowedFast, Cancel, Choke, Reject, Unchoke
from dht_torrent.torrent.parole import Standing
from dht_torrent.torrent.peer_pieces import FIRST_PAUSE
from dht_torrent.torrent.picker import Picker
from dht_torrent.torrent.pieces import Block

TICK = 1.0
"""Seconds between two looks at late requests and snubbing peers, while a download runs."""


class Downloads:
    """Our requests to the peers of one active torrent."""

    def __init__(
        self,
        peers: Mapping[PeerKey, Peer],
        picker: Picker,
        banning: Banning,
        limit: Line,
        config: Config,
        chores: Chores,
    ) -> None:
        """`limit` is that of what comes in."""
        self._peers = peers
        self._picker = picker
        self._banning = banning
        self._limit = limit
        self._config = config.peer
        self._chores = chores
        self._came_back = False
        self._share = self._most = max(
            config.peer.near_window, config.torrent.max_open_bytes * 2 // 3
        )
        """Bytes one peer may have in flight: the memory for open pieces is shared by all."""

    # -- chores ---------------------------------------------------------------------------------

    async def _watch_the_clock(self) -> None:
        """Ask again what was not answered, while anybody may be asked."""
        while self._peers and not self._picker.done:
            await trio.sleep(TICK)
            if not self._picker.done:
                self._give_back_late_requests(trio.current_time())

    async def _ask_again(self) -> None:
        """Who alone has a piece is soon asked again for a block of it that it rejected; later, if
        it goes on rejecting it, with the ticks of the clock."""
        await trio.sleep(FIRST_PAUSE)
        self.refill_idle(trio.current_time())

    async def _ask_others(self) -> None:
        """What a peer that chokes us was asked for, others are asked for at once; but one that does
        so all the time costs no more than a look at all of them now and then."""
        self.refill_idle(trio.current_time())
        await trio.sleep(FILL_PAUSE)

    def _give_back_late_requests(self, now: float) -> None:
        config = self._config
        # Under a limit it is we who let them wait.
        in_flight = [count for key in self._peers if (count := self._picker.outstanding(key))]
        asked = sum(in_flight)
        self._share = max(config.near_window, self._most // max(1, len(in_flight)))
        patience = self._limit.takes(asked * BLOCK)
        late = self._picker.expire(now - config.request_timeout - patience)
        late += self._banning.take_away(now)
        for key, block in late:
            peer = self._peers.get(key)
            if peer is not None and not peer.connection.fast:
                peer.tell(Cancel(*block))
        for peer in list(self._peers.values()):
            waiting = self._picker.outstanding(peer.key)
            oldest = self._picker.oldest_request(peer.key)
            silent = now - max(peer.last_block_at, oldest if oldest is not None else now)
            if waiting and silent > config.snub_timeout + patience and not peer.snubs_us:
                peer.snubbed_us()
                peer.probe(now)  # its host may have gone without a word, or our router forgot it
                # All its blocks are for others now; should they come after all, they are welcome.
                self._picker.give_back(peer.key)
        self.refill_idle(now)

    # -- asking ---------------------------------------------------------------------------------

    def refill(self, peer: Peer, now: float) -> None:
        """Keep enough requests in flight to this peer."""
        if not peer.am_interested or peer.is_dropped or now < peer.rests_until:
            return
        allowed: Collection[int] | None = None
        if peer.chokes_us:
            if not peer.allowed_to_us:
                return
            allowed = peer.allowed_to_us
        standing = self._banning.standing(peer, now)
        if standing is Standing.WAITING:
            return
        outstanding = self._picker.outstanding(peer.key)
        ceiling = self._share // BLOCK
        if self._limit.limited:
            # Two: the next is on its way while one comes in.
            limited = int(self._limit.within(self._config.queue_seconds) / BLOCK)
            ceiling = min(ceiling, max(2, limited))
        room = peer.pipeline.room(outstanding, ceiling)
        if room <= 0:
            return
        blocks = self._picker.next_requests(
            peer.key, room, now, allowed=allowed, alone=standing is not None
        )
        if blocks:
            peer.request(blocks)
            peer.pipeline.asked(outstanding + len(blocks), now)
            self._chores.call(self._watch_the_clock)
        elif not outstanding and not peer.chokes_us:
            self.review_interest(peer)

    def refill_idle(self, now: float) -> None:
        """Blocks came free: peers with room may ask for them. Peers with enough in flight are
        passed over cheaply; they fill up as their answers come."""
        if not self._picker.done:
            # Who snubs us comes last: a few of those could hold all copies of the last block.
            for peer in sorted(self._peers.values(), key=lambda peer: peer.snubs_us):
                self.refill(peer, now)

    def settle(self, peer: Peer, now: float) -> None:
        """A batch of messages of this peer has been taken: it may be asked for more, and others for
        what it rejected."""
        if self._came_back:  # once for all rejects of a batch
            self._came_back = False
            peer.note_rejects(now)
            self.refill_idle(now)
        elif not peer.chokes_us or peer.allowed_to_us:
            self.refill(peer, now)
        peer.owes(self._picker.outstanding(peer.key))

    def ask_others(self) -> None:
        """What a peer was asked for came free."""
        self._chores.call(self._ask_others)

    def review_interest(self, peer: Peer) -> None:
        """Tell it if it has become of interest, or has ceased to be."""
        peer.show_interest(self._picker.holdings.interesting(peer.key))

    def select(self, wanted: Iterable[int], ranks: bytes | None, now: float) -> None:
        """Want these pieces and no others, by their ranks."""
        self.cancel(self._picker.select(wanted, ranks))
        for peer in list(self._peers.values()):
            self.review_interest(peer)
            self.refill(peer, now)

    def cancel(self, requests: Iterable[tuple[PeerKey, Block]]) -> None:
        """These requests are answered already, or not wanted any more."""
        for key, block in requests:
            if key in self._peers:
                self._peers[key].tell(Cancel(*block))

    # -- what a peer says -----------------------------------------------------------------------

    def handlers(self) -> dict[type, Callable[[Peer, object, float], None]]:
        """Of the messages that say what we may ask for."""
        return {
            Choke: self._on_choke,
            Unchoke: self._on_unchoke,
            Reject: self._on_reject,
            AllowedFast: self._on_allowed_fast,
        }

    def _on_choke(self, peer: Peer, event: object, now: float) -> None:
        peer.choked_us()
        # Others may have its blocks at once. With BEP 6 a reject, or the block, still follows for
        # each; by then neither makes a difference but that the block is welcome.
        keep = peer.allowed_to_us if peer.connection.fast else ()
        if self._picker.choked(peer.key, keep=keep):
            self._chores.call(self._ask_others)
            peer.note_rejects(now)

    def _on_unchoke(self, peer: Peer, event: object, now: float) -> None:
        peer.unchoked_us(now)

    def _on_reject(self, peer: Peer, event: object, now: float) -> None:
        assert isinstance(event, Reject)
        if self._picker.rejected(peer.key, (event.index, event.begin, event.length)):
            self._came_back = True
            self._chores.call(self._ask_again)
        if peer.chokes_us:
            peer.refused_fast(event.index)

    def _on_allowed_fast(self, peer: Peer, event: object, now: float) -> None:
        assert isinstance(event, AllowedFast)
        if len(peer.allowed_to_us) < 64 and event.index < self._picker.have.size:
            peer.allowed_fast(event.index)
