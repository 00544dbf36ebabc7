"""How an address is dialled: over TCP or uTP, encrypted or not, and the other way at once where
the first is not understood. A peer that does not know MSE cannot say so; it hangs up, or waits for
the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from dht_torrent.engine.filtering import ForbiddenError
from dht_torrent.engine.net.encrypted import ClosedEarlyError, MseError
from dht_torrent.engine.net.protocols import Stream
from dht_torrent.engine.net.relayed import ProxyDownError
from dht_torrent.engine.time_limit import TimeLimit
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.handshake import NewConnection, shake_hands
from dht_torrent.engine.torrent.racing import connect
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address, PeerId, Transport
from dht_torrent.torrent.outlook import Trouble
from dht_torrent.torrent.ways import Ways, race


class DialError(Exception):
    """It was in vain. The last way that was tried says why."""

    def __init__(self, cause: Exception, trouble: Trouble, over: Transport | None) -> None:
        super().__init__(repr(cause))
        self.trouble = trouble
        self.over = over
        """What carried the connection, if there was one."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """Both handshakes are done."""

    new: NewConnection
    encrypted: bool
    """The way that worked."""


async def dial(
    torrent: TorrentContext,
    address: Address,
    peer_id: PeerId,
    known: Ways,
    *,
    only: Transport | None = None,
) -> Dialled:
    """Connect to a peer, of whom so much is `known`; `only` over this, at once. Raises
    DialError."""
    mse = torrent.node.mse
    ways = (False,) if torrent.is_ssl else mse.ways(known.encrypted)
    for encrypted in ways[:-1]:
        try:
            return await _dial(torrent, address, peer_id, known, only, encrypted=encrypted)
        except DialError as error:
            if error.trouble is not (Trouble.UNENCRYPTED if encrypted else Trouble.CLOSED):
                raise
            known = known._replace(transport=error.over)
    try:
        return await _dial(torrent, address, peer_id, known, only, encrypted=ways[-1])
    except DialError as error:
        if torrent.is_ssl:
            if error.trouble in (Trouble.CLOSED, Trouble.OTHER):
                error.trouble = Trouble.NO_MEMBER
        elif error.trouble is Trouble.CLOSED and ways == (False,):
            error.trouble = Trouble.MAY_INSIST if mse.accepted else Trouble.ENCRYPTION_OFF
        elif error.trouble is Trouble.UNENCRYPTED and len(ways) > 1:
            error.trouble = Trouble.CLOSED
        raise


async def _dial(
    torrent: TorrentContext,
    address: Address,
    peer_id: PeerId,
    known: Ways,
    only: Transport | None,
    *,
    encrypted: bool,
) -> Dialled:
    node, config = torrent.node, torrent.node.config.peer
    stream: Stream | None = None
    new: NewConnection | None = None
    try:
        with TimeLimit(config.connect_timeout):
            possible = torrent.transports(address) if only is None else (only,)
            stream = await connect(node, address, race(known, possible, config))
        with TimeLimit(config.handshake_timeout):
            stream = await _secured(torrent, stream)
            new = await shake_hands(
                stream,
                torrent.info_hash,
                peer_id,
                config,
                dht=not torrent.is_private,
                mse=node.mse if encrypted else None,
            )
    except (OSError, PeerProtocolError, trio.TooSlowError, trio.ClosedResourceError) as error:
        over = stream.transport if stream is not None else None
        raise DialError(error, _trouble(error, reached=stream is not None), over) from error
    finally:
        if new is None and stream is not None:
            stream.close()
    return Dialled(new, encrypted)


async def _secured(torrent: TorrentContext, stream: Stream) -> Stream:
    """As a member, in an SSL torrent. Raises OSError or PeerProtocolError."""
    if not torrent.is_ssl:
        return stream
    membership = torrent.membership
    assert membership is not None  # or there would be no session
    return await membership.dial(stream)


def _trouble(error: Exception, *, reached: bool) -> Trouble:
    """What went wrong with dialling; `reached`: there was a connection."""
    if reached:
        if isinstance(error, trio.TooSlowError):
            return Trouble.NO_HANDSHAKE
        if isinstance(error, MseError):
            return Trouble.UNENCRYPTED
        if isinstance(error, ClosedEarlyError | OSError):
            return Trouble.CLOSED
        return Trouble.OTHER
    if isinstance(error, ProxyDownError):
        return Trouble.NO_PROXY
    if isinstance(error, ForbiddenError):
        return Trouble.FORBIDDEN
    if isinstance(error, trio.TooSlowError | TimeoutError):
        return Trouble.TIMED_OUT
    return Trouble.REFUSED if isinstance(error, ConnectionRefusedError) else Trouble.UNREACHABLE
