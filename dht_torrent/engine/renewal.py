"""Networks come and go: after an hour without one, in another one, or after a suspend, the node is
back in the DHT and in its swarms at once. When that is, `net.changes` says.

What waits for a pause to be over goes on without; what may be lost is tried, and what certainly is
gets closed; and everybody hears of us again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import trio

from dht_torrent.engine.net.changes import Change, Changes, Heard
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.ids import InfoHash

logger = logging.getLogger(__name__)


class Renewal:
    """Of one node."""

    def __init__(
        self,
        context: NodeContext,
        supervisors: Mapping[InfoHash, Supervisor],
        on_change: Callable[[Change], None],
    ) -> None:
        """`on_change` hears of each change besides, before all others."""
        self._context = context
        self._supervisors = supervisors
        self._on_change = on_change
        self._config = context.config.watch

    async def run(self) -> None:
        """A service: looks at the network again and again."""
        network, config = self._context.network, self._config
        changes = Changes(config, network.surroundings(), self._heard(), trio.current_time())
        async with trio.open_nursery() as nursery:
            retrying = trio.CancelScope()
            while True:
                await trio.sleep(config.look_interval)
                now = trio.current_time()
                change = changes.look(network.surroundings(), self._heard(), now)
                self._context.deaf_since = changes.deaf_since
                if change is None:
                    continue
                if change.probe:
                    self._context.dht.probe(config.probes)
                if change.moved or change.renew is not None:
                    self._act(change, now)
                if change.renew is not None:
                    retrying.cancel()
                    retrying = trio.CancelScope()
                    nursery.start_soon(self._retry, retrying)

    def _heard(self) -> Heard:
        return Heard(self._context.dht.replied_at, self._context.dht.timeouts)

    def _act(self, change: Change, now: float) -> None:
        context = self._context
        if change.renew is not None:
            logger.info("the network is entered anew: %s", change.renew)
        else:
            logger.info("no network: we have no address any more")
        self._on_change(change)
        if change.moved:
            context.own_addresses.clear()
        for supervisor in self._supervisors.values():
            supervisor.core.connections.network_changed(change, now)
        if change.renew is None:
            return
        context.dht.renew(moved=change.moved)
        for supervisor in self._supervisors.values():
            supervisor.core.discovery.renew()
        if context.lsd is not None:
            context.lsd.renew()
        if context.port_mapping is not None:
            context.port_mapping.renew()

    async def _retry(self, scope: trio.CancelScope) -> None:
        """Peers may take us for the connection that was lost, and refuse a new one at first."""
        began = trio.current_time()
        with scope:
            for pause in self._config.retries:
                await trio.sleep_until(began + pause)
                for supervisor in self._supervisors.values():
                    supervisor.core.connections.dial_again(trio.current_time())
