"""Where the peers that came to us listen, found out by dialling them.

A peer that comes in says at which port it listens (BEP 10's `p`), and may say anything. Whoever is
to tell others of it has to know: a peer of this torrent answers there. TCP shows it: uTP may pass a
router that lets in nobody else, since the peer has sent to us.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import trio

from dht_torrent.engine.chores import Chores
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.dialling import DialError, dial
from dht_torrent.engine.torrent.handshake import NewConnection
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.ids import PeerId, PeerKey, Transport
from dht_torrent.torrent.candidates import Candidates
from dht_torrent.torrent.duplicates import CROSSING

logger = logging.getLogger(__name__)

CONFIRM_AFTER = CROSSING + 2.0
"""Seconds a peer is connected first: sooner, its side would take the second connection for one that
was dialled across the first."""
AT_ONCE = 4
"""Peers of one torrent that are dialled at the same time ..."""
MAX_WAITING = 64
"""... and those that wait for it; further ones are asked for again."""
LINGER = 2.0
"""Seconds until the second connection is closed. Some clients (libtorrent) decide by the ports
which of two they keep, and close the first one: then we go on with the second."""


class Confirming:
    """Of one torrent."""

    def __init__(
        self,
        torrent: TorrentContext,
        peer_id: PeerId,
        peers: Mapping[PeerKey, Peer],
        candidates: Candidates,
        chores: Chores,
        adopt: Callable[[NewConnection], Awaitable[None]],
    ) -> None:
        """`peer_id` is ours. `adopt` goes on with a connection in place of one that has ended."""
        self._torrent = torrent
        self._peer_id = peer_id
        self._peers = peers
        self._candidates = candidates
        self._chores = chores
        self._adopt = adopt
        self._waiting: deque[Peer] = deque()
        self._under_way = 0

    def ask(self, peer: Peer) -> None:
        """Find out where this peer listens, once: `Peer.listens_at` will say."""
        if (
            peer.claims is None
            or peer.listens_at is not None
            or peer.confirming
            or peer.is_dropped
            or peer.has_no_use
            or len(self._waiting) >= MAX_WAITING
        ):
            return
        peer.begin_confirming()
        self._waiting.append(peer)
        self._chores.call(self._confirm_all)

    def answered(self, new: NewConnection) -> None:
        """A peer answered where we dialled: it is known to listen there if it is one of those who
        claim that."""
        address, now = new.stream.remote, trio.current_time()
        for peer in self._peers.values():
            if peer.claims == address and peer.listens_at is None:
                peer.confirm(new.stream.transport)
                self._candidates.confirmed(address, now)

    def clear(self) -> None:
        """Nobody is asked any more: call when the chores have ended."""
        self._waiting.clear()
        self._under_way = 0

    async def _confirm_all(self) -> None:
        while self._waiting and self._under_way < AT_ONCE:
            if self._chores.begin(self._confirm, self._waiting.popleft()):
                self._under_way += 1
            await self._torrent.node.pace_dial()

    async def _confirm(self, peer: Peer) -> None:
        try:
            heir = await self._dial(peer)
        finally:
            self._under_way -= 1
            self._chores.call(self._confirm_all)
        if heir is not None:
            await self._adopt(heir)

    async def _dial(self, peer: Peer) -> NewConnection | None:
        """Returns the connection that was made, if it is all that is left."""
        node, address = self._torrent.node, peer.claims
        assert address is not None
        new: NewConnection | None = None
        with node.faults.confined(f"finding out who is at {address}"):
            try:
                async with node.dialing():
                    known = self._candidates.ways(address)
                    only = Transport.TCP if node.config.tcp else None
                    new = (await dial(self._torrent, address, self._peer_id, known, only=only)).new
                if new.handshake.peer_id == self._peer_id:
                    node.own_addresses.add(address)
                    return None
                self.answered(new)
                await trio.sleep(LINGER)
                if peer.key not in self._peers and not peer.is_dropped and not peer.has_no_use:
                    heir, new = new, None
                    return heir
            except DialError as error:
                logger.debug("%s: nobody answers at %s: %s", self._torrent.name, address, error)
            finally:
                if new is not None:
                    new.stream.close()
        return None
