"""Who is connected to one torrent, and how they come: found, dialled, or arriving.

One connection per peer. Addresses that fail, lie or are ourselves are not dialled again; all that
is the candidates' decision, this module waits for the network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import trio

from dht_torrent.engine.net.protocols import Stream
from dht_torrent.engine.torrent.context import Host
from dht_torrent.engine.torrent.handshake import ClosedEarlyError, Greeted, greet
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.room import TorrentRoom
from dht_torrent.engine.weak import weakly
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address, InfoHash
from dht_torrent.peer.connection import Event
from dht_torrent.peer.identity import client_name, make_peer_id
from dht_torrent.torrent.candidates import USELESS_PAUSE, Candidates, Trouble
from dht_torrent.torrent.duplicates import Claim, Duplicates, Verdict
from dht_torrent.trace import PeerConnected, PeerDropped

logger = logging.getLogger(__name__)

INCOMING_QUEUE = 16
"""Greeted connections waiting to be taken in. When full, the newest is closed; it may return."""
LOOK_FOR_ROOM = 10.0
"""Seconds between two looks for a free connection while there is none."""
SECOND_LOOK = (0.5, 2.0)
"""Seconds, drawn evenly, before a peer connected in the other address family is turned away. Its
side may have taken the very connection we refuse, and refuse the one we took: whoever looks again
first closes, and the other side then has what is left."""
MAX_SECOND_LOOKS = 8
"""Connections waiting for that, or for an older one to answer; further ones are turned away at
once."""
MAX_MISMATCHED = 1000
"""Peers with wrong metadata that are counted."""
GRACE = 0.5
"""Seconds more for a connection that did not answer to end."""
CONNECTED = "connected already"
OURSELVES = "it is ourselves"
NEVER = float("-inf")


Rivals = list[tuple[Peer, Verdict]]


class Exchange(Protocol):
    """What the torrent does with a connection."""

    def admits(self) -> bool:
        """May connections be made at this stage?"""
        ...

    def lacks(self) -> bool:
        """The metadata or a piece that is wanted is missing."""
        ...

    def offers_dht(self) -> bool:
        """False for private torrents (BEP 27)."""
        ...

    def opened(self, peer: Peer, now: float) -> None:
        """Say who we are. Raises PeerProtocolError."""
        ...

    def on_events(self, peer: Peer, events: list[Event], now: float) -> None: ...

    def closed(self, peer: Peer, now: float) -> None: ...


class Crowd:
    """The connections of one torrent. `peers` is keyed by connection, in order of arrival."""

    def __init__(self, host: Host, info_hash: InfoHash, name: Callable[[], str]) -> None:
        self.peers: dict[int, Peer] = {}
        self.candidates = Candidates(host.config.torrent, host.rng)
        self.limits = host.limits.torrent()
        self.downloaded = 0
        """Payload bytes of connections that have ended."""
        self.uploaded = 0
        self.lonely = trio.Event()
        """Set when the last peer leaves; whoever waits for that puts a new one here."""
        self._host = host
        self._info_hash = info_hash
        self._name = name
        self.peer_id = make_peer_id(host.rng)
        """Ours. Another one for each torrent, so that they cannot be told to be of one node."""
        self._duplicates = Duplicates(self.peer_id, host.config.peer)
        self._dialing = 0
        self._waiting = 0
        self.mismatched: dict[str, None] = {}
        """Who sent metadata that does not match: addresses, or what was known of them."""
        self._exchange_with: Exchange | None = None
        self._room = TorrentRoom(host.room, self.peers, self.limits, weakly(self._is_needy))
        self._woken = trio.Event()
        self._arrivals: trio.MemorySendChannel[Greeted] | None = None
        """Where incoming connections go while `run` is there to take them in."""

    def found(self, addresses: Sequence[Address], source: str) -> None:
        """New addresses to dial."""
        now = trio.current_time()
        for address in addresses:
            if address not in self._host.own_addresses:
                self.candidates.add(address, source, now)
        self.wake()

    def wake(self) -> None:
        """Something changed that may allow another connection."""
        self._woken.set()

    def welcome(self, greeted: Greeted) -> bool:
        """An incoming connection for this torrent. False when it cannot be taken in."""
        if self._arrivals is None:
            return False
        try:
            self._arrivals.send_nowait(greeted)
        except trio.WouldBlock:
            return False
        return True

    async def run(self, exchange: Exchange) -> None:
        """Dial and take in until cancelled; then every connection is closed."""
        self._arrivals, incoming = trio.open_memory_channel[Greeted](INCOMING_QUEUE)
        self._exchange_with = exchange
        number = self._host.peer_key()
        self._host.room.torrents[number] = self._room
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._dial_all, exchange, nursery)
                async for greeted in incoming:
                    nursery.start_soon(self._answer, greeted, exchange)
                    del greeted  # or this frame would hold it until the next comes
        finally:
            del self._host.room.torrents[number]
            self._exchange_with = None
            self._arrivals.close()
            self._arrivals = None
            _turn_away(incoming)

    def mismatch(self, peer: Peer) -> None:
        """What it sent as metadata is not that of this torrent."""
        if len(self.mismatched) < MAX_MISMATCHED:
            self.mismatched[str(peer.listens_at or peer.address.place)] = None
        peer.drop("sent metadata with a wrong hash")

    def _is_needy(self) -> bool:
        exchange = self._exchange_with
        return exchange is not None and exchange.admits() and exchange.lacks()

    # -- outgoing -------------------------------------------------------------------------------

    async def _dial_all(self, exchange: Exchange, nursery: trio.Nursery) -> None:
        host, limits = self._host, self._host.config.torrent
        while True:
            now = trio.current_time()
            due = self.candidates.next_time(now)
            room = (
                exchange.admits()
                and self._dialing < limits.max_dialing
                and (due is None or due > now or self._room.may_dial(self._dialing, now))
            )
            address = self.candidates.take(now) if room else None
            if address is None:
                self._woken = trio.Event()
                # Neither room that another torrent leaves nor that somebody has become useless is
                # announced to this one: look again.
                due = due if room else now + LOOK_FOR_ROOM
                with trio.CancelScope(deadline=due if due is not None else float("inf")):
                    await self._woken.wait()
            elif address in host.own_addresses:
                self.candidates.is_ourselves(address)
            else:
                self._dialing += 1
                nursery.start_soon(self._dial, address, exchange)
                await host.pace_dial()

    async def _dial(self, address: Address, exchange: Exchange) -> None:
        config, host = self._host.config.peer, self._host
        stream: Stream | None = None
        greeted: Greeted | None = None

        def failed(why: str, trouble: Trouble = Trouble.OTHER) -> None:
            self.candidates.failed(address, trio.current_time(), trouble)
            logger.debug("%s: dialled %s in vain: %s", self._name(), address, why)

        with host.faults.confined(f"dialling {address}", ends=failed):
            try:
                async with host.dialing():
                    with trio.fail_after(config.connect_timeout):
                        stream = await host.network.connect(address)
                    with trio.fail_after(config.handshake_timeout):
                        greeted = await greet(
                            stream, self._info_hash, self.peer_id, config, dht=exchange.offers_dht()
                        )
            except (OSError, PeerProtocolError, trio.TooSlowError, trio.ClosedResourceError) as err:
                failed(repr(err), _trouble(err, reached=stream is not None))
            except trio.Cancelled:
                self.candidates.interrupted(address)  # or nobody would dial it again
                raise
            finally:
                self._dialing -= 1
                self.wake()
                if greeted is None and stream is not None:
                    stream.close()
        if greeted is not None:
            source = self.candidates.source(address) or "dht"
            await self._exchange(greeted, exchange, source, incoming=False)

    # -- incoming -------------------------------------------------------------------------------

    async def _answer(self, greeted: Greeted, exchange: Exchange) -> None:
        host, answered = self._host, False
        with host.faults.confined(f"answering {greeted.stream.remote}"):
            try:
                hello = greeted.connection.send_handshake(self._info_hash, self.peer_id)
                with trio.fail_after(host.config.peer.handshake_timeout):
                    await greeted.stream.send(hello)
                answered = True
            except (OSError, trio.TooSlowError, trio.ClosedResourceError):
                pass
            finally:
                if not answered:
                    greeted.stream.close()
        if answered:
            await self._exchange(greeted, exchange, "incoming", incoming=True)

    # -- both -----------------------------------------------------------------------------------

    async def _exchange(
        self, greeted: Greeted, exchange: Exchange, source: str, *, incoming: bool
    ) -> None:
        host, address = self._host, greeted.stream.remote
        peer: Peer | None = None

        def ended(why: str) -> None:
            if peer is not None:
                peer.drop(why)
            elif not incoming:
                self.candidates.disconnected(address, trio.current_time())

        try:
            with host.faults.confined(f"the connection to {address}", ends=ended):
                if not await self._is_wanted(greeted, exchange, incoming=incoming):
                    return
                now = trio.current_time()
                peer = Peer(
                    host.peer_key(),
                    greeted,
                    host.config.peer,
                    now,
                    source=source,
                    incoming=incoming,
                    limits=self.limits,
                    buffers=host.send_buffers,
                )
                self.peers[peer.key] = peer
                self.candidates.arrived(address)
                host.room.opened(peer.key, dialled=not incoming)
                peer.client = client_name(peer.peer_id, None)
                if not incoming:
                    self.candidates.connected(address, now)
                host.trace(PeerConnected(self._info_hash, address, incoming))
                with their_fault(peer):
                    exchange.opened(peer, now)
                    exchange.on_events(peer, peer.connection.receive(b""), now)
                await peer.run(host.buffer, exchange.on_events)
        finally:
            greeted.stream.close()
            # Outside: a connection whose end cannot be accounted for takes its torrent with it.
            if peer is not None:
                self._ended(peer, exchange)

    async def _is_wanted(self, greeted: Greeted, exchange: Exchange, *, incoming: bool) -> bool:
        address, now = greeted.stream.remote, trio.current_time()
        refusal = self._refusal(greeted, exchange, incoming=incoming, now=now)
        rivals: Rivals = []
        if refusal is None:
            rivals = self._rivals(greeted, incoming=incoming, now=now)
            if rivals and self._may_wait(rivals):
                await self._wait_for(rivals, greeted)
                now = trio.current_time()
                refusal = self._refusal(greeted, exchange, incoming=incoming, now=now)
                rivals = self._rivals(greeted, incoming=incoming, now=now)
        if refusal is None:
            refusal = self._settle(rivals, greeted, incoming=incoming, now=now)
        if refusal is None:
            return True
        greeted.stream.close()
        if not incoming:
            if refusal == OURSELVES:
                self.candidates.is_ourselves(address)
            elif refusal == CONNECTED:
                self.candidates.is_another(address, now)
            else:
                self.candidates.disconnected(address, now)
        logger.debug("%s: refused %s: %s", self._name(), address, refusal)
        return False

    def _refusal(
        self, greeted: Greeted, exchange: Exchange, *, incoming: bool, now: float
    ) -> str | None:
        """Why this connection is not wanted, whoever else is connected; or None."""
        address = greeted.stream.remote
        if greeted.handshake.peer_id == self.peer_id:
            if not incoming:
                self._host.own_addresses.add(address)
            return OURSELVES
        if self.candidates.is_banned(address, now):
            return "banned"
        if self.candidates.is_resting(address, now, incoming=incoming):
            return "its host sent bad data lately"
        if not exchange.admits():
            return "not exchanging now"
        return None

    def _rivals(self, greeted: Greeted, *, incoming: bool, now: float) -> Rivals:
        """Connections beside which this one may not be, and what is to be done about each."""
        newer = _claim(greeted, incoming=incoming)
        rivals: Rivals = []
        for other in self.peers.values():
            if other.is_dropped:
                continue
            older = Claim(other.peer_id, other.address, other.incoming)
            verdict = self._duplicates.settle(
                older, newer, now, age=now - other.connected_at, silence=other.silence(now)
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

    async def _wait_for(self, rivals: Rivals, greeted: Greeted) -> None:
        """Until it has shown whether the older ones are alive."""
        self._waiting += 1
        try:
            for older, verdict in rivals:
                if verdict is Verdict.ASK:
                    is_heir = older.peer_id == greeted.handshake.peer_id
                    with trio.move_on_after(3 * self._host.config.peer.probe_timeout + GRACE):
                        await older.probe(trio.current_time(), urgent=is_heir).wait()
                elif verdict is Verdict.LOOK_AGAIN:
                    await trio.sleep(self._host.rng.uniform(*SECOND_LOOK))
        except trio.Cancelled:
            greeted.stream.close()
            raise
        finally:
            self._waiting -= 1

    def _settle(
        self,
        rivals: Rivals,
        greeted: Greeted,
        *,
        incoming: bool,
        now: float,
    ) -> str | None:
        """Close the older ones that it replaces, or whom it needs the place of. Returns why it is
        refused, or None."""
        if any(verdict is not Verdict.REPLACE for _, verdict in rivals):
            self._duplicates.turned_away(_claim(greeted, incoming=incoming), now)
            return CONNECTED
        for older, _ in rivals:
            older.drop("connected twice")
        return self._room.make(greeted.stream.remote, now, incoming=incoming)

    def _ended(self, peer: Peer, exchange: Exchange) -> None:
        now = trio.current_time()
        self.peers.pop(peer.key, None)
        self._host.room.closed(peer.key)
        peer.answered()
        self.downloaded += peer.downloaded
        self.uploaded += peer.uploaded
        try:
            exchange.closed(peer, now)
        finally:
            self._parted(peer, now)

    def _parted(self, peer: Peer, now: float) -> None:
        self.candidates.departed(peer.address)
        # When it is we who stop, all are dialled at once on going on.
        we_stop = trio.current_effective_deadline() == NEVER
        parted = peer.has_no_use or peer.yields
        moved = max(peer.gave_at, peer.took_at) > NEVER
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
        if not self.peers:
            self.lonely.set()
        self.wake()
        self._host.trace(PeerDropped(self._info_hash, peer.address, peer.why))
        logger.debug("%s: %s left: %s", self._name(), peer.address, peer.why)


def _trouble(error: Exception, *, reached: bool) -> Trouble:
    """What went wrong with dialling; `reached`: there was a connection."""
    if reached:
        if isinstance(error, trio.TooSlowError):
            return Trouble.NO_HANDSHAKE
        if isinstance(error, ClosedEarlyError | OSError):
            return Trouble.CLOSED
        return Trouble.OTHER
    if isinstance(error, trio.TooSlowError | TimeoutError):
        return Trouble.TIMED_OUT
    return Trouble.REFUSED if isinstance(error, ConnectionRefusedError) else Trouble.UNREACHABLE


def _claim(greeted: Greeted, *, incoming: bool) -> Claim:
    return Claim(greeted.handshake.peer_id, greeted.stream.remote, incoming)


def _turn_away(incoming: trio.MemoryReceiveChannel[Greeted]) -> None:
    with incoming:
        while True:
            try:
                incoming.receive_nowait().stream.close()
            except (trio.WouldBlock, trio.EndOfChannel):
                return


@contextmanager
def their_fault(peer: Peer) -> Iterator[None]:
    """A rule the peer broke outside its own reader ends that peer and nobody else."""
    try:
        yield
    except PeerProtocolError as error:
        peer.drop(str(error))
