"""Where a node listens for the peers of SSL torrents: on ports of its own, since the key that
begins an encrypted connection of another kind may look like a TLS record.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import trio

from dht_torrent.engine.incoming import Incoming
from dht_torrent.engine.net.ports import listen_tcp
from dht_torrent.engine.net.protocols import Listener
from dht_torrent.engine.torrent.context import NodeContext


class TlsListening:
    """Opened at the start if the configuration says where, else with the first SSL torrent."""

    def __init__(
        self, context: NodeContext, incoming: Incoming, nursery: trio.Nursery, opened: ExitStack
    ) -> None:
        """Connections are accepted in `nursery`; `opened` closes the ports."""
        self._context = context
        self._incoming = incoming
        self._nursery = nursery
        self._opened = opened
        self._is_open = False
        self._opening = trio.Lock()

    async def open(self) -> None:
        """Returns when we listen. May be called again. Raises InputError."""
        async with self._opening:
            if not self._is_open:
                context = self._context
                wanted = context.config.tls_addresses()
                self.accept(await listen_tcp(context.network, wanted, self._opened))

    def accept(self, listeners: Sequence[Listener]) -> None:
        """These are open already. Call once, if at all."""
        context = self._context
        for listener in listeners:
            accept = partial(self._incoming.accept, listener, tls=True)
            self._nursery.start_soon(context.faults.keep, "listening with TLS", accept)
        context.tls_addresses += [listener.address for listener in listeners]
        self._is_open = True
