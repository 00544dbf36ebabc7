"""Holepunching in one torrent (BEP 55): reaches peers behind routers with the help of a relay, is
the relay of others, and the target of others still.

The rule: nobody is sent to for a relay's word but as `peer.rendezvous` allows, and over uTP alone,
with nothing but a SYN until there is an answer.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import trio

from dht_torrent.engine.chores import Chores
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.dialling import DialError, Dialled, dial
from dht_torrent.engine.torrent.handshake import NewConnection
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.racing import first_of
from dht_torrent.ids import Address, PeerId, PeerKey, Transport
from dht_torrent.peer.holepunch import UT_HOLEPUNCH, Holepunch, HolepunchFailure, HolepunchKind
from dht_torrent.peer.rendezvous import Introducers, Party, Relaying, refusal
from dht_torrent.torrent.outlook import Trouble
from dht_torrent.torrent.ways import Ways

logger = logging.getLogger(__name__)

_SENT: Final = 256
"""Addresses remembered that were sent to a moment ago."""


class NotIntroducedError(Exception):
    """No relay has told us that the target knows of us."""


class _Wish:
    """An introduction that one relay was asked for."""

    __slots__ = ("answered", "where")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.where: Address | None = None
        """To connect to; None: it was refused."""


class Punching:
    """Of one torrent."""

    def __init__(
        self,
        torrent: TorrentContext,
        peer_id: PeerId,
        peers: Mapping[PeerKey, Peer],
        chores: Chores,
        *,
        admits: Callable[[], bool],
        adopt: Callable[[NewConnection], Awaitable[None]],
    ) -> None:
        """`peer_id` is ours. `admits`: may connections be made at this stage of the torrent?
        `adopt` goes on with one that was made."""
        self._torrent = torrent
        self._node = torrent.node
        self._config = torrent.node.config.holepunch
        self._peer_id = peer_id
        self._peers = peers
        self._chores = chores
        self._admits = admits
        self._adopt = adopt
        self.introducers = Introducers(self._config)
        self._relaying = Relaying(self._config)
        self._wishes: dict[tuple[PeerKey, Address], _Wish] = {}
        self._sent: OrderedDict[Address, float] = OrderedDict()
        self._counted: set[Address] = set()  # of those, the ones that were reached
        self._under_way = 0

    # -- what peers say -------------------------------------------------------------------------

    def heard(self, peer: Peer, message: Holepunch, now: float) -> None:
        """A message from a peer that speaks ut_holepunch."""
        if message.kind is HolepunchKind.RENDEZVOUS:
            self._introduce(peer, message.address, now)
        elif message.kind is HolepunchKind.CONNECT:
            self._connect_to(peer, message.address, now)
        else:
            self.introducers.withdrew(peer.key, [message.address])
            wish = self._wishes.get((peer.key, message.address))
            if wish is not None:
                wish.answered.set()

    def closed(self, peer: Peer) -> None:
        """The connection of a peer that speaks it has ended."""
        self.introducers.gone(peer.key)
        for (relay, _), wish in self._wishes.items():
            if relay == peer.key:
                wish.answered.set()

    def was_punched(self, new: NewConnection, now: float) -> bool:
        """Whether this connection came of our sending to its address for a relay's word. Both sides
        may dial, so there may be two of them; they count as one."""
        address = new.stream.remote
        if new.stream.transport is not Transport.UTP or not self._is_recent(address, now):
            return False
        if address not in self._counted:
            self._counted.add(address)
            self._node.punches.reached += 1
        return True

    def _is_recent(self, address: Address, now: float) -> bool:
        """Something was sent there a moment ago."""
        patience = self._config.window + self._node.config.peer.handshake_timeout
        return now - self._sent.get(address, float("-inf")) <= patience

    # -- as a relay -----------------------------------------------------------------------------

    def _introduce(self, asker: Peer, wanted: Address, now: float) -> None:
        if not self._relaying.hears(asker.key, now):
            return
        target = self._find(wanted)
        failure = refusal(
            _party(asker),
            wanted,
            _party(target) if target is not None else None,
            is_ours=self._is_ours(wanted),
        )
        if failure is not HolepunchFailure.NONE:
            asker.tell(Holepunch(HolepunchKind.ERROR, wanted, failure))
            return
        assert target is not None  # or it would have been refused
        here, there = udp_address(asker), udp_address(target)
        assert here is not None
        assert there is not None
        if self._relaying.introduces(asker.key, target.key, now):
            self._node.punches.introduced += 1
            target.tell(Holepunch(HolepunchKind.CONNECT, here))
            asker.tell(Holepunch(HolepunchKind.CONNECT, there))

    def _find(self, wanted: Address) -> Peer | None:
        """Who is connected and known at this address: where it was seen rather than where it says
        that it is."""
        living = [peer for peer in self._peers.values() if not peer.is_dropped]
        for peer in living:
            if udp_address(peer) == wanted:
                return peer
        for peer in living:
            if wanted in (peer.address, peer.listens_at, peer.claims):
                return peer
        return None

    def _is_ours(self, address: Address) -> bool:
        dht = self._node.dht
        ours = (*dht.seen_at, *(one.address for one in dht))
        return address in ours or address in self._node.own_addresses

    # -- as a target ----------------------------------------------------------------------------

    def _connect_to(self, relay: Peer, address: Address, now: float) -> None:
        for (key, wanted), wish in self._wishes.items():
            # The relay may know better at which port the host is.
            if key == relay.key and wanted.host == address.host and not wish.answered.is_set():
                wish.where = address
                wish.answered.set()
                return
        if (
            not self._admits()
            or self._is_connected(address)
            or self._is_ours(address)
            or self._node.filtering.forbids(address)
            or self._under_way >= self._config.max_at_once
            or not self._may_send(relay, address, now)
        ):
            return
        if self._chores.begin(self._answer, address):
            self._under_way += 1

    def _is_connected(self, address: Address) -> bool:
        return any(
            address in (peer.address, peer.listens_at)
            for peer in self._peers.values()
            if not peer.is_dropped
        )

    def _may_send(self, relay: Peer, address: Address, now: float) -> bool:
        return self._node.trust_in_relays.allows(relay.key, relay.address, address, now)

    async def _answer(self, address: Address) -> None:
        """Connect where a relay says that somebody tries to reach us."""
        dialled: Dialled | None = None
        with self._node.faults.confined(f"connecting to {address} for a relay"):
            try:
                async with self._node.dialing():
                    dialled = await self._punch(address, Ways())
            except DialError as error:
                logger.debug("%s: punched %s in vain: %s", self._torrent.name, address, error)
            finally:
                self._under_way -= 1
        if dialled is not None:
            await self._adopt(dialled.new)

    # -- as the one who wants to connect --------------------------------------------------------

    async def dial(self, address: Address, known: Ways) -> Dialled:
        """As `dialling.dial`; where the peer does not answer soon, and others can introduce us to
        it, with their help as well. Raises DialError: why the plain way failed."""
        plain = partial(dial, self._torrent, address, self._peer_id, known)
        if not self._relays(address):
            return await plain()
        found = await first_of(
            [plain, partial(self._introduced, address, known)],
            self._config.patience,
            lambda dialled: dialled.new.stream.close(),
            DialError,
        )
        if isinstance(found, list):
            raise found[0]
        return found

    async def _introduced(self, address: Address, known: Ways) -> Dialled:
        """Through one of those who can introduce us. Raises DialError."""
        for relay in self._relays(address)[: self._config.max_relays]:
            where = await self._ask(relay, address)
            if where is not None and self._may_send(relay, where, trio.current_time()):
                return await self._punch(where, known)
        raise DialError(NotIntroducedError(str(address)), Trouble.TIMED_OUT, None)

    def _relays(self, address: Address) -> list[Peer]:
        """Those who can introduce us, those first who see where our uTP comes from."""
        if not self._node.utp.reach(address):
            return []
        named = (self._peers.get(key) for key in self.introducers.of(address))
        relays = [peer for peer in named if peer is not None and not peer.is_dropped]
        return sorted(relays, key=lambda peer: peer.stream.transport is not Transport.UTP)

    async def _ask(self, relay: Peer, address: Address) -> Address | None:
        """Where to connect to; None if it does not introduce us."""
        key = (relay.key, address)
        if relay.is_dropped or key in self._wishes:
            return None
        wish = self._wishes[key] = _Wish()
        try:
            relay.tell(Holepunch(HolepunchKind.RENDEZVOUS, address))
            with trio.move_on_after(self._config.relay_timeout):
                await wish.answered.wait()
        finally:
            del self._wishes[key]
        return wish.where

    # -- both -----------------------------------------------------------------------------------

    async def _punch(self, address: Address, known: Ways) -> Dialled:
        """The other side does the same now. Raises DialError."""
        now = trio.current_time()
        if not self._is_recent(address, now):
            self._node.punches.tried += 1
            self._counted.discard(address)
        self._sent[address] = now
        self._sent.move_to_end(address)
        if len(self._sent) > _SENT:
            self._counted.discard(self._sent.popitem(last=False)[0])
        return await dial(self._torrent, address, self._peer_id, known, only=Transport.UTP)


def udp_address(peer: Peer) -> Address | None:
    """Where a peer sends and receives uTP: where we see that, or else where it says it listens, as
    many routers keep ports as they are. Its host is seen in any case."""
    if peer.stream.transport is Transport.UTP:
        return peer.address
    return peer.listens_at or peer.claims


def _party(peer: Peer) -> Party:
    return Party(peer.key, udp_address(peer), peer.connection.supports(UT_HOLEPUNCH))
