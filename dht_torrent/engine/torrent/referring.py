"""A newcomer that there is no room for is told of others (BEP 11) before it is sent away: it may
know nobody else, and come back in vain for as long as this torrent is full.

The rule: it takes nobody's place, and gets nothing but one message, within seconds. There are few
such guests at a time; further ones are sent away at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from dht_torrent.engine.net.protocols import Encryption
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.handshake import NewConnection
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.punching import udp_address
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address, PeerKey, Transport
from dht_torrent.peer.extensions import OUR_IDS, ExtensionHandshake
from dht_torrent.peer.holepunch import UT_HOLEPUNCH
from dht_torrent.peer.messages import HaveNone
from dht_torrent.peer.pex import UT_PEX, PexFlags, PexTelling

MAX_GUESTS = 16
"""Of all torrents together. A public host is one guest."""
TIME = 5.0
"""Seconds in which a guest has to say that it speaks ut_pex."""
MAX_HEARD = 64 * 1024
"""Bytes a guest may say until then. A bitfield may come first: a long one is not worth reading."""
LINGER = 1.0
"""Seconds from our message until we hang up. Whoever closes with something unread takes back what
was sent, and a guest does not stop talking."""


def reached(peers: Mapping[PeerKey, Peer], *, relays: bool) -> dict[Address, PexFlags]:
    """Those that answered where they listen, when they were dialled. `relays`: we introduce peers
    to each other."""
    return {
        peer.listens_at: _flags(peer, relays=relays)
        for peer in peers.values()
        if peer.listens_at is not None and not peer.punched and not peer.is_dropped
    }


def punchable(peers: Mapping[PeerKey, Peer]) -> dict[Address, PexFlags]:
    """The others that we can introduce: of use to those who speak ut_holepunch, and to nobody
    else."""
    found: dict[Address, PexFlags] = {}
    for peer in peers.values():
        is_other = peer.listens_at is None or peer.punched
        if is_other and not peer.is_dropped and peer.connection.supports(UT_HOLEPUNCH):
            address = udp_address(peer)
            if address is not None:
                found[address] = _flags(peer, relays=True)
    return found


def _flags(peer: Peer, *, relays: bool) -> PexFlags:
    flags = PexFlags.REACHABLE if peer.is_proven else PexFlags(0)
    if relays and peer.connection.supports(UT_HOLEPUNCH):
        flags |= PexFlags.HOLEPUNCH
    if peer.is_seed:
        flags |= PexFlags.SEED
    if peer.prefers_encryption or peer.stream.encryption in (Encryption.MSE, Encryption.RC4):
        flags |= PexFlags.PREFERS_ENCRYPTION
    if peer.stream.transport is Transport.UTP:
        flags |= PexFlags.UTP
    return flags


class Referring:
    """The guests of one torrent."""

    def __init__(self, torrent: TorrentContext, peers: Mapping[PeerKey, Peer]) -> None:
        self._torrent = torrent
        self._peers = peers

    async def refer(self, new: NewConnection) -> None:
        """Tell it of those we reached, if it wants to hear that. The caller hangs up."""
        address, guests = new.stream.remote, self._torrent.node.room.guests
        guest = str(address) if address.is_local else address.place
        if not self._may_tell(new) or guest in guests or len(guests) >= MAX_GUESTS:
            return
        guests.add(guest)
        try:
            await self._tell(new)
        except (OSError, PeerProtocolError, trio.ClosedResourceError):
            pass  # it has gone, or talks nonsense
        finally:
            guests.discard(guest)

    def _may_tell(self, new: NewConnection) -> bool:
        torrent = self._torrent
        return (
            torrent.node.config.pex
            and torrent.metainfo is not None  # or it may turn out to be private
            and not torrent.is_private
            and not torrent.is_among_strangers
            and new.connection.extended
            and bool(self._reached())
        )

    async def _tell(self, new: NewConnection) -> None:
        stream, connection = new.stream, new.connection
        buffer = memoryview(bytearray(4096))
        with trio.move_on_after(TIME) as patience:
            await stream.send(*self._greeting(new))
            port = await _their_port(new, buffer)
        if patience.cancelled_caught or not connection.supports(UT_PEX):
            return
        but = {stream.remote, Address(stream.remote.host, port or 0)}
        now = trio.current_time()
        news = PexTelling(stream.remote).next(self._reached(), now, but=but)
        if news is None:
            return
        with trio.move_on_after(LINGER):
            await stream.send(connection.send(news))
            while await stream.receive_into(buffer):
                pass

    def _reached(self) -> dict[Address, PexFlags]:
        return reached(self._peers, relays=self._torrent.relays)

    def _greeting(self, new: NewConnection) -> list[bytes]:
        torrent, connection, remote = self._torrent, new.connection, new.stream.remote
        handshake = ExtensionHandshake(
            extensions={UT_PEX: OUR_IDS[UT_PEX]},
            client=torrent.node.client,
            port=torrent.port(remote),
            your_ip=remote.host,
            prefers_encryption=torrent.prefers_mse,
        )
        first = [connection.send(HaveNone())] if connection.fast else []
        return [*first, connection.send(handshake)]


async def _their_port(new: NewConnection, buffer: memoryview) -> int | None:
    """Listen until its extension handshake came, or too much else. Returns where it says that it
    listens."""
    heard, size = 0, 0
    while heard <= MAX_HEARD:
        for event in new.connection.receive(buffer[:size]):
            if isinstance(event, ExtensionHandshake):
                return event.port
        size = await new.stream.receive_into(buffer)
        if not size:
            break
        heard += size
    return None
