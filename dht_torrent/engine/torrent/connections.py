"""Who is connected to one torrent, and how they come: found, dialled, or arriving.

Addresses that fail, lie or are ourselves are not dialled again; that is the candidates' decision.
Whether a peer that has said who it is may stay is `admission`'s. This module waits for the network.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import trio

from dht_torrent.engine.chores import Chores
from dht_torrent.engine.filtering import CLOSED
from dht_torrent.engine.net.changes import Change
from dht_torrent.engine.time_limit import TimeLimit
from dht_torrent.engine.torrent.admission import CONNECTED, OURSELVES, Admission
from dht_torrent.engine.torrent.confirming import Confirming
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.dialling import DialError, Dialled
from dht_torrent.engine.torrent.handshake import NewConnection
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.peer_loops import run_peer
from dht_torrent.engine.torrent.punching import Punching
from dht_torrent.engine.torrent.reader import WENT_SILENT
from dht_torrent.engine.torrent.referring import Referring
from dht_torrent.engine.torrent.room import ENOUGH_CONNECTIONS, ENOUGH_PEERS, TorrentRoom
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.engine.weak import weakly
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address, PeerKey, Transport
from dht_torrent.peer.connection import Event
from dht_torrent.peer.identity import make_peer_id
from dht_torrent.torrent.candidates import LASTING, USELESS_PAUSE, Candidates
from dht_torrent.torrent.outlook import Trouble
from dht_torrent.trace import PeerConnected, PeerDropped

logger = logging.getLogger(__name__)

INCOMING_QUEUE = 16
"""Connections waiting to be taken in. When full, the newest is closed; it may return."""
LOOK_FOR_ROOM = 10.0
"""Seconds between two looks for a free connection while there is none."""
LOST_WITHIN = 30.0
"""Seconds after the network is back in which a connection from before that ends was lost with it.
"""
MAX_MISMATCHED = 1000
"""Peers with wrong metadata that are counted."""
NEVER = float("-inf")


class PeerHandler(Protocol):
    """A stage of a torrent, and what it does with connections."""

    @property
    def admits(self) -> bool:
        """May connections be made at this stage?"""

    @property
    def complete(self) -> bool:
        """Neither the metadata nor a piece that is wanted is missing."""

    def opened(self, peer: Peer, now: float) -> None:
        """Say who we are. Raises PeerProtocolError."""

    def on_events(self, peer: Peer, events: Sequence[Event], now: float) -> None:
        """A batch of messages. Raises PeerProtocolError when the peer broke a rule."""

    def closed(self, peer: Peer, now: float) -> None:
        """The connection has ended; `peer` is among the others no longer."""


class Connections:
    """The connections of one torrent. `peers` is keyed by connection, in order of arrival."""

    def __init__(self, torrent: TorrentContext) -> None:
        node = torrent.node
        self.handler: PeerHandler | None = None
        """The stage the torrent is in; set it before `run`, and whenever it changes."""
        self.peers: dict[PeerKey, Peer] = {}
        self.candidates = Candidates(node.config.torrent, node.rng)
        self.limits = node.limits.torrent()
        self.chores = Chores()
        """What there is to do with the connections; it ends with them."""
        self.downloaded = 0
        """Payload bytes of connections that have ended."""
        self.uploaded = 0
        self.lonely = AutoResetEvent()
        """Set when the last peer leaves."""
        self._torrent = torrent
        self._node = node
        self._info_hash = torrent.info_hash
        self.peer_id = make_peer_id(node.rng)
        """Ours. Another one for each torrent, so that they cannot be told to be of one node."""
        self._dialing = 0
        self.mismatched: dict[str, None] = {}
        """Who sent metadata that does not match: addresses, or what was known of them."""
        self._room = TorrentRoom(node.room, self.peers, self.limits, weakly(self._is_needy))
        self._admission = Admission(
            torrent,
            self.peer_id,
            self.peers,
            self.candidates,
            self._room,
            admits=weakly(self._may_admit),
        )
        self.confirming = Confirming(
            torrent,
            self.peer_id,
            self.peers,
            self.candidates,
            self.chores,
            adopt=weakly(self._adopt),
        )
        self.punching = Punching(
            torrent,
            self.peer_id,
            self.peers,
            self.chores,
            admits=weakly(self._may_admit),
            adopt=weakly(self._adopt_punched),
        )
        self._referring = Referring(torrent, self.peers)
        self._woken = AutoResetEvent()
        self._renewed_at = NEVER
        self._arrivals: list[NewConnection] = []
        """Incoming connections that have not been taken in yet."""

    def found(self, addresses: Sequence[Address], source: str) -> None:
        """New addresses to dial. Of forbidden ones only those that the user named are kept: it is
        told why they are not dialled."""
        now, filtering = trio.current_time(), self._node.filtering
        for address in addresses:
            if address in self._node.own_addresses:
                continue
            if source in LASTING or not filtering.forbids(address):
                self.candidates.add(address, source, now)
        self.wake()

    def enforce(self) -> None:
        """The IP filter has changed: those whom it forbids now are disconnected."""
        filtering = self._node.filtering
        for peer in self.peers.values():
            if filtering.forbids(peer.address):
                filtering.blocked[CLOSED] += 1
                peer.drop("the IP filter forbids it")

    def network_changed(self, change: Change, now: float) -> None:
        """Close the connections that are lost, and see whether the others are; dial again without
        pause."""
        for peer in list(self.peers.values()):
            if peer.stream.local.host in change.gone:
                peer.drop("our address is another")
            elif change.renew is not None:
                peer.probe(now)
        if change.renew is not None:
            self._renewed_at = now
            self.candidates.forgive(now)
            self.wake()

    def dial_again(self, now: float) -> None:
        """The network was back a moment ago: try again those who were connected before."""
        self.candidates.forgive(now, worked=True)
        self.wake()

    def wake(self) -> None:
        """Something changed that may allow another connection."""
        self._woken.set()
        self.chores.call(self._dial_all)

    @property
    def admits(self) -> bool:
        """May connections be made now?"""
        return self.handler is not None and self.handler.admits

    @property
    def complete(self) -> bool:
        """Is all here that is wanted? False as well while that is not known."""
        return self.handler is not None and self.handler.complete

    def welcome(self, new: NewConnection) -> bool:
        """An incoming connection for this torrent. False when it cannot be taken in."""
        if not self.admits or len(self._arrivals) >= INCOMING_QUEUE:
            return False
        if not self.chores.begin(self._answer_next):
            return False
        self._arrivals.append(new)
        return True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Dial and take in until cancelled; then every connection is closed, and there is no
        handler any more."""
        number = self._node.peer_key()
        self._node.room.torrents[number] = self._room
        try:
            await self.chores.run(self._dial_all, task_status=task_status)
        finally:
            del self._node.room.torrents[number]
            self.handler = None
            self.confirming.clear()

    def mismatch(self, peer: Peer) -> None:
        """What it sent as metadata is not that of this torrent."""
        if len(self.mismatched) < MAX_MISMATCHED:
            self.mismatched[str(peer.listens_at or peer.address.place)] = None
        peer.drop("sent metadata with a wrong hash")

    def _may_admit(self) -> bool:
        return self.admits

    def _is_needy(self) -> bool:
        return self.admits and not self.complete

    # -- outgoing -------------------------------------------------------------------------------

    async def _dial_all(self) -> None:
        """All who are due, and those who will be, while there are any."""
        node, limits = self._node, self._node.config.torrent
        while True:
            now = trio.current_time()
            due = self.candidates.next_time(now)
            room = (
                self.admits
                and self._dialing < limits.max_dialing
                and (due is None or due > now or self._room.may_dial(self._dialing, now))
            )
            address = self.candidates.take(now, node.dht.seen_at) if room else None
            if address is None:
                if due is None and room:
                    return
                # Neither room that another torrent leaves nor that somebody has become useless is
                # announced to this one: look again.
                due = due if room else now + LOOK_FOR_ROOM
                with trio.CancelScope(deadline=due if due is not None else float("inf")):
                    await self._woken.wait()
            elif address in node.own_addresses:
                self.candidates.is_ourselves(address)
            else:
                if not self.chores.begin(self._dial, address):
                    self.candidates.interrupted(address)  # or nobody would dial it again
                    return
                self._dialing += 1
                await node.pace_dial()

    async def _dial(self, address: Address) -> None:
        node = self._node
        dialled: Dialled | None = None

        def failed(
            why: str, trouble: Trouble = Trouble.OTHER, over: Transport | None = None
        ) -> None:
            now = trio.current_time()
            if trouble is Trouble.NO_PROXY:  # which is not the peer's fault
                self.candidates.held_up(address, now + node.config.proxy_limits.held_up, trouble)
            else:
                self.candidates.failed(address, now, trouble, over)
            logger.debug("%s: dialled %s in vain: %s", self._torrent.name, address, why)

        with node.faults.confined(f"dialling {address}", ends=failed):
            try:
                async with node.dialing():
                    known = self.candidates.ways(address)
                    dialled = await self.punching.dial(address, known)
            except DialError as error:
                failed(str(error), error.trouble, error.over)
            except trio.Cancelled:
                self.candidates.interrupted(address)  # or nobody would dial it again
                raise
            finally:
                self._dialing -= 1
                self.wake()
        if dialled is not None:
            over = dialled.new.stream.transport
            self.candidates.answered(address, encrypted=dialled.encrypted, over=over)
            if dialled.new.stream.remote != address:  # a relay knew better
                self.candidates.is_another(address, trio.current_time())
            source = self.candidates.source(address) or "dht"
            await self._exchange(dialled.new, source, incoming=False)

    async def _adopt(self, new: NewConnection) -> None:
        """Go on with a connection that we made."""
        source = self.candidates.source(new.stream.remote) or "dht"
        await self._exchange(new, source, incoming=False)

    async def _adopt_punched(self, new: NewConnection) -> None:
        """The same, for a relay."""
        source = self.candidates.source(new.stream.remote) or "holepunch"
        await self._exchange(new, source, incoming=False)

    # -- incoming -------------------------------------------------------------------------------

    async def _answer_next(self) -> None:
        await self._answer(self._arrivals.pop(0))

    async def _answer(self, new: NewConnection) -> None:
        node, answered = self._node, False
        with node.faults.confined(f"answering {new.stream.remote}"):
            try:
                hello = new.connection.send_handshake(self._info_hash, self.peer_id)
                with TimeLimit(node.config.peer.handshake_timeout):
                    await new.stream.send(hello)
                answered = True
            except (OSError, trio.TooSlowError, trio.ClosedResourceError):
                pass
            finally:
                if not answered:
                    new.stream.close()
        if answered:
            await self._exchange(new, "incoming", incoming=True)

    # -- both -----------------------------------------------------------------------------------

    async def _exchange(self, new: NewConnection, source: str, *, incoming: bool) -> None:
        node, address = self._node, new.stream.remote
        peer: Peer | None = None

        def ended(why: str) -> None:
            if peer is not None:
                peer.drop(why)
            elif not incoming:
                self.candidates.disconnected(address, trio.current_time())

        try:
            with node.faults.confined(f"the connection to {address}", ends=ended):
                if not await self._is_wanted(new, incoming=incoming):
                    return
                now = trio.current_time()
                peer = Peer(
                    node.peer_key(),
                    new,
                    node.config.peer,
                    now,
                    source=source,
                    incoming=incoming,
                    punched=self.punching.was_punched(new, now),
                )
                self.peers[peer.key] = peer
                self.candidates.arrived(address)
                node.room.opened(peer.key, dialled=not incoming)
                if not incoming:
                    self.candidates.connected(address, now)
                node.trace(PeerConnected(self._info_hash, address, incoming))
                with their_fault(peer):
                    self._stage().opened(peer, now)
                    self._on_events(peer, peer.connection.receive(b""), now)
                await run_peer(
                    peer,
                    node.config.peer,
                    self.limits,
                    node.buffer,
                    node.send_buffers,
                    self._on_events,
                )
        finally:
            new.stream.close()
            # Outside: a connection whose end cannot be accounted for takes its torrent with it.
            if peer is not None:
                self._ended(peer)

    def _stage(self) -> PeerHandler:
        assert self.handler is not None  # as long as there are connections
        return self.handler

    def _on_events(self, peer: Peer, events: Sequence[Event], now: float) -> None:
        self._stage().on_events(peer, events, now)

    async def _is_wanted(self, new: NewConnection, *, incoming: bool) -> bool:
        refusal = await self._admission.refusal(new, incoming=incoming)
        if refusal is None:
            return True
        address = new.stream.remote
        if incoming and refusal in (ENOUGH_PEERS, ENOUGH_CONNECTIONS):
            await self._referring.refer(new)
        new.stream.close()
        if not incoming:
            if refusal == OURSELVES:
                self.candidates.is_ourselves(address)
            elif refusal == CONNECTED:
                self.candidates.is_another(address, trio.current_time())
                self.confirming.answered(new)
            else:
                self.candidates.disconnected(address, trio.current_time())
        logger.debug("%s: refused %s: %s", self._torrent.name, address, refusal)
        return False

    def _ended(self, peer: Peer) -> None:
        now = trio.current_time()
        self.peers.pop(peer.key, None)
        self._node.room.closed(peer.key)
        peer.liveness.answered()
        self.downloaded += peer.downloaded
        self.uploaded += peer.uploaded
        try:
            self._stage().closed(peer, now)
        finally:
            self._parted(peer, now)

    def _parted(self, peer: Peer, now: float) -> None:
        self.candidates.departed(peer.address)
        # When it is we who stop, all are dialled at once on going on. So are those that were lost,
        # with the network or by a router that forgot the connection.
        parted = peer.has_no_use or peer.yields
        moved = max(peer.gave_at, peer.took_at) > NEVER
        was_lost = peer.connected_at < self._renewed_at and now - self._renewed_at < LOST_WITHIN
        was_lost = was_lost or (peer.why == WENT_SILENT and moved)
        we_stop = trio.current_effective_deadline() == NEVER or was_lost
        useful = moved or now - peer.connected_at >= USELESS_PAUSE
        if peer.listens_at is not None:
            if parted:
                self.candidates.parted(peer.listens_at, now)
            elif we_stop:
                self.candidates.interrupted(peer.listens_at)
            else:
                self.candidates.disconnected(peer.listens_at, now, useful=useful)
        if peer.claims is not None:
            then = NEVER if we_stop else now
            self.candidates.released(peer.claims, then, parted=parted, useful=useful)
            if was_lost:
                self.candidates.lost(peer.claims, now)
        if peer.gave_at > NEVER and not parted and not self.complete:
            for address in (peer.listens_at, peer.claims):
                if address is not None:
                    self.candidates.missed(address, now)
        if not self.peers:
            self.lonely.set()
        self.wake()
        self._node.trace(PeerDropped(self._info_hash, peer.address, peer.why))
        logger.debug("%s: %s left: %s", self._torrent.name, peer.address, peer.why)


@contextmanager
def their_fault(peer: Peer) -> Iterator[None]:
    """A rule the peer broke outside its own reader ends that peer and nobody else."""
    try:
        yield
    except PeerProtocolError as error:
        peer.drop(str(error))
