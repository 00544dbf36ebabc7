"""Where a node listens: on one port for peers (TCP) and the DHT (UDP), the same in both address
families where that can be had.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from dht_torrent.engine.net.bare import reason_of
from dht_torrent.engine.net.protocols import DatagramSocket, Listener, Network
from dht_torrent.errors import InputError
from dht_torrent.ids import Address

logger = logging.getLogger(__name__)

_NO_IPV6: Final = frozenset(
    {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT, errno.EPERM}
)
"""How a machine without IPv6, or a sandbox that forbids it, says so."""


async def listen(
    network: Network, wanted: Sequence[Address], opened: ExitStack, *, tcp: bool = True
) -> list[tuple[Listener | None, DatagramSocket]]:
    """Bind all, IPv4 first; `opened` closes them. The IPv6 wildcard is left out on a machine that
    has no IPv6, listeners are left out without `tcp`. Raises InputError."""
    pairs: list[tuple[Listener | None, DatagramSocket]] = []
    for bind in wanted:
        try:
            listener, socket = await _bind(network, bind, pairs, tcp=tcp)
        except InputError as error:
            cause = error.__cause__
            absent = isinstance(cause, OSError) and cause.errno in _NO_IPV6
            if pairs and bind.host == "::" and absent:
                logger.info("no IPv6 here: the DHT and peers of IPv4 only")
                continue
            raise
        if listener is not None:
            opened.callback(listener.close)
        opened.callback(socket.close)
        pairs.append((listener, socket))
    return pairs


async def listen_tcp(
    network: Network, wanted: Sequence[Address], opened: ExitStack
) -> list[Listener]:
    """The same without UDP, for TLS."""
    listeners: list[Listener] = []
    for bind in wanted:
        try:
            listener = await network.listen(bind)
        except OSError as error:
            if listeners and bind.host == "::" and error.errno in _NO_IPV6:
                continue
            raise InputError(f"cannot listen on {bind}: {reason_of(error)}") from error
        opened.callback(listener.close)
        listeners.append(listener)
    return listeners


async def _bind(
    network: Network,
    bind: Address,
    pairs: Sequence[tuple[Listener | None, DatagramSocket]],
    *,
    tcp: bool,
) -> tuple[Listener | None, DatagramSocket]:
    """Any port: better the same in both families, which people remember and routers forward."""
    bind_one = bind_pair if tcp else _bind_udp
    if bind.port == 0 and pairs:
        try:
            return await bind_one(network, bind._replace(port=pairs[0][1].address.port))
        except InputError:
            pass  # another program has it
    return await bind_one(network, bind)


async def _bind_udp(network: Network, bind: Address) -> tuple[None, DatagramSocket]:
    try:
        return None, await network.open_udp(bind)
    except OSError as error:
        raise InputError(f"cannot listen on {bind}: {reason_of(error)}") from error


async def bind_pair(network: Network, bind: Address) -> tuple[Listener, DatagramSocket]:
    """Listen with TCP and open UDP on the same port, as BEP 5 nodes announce themselves.

    With port 0, tries until one port is free for both. Raises InputError, naming the address.
    """
    tries = _PORT_TRIES if bind.port == 0 else 1
    while True:
        tries -= 1
        try:
            listener = await network.listen(bind)
            try:
                return listener, await network.open_udp(bind._replace(port=listener.address.port))
            except BaseException:
                listener.close()
                raise
        except OSError as error:
            if error.errno != errno.EADDRINUSE or tries == 0:
                raise InputError(f"cannot listen on {bind}: {reason_of(error)}") from error


_PORT_TRIES: Final = 100
