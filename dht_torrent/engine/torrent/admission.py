"""Whether a connection may be one of a torrent's, once its peer has said who it is.

One connection per peer: what the older ones are is found out before one of two is closed, and a
peer that left without a word does not keep its own heir out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.handshake import NewConnection
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.room import TorrentRoom
from dht_torrent.ids import PeerId, PeerKey
from dht_torrent.torrent.candidates import Candidates
from dht_torrent.torrent.duplicates import Claim, Duplicates, Verdict

SECOND_LOOK = (0.5, 2.0)
"""Seconds, drawn evenly, before a peer connected in the other address family is turned away. Its
side may have taken the very connection we refuse, and refuse the one we took: the side that looks
again first closes, and the other side then has what is left."""
MAX_SECOND_LOOKS = 8
"""Connections waiting for that, or for an older one to answer; further ones are turned away at
once."""
GRACE = 0.5
"""Seconds more for a connection that did not answer to end."""
CONNECTED = "connected already"
OURSELVES = "it is this node itself"

Rivals = list[tuple[Peer, Verdict]]


class Admission:
    """Decides about the new connections of one torrent, and closes older ones for them."""

    def __init__(
        self,
        torrent: TorrentContext,
        peer_id: PeerId,
        peers: Mapping[PeerKey, Peer],
        candidates: Candidates,
        room: TorrentRoom,
        *,
        admits: Callable[[], bool],
    ) -> None:
        """`peer_id` is ours, `peers` are those who are connected. `admits`: may connections be made
        at this stage of the torrent?"""
        self._node = torrent.node
        self._peer_id = peer_id
        self._peers = peers
        self._candidates = candidates
        self._room = room
        self._admits = admits
        self._duplicates = Duplicates(peer_id, torrent.node.config.peer)
        self._waiting = 0

    async def refusal(self, new: NewConnection, *, incoming: bool) -> str | None:
        """Why it is refused, or None. May take a while; when it is None, there is room, and the
        connection must be taken in before the next checkpoint."""
        now = trio.current_time()
        refusal = self._unwanted(new, incoming=incoming, now=now)
        if refusal is not None:
            return refusal
        rivals = self._rivals(new, incoming=incoming, now=now)
        if rivals and self._may_wait(rivals):
            await self._wait_for(rivals, new)
            now = trio.current_time()
            refusal = self._unwanted(new, incoming=incoming, now=now)
            if refusal is not None:
                return refusal
            rivals = self._rivals(new, incoming=incoming, now=now)
        return self._settle(rivals, new, incoming=incoming, now=now)

    def _unwanted(self, new: NewConnection, *, incoming: bool, now: float) -> str | None:
        """Why this connection is not wanted, whoever else is connected; or None."""
        address = new.stream.remote
        if new.handshake.peer_id == self._peer_id:
            if not incoming:
                self._node.own_addresses.add(address)
            return OURSELVES
        if self._node.filtering.forbids(address):
            return "the IP filter forbids it"
        if self._candidates.is_banned(address, now):
            return "banned"
        if self._candidates.is_resting(address, now, incoming=incoming):
            return "its host sent bad data recently"
        if not self._admits():
            return "not exchanging now"
        return None

    def _rivals(self, new: NewConnection, *, incoming: bool, now: float) -> Rivals:
        """Connections beside which this one may not be, and what is to be done about each."""
        newer = _claim(new, incoming=incoming)
        rivals: Rivals = []
        for other in self._peers.values():
            if other.is_dropped:
                continue
            older = Claim(other.peer_id, other.address, other.incoming)
            verdict = self._duplicates.settle(
                older, newer, now, age=now - other.connected_at, silence=other.liveness.silence(now)
            )
            if other.has_no_use and older.peer_id == newer.peer_id:
                verdict = Verdict.REPLACE  # it only waits for the other side to leave
            if verdict is not Verdict.BESIDE:
                rivals.append((other, verdict))
            if verdict is Verdict.REFUSE or older.peer_id == newer.peer_id:
                other.probe(now)  # it may have moved, or been started again: if so, it ends soon
        return rivals

    def _may_wait(self, rivals: Rivals) -> bool:
        """Time may tell whether the older ones are alive, and there are not too many who wait."""
        verdicts = {verdict for _, verdict in rivals}
        return (
            self._waiting < MAX_SECOND_LOOKS
            and Verdict.REFUSE not in verdicts
            and not verdicts.isdisjoint((Verdict.ASK, Verdict.LOOK_AGAIN))
        )

    async def _wait_for(self, rivals: Rivals, new: NewConnection) -> None:
        """Until it has shown whether the older ones are alive."""
        self._waiting += 1
        try:
            for older, verdict in rivals:
                if verdict is Verdict.ASK:
                    is_heir = older.peer_id == new.handshake.peer_id
                    with trio.move_on_after(3 * self._node.config.peer.probe_timeout + GRACE):
                        await older.probe(trio.current_time(), urgent=is_heir).wait()
                elif verdict is Verdict.LOOK_AGAIN:
                    await trio.sleep(self._node.rng.uniform(*SECOND_LOOK))
        except trio.Cancelled:
            new.stream.close()
            raise
        finally:
            self._waiting -= 1

    def _settle(
        self,
        rivals: Rivals,
        new: NewConnection,
        *,
        incoming: bool,
        now: float,
    ) -> str | None:
        """Close the older ones that it replaces, or whom it needs the place of. Returns why it is
        refused, or None."""
        if any(verdict is not Verdict.REPLACE for _, verdict in rivals):
            self._duplicates.turned_away(_claim(new, incoming=incoming), now)
            return CONNECTED
        for older, _ in rivals:
            older.drop("connected twice")
        return self._room.make(new.stream.remote, now, incoming=incoming)


def _claim(new: NewConnection, *, incoming: bool) -> Claim:
    return Claim(new.handshake.peer_id, new.stream.remote, incoming)
